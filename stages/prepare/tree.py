"""What the readers share: finding a tree, its lists, and the table at the end."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from stages.parts.images.table import COLUMNS, check_table
from stages.parts.run.stage import InputError
from stages.prepare.disk import UNWRITABLE, path_below, read_file

MAX_LIST_BYTES = 2**26
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
# Added to the test identities if a data set numbers training and test people both from 0.
TEST_OFFSET = 10_000


class ImageFile(NamedTuple):
    """An image of a tree. The fields are the columns of the table without `row`."""

    path: str
    person: int
    camera: int
    modality: str
    split: str


class ListEntry(NamedTuple):
    """A line of a list file: an image's path in the tree, and its person's number in the list."""

    path: str
    label: int


def find_tree(folder: str, marker: tuple[str, ...], roots: Mapping[str, Path]) -> Path:
    """Return the tree called `folder`: one below a root, or a root itself.

    `roots` maps the name of a parameter to its folder. A tree with the customary name goes before
    a root that only holds all entries of `marker`. InputError names the parameters, the folders
    and what was expected.
    """
    for root in roots.values():
        if (root / folder).is_dir():
            return root / folder
        if root.is_dir() and root.resolve().name == folder:
            return root
    for root in roots.values():
        if all((root / entry).exists() for entry in marker):
            return root
    problems = []
    for name, root in roots.items():
        problem = f"holds no {folder}" if root.is_dir() else "is not a folder"
        problems.append(f"{name}: {root} {problem}")
    expected = f"a folder that holds {folder} or is such a tree ({', '.join(marker)})"
    raise InputError(f"{'; '.join(problems)}; expected {expected}")


def read_lines(path: Path) -> list[str]:
    """Return all lines of a file, stripped; InputError if it is missing or not text."""
    try:
        raw = read_file(path, MAX_LIST_BYTES)
    except ValueError as problem:
        raise InputError(f"{path} {problem}; the data set comes with this file") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path} is not a text file in UTF-8 (line {place})") from None
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    for number, line in enumerate(lines, start=1):
        if UNWRITABLE.search(line.replace("\t", " ")):
            raise InputError(f"{path} line {number} holds a control character; expected text")
    return lines


def read_ids(path: Path, may_be_empty: bool = False) -> list[int]:
    """Return the identities of an id file, ascending, each once.

    The file holds whole numbers on line 1, separated by commas. InputError if it does not.
    """
    numbers = "whole numbers separated by commas"
    lines = read_lines(path)
    words = [word.strip() for word in lines[0].split(",") if word.strip()]
    for word in words:
        if not WHOLE_NUMBER.fullmatch(word):
            raise InputError(f"{path}: {word!r} is not an identity; expected {numbers}")
    if len(words) < 2 and any(lines[1:]):
        expected = "expected all identities on line 1, separated by commas"
        raise InputError(f"{path}: {expected}, found them on several lines")
    if not words and not may_be_empty:
        raise InputError(f"{path} lists no identity; expected {numbers} on line 1")
    return sorted({int(word) for word in words})


def no_image_error(file: Path, persons: list[int], folders: str) -> InputError:
    """Return the error for identities that `file` lists and that have no image in `folders`."""
    problem = f"lists identity {persons[0]}, of which {folders} hold no image"
    return InputError(f"{file} {problem} ({len(persons)} such identities)")


def read_list(root: Path, name: str, may_be_empty: bool = False) -> list[ListEntry]:
    """Return the entries of the list file `root / name`, in its order.

    A line is a path and a number; blank lines are skipped. InputError if a line is something else,
    a path leads out of `root` or occurs twice, or the file is missing or lists no image.
    """
    labels: dict[str, int] = {}
    for number, line in enumerate(read_lines(root / name), start=1):
        if not line:
            continue
        where = f"{root / name} line {number}"
        words = line.rsplit(maxsplit=1)
        if len(words) != 2 or not WHOLE_NUMBER.fullmatch(words[1]):
            raise InputError(f"{where}: expected a path and a whole number, found {line!r}")
        path = path_below(root, where, words[0])
        if path in labels:
            raise InputError(f"{where}: {path} is listed twice")
        labels[path] = int(words[1])
    if not labels and not may_be_empty:
        raise InputError(f"{root / name} lists no image; expected a path and a number a line")
    return [ListEntry(path, label) for path, label in labels.items()]


def identities(train: list[ListEntry], test: list[ListEntry]) -> dict[ListEntry, int]:
    """Return the identity of each entry, such that no two people share a number.

    The lists number the people of each split from 0. The folder of an image carries the data
    set's own number. It is the identity if folders and labels distinguish the same people.
    Otherwise the label is the identity, plus TEST_OFFSET in the test set.
    """
    if _folders_are_labels(train) and _folders_are_labels(test):
        return {entry: _folder_number(entry) for entry in train + test}
    persons = {entry: entry.label for entry in train}
    return persons | {entry: entry.label + TEST_OFFSET for entry in test}


def _folder_number(entry: ListEntry) -> int:
    """Return the number that the entry's folder is named after, -1 if it is not a number."""
    name = PurePosixPath(entry.path).parent.name
    return int(name) if WHOLE_NUMBER.fullmatch(name) else -1


def _folders_are_labels(entries: list[ListEntry]) -> bool:
    """Return whether each folder is named after a number and stands for exactly one label."""
    pairs = {(_folder_number(entry), entry.label) for entry in entries}
    folders = {folder for folder, _ in pairs}
    labels = {label for _, label in pairs}
    return -1 not in folders and len(pairs) == len(folders) == len(labels)


def table_of(root: Path, files: Iterable[ImageFile]) -> pd.DataFrame:
    """Return the checked table of `files`, rows in their order; ValueError if a path is twice."""
    table = pd.DataFrame(list(files), columns=list(COLUMNS[1:]))
    table.insert(0, "row", range(len(table)))
    return check_table(table, str(root))
