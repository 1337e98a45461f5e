"""Camera, time and modality of a picture: from its path by a pattern, or from a CSV."""

import csv
import math
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from search.scan import from_here
from stages.parts.run.stage import InputError
from stages.prepare.disk import INFRARED_NAMES, UNWRITABLE, VISIBLE_NAMES, path_below, read_file

MAX_CSV_BYTES = 2**30
LONGEST = 255  # characters of a camera or a time
GROUPS = ("camera", "time")
COLUMNS = ("path", "camera", "time", "modality")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


class Facts(NamedTuple):
    """What is known of a picture besides its pixels; an empty text is not known."""

    camera: str = ""
    time: str = ""  # as it was given
    infrared: bool = False


class Moment(NamedTuple):
    """A time that can be compared: a plain number, or a date as seconds since 1970 in UTC."""

    value: float
    is_date: bool


def names_of(text: str) -> tuple[str, ...]:
    """Return the names in a line of a CSV: commas between them, quotes around one with a comma.

    Raises:
        ValueError: if there is none, or a quote is not closed.

    >>> names_of('gate, "yard, north"')
    ('gate', 'yard, north')
    """
    try:
        cells = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ValueError(f"{text!r}: {error}; expected names with commas between them") from None
    names = tuple(cell.strip() for cell in cells if cell.strip())
    if not names:
        raise ValueError(f"{text!r} names no camera")
    return names


def as_names(names: Iterable[str]) -> str:
    """Return names as `names_of` reads them.

    >>> as_names(["gate", "yard, north"])
    'gate, "yard, north"'
    """
    cells = []
    for name in names:
        quoted = '"{}"'.format(name.replace('"', '""'))
        cells.append(quoted if "," in name or name.startswith('"') else name)
    return ", ".join(cells)


class Line(NamedTuple):
    """What a line of a CSV says of a picture; an empty text, or None, where it says nothing."""

    camera: str
    time: str
    infrared: bool | None


class Rules(NamedTuple):
    """How the facts of the pictures of one folder are found. All are optional.

    pattern   regular expression with the named groups `camera` and `time`, searched in the path
    table     path of a CSV with the columns of COLUMNS, of which only `path` is required
    infrared  regular expression: a picture whose path it is found in is infrared
    """

    pattern: str = ""
    table: str = ""
    infrared: str = ""


