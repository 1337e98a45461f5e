"""Files of the pipeline, written whole or not at all: a killed stage leaves no half file."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    """Write `text` to a neighbor of `path` first, then rename it: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.write_text(text)
    os.replace(part, path)


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` as JSON, keys in the given order, ending in a line break."""
    write_text(path, json.dumps(tree, indent=2) + "\n")


def write_csv(path: Path, table: pd.DataFrame, digits: int | None = None) -> None:
    """Write `table` as CSV without its index; floats with `digits` decimals, or in full."""
    form = None if digits is None else f"%.{digits}f"
    write_text(path, table.to_csv(index=False, float_format=form, lineterminator="\n"))


def append_line(path: Path, tree: Any, anew: bool = False) -> None:
    """Add `tree` as one JSON line to a log; with `anew` the log begins with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if anew else "a") as opened:
        opened.write(json.dumps(tree) + "\n")


def read_json(path: Path) -> Any:
    """Return the tree of a JSON file.

    FileNotFoundError if there is no such file, ValueError if it is no JSON; both name it.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill. It replaces `path` if the body succeeds and is removed if not."""
    part = part_of(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    os.replace(part, path)


def part_of(path: Path) -> Path:
    """Return the neighbor of `path` that is written first."""
    return path.with_name(f".{path.name}.part")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
