"""What a stage leaves behind: files written whole or not at all, checkpoints to go on from, its time and its errors."""

import hashlib
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

# DVC runs `--temp` and queued experiments in a copy of the tracked files; DVC_ROOT is the user's checkout always.
ROOT = Path(os.environ.get("DVC_ROOT", "."))
CHECKPOINTS = ROOT / ".ckpt"
LOGS = Path("logs")


class InputError(ValueError):
    """Something the user gave is not what was expected; the message is one line that names it."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run the body of a verb: its wall time goes to `logs/<name>.json`, bad input ends in one line and exit code 1.

    Set VIREID_TRACEBACK=1 to see where an error arose.
    """
    started = time.perf_counter()
    try:
        yield
    except (
        InputError,
        ValueError,
        FileNotFoundError,
        NotADirectoryError,
        PermissionError,
        FloatingPointError,
    ) as error:
        if os.environ.get("VIREID_TRACEBACK"):
            traceback.print_exc()
        sys.exit(f"error in {name}: {' '.join(str(error).split())}")
    write_json(LOGS / f"{name}.json", {"seconds": round(time.perf_counter() - started, 2)})


def progress(items: Iterable[Any], what: str, unit: str, total: int | None = None) -> Iterable[Any]:
    """`items` with a bar that says what is done, how fast and how long still; silent when stderr is not a terminal."""
    return tqdm(items, desc=what, unit=unit, total=total, leave=False, disable=not sys.stderr.isatty())


@contextmanager
def busy(what: str) -> Iterator[None]:
    """While the body runs a terminal shows what is done, for work that has no steps to count."""
    with tqdm(desc=what, bar_format="{desc} …", leave=False, disable=not sys.stderr.isatty()):
        yield


def say(line: str) -> None:
    """One line for the person who watches the run; does not tear a progress bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def resolve(path: str | Path) -> Path:
    """A path from `params.yaml`: relative ones start here, where DVC may have put them (`data/synthetic` of an
    experiment that runs in a copy), or else at the user's checkout.
    """
    return Path(path) if Path(path).exists() else ROOT / path


def rounded(tree: Any, digits: int = 4) -> Any:
    """`tree` with every float rounded, for metrics that people compare."""
    if isinstance(tree, dict):
        return {key: rounded(value, digits) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rounded(value, digits) for value in tree]
    return round(tree, digits) if isinstance(tree, float) else tree


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all: to a neighbour first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    os.replace(beside, path)


def write_json(path: Path, tree: Any) -> None:
    """`tree` as JSON, keys in the given order, ending in a line break."""
    write_text(path, json.dumps(tree, indent=2) + "\n")


def append_line(path: Path, tree: Any, anew: bool = False) -> None:
    """Add `tree` as one JSON line to a log, or begin the log `anew` with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w" if anew else "a") as opened:
        opened.write(json.dumps(tree) + "\n")


def read_json(path: Path) -> Any:
    """The tree of a JSON file. FileNotFoundError where there is none."""
    return json.loads(path.read_text())


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `path` when the body ends well, and vanishes when it does not."""
    beside = path.with_name(f".{path.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    os.replace(beside, path)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], facts: Any = None) -> None:
    """Tensors (and JSON-able `facts`) as one safetensors file, whole or not at all; equal content gives equal bytes.

    The facts share one metadata key, because safetensors does not keep the order of several.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    ordered = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    save_file(ordered, beside, metadata=None if facts is None else {"facts": json.dumps(facts)})
    os.replace(beside, path)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Tensors (on the CPU) and facts of a file that `save_tensors` wrote. InputError where it cannot be read."""
    facts = load_facts(path)
    return load_file(path), facts


def load_facts(path: Path) -> Any:
    """The facts alone, whatever the size of the tensors; None where the file has none. InputError as above."""
    try:
        with safe_open(path, framework="pt") as opened:
            return json.loads((opened.metadata() or {}).get("facts", "null"))
    except FileNotFoundError:
        raise InputError(f"{path} is not here") from None
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from None


def below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fingerprint(settings: Iterable[Any], files: Iterable[Path], seed: int = 0) -> str:
    """16 hex digits that change with the seed, any of the settings (dataclasses) or the bytes of any of the files.

    A folder among the files stands for the `.py` files below it.
    """
    seen = hashlib.sha256(str(seed).encode())
    for item in settings:
        seen.update(json.dumps({type(item).__name__: asdict(item)}, sort_keys=True).encode())
    for path in files:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            seen.update(file_hash(file).encode())
    return seen.hexdigest()[:16]


def parameters(settings: Iterable[Any], seed: int = 0) -> dict[str, Any]:
    """The settings (dataclasses) as people name them, `train.epochs: 14`, with the seed; fit for JSON."""
    flat = {"seed": seed}
    for item in settings:
        flat |= {f"{type(item).__name__.lower()}.{name}": value for name, value in asdict(item).items()}
    return dict(json.loads(json.dumps(flat)))


class Checkpoint:
    """The state to go on from, one file below `.ckpt/`, named after the stage and the fingerprint of its inputs.

    Another parameter or input gives another name, so a run never goes on from the state of a different one; and the
    file holds its parameters, so a file that was given another's name is refused too.
    """

    def __init__(self, stage: str, key: str, parameters: dict[str, Any] | None = None) -> None:
        self.path = CHECKPOINTS / f"{stage}-{key}.safetensors"
        self.stage, self.parameters = stage, parameters or {}

    def save(self, tensors: dict[str, torch.Tensor], facts: Any) -> None:
        """Replace the stored state, whole or not at all."""
        save_tensors(self.path, tensors, {"parameters": self.parameters, "state": facts})

    def load(self) -> tuple[dict[str, torch.Tensor], Any] | None:
        """The stored state, or None where there is none. InputError, with the differing keys, for other parameters."""
        if not self.path.exists():
            return None
        tensors, facts = load_tensors(self.path)
        differing = self._differing(facts)
        if differing:
            raise InputError(f"{self.path} is of other parameters: {differing}; delete it to start afresh")
        return tensors, facts["state"]

    def refused(self) -> list[str]:
        """A line for each state of this stage that is not gone on from, with the parameters that differ."""
        lines = []
        for path in sorted(CHECKPOINTS.glob(f"{self.stage}-*.safetensors")):
            if path != self.path:
                differing = self._differing(load_facts(path)) or "other input files or code"
                lines.append(f"not going on from {path}: {differing}")
        return lines

    def delete(self) -> None:
        """Forget the state: the stage has finished."""
        self.path.unlink(missing_ok=True)

    def _differing(self, facts: dict[str, Any]) -> str:
        if "parameters" not in facts:
            return "it names no parameters"
        stored = facts["parameters"]
        keys = [key for key in self.parameters | stored if stored.get(key) != self.parameters.get(key)]
        return ", ".join(f"{key} {stored.get(key)} there, {self.parameters.get(key)} asked for" for key in keys)


def optimiser_tensors(optimiser: torch.optim.Optimizer, prefix: str = "optimiser.") -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors (`<prefix><parameter number>.<name>`), for a checkpoint."""
    state = optimiser.state_dict()["state"]
    return {f"{prefix}{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], prefix: str = "optimiser."
) -> None:
    """The inverse of `optimiser_tensors`; learning rates are the caller's, they follow from the epoch."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            number, entry = name.removeprefix(prefix).split(".")
            state.setdefault(int(number), {})[entry] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, entry in optimiser.state.items():
        for name, value in entry.items():
            if value.shape == parameter.shape:  # in the weights' memory layout again, as before the interruption
                entry[name] = torch.empty_like(parameter).copy_(value)
