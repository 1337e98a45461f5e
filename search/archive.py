"""An index on disk, which is always whole: `manifest.json` names files that never change.

manifest.json         what belongs together, replaced at once when the next state is complete
000012.rows.npy       (n, D) float32, the embeddings of a segment
000013.pictures.npy   (m,) of the fields of FIELDS, the pictures of a segment that are still there
000014.unreadable.json  pictures that could not be read
000015.faiss, …       an index over the rows, if it is approximate

A file gets a number that no file had before. A writer that is killed leaves files that no manifest
names; the next writer deletes them. A reader opens the manifest once and then the files of that
state; files that are deleted meanwhile stay readable for it.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from search.facts import Facts, Moment, moment
from stages.parts.run.files import read_json
from stages.parts.run.stage import InputError

Opened = TypeVar("Opened")
# Files of an index, named in a manifest or not, and what a killed writer left of them. Others may
# be somebody's pictures.
KINDS = r"rows\.npy|pictures\.npy|unreadable\.json|faiss|ids\.npy|lance"
OURS = re.compile(rf"\.?\d{{6,}}\.({KINDS})(\.\w+\.part)?|\.manifest\.json\.\w+\.part")
UNREADABLE = {"root", "path", "size", "mtime_ns", "problem"}  # what is known of such a picture
MANIFEST = "manifest.json"
FORMAT = 1
TRIES = 5  # of a reader whose files a writer deletes while it opens them
FIELDS = {
    "id": "i8",  # never used again
    "position": "i8",  # in the rows of the segment
    "root": "i4",  # position of its folder among the roots
    "size": "i8",  # bytes of the file
    "mtime_ns": "i8",
    "sha256": "S",  # of the file, in hex
    "infrared": "?",
    "camera": "S",  # UTF-8, empty if not known, as the time
    "time": "S",
    "moment": "f8",  # the time as a number; NaN if not known
    "is_date": "?",  # the number is seconds since 1970
    "path": "S",  # in the folder
}


@dataclass
class Segment:
    """Embeddings and their pictures; both are names of files."""

    rows: str
    pictures: str


@dataclass
class Root:
    """A folder that was indexed, and the rules that its facts were found by."""

    path: str  # absolute, no part of it is a link
    rules: dict[str, str]


@dataclass
class Manifest:
    """All that belongs together in one state of an index."""

    model: dict[str, Any]  # `Model.identity`
    kind: str = "flat"
    index: dict[str, Any] | None = None  # of an approximate kind, see `build.py`
    roots: list[Root] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    unreadable: str | None = None
    next_file: int = 1
    next_id: int = 0

    @classmethod
    def of(cls, tree: Any, path: Path) -> "Manifest":
        """Return the manifest that a JSON tree says; InputError if it is none of this format."""
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise InputError(f"{path} is not a manifest of format {FORMAT}; make a new index")
        try:
            manifest = cls(**{each.name: tree[each.name] for each in fields(cls)})
            manifest.roots = [Root(**each) for each in tree["roots"]]
            manifest.segments = [Segment(**each) for each in tree["segments"]]
            manifest.check()
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); make a new index") from None
        return manifest

    def check(self) -> None:
        """TypeError if a part is of another type than it should be, or a file is none of ours."""
        _require(dict, self.model, self.index or {}, *(root.rules for root in self.roots))
        _require(str, self.kind, *self.files(), *(root.path for root in self.roots))
        _require(int, self.next_file, self.next_id)
        for name in self.files():
            if not OURS.fullmatch(name):
                raise TypeError(f"{name!r} is not the name of a file of an index")

    def tree(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"format": FORMAT, **asdict(self)}

    def files(self) -> set[str]:
        """Return the names of all files that belong to this state."""
        names = {name for each in self.segments for name in (each.rows, each.pictures)}
        names |= {self.unreadable} if self.unreadable else set()
        state = self.index or {}
        return names | {state[key] for key in ("file", "ids") if key in state}


def _require(kind: type, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is not of type {kind.__name__}")


class Picture(NamedTuple):
    """A picture of an index."""

    root: int
    path: str
    size: int
    mtime_ns: int
    sha256: str
    facts: Facts


def pictures_table(
    pictures: Sequence[Picture], ids: Iterable[int], positions: Iterable[int]
) -> np.ndarray:
    """Return pictures as an array (N,) of the fields of FIELDS, ids ascending."""
    times = [moment(each.facts.time) or Moment(np.nan, False) for each in pictures]
    columns: dict[str, list[Any]] = {
        "id": list(ids),
        "position": list(positions),
        "root": [each.root for each in pictures],
        "size": [each.size for each in pictures],
        "mtime_ns": [each.mtime_ns for each in pictures],
        "sha256": [each.sha256.encode() for each in pictures],
        "infrared": [each.facts.infrared for each in pictures],
        "camera": [each.facts.camera.encode() for each in pictures],
        "time": [each.facts.time.encode() for each in pictures],
        "moment": [each.value for each in times],
        "is_date": [each.is_date for each in times],
        "path": [each.path.encode() for each in pictures],
    }
    arrays = {name: np.array(columns[name], dtype=kind) for name, kind in FIELDS.items()}
    table = np.empty(len(pictures), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    return table


def pictures_of(table: np.ndarray) -> list[Picture]:
    """Return the pictures of a table, in its order."""
    names = ("root", "path", "size", "mtime_ns", "sha256", "camera", "time", "infrared")
    pictures = []
    for values in zip(*(table[name].tolist() for name in names), strict=True):
        root, path, size, mtime_ns, sha256, camera, time, infrared = values
        facts = Facts(camera.decode(), time.decode(), infrared)
        pictures.append(Picture(root, path.decode(), size, mtime_ns, sha256.decode(), facts))
    return pictures


class Archive:
    """One state of an index, opened for reading; its rows and pictures are memory-mapped.

    Attributes:
        folder: of the index.
        manifest: of the state.
        tables: the pictures of each segment.
        rows: the embeddings (n, D) of each segment.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """FileNotFoundError if a file is missing; InputError if one is not what was written."""
        self.folder = folder
        self.manifest = manifest
        self.tables = [self._load(each.pictures) for each in manifest.segments]
        self.rows = [self._load(each.rows) for each in manifest.segments]
        for segment, table, rows in zip(manifest.segments, self.tables, self.rows, strict=True):
            if not _fits(table, rows, manifest):
                problem = f"{segment.pictures} or {segment.rows} is not what was written"
                raise InputError(f"{folder} is damaged: {problem}; make a new index")

    @property
    def count(self) -> int:
        """The number of pictures."""
        return sum(map(len, self.tables))

    def ids(self) -> np.ndarray:
        """Return the ids (N,) int64 of all pictures, ascending."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(t["id"] for t in self.tables)]))

    def blocks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ids (n,) and rows (n, D) of each segment; the id of a row that has left is -1."""
        blocks = []
        for table, rows in zip(self.tables, self.rows, strict=True):
            ids = np.full(len(rows), -1)
            ids[table["position"]] = table["id"]
            blocks.append((ids, rows))
        return blocks

    def unreadable(self) -> list[dict[str, Any]]:
        """Return root, path, size, mtime_ns and problem of each picture that could not be read."""
        name = self.manifest.unreadable
        if name is None:
            return []
        listed: list[dict[str, Any]] = read_json(self.folder / name)
        if not all(set(each) == UNREADABLE for each in listed):
            raise InputError(f"{self.folder / name} is damaged; make a new index")
        return listed

    def _load(self, name: str) -> np.ndarray:
        return load_array(self.folder / name)


