"""Pictures of your own: a CSV beside them, one line a picture; `images.csv` the target's, `source.csv` a source's."""

import csv
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import Count
from stages.prepare.tree import Shot, read_lines, table_of

FOLDER = "folder"
IMAGES, SOURCE = "images.csv", "source.csv"
PUBLISHED: tuple[Count, ...] = ()
WORDS = {
    "visible": "visible",
    "rgb": "visible",
    "infrared": "infrared",
    "ir": "infrared",
    "nir": "infrared",
    "thermal": "infrared",
}
CAMERAS = {"visible": 1, "infrared": 2}  # where the CSV names none
TEST = {"infrared": "query", "visible": "gallery"}  # what `test` means
SPLITS = ("train", "val", "test", "query", "gallery")
NEEDED = ("path", "person")
WHOLE = re.compile("[0-9]{1,9}")
SHOWN = 6  # people that a message lists


class Line(NamedTuple):
    """A line of a CSV: where it stands, for messages, and its cells; a cell without a column is empty."""

    where: str
    path: str
    person: str
    camera: str = ""
    modality: str = ""
    split: str = ""


def read(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of `root/images.csv`, and what a reader should know about it, a line each.

    Columns: path (relative to `root`) and person, and these, absent or empty all the way down at will:
    camera    any name or number; else 1 for visible and 2 for infrared pictures
    modality  a key of WORDS; a picture without one takes the first folder of its path
    split     one of SPLITS, `test` being `query` for infrared and `gallery` for visible pictures; else the first half
              of the identities, rounded up, is for training and the rest for the test
    Names of people and cameras become numbers (`numbers`). Rows: visible training, infrared training, query, gallery;
    in each identities, cameras, paths ascending, whatever the order of the lines.
    InputError names the CSV, the line, the value and what was expected.
    """
    lines, notes = _read_csv(root, IMAGES, (*NEEDED, "camera", "modality", "split"))
    modalities = [_modality(line) for line in lines]
    persons = numbers([line.person for line in lines])
    splits, remarks = _splits(root, lines, modalities, persons)
    cameras = _cameras(lines, modalities)
    shots = [
        Shot(line.path, persons[line.person], camera, modality, split)
        for line, camera, modality, split in zip(lines, cameras, modalities, splits, strict=True)
    ]
    _refuse_two_splits(lines, persons, splits)
    _refuse_too_few(root / IMAGES, shots)
    return table_of(root, sorted(shots, key=_place)), [
        *notes,
        *_numbering(root / IMAGES, persons),
        *remarks,
    ]


def find_source(roots: Mapping[str, Path]) -> Path:
    """The first of `roots` (parameter name → folder) that holds `source.csv`. InputError names all of them."""
    for root in roots.values():
        if (root / SOURCE).is_file():
            return root
    looked = "; ".join(f"{name}: {root} holds no {SOURCE}" for name, root in roots.items())
    raise InputError(f"{looked}; expected a CSV with the columns {' and '.join(NEEDED)}")


def read_source(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of `root/source.csv` (columns path, person and at will camera): visible training images, and remarks.

    Rows by identity, camera, path. InputError as in `read`.
    """
    lines, notes = _read_csv(root, SOURCE, (*NEEDED, "camera"))
    persons = numbers([line.person for line in lines])
    if len(set(persons.values())) < 2:
        raise InputError(
            f"{root / SOURCE}: all pictures show person {lines[0].person!r}, expected 2 people or more"
        )
    cameras = _cameras(lines, ["visible"] * len(lines))
    shots = [
        Shot(line.path, persons[line.person], camera, "visible", "train")
        for line, camera in zip(lines, cameras, strict=True)
    ]
    return table_of(root, sorted(shots, key=_place)), notes


def numbers(names: Sequence[str]) -> dict[str, int]:
    """The number of each name: itself where all are whole numbers, else its place, from 1, among the sorted names."""
    if all(WHOLE.fullmatch(name) for name in names):
        return {name: int(name) for name in names}
    return {name: place for place, name in enumerate(sorted(set(names)), start=1)}


def _read_csv(root: Path, name: str, columns: tuple[str, ...]) -> tuple[list[Line], list[str]]:
    """The lines of a CSV (comma or semicolon) with their pictures looked up, and a remark on what is not read."""
    file = root / name
    if not file.is_file():
        raise InputError(
            f"{file} is not here; expected a CSV with the columns {' and '.join(NEEDED)}"
        )
    rows = _rows(file)
    heads = [head.strip().lower() for head in next(rows, ("", []))[1]]
    _check_header(file, heads, columns)
    lines = []
    for where, cells in rows:
        if any(cells[len(heads) :]):
            raise InputError(f"{where}: {len(cells)} cells; expected {len(heads)}, as line 1 has")
        given = {
            head: cell.strip() for head, cell in zip(heads, cells, strict=False) if head in columns
        }
        for column in NEEDED:
            if not given.get(column):
                raise InputError(f"{where}: {column} is empty")
        lines.append(Line(where, **given | {"path": _inside(root, where, given["path"])}))
    if not lines:
        raise InputError(
            f"{file} lists no picture; expected a line for each, below the line of the columns"
        )
    _look_up(root, lines)
    others = [head for head in heads if head and head not in columns]
    return lines, [f"{file}: not read: {', '.join(others)}"] if others else []


def _rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """The cells of each line that is not blank, and where it stands."""
    texts = read_lines(file)
    semicolons = bool(texts) and texts[0].count(";") > texts[0].count(
        ","
    )  # spreadsheets write them in many countries
    rows = csv.reader(
        texts, delimiter=";" if semicolons else ",", skipinitialspace=True, strict=True
    )
    try:
        for cells in rows:
            if any(cells):
                yield f"{file} line {rows.line_num}", cells
    except csv.Error as error:
        raise InputError(f"{file} line {rows.line_num}: {error}; expected a CSV") from None


def _check_header(file: Path, heads: list[str], columns: tuple[str, ...]) -> None:
    for column in NEEDED:
        if column not in heads:
            found = ", ".join(filter(None, heads)) or "nothing"
            raise InputError(
                f"{file} line 1: no column {column}, found {found}; expected {' and '.join(NEEDED)}, "
                f"and at will {', '.join(columns[2:])}"
            )
    for column in columns:
        if heads.count(column) > 1:
            raise InputError(
                f"{file} line 1: column {column} is there {heads.count(column)} times, expected once"
            )


def _inside(root: Path, where: str, given: str) -> str:
    """The path `given` in one spelling. InputError for one that is absolute or leads out of `root`."""
    path = posixpath.normpath(given.replace("\\", "/"))
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or path.split("/")[0] in ("..", "~"):
        raise InputError(
            f"{where}: path {given!r} is not below {root}; expected one that starts there, like rgb/1.jpg"
        )
    return path


def _look_up(root: Path, lines: list[Line]) -> None:
    """InputError for a picture that is listed twice, and for one that is no file."""
    first: dict[str, str] = {}
    for line in lines:
        if line.path in first:
            raise InputError(
                f"{line.where}: {line.path} is listed twice, first on {_line(first[line.path])}"
            )
        first[line.path] = line.where
    gone = [line for line in lines if not (root / line.path).is_file()]
    if gone:
        others = f" ({len(gone) - 1} more pictures are not)" if len(gone) > 1 else ""
        raise InputError(
            f"{gone[0].where}: {root / gone[0].path} is not here{others}; expected a picture"
        )


def _line(where: str) -> str:
    return where[where.rindex("line ") :]


def _modality(line: Line) -> str:
    folder = line.path.split("/")[0] if "/" in line.path else ""
    if line.modality:
        found, what = WORDS.get(line.modality.lower()), f"modality {line.modality!r}"
    else:
        found, what = (
            WORDS.get(folder.lower()),
            f"no modality, and {line.path} is in no folder visible or infrared",
        )
    if found is None:
        raise InputError(f"{line.where}: {what}; expected one of {', '.join(WORDS)}")
    return found


def _cameras(lines: list[Line], modalities: list[str]) -> list[int]:
    if not any(line.camera for line in lines):
        return [CAMERAS[modality] for modality in modalities]
    for line in lines:
        if not line.camera:
            raise InputError(
                f"{line.where}: camera is empty; expected one in every line, or in none"
            )
    found = numbers([line.camera for line in lines])
    return [found[line.camera] for line in lines]


def _splits(
    root: Path, lines: list[Line], modalities: list[str], persons: dict[str, int]
) -> tuple[list[str], list[str]]:
    """The split of each line, and a remark where the lines name none."""
    if not any(line.split for line in lines):
        people = sorted(set(persons.values()))
        half = (len(people) + 1) // 2
        training = set(people[:half])
        words = ["train" if persons[line.person] in training else "test" for line in lines]
        note = f"{root / IMAGES} has no column split: the first {half} of {len(people)} identities are for training"
        remarks = [f"{note}, the others for the test"]
    else:
        words, remarks = [line.split.lower() for line in lines], []
    for line, word in zip(lines, words, strict=True):
        if word not in SPLITS:
            raise InputError(
                f"{line.where}: split {line.split!r}; expected one of {', '.join(SPLITS)}"
            )
    return [
        TEST[kind] if word == "test" else word for word, kind in zip(words, modalities, strict=True)
    ], remarks


def _refuse_two_splits(lines: list[Line], persons: dict[str, int], splits: list[str]) -> None:
    first: dict[int, tuple[str, str]] = {}
    for line, split in zip(lines, splits, strict=True):
        part = "test" if split in TEST.values() else split
        before, where = first.setdefault(persons[line.person], (part, line.where))
        if before != part:
            raise InputError(
                f"{line.where}: person {line.person!r} is in {part}, and in {before} on {_line(where)}; expected one"
            )


def _refuse_too_few(file: Path, shots: list[Shot]) -> None:
    """InputError where there is nothing to train on, or nothing to search for."""
    training = [shot for shot in shots if shot.split == "train"]
    test = [shot for shot in shots if shot.split in TEST.values()]
    for kind in CAMERAS:
        for part, name in ((training, "training"), (test, "test")):
            if not any(shot.modality == kind for shot in part):
                raise InputError(
                    f"{file}: no {kind} {name} picture; expected visible and infrared ones in both parts"
                )
    people = {shot.person for shot in training if shot.modality == "visible"}
    if len(people) < 2:
        raise InputError(
            f"{file}: {len(people)} training identity with visible pictures; expected 2 or more"
        )
    seen = [
        {(shot.person, shot.camera) for shot in test if shot.modality == kind} for kind in CAMERAS
    ]
    if not {person for person, _ in seen[0]} & {person for person, _ in seen[1]}:
        raise InputError(
            f"{file}: no test identity has visible and infrared pictures; expected at least one"
        )
    if not any(a == b and camera != other for a, camera in seen[0] for b, other in seen[1]):
        raise InputError(
            f"{file}: visible and infrared test pictures of a person come from the same camera, and pictures of one "
            "camera are no matches; expected other names for the infrared cameras"
        )


def _place(shot: Shot) -> tuple[int, int, int, str]:
    part = {"query": 2, "gallery": 3}.get(shot.split, int(shot.modality == "infrared"))
    return part, shot.person, shot.camera, shot.path


def _numbering(file: Path, persons: dict[str, int]) -> list[str]:
    """A remark on the people's numbers, where they are not the CSV's own."""
    names = sorted(persons)
    if all(WHOLE.fullmatch(name) for name in names):
        return []
    pairs = [f"{name} = {persons[name]}" for name in names]
    if len(pairs) > SHOWN:
        pairs = [*pairs[: SHOWN - 1], "…", pairs[-1]]
    return [f"{file}: people are numbered in the order of their names: {', '.join(pairs)}"]
