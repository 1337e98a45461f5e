"""Checkpoints: the state that an interrupted training goes on from."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stages.parts.run.files import ROOT, file_hash, remove_parts
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_facts, load_tensors, save_tensors

CHECKPOINTS = ROOT / ".ckpt"


def parameters(settings: Iterable[Any], seed: int) -> dict[str, Any]:
    """Return the settings (dataclasses) and the seed as people name them, `train.epochs: 14`."""
    flat = {"seed": seed}
    for item in settings:
        section = type(item).__name__.lower()
        flat |= {f"{section}.{name}": value for name, value in asdict(item).items()}
    return dict(json.loads(json.dumps(flat)))


def fingerprint(parameters: dict[str, Any], files: Iterable[Path]) -> str:
    """Return 16 hex digits that stand for the inputs of a training.

    They change with any of the parameters and with the bytes of any of the files. A folder stands
    for the Python files below it, but for hidden ones: editors leave them.
    """
    seen = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in files:
        for file in sorted(path.rglob("[!.]*.py")) if path.is_dir() else [path]:
            seen.update(file_hash(file).encode())
    return seen.hexdigest()[:16]


class Stored(NamedTuple):
    """A state as a checkpoint holds it."""

    tensors: dict[str, Tensor]
    facts: Any  # the rest of the state, from JSON


class Checkpoint:
    """The state to go on from: one file below `.ckpt/`, named after the stage and its fingerprint.

    Another parameter or input gives another name, so a run never goes on from the state of a
    different one. The file holds its parameters as well: a file that was given another's name is
    refused. The state of a finished training has the ending `.finished` (see `finish`).
    """

    def __init__(self, stage: str, key: str, parameters: dict[str, Any] | None = None) -> None:
        self.path = CHECKPOINTS / f"{stage}-{key}.safetensors"
        self.finished = self.path.with_suffix(".finished")
        self.stage = stage
        self.parameters = parameters or {}

    def save(self, tensors: dict[str, Tensor], facts: Any) -> None:
        """Replace the stored state, whole or not at all."""
        save_tensors(self.path, tensors, {"parameters": self.parameters, "state": facts})

    def load(self) -> Stored | None:
        """Return the stored state, or None if there is none.

        Raises:
            InputError: if the file is of other parameters; the message lists those that differ.
        """
        if self.finished.exists():
            os.replace(self.finished, self.path)
        if not self.path.exists():
            return None
        try:
            tensors, facts = load_tensors(self.path)
        except InputError as error:
            raise InputError(f"{error}; delete it to start afresh") from None
        differing = self._differing(facts)
        if differing:
            raise InputError(
                f"{self.path} is of other parameters: {differing}; delete it to start afresh"
            )
        return Stored(tensors, facts["state"])

    def refused(self) -> list[str]:
        """Return a line for each state of this stage that is not used, with what differs."""
        lines = []
        for path in sorted(CHECKPOINTS.glob(f"{self.stage}-*.safetensors")):
            if path != self.path:
                lines.append(f"not going on from {path}: {self._reason(path)}")
        return lines

    def finish(self) -> None:
        """Forget the state: the stage has written its results. With DVC, `delete_finished` does it.

        DVC records the results after the stage has ended. If DVC is killed before, or finds no
        room for them, it deletes them and runs the stage again, which then goes on from here
        instead of from its first epoch.
        """
        if "DVC_STAGE" in os.environ:
            with suppress(FileNotFoundError):  # a training of no epoch has no state
                os.replace(self.path, self.finished)
        else:
            self.path.unlink(missing_ok=True)
        remove_parts(self.path)

    def _reason(self, path: Path) -> str:
        """Return why the state at `path` is not used."""
        try:
            facts = load_facts(path)
        except InputError:
            return "it is not readable"
        return self._differing(facts) or "other input files or code"

    def _differing(self, facts: Any) -> str:
        if not isinstance(facts, dict) or "parameters" not in facts:
            return "it names no parameters"
        there, wanted = facts["parameters"], self.parameters
        return ", ".join(
            f"{key} {there.get(key)} there, {wanted.get(key)} asked for"
            for key in wanted | there
            if there.get(key) != wanted.get(key)
        )


def delete_finished() -> None:
    """Delete the states of finished trainings, whose results DVC has recorded.

    It has if a stage runs that needs them.
    """
    for path in CHECKPOINTS.glob("*.finished"):
        path.unlink(missing_ok=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as tensors `optimizer.<parameter number>.<name>`."""
    return {
        f"optimizer.{number}.{name}": value
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_tensors` gave; other names are ignored.

    Learning rates are not part of it: they follow from the epoch.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, entry = name.split(".")
            state.setdefault(int(number), {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if value.shape == parameter.shape:
                # in the memory layout of the weights again, as before the interruption
                entries[name] = torch.empty_like(parameter).copy_(value)