def moment(text: str) -> Moment | None:
    """Return the time that a text says, or None for an empty one.

    A number stays a number: a frame, or seconds. Anything else is a date of ISO 8601; without a
    time zone it is in UTC.

    Raises:
        ValueError: says what was expected, without the place.

    >>> moment("0042")
    Moment(value=42.0, is_date=False)
    >>> moment("1970-01-01T00:01")
    Moment(value=60.0, is_date=True)
    """
    if not text:
        return None
    if NUMBER.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(f"time {text[:20]!r}… is too large")
        return Moment(value, False)
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        expected = "expected a number, or a date as 2026-01-31T18:00"
        raise ValueError(f"time {text!r}; {expected}") from None
    return Moment((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp(), True)


class Finder:
    """Finds the facts of the pictures in one folder by its rules.

    What the CSV says of a picture goes before what the patterns find.
    """

    def __init__(self, folder: Path, rules: Rules) -> None:
        """InputError if a pattern or the CSV is not as expected."""
        self._folder = folder
        self._table = rules.table
        self._pattern = _compiled("--pattern", rules.pattern)
        self._infrared = _compiled("--infrared", rules.infrared)
        if self._pattern and not set(GROUPS) & set(self._pattern.groupindex):
            example = r"cam(?P<camera>\d+)/(?P<time>\d+)"
            line = f"--pattern {rules.pattern!r}: no group camera or time; e.g. {example!r}"
            raise InputError(line)
        self._listed = read_table(folder, Path(rules.table)) if rules.table else {}

    def facts(self, path: str) -> Facts:
        """Return the facts of a picture; InputError if the pattern finds a time that is none."""
        found = Facts(infrared=bool(self._infrared and self._infrared.search(path)))
        match = self._pattern.search(path) if self._pattern else None
        if match:
            groups = match.groupdict()
            camera, time = (groups.get(name) or "" for name in GROUPS)
            found = found._replace(camera=camera, time=time)
            _check_length(f"--pattern: {path}", found.camera, found.time)
            _check_time(f"--pattern: {path}", found.time)
        if path in self._listed:
            found = _with_line(found, self._listed[path])
        return found

    def remarks(self, paths: Collection[str]) -> list[str]:
        """Return a line for each rule that fits none of the pictures, nearly always a slip.

        So is a line of the CSV that names no picture: they are counted.
        """
        name = from_here(str(self._folder))
        remarks = []
        for option, pattern in (("--pattern", self._pattern), ("--infrared", self._infrared)):
            if pattern and paths and not any(map(pattern.search, paths)):
                count = f"is found in none of {len(paths):,} paths, e.g. {next(iter(paths))}"
                remarks.append(f"{name}: {option} {pattern.pattern!r} {count}")
        missing = [path for path in self._listed if path not in paths]
        if missing:
            share = f"{len(missing):,} of {len(self._listed):,} lines"
            table = from_here(self._table)
            remarks.append(f"{name}: {table}: {share} name no picture, e.g. {missing[0]}")
        return remarks


def _with_line(found: Facts, line: Line) -> Facts:
    """Return facts with what a line of the CSV says instead."""
    infrared = found.infrared if line.infrared is None else line.infrared
    return Facts(line.camera or found.camera, line.time or found.time, infrared)


def _compiled(option: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except (re.error, OverflowError, RecursionError) as error:  # a count or a depth too large
        raise InputError(f"{option} {text!r} is not a regular expression: {error}") from None


def _check_time(where: str, text: str) -> None:
    try:
        moment(text)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _check_length(where: str, *texts: str) -> None:
    """Refuse what would make the whole table large: each picture has room for the longest text."""
    for text in texts:
        if len(text) > LONGEST:
            raise InputError(f"{where}: {text[:20]!r}… is longer than {LONGEST} characters")


def read_table(folder: Path, file: Path) -> dict[str, Line]:
    """Return what a CSV says of each path in it.

    Paths start in `folder`. Cells are separated by commas or semicolons.

    Raises:
        InputError: names the CSV, the line, the value and what was expected.
    """
    listed: dict[str, Line] = {}
    for where, cells in _lines(file):
        path = path_below(folder, where, cells["path"])
        if path in listed:
            raise InputError(f"{where}: {path} is listed twice")
        modality = cells.get("modality", "").lower()
        if modality and modality not in VISIBLE_NAMES + INFRARED_NAMES:
            raise InputError(f"{where}: modality {modality!r}; expected visible or infrared")
        camera, time = cells.get("camera", ""), cells.get("time", "")
        for name, value in (("camera", camera), ("time", time)):
            if UNWRITABLE.search(value):
                raise InputError(f"{where}: {name} {value!r} holds a control character")
        _check_length(where, camera, time)
        _check_time(where, time)
        listed[path] = Line(camera, time, modality in INFRARED_NAMES if modality else None)
    return listed


def _lines(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place of each line that is not blank, for messages, and its cells by column."""
    try:
        text = read_file(file, MAX_CSV_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a text file in UTF-8") from None
    except ValueError as problem:
        raise InputError(f"{file} {problem}") from None
    texts = text.splitlines()
    first = texts[0] if texts else ""
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    try:
        for cells in rows:
            where = f"{file} line {rows.line_num}"
            values = [cell.strip() for cell in cells]
            if not header:
                header = [name.lower() for name in values]
                _check_header(where, header)
            elif any(values):
                if len(values) > len(header):
                    raise InputError(f"{where}: {len(values)} cells; expected {len(header)}")
                named = dict(zip(header, values, strict=False))
                if not named.get("path"):
                    raise InputError(f"{where}: path is empty")
                yield where, named
    except csv.Error as error:
        raise InputError(f"{file} line {rows.line_num}: {error}; expected a CSV") from None
    if not header:
        raise InputError(f"{file} is empty; expected a CSV with the columns {', '.join(COLUMNS)}")


def _check_header(where: str, header: list[str]) -> None:
    known = [name for name in header if name in COLUMNS]
    if "path" not in known or len(known) == 1 or len(set(known)) < len(known):
        expected = f"expected path and one or more of {', '.join(COLUMNS[1:])}, each once"
        raise InputError(f"{where}: columns {', '.join(header)}; {expected}")
