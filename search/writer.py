"""The one process that changes an index."""

import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from search.archive import (
    MANIFEST,
    OURS,
    Archive,
    Manifest,
    Picture,
    Segment,
    pictures_table,
    read_manifest,
)
from stages.parts.run.files import whole_file, write_json
from stages.parts.run.stage import InputError

LOCK = "lock"
FEW = 8  # segments that are left alone
SMALL = 1 << 16  # rows; larger segments are not merged with others
COPIED = 1 << 14  # rows at a time


class Writer:
    """Changes the state of an index; `publish` makes it the one that readers see.

    Attributes:
        folder: of the index.
        manifest: the state that is being made.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._on_disk = manifest.files()

    def archive(self) -> Archive:
        """Return the state that is being made, for reading."""
        return Archive(self.folder, self.manifest)

    def new_name(self) -> str:
        """Return how the name of a new file starts."""
        name = f"{self.manifest.next_file:06}"
        self.manifest.next_file += 1
        return name

    def append(self, pictures: list[Picture], rows: np.ndarray) -> None:
        """Write a new segment of pictures and their rows (N, D)."""
        if not pictures:
            return
        first = self.manifest.next_id
        self.manifest.next_id += len(pictures)
        table = pictures_table(pictures, range(first, self.manifest.next_id), range(len(pictures)))
        names = self._save("rows", rows), self._save("pictures", table)
        self.manifest.segments.append(Segment(*names))

    def replace_tables(self, tables: list[np.ndarray | None]) -> None:
        """Give segments another table: pictures have left, or their facts are others.

        There is an entry for each segment; None leaves it as it is. A segment without a picture is
        dropped.
        """
        kept = []
        for segment, table in zip(self.manifest.segments, tables, strict=True):
            if table is None:
                kept.append(segment)
            elif len(table):
                kept.append(Segment(segment.rows, self._save("pictures", table)))
        self.manifest.segments = kept

    def set_unreadable(self, listed: list[dict[str, Any]]) -> None:
        """Write the list of the pictures that could not be read, if there are any."""
        self.manifest.unreadable = None
        if not listed:
            return
        self.manifest.unreadable = f"{self.new_name()}.unreadable.json"
        write_json(self.folder / self.manifest.unreadable, listed)

    def merge(self) -> None:
        """Make one segment of the small ones if there are many.

        Segments half of whose rows have left are written again with them.
        """
        archive = self.archive()
        chosen, kept = [], []
        for segment, table, rows in zip(
            self.manifest.segments, archive.tables, archive.rows, strict=True
        ):
            small = len(rows) < SMALL and len(archive.tables) > FEW
            if small or len(table) < len(rows) / 2:
                chosen.append((table, rows))
            else:
                kept.append(segment)
        if chosen:
            kept.append(self._merged(chosen))
        self.manifest.segments = kept

    def _merged(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> Segment:
        """Write the pictures of some segments as one, by ascending ids."""
        table = np.concatenate([table for table, _ in parts])
        name = f"{self.new_name()}.rows.npy"
        header = {
            "descr": dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (len(table), parts[0][1].shape[1]),
        }
        # Not through a memory map: on a full disk that would end the process without a word.
        with whole_file(self.folder / name) as part, open(part, "wb") as opened:
            write_array_header_1_0(opened, header)
            for own, stored in parts:
                for first in range(0, len(own), COPIED):
                    opened.write(stored[own["position"][first : first + COPIED]].tobytes())
        table["position"] = np.arange(len(table))
        return Segment(name, self._save("pictures", table[np.argsort(table["id"])]))

    def publish(self) -> None:
        """Let readers see this state, and delete the files that no state needs any more.

        The files are on the disk before the manifest that names them, also if the power fails.
        """
        named = self.manifest.files()
        for name in sorted(named - self._on_disk):
            _to_disk(self.folder / name)
        with whole_file(self.folder / MANIFEST) as part:
            write_json(part, self.manifest.tree())
            _to_disk(part)
        self._on_disk = named
        self.delete_unnamed()

    def delete_unnamed(self) -> None:
        """Delete the files that the manifest does not name."""
        named = self.manifest.files()
        for entry in list(os.scandir(self.folder)):
            if OURS.fullmatch(entry.name) and entry.name not in named:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)

    def _save(self, what: str, array: np.ndarray) -> str:
        name = f"{self.new_name()}.{what}.npy"
        with whole_file(self.folder / name) as part:
            np.save(part, array, allow_pickle=False)
        return name


def _to_disk(path: Path) -> None:
    if path.is_file():  # LanceDB's tables are folders, which it cares for itself
        with open(path, "rb") as opened:
            os.fsync(opened.fileno())


@contextmanager
def open_writer(folder: Path, model: dict[str, Any] | None) -> Iterator[Writer]:
    """Yield the writer of the index in `folder`, which begins with its last complete state.

    Args:
        folder: is made if it is not there and there is a model.
        model: `Model.identity`, which all rows of an index share; None for a writer that adds no
            row to an index that is there.

    Raises:
        InputError: if another process writes, the folder holds something else, the index was made
            with another model, or there is neither an index nor a model.
    """
    if model is None:
        read_manifest(folder)  # before a lock is made where no index is
    if folder.is_dir() and not _is_index(os.listdir(folder)):
        raise InputError(f"{folder} is not an index and not empty; expected a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            line = f"{folder} is being written by another process; wait for its end"
            raise InputError(line) from None
        if model is None:
            manifest = read_manifest(folder)
        elif (folder / MANIFEST).exists():
            manifest = read_manifest(folder)
            check_model(folder, manifest, model)
        else:
            manifest = Manifest(model)
        writer = Writer(folder, manifest)
        writer.delete_unnamed()
        yield writer


def _is_index(names: Collection[str]) -> bool:
    """Return whether a folder of these names is empty or an index, perhaps one just begun."""
    is_begun = LOCK in names and all(name == LOCK or OURS.fullmatch(name) for name in names)
    return not names or MANIFEST in names or is_begun


def check_model(folder: Path, manifest: Manifest, model: dict[str, Any]) -> None:
    """Refuse a model that is not the one of the index: their embeddings do not compare."""
    for name, value in model.items():
        known = manifest.model.get(name)
        if known != value:
            made = f"{_short(known)}, the model given has {_short(value)}"
            line = f"{folder} was made with another model: {name} {made}"
            raise InputError(f"{line}; give that model, or make a new index")


def _short(value: Any) -> str:
    """Return a fact as text, of hashes the first digits."""
    return re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", str(value))
