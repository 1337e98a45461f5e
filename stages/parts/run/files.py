"""Files of the pipeline, UTF-8 in every locale, written whole or not at all.

A killed stage leaves no half file, and processes that write the same file do not meet.
"""

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the search runs without pandas
    import pandas as pd

# DVC runs `--temp` and queued experiments in a copy of the tracked files; DVC_ROOT is the user's
# checkout. The copy of a comparison is a repository of its own, so VIREID_ROOT says it there.
ROOT = Path(os.environ.get("VIREID_ROOT") or os.environ.get("DVC_ROOT", "."))
LOGS = Path("logs")


def resolve(path: str | Path) -> Path:
    """Return the place of a path from `params.yaml`.

    A relative path starts here if it exists here, where DVC may have put it (`data/synthetic` of
    an experiment that runs in a copy). Otherwise it starts at the user's checkout.
    """
    return Path(path) if Path(path).exists() else ROOT / path


def rounded(tree: Any, digits: int = 4) -> Any:
    """Return `tree` with every float rounded, for metrics that people compare."""
    if isinstance(tree, dict):
        return {key: rounded(value, digits) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rounded(value, digits) for value in tree]
    return round(tree, digits) if isinstance(tree, float) else tree


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` as JSON, keys in the given order, ending in a line break."""
    write_text(path, json.dumps(tree, indent=2) + "\n")


def write_csv(path: Path, table: "pd.DataFrame", digits: int | None = None) -> None:
    """Write `table` as CSV without its index; floats with `digits` decimals, or in full."""
    form = None if digits is None else f"%.{digits}f"
    write_text(path, table.to_csv(index=False, float_format=form, lineterminator="\n"))


def append_line(path: Path, tree: Any, anew: bool = False) -> None:
    """Add `tree` as one JSON line to a log; with `anew` the log begins with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if anew else "a", encoding="utf-8") as opened:
        opened.write(json.dumps(tree) + "\n")


def read_json(path: Path) -> Any:
    """Return the tree of a JSON file.

    FileNotFoundError if there is no such file, ValueError if it is no JSON; both name it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name of a file to write. It replaces `path` if the body succeeds.

    An OSError that names no file, as that of a full disk, gets the name `path`.
    """
    with _own_folder(path) as own:
        part = own / path.name
        yield part
        os.replace(part, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill. It replaces `path` if the body succeeds; errors as `whole_file`."""
    with _own_folder(path) as own:
        part = own / path.name
        part.mkdir()
        yield part
        shutil.rmtree(path, ignore_errors=True)
        os.replace(part, path)


def remove_parts(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # it is in use, or another process removes it
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(descriptor)


@contextmanager
def _own_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that no other process uses; remove it at the end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_parts(path)
        folder, descriptor = _locked_folder(path)
    except OSError as error:  # read-only, say
        error.filename = str(path)
        raise
    try:
        yield folder
    except OSError as error:
        if error.errno is None:  # numpy's and safetensors' kind on a full disk
            raise OSError(f"{path} cannot be written: {error}") from None
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(path: Path) -> tuple[Path, int]:
    """Return a new folder beside `path` and its lock, which ends with the process."""
    while True:
        folder = Path(mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # some file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():  # else `remove_parts` of another process was faster than the lock
                return folder, descriptor
            os.close(descriptor)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