def load_array(path: Path) -> np.ndarray:
    """Return an array of a file, memory-mapped; errors as `Archive`."""
    try:
        loaded: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged header can raise nearly anything
        raise InputError(f"{path} cannot be read: {error}; make a new index") from None
    return loaded


def _fits(table: np.ndarray, rows: np.ndarray, manifest: Manifest) -> bool:
    """Return whether pictures and rows are those of a segment, and every number leads to one."""
    if table.dtype.names != tuple(FIELDS) or table.ndim != 1 or rows.dtype != np.float32:
        return False
    counts = {"position": len(rows), "root": len(manifest.roots)}
    is_inside = [
        ((table[name] >= 0) & (table[name] < count)).all() for name, count in counts.items()
    ]
    return rows.shape[1:] == (manifest.model.get("dimensions"),) and all(is_inside)


def read_manifest(folder: Path) -> Manifest:
    """Return the last complete state; InputError if there is none."""
    path = folder / MANIFEST
    try:
        return Manifest.of(read_json(path), path)
    except (FileNotFoundError, NotADirectoryError):
        command = f"python -m search index FOLDER --index {folder}"
        raise InputError(f"{folder} holds no index; {command} makes one") from None


def open_state(folder: Path, opened: Callable[[Archive], Opened]) -> Opened:
    """Return `opened` of the last complete state of an index, whatever a writer does meanwhile.

    Raises:
        InputError: if there is no index, or a file of it is missing.
    """
    for _ in range(TRIES):
        manifest = read_manifest(folder)
        try:
            return opened(Archive(folder, manifest))
        except FileNotFoundError as error:  # a writer has gone on since, or it is really missing
            missing = os.path.basename(error.filename)
    raise InputError(f"{folder} is damaged: {missing} is missing; make a new index")
