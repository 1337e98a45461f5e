"""A folder → its pictures. Nothing outside of the folder is seen."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stages.parts.run.stage import InputError
from stages.prepare.disk import EXTENSIONS, UNWRITABLE, escaped

SHOWN = 3  # extensions that a remark names
LATEST = 2**63 - 1  # ns since 1970, in the year 2262; a camera's clock may be wrong


class Stamp(NamedTuple):
    """What tells, without reading it, that a file is the one that was read before."""

    size: int
    mtime_ns: int


@dataclass
class Scan:
    """What a folder holds.

    Attributes:
        pictures: path in the folder, with slashes, → stamp; in the order of the paths.
        closed: subfolders that cannot be read. Nobody knows whether their pictures are still there.
        problems: name → why it cannot be taken.
        links: how many links there are. None is followed.
        others: extension → number of files that are no pictures.
    """

    pictures: dict[str, Stamp] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    links: int = 0
    others: Counter[str] = field(default_factory=Counter)

    def remarks(self, folder: Path) -> list[str]:
        """Return a line for each kind of thing that was left out."""
        name = from_here(str(folder))
        lines = []
        if self.links:
            lines.append(f"{name}: links are not followed: {self.links:,}")
        if self.others:
            kinds = sorted(self.others.items(), key=lambda pair: (-pair[1], pair[0]))
            listed = ", ".join(f"{name} {count:,}" for name, count in kinds[:SHOWN])
            rest = ", …" if len(kinds) > SHOWN else ""
            what = f"files that do not end in {', '.join(EXTENSIONS)} are not read"
            lines.append(f"{name}: {what}: {self.others.total():,} ({listed}{rest})")
        return lines


def from_here(path: str) -> str:
    """Return an absolute path as it is written from the current folder, if it is below that."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}")


def scan(folder: Path) -> Scan:
    """Return the pictures in `folder` and all its subfolders.

    A picture is a regular file with an extension of EXTENSIONS. Links are not followed, neither to
    files nor to folders. Hidden files and folders are left out.

    Raises:
        InputError: if `folder` is not a folder that can be read, or holds no picture.
    """
    found = Scan()
    todo = [""]
    while todo:
        below = todo.pop()
        try:
            todo += _scan_one(folder, below, found)
        except OSError as error:
            if not below:
                raise InputError(f"{folder} cannot be read: {error.strerror}") from None
            found.closed.append(below)
            found.problems[escaped(below)] = f"cannot be read: {error.strerror}"
    if not found.pictures and not found.closed:
        raise InputError(f"{folder} holds no picture; expected {', '.join(EXTENSIONS)} files")
    found.pictures = dict(sorted(found.pictures.items()))
    return found


def _scan_one(folder: Path, below: str, found: Scan) -> list[str]:
    """Enter what one folder holds itself; return its subfolders."""
    folders = []
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_symlink():
                found.links += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not entry.name.lower().endswith(EXTENSIONS):
                found.others[os.path.splitext(escaped(entry.name).lower())[1] or "none"] += 1
            elif UNWRITABLE.search(path):
                problem = "expected a name in UTF-8 without control characters"
                found.problems[escaped(path)] = problem
            else:
                _enter(entry, path, found)
    return folders


def _enter(entry: os.DirEntry[str], path: str, found: Scan) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # it has gone since the folder was listed
        return
    if stat.S_ISREG(status.st_mode):
        found.pictures[path] = Stamp(status.st_size, min(max(status.st_mtime_ns, -LATEST), LATEST))
    else:
        found.problems[path] = "is not a file"
