"""The lines of the CSV that lists the user's own images, with every path looked up."""

import csv
import os.path
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.parts.run.stage import InputError
from stages.prepare.disk import path_below
from stages.prepare.tree import read_lines

REQUIRED = ("path", "person")
EXPECTED_CSV = f"expected a CSV with the columns {' and '.join(REQUIRED)}"


class Line(NamedTuple):
    """A line of a CSV: its place for messages, and its cells (empty without such a column)."""

    file: Path
    number: int
    path: str
    person: str
    camera: str = ""
    modality: str = ""
    split: str = ""

    @property
    def where(self) -> str:
        """The place of the line, as messages give it."""
        return f"{self.file} line {self.number}"


def read_csv(root: Path, name: str, optional: tuple[str, ...]) -> tuple[list[Line], list[str]]:
    """Return the lines of the CSV `root / name`, and a remark on the columns that are not read.

    `optional` are the columns to read besides path and person. Cells are separated by commas or
    semicolons. InputError names the file, the line, the value and what was expected.
    """
    file = root / name
    if not file.is_file():
        raise InputError(f"{file} is not here; {EXPECTED_CSV}")
    rows = _read_cells(file)
    _, first = next(rows, (1, []))
    header = [cell.strip().lower() for cell in first]
    _check_header(file, header, optional)

    columns = REQUIRED + optional
    lines = [_read_line(file, number, header, cells, columns) for number, cells in rows]
    if not lines:
        expected = "expected a line for each, below the line of the columns"
        raise InputError(f"{file} lists no image; {expected}")
    _refuse_repeated(lines)
    _refuse_missing(root, lines)

    unread = [column for column in header if column and column not in columns]
    if not unread:
        return lines, []
    return lines, [f"{file}: not read: {', '.join(unread)}"]


def _read_cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line that is not blank."""
    texts = read_lines(file)
    delimiter = ","
    if texts and texts[0].count(";") > texts[0].count(","):
        delimiter = ";"  # spreadsheets write them in many countries
    rows = csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in rows:
            if any(cells):
                yield rows.line_num, cells
    except csv.Error as error:
        raise InputError(f"{file} line {rows.line_num}: {error}; expected a CSV") from None


def _check_header(file: Path, header: list[str], optional: tuple[str, ...]) -> None:
    for column in REQUIRED:
        if column not in header:
            present = ", ".join(filter(None, header)) or "nothing"
            raise InputError(
                f"{file} line 1: no column {column}, found {present}; expected "
                f"{' and '.join(REQUIRED)}, and optionally {', '.join(optional)}"
            )
    for column in REQUIRED + optional:
        count = header.count(column)
        if count > 1:
            raise InputError(
                f"{file} line 1: column {column} is there {count} times, expected once"
            )


def _read_line(
    file: Path, number: int, header: list[str], cells: list[str], columns: tuple[str, ...]
) -> Line:
    where = f"{file} line {number}"
    if any(cells[len(header) :]):
        raise InputError(f"{where}: {len(cells)} cells; expected {len(header)}, as line 1 has")
    pairs = zip(header, cells, strict=False)
    values = {column: cell.strip() for column, cell in pairs if column in columns}
    for column in REQUIRED:
        if not values.get(column):
            raise InputError(f"{where}: {column} is empty")
    values["path"] = path_below(file.parent, where, values["path"])
    return Line(file, number, **values)


def _refuse_repeated(lines: list[Line]) -> None:
    first: dict[str, int] = {}
    for line in lines:
        if line.path in first:
            before = f"first on line {first[line.path]}"
            raise InputError(f"{line.where}: {line.path} is listed twice, {before}")
        first[line.path] = line.number


def _refuse_missing(root: Path, lines: list[Line]) -> None:
    missing = [line for line in lines if not os.path.isfile(root / line.path)]
    if missing:
        path = root / missing[0].path
        others = f" ({len(missing) - 1} more images are not)" if len(missing) > 1 else ""
        raise InputError(f"{missing[0].where}: {path} is not here{others}; expected an image")
