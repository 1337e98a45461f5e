"""What the readers share: where a tree lies, the images of a folder, the lists beside them, the table at the end."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from stages.parts.images.table import COLUMNS, check_table
from stages.parts.run.stage import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")
# Added to the test identities where a data set numbers its training and its test people both from 0.
TEST_OFFSET = 10_000


class Shot(NamedTuple):
    """One image of a tree; the fields are the columns of the table but for `row`."""

    path: str
    person: int
    camera: int
    modality: str
    split: str


class Entry(NamedTuple):
    """One line of a list file: an image, relative to the tree, and the number that the list gives its person."""

    path: str
    label: int


def find_tree(folder: str, marker: tuple[str, ...], roots: Mapping[str, Path]) -> Path:
    """The tree called `folder`: in one of `roots` (parameter name → folder) or a root itself, in their order.

    Where no tree has that name, a root that holds every entry of `marker` is one under another name. InputError names
    the parameters, the folders looked at and what was expected.
    """
    for root in roots.values():
        if (root / folder).is_dir():
            return root / folder
        if root.is_dir() and root.resolve().name == folder:
            return root
    for root in roots.values():
        if all((root / entry).exists() for entry in marker):
            return root
    looked = "; ".join(
        f"{name}: {root} {f'holds no {folder}' if root.is_dir() else 'is not a folder'}"
        for name, root in roots.items()
    )
    raise InputError(
        f"{looked}; expected a folder that holds {folder} or is such a tree ({', '.join(marker)})"
    )


def image_names(folder: Path) -> list[str]:
    """Names of the image files of `folder`, ascending; none where there is no such folder.

    Hidden files (macOS leaves `._0001.jpg`) and anything without an image's extension are no images.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS)
            and not entry.name.startswith(".")
            and entry.is_file()
        )


def read_lines(path: Path) -> list[str]:
    """Lines of a list file, stripped, blank ones included. InputError where it is missing or no text."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputError(f"{path} is not here; the data set comes with this file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file") from None


def read_ids(path: Path, may_be_empty: bool = False) -> list[int]:
    """Identities of an id file, ascending, each once: whole numbers on line 1, separated by commas."""
    lines = read_lines(path)
    words = [word.strip() for word in lines[0].split(",") if word.strip()] if lines else []
    for word in words:
        if not re.fullmatch(r"[0-9]{1,9}", word):
            raise InputError(
                f"{path}: {word!r} is not an identity; expected whole numbers separated by commas"
            )
    if len(words) < 2 and any(lines[1:]):
        raise InputError(
            f"{path}: expected all identities on line 1, separated by commas, found them on several lines"
        )
    if not words and not may_be_empty:
        raise InputError(
            f"{path} lists no identity; expected whole numbers separated by commas on line 1"
        )
    return sorted({int(word) for word in words})


def read_list(root: Path, name: str, may_be_empty: bool = False) -> list[Entry]:
    """Entries of the list file `root / name`, in its order: a path and a number a line, no path twice."""
    entries, seen = [], set()
    for number, line in enumerate(read_lines(root / name), start=1):
        if not line:
            continue
        words = line.rsplit(maxsplit=1)
        if len(words) != 2 or not re.fullmatch(r"[0-9]{1,9}", words[1]):
            raise InputError(
                f"{root / name} line {number}: expected a path and a whole number, found {line!r}"
            )
        path = PurePosixPath(words[0].replace("\\", "/")).as_posix()
        if path in seen:
            raise InputError(f"{root / name} line {number}: {path} is listed twice")
        seen.add(path)
        entries.append(Entry(path, int(words[1])))
    if not entries and not may_be_empty:
        raise InputError(f"{root / name} lists no image; expected a path and a number a line")
    return entries


def identities(train: list[Entry], test: list[Entry]) -> dict[Entry, int]:
    """The identity of each entry, such that no two people share a number.

    Lists count the people of either split from 0. The folder of an image carries the data set's own number, which is
    taken where folders and labels tell the same people apart; otherwise the label is, plus TEST_OFFSET in the test.
    """
    if _folders_are_labels(train) and _folders_are_labels(test):
        return {entry: _folder(entry) for entry in [*train, *test]}
    return {entry: entry.label for entry in train} | {
        entry: entry.label + TEST_OFFSET for entry in test
    }


def _folder(entry: Entry) -> int:
    name = PurePosixPath(entry.path).parent.name
    return int(name) if re.fullmatch(r"[0-9]{1,9}", name) else -1


def _folders_are_labels(entries: list[Entry]) -> bool:
    pairs = {(_folder(entry), entry.label) for entry in entries}
    folders, labels = {folder for folder, _ in pairs}, {label for _, label in pairs}
    return -1 not in folders and len(pairs) == len(folders) == len(labels)


def table_of(root: Path, shots: Iterable[Shot]) -> pd.DataFrame:
    """The checked table of `shots`, rows in their order. ValueError where a path occurs twice."""
    table = pd.DataFrame(list(shots), columns=list(COLUMNS[1:]))
    table.insert(0, "row", range(len(table)))
    return check_table(table, str(root))
