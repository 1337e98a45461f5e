"""Folders of pictures → an index that is up to date: only new and changed pictures are embedded."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from search.archive import Archive, Manifest, Picture, Root, pictures_of, pictures_table
from search.embedding import BATCH, Embedded, Embedder, File, checked_path, embed_files
from search.facts import Facts, Finder, Rules
from search.scan import Stamp, scan
from search.writer import Writer
from stages.parts.run.console import message, progress
from stages.parts.run.files import file_hash
from stages.parts.run.stage import InputError

# After so many pictures, or seconds, readers see what was embedded, and a run that is killed later
# need not embed it again.
CHECKPOINT = 4096
SECONDS = 30.0
# How a problem begins that is not one of the file's bytes: such a picture is tried again.
TRANSIENT = ("cannot be read", "is not here", "is behind a link")


class Key(NamedTuple):
    """Which picture it is."""

    root: int  # position of its folder in the manifest
    path: str  # in the folder


class Found(NamedTuple):
    """What is known of a picture that is in a folder now."""

    stamp: Stamp
    facts: Facts


@dataclass
class Changes:
    """What a run has found, in pictures."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    vanished: int = 0
    known: int = 0  # of the new and changed ones: their bytes are those of a picture of the index
    unreadable: int = 0  # of all runs
    problems: list[tuple[str, str]] = field(default_factory=list)  # of this run: name and why


def update(
    writer: Writer,
    folders: Sequence[Path],
    given: Mapping[str, str],
    embedder: Embedder,
    processes: int,
) -> Changes:
    """Bring the pictures of some folders in an index up to date.

    Folders that the index knows and that are not among `folders` stay in it as they are. A picture
    is the one that was read before if its path, size and time of change are equal. If they are not,
    but its bytes are those of a picture of the index, the row of that one is taken.

    Args:
        writer: of the index; it publishes its state now and then.
        folders: to scan.
        given: the fields of `Rules` to use; others are as they were for this folder before.
        embedder: of the index's model.
        processes: how many embed.

    Raises:
        InputError: if a folder cannot be read or lies in another one, or a rule is not as expected.
    """
    roots = [_enter_root(writer.manifest, folder, given) for folder in folders]
    _refuse_nested(writer.manifest.roots)
    changes = Changes()
    found, closed = _look(writer.manifest, roots, changes)
    run = _Run(writer, writer.archive(), embedder, found, closed, changes)
    run.embed(run.reuse(run.compare()), processes)
    return changes


def _enter_root(manifest: Manifest, folder: Path, given: Mapping[str, str]) -> int:
    """Return the position of a folder among the roots, and remember its rules."""
    path = os.path.realpath(folder)
    if not os.path.isdir(path):
        raise InputError(f"{folder} is not a folder")
    for position, root in enumerate(manifest.roots):
        if root.path == path:
            root.rules |= given
            return position
    manifest.roots.append(Root(path, Rules()._asdict() | dict(given)))
    return len(manifest.roots) - 1


def _refuse_nested(roots: Sequence[Root]) -> None:
    for one in roots:
        for other in roots:
            if one is not other and Path(one.path).is_relative_to(other.path):
                line = f"{one.path} lies in {other.path}, which is in the index too"
                raise InputError(f"{line}; `forget` takes one of them out of it")


def _look(
    manifest: Manifest, roots: Sequence[int], changes: Changes
) -> tuple[dict[Key, Found], dict[int, tuple[str, ...]]]:
    """Return the pictures of some roots, and of each root the subfolders that cannot be read."""
    found, closed = {}, {}
    for position in dict.fromkeys(roots):
        root = manifest.roots[position]
        folder = Path(root.path)
        finder = Finder(folder, Rules(**root.rules))
        content = scan(folder)
        for remark in content.remarks(folder) + finder.remarks(content.pictures):
            message(remark)
        for path, stamp in content.pictures.items():
            found[Key(position, path)] = Found(stamp, finder.facts(path))
        closed[position] = tuple(f"{path}/" for path in content.closed)
        changes.problems += content.problems.items()
    return found, closed


