"""Folders leave an index: their pictures, their rows and what could not be read in them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.archive import Manifest
from search.writer import Writer
from stages.parts.run.stage import InputError

SHOWN = 10  # folders of an index that a message lists


def forget(writer: Writer, folders: Sequence[Path]) -> int:
    """Take folders and all their pictures out of an index; return how many pictures have left.

    The folders need not exist any more. Nothing is published: the index on the disk is the one
    before until the caller publishes.

    Args:
        writer: of the index.
        folders: as they were given to `index`; one that is named twice is the same.

    Raises:
        InputError: if a folder is none of this index. Lists those that are.
    """
    manifest = writer.manifest
    gone = {_position(manifest, writer.folder, folder) for folder in folders}
    kept = [position for position in range(len(manifest.roots)) if position not in gone]
    moved = np.full(len(manifest.roots), -1)  # position of a root → its position from now on
    moved[kept] = np.arange(len(kept))

    archive = writer.archive()
    unreadable = [
        {**entry, "root": int(moved[entry["root"]])}
        for entry in archive.unreadable()
        if entry["root"] in kept
    ]
    writer.replace_tables([_without(table, moved) for table in archive.tables])
    writer.set_unreadable(unreadable)
    manifest.roots = [manifest.roots[position] for position in kept]
    return archive.count - writer.archive().count


def _position(manifest: Manifest, index: Path, folder: Path) -> int:
    """Return the position of a folder among the roots.

    The path as it is written goes before the place that it leads to: after a move, the old path may
    be a link to the new folder.
    """
    paths = [root.path for root in manifest.roots]
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        if path in paths:
            return paths.index(path)
    some = ", ".join(paths[:SHOWN]) or "none"
    rest = ", …" if len(paths) > SHOWN else ""
    raise InputError(f"{folder} is no folder of {index}; its folders: {some}{rest}")


def _without(table: np.ndarray, moved: np.ndarray) -> np.ndarray | None:
    """Return the pictures of the roots that stay; None if the table is as it was."""
    roots = moved[table["root"]]
    if np.array_equal(roots, table["root"]):
        return None
    kept = np.array(table[roots >= 0])
    kept["root"] = roots[roots >= 0]
    return kept