@dataclass
class _Run:
    """What the steps of one update share."""

    writer: Writer
    archive: Archive  # the state before
    embedder: Embedder
    found: dict[Key, Found]
    closed: dict[int, tuple[str, ...]]  # of each root of this run: subfolders, as `a/b/`
    changes: Changes
    changed: set[Key] = field(default_factory=set)  # pictures of the index with other bytes now
    unreadable: list[dict[str, Any]] = field(default_factory=list)

    def compare(self) -> list[Key]:
        """Take out of the index what has vanished or changed; return what is to be embedded."""
        seen: set[Key] = set()
        tables = [self._compared(table, seen) for table in self.archive.tables]
        self.writer.replace_tables(tables)
        for entry in self.archive.unreadable():
            key = Key(entry["root"], entry["path"])
            stamp = Stamp(entry["size"], entry["mtime_ns"])
            current = self.found.get(key)
            is_same = current is not None and current.stamp == stamp
            is_same &= not entry["problem"].startswith(TRANSIENT)
            if is_same or (current is None and not self._has_vanished(key)):
                self.unreadable.append(entry)
                seen.add(key)
        return [key for key in self.found if key not in seen]

    def _compared(self, table: np.ndarray, seen: set[Key]) -> np.ndarray | None:
        """Return the table of the pictures that stay; None if it is as it was."""
        pictures = pictures_of(table)
        kept, places = [], []
        for place, picture in enumerate(pictures):
            key = Key(picture.root, picture.path)
            current = self.found.get(key)
            if current is None:
                if self._has_vanished(key):
                    self.changes.vanished += 1
                    continue
            elif self._is_changed(picture, current):
                self.changed.add(key)
                continue
            else:
                seen.add(key)
                self.changes.unchanged += 1
                picture = picture._replace(facts=current.facts)
            kept.append(picture)
            places.append(place)
        if kept == pictures:
            return None
        return pictures_table(kept, table["id"][places], table["position"][places])

    def _has_vanished(self, key: Key) -> bool:
        """Return whether a picture that was not found would have been found if it were there."""
        closed = self.closed.get(key.root)
        return closed is not None and not key.path.startswith(closed)

    def _is_changed(self, picture: Picture, current: Found) -> bool:
        before, now = (self._stream(each.facts.infrared) for each in (picture, current))
        return current.stamp != Stamp(picture.size, picture.mtime_ns) or before != now

    def reuse(self, todo: Sequence[Key]) -> list[Key]:
        """Take rows of equal files that the index knows: a moved picture is not embedded again.

        The first state of the run is published with them, so that no picture is missing in
        between. Returns what is still to be embedded.
        """
        sizes = {size for table in self.archive.tables for size in table["size"].tolist()}
        candidates = [key for key in todo if self.found[key].stamp.size in sizes]
        known = self._rows_by_hash() if candidates else {}
        pictures, rows = [], []
        for key in progress(candidates, "comparing with known pictures", "picture"):
            try:
                sha256 = file_hash(checked_path(self._file(key)))
            except (OSError, ValueError):
                continue  # to embed it will say why
            row = known.get((sha256, self._stream(self.found[key].facts.infrared)))
            if row is not None:
                pictures.append(self._picture(key, sha256))
                rows.append(self.archive.rows[row[0]][row[1]])
        if pictures:
            self.writer.append(pictures, np.stack(rows))
        self.changes.known = len(pictures)
        self._publish()
        taken = {Key(picture.root, picture.path) for picture in pictures}
        return [key for key in todo if key not in taken]

    def _rows_by_hash(self) -> dict[tuple[str, bool], tuple[int, int]]:
        """Return segment and position of a row for each content, by its hash and stream."""
        known = {}
        for segment, table in enumerate(self.archive.tables):
            columns = (table[name].tolist() for name in ("sha256", "infrared", "position"))
            for sha256, infrared, position in zip(*columns, strict=True):
                known[sha256.decode(), self._stream(infrared)] = (segment, position)
        return known

    def _stream(self, infrared: bool) -> bool:
        return infrared and self.embedder.model.two_stream

    def embed(self, todo: Sequence[Key], processes: int) -> None:
        """Embed pictures and publish them, those that cannot be read as such."""
        files = [self._file(key) for key in todo]
        pictures: list[Picture] = []
        rows: list[np.ndarray] = []
        published = time.monotonic()
        batches = embed_files(self.embedder, files, processes)
        for batch in progress(batches, "embedding", f"×{BATCH}", -(-len(files) // BATCH)):
            pictures += self._sorted_out(batch, todo)
            rows.append(batch.rows)
            if len(pictures) >= CHECKPOINT or time.monotonic() - published > SECONDS:
                self.writer.append(pictures, np.concatenate(rows))
                self._publish()
                pictures, rows, published = [], [], time.monotonic()
        if rows:
            self.writer.append(pictures, np.concatenate(rows))
        self._publish()

    def _sorted_out(self, batch: Embedded, todo: Sequence[Key]) -> list[Picture]:
        """Return the pictures of a batch that have a row, and note the others."""
        pictures = []
        outcomes = zip(batch.positions, batch.hashes, batch.problems, strict=True)
        for position, sha256, problem in outcomes:
            key = todo[position]
            if not problem:
                pictures.append(self._picture(key, sha256))
                continue
            stamp = self.found[key].stamp
            self.unreadable.append({**key._asdict(), **stamp._asdict(), "problem": problem})
            self.changes.problems.append((key.path, problem))
        return pictures

    def _publish(self) -> None:
        self.changes.unreadable = len(self.unreadable)
        self.writer.set_unreadable(self.unreadable)
        self.writer.publish()

    def _file(self, key: Key) -> File:
        folder = self.writer.manifest.roots[key.root].path
        return File(folder, key.path, self.found[key].facts.infrared)

    def _picture(self, key: Key, sha256: str) -> Picture:
        """Return a picture for the index, and count it."""
        if key in self.changed:
            self.changes.changed += 1
        else:
            self.changes.new += 1
        stamp, facts = self.found[key]
        return Picture(key.root, key.path, stamp.size, stamp.mtime_ns, sha256, facts)
