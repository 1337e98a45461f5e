"""The skeleton of a training that can be interrupted. Both training stages use it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor

from stages.parts.run.checkpoint import Checkpoint, Stored, fingerprint
from stages.parts.run.console import is_first, message
from stages.parts.run.files import LOGS, append_line, resolve
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors
from stages.parts.run.world import ALONE, World, facts_from_first, tensors_from_first

Figures = dict[str, Any]
LOOK_EVERY = 32  # steps after which losses on a GPU are looked at


class State(Protocol):
    """All that a training changes. A checkpoint holds all of it."""

    history: list[Figures]  # of each finished epoch; no figure in it is of the clock

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name."""

    def facts(self) -> dict[str, Any]:
        """Return the rest of the state without the history, fit for JSON."""


def open_checkpoint(stage: str, parameters: dict[str, Any], inputs: Iterable[Path]) -> Checkpoint:
    """Return the checkpoint of a stage, and say which states of other runs are not used.

    Args:
        stage: the stage's name in dvc.yaml. If the code changes that dvc.yaml lists for this
            stage, its states are not used any more.
        parameters: all parameters that the training reads, with the seed.
        inputs: the files that it reads.
    """
    files = [*inputs, *code_of(stage)]
    checkpoint = Checkpoint(stage, fingerprint(parameters, files), parameters)
    for line in checkpoint.refused():
        message(f"{stage}: {line}")
    return checkpoint


def load_state(checkpoint: Checkpoint, epochs: int, world: World = ALONE) -> Stored | None:
    """Return the state to go on from, and say so; None if there is none.

    The first process reads it for all.
    """
    stored = checkpoint.load() if world.is_first else None
    facts = facts_from_first(stored and stored.facts, world)
    if facts is not None:
        stored = Stored(tensors_from_first(stored and stored.tensors, world), facts)
    if stored is not None:
        finished = len(stored.facts["history"])
        where = f"going on after epoch {finished} of {epochs} ({checkpoint.path})"
        message(f"{checkpoint.stage}: {where}")
    return stored


def code_of(stage: str) -> list[Path]:
    """Return the files and folders of code that a stage depends on, as dvc.yaml lists them."""
    dependencies = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage][
        "deps"
    ]
    return [Path(path) for path in dependencies if path.startswith("stages/")]


def run_epochs(
    state: State,
    one_epoch: Callable[[], tuple[Figures, Figures]],
    epochs: int,
    checkpoint: Checkpoint,
    on_epoch_end: Callable[[Figures], None],
) -> None:
    """Train `state` until `epochs` epochs are finished; write the checkpoint after each epoch.

    Of several processes only the first one writes, and calls `on_epoch_end`.

    Args:
        state: goes on after the epochs of its history.
        one_epoch: trains one epoch; returns its figures, and those that are of the clock.
        epochs: number of epochs, those of the history included.
        checkpoint: where the state is written.
        on_epoch_end: gets all figures of each epoch.

    Raises:
        FloatingPointError: if `one_epoch` raises it; the message also names the epoch and says
            where the state of the last finished epoch is.
    """
    for epoch in range(len(state.history), epochs):
        try:
            figures, times = one_epoch()
        except FloatingPointError as error:
            place = f"the state after epoch {epoch} is in {checkpoint.path}"
            where = place if epoch else "no epoch was finished"
            raise FloatingPointError(f"epoch {epoch + 1}, {error}; {where}") from None
        state.history.append({"epoch": epoch + 1, **figures})
        if is_first():
            checkpoint.save(state.tensors(), state.facts() | {"history": state.history})
            on_epoch_end(state.history[-1] | times)


def log_times(stage: str, figures: Figures, names: Iterable[str]) -> None:
    """Append times of an epoch to `logs/<stage>_epochs.jsonl`; epoch 1 starts a new file."""
    times = {name: round(figures[name], 4) for name in names}
    line = {"epoch": figures["epoch"], **times}
    append_line(LOGS / f"{stage}_epochs.jsonl", line, anew=figures["epoch"] == 1)


class Means:
    """Means of the loss and its terms over the steps of an epoch, all of which must be finite.

    The sums stay on the terms' device. Terms on a GPU are looked at every LOOK_EVERY steps, because
    the host has to wait for them.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._unseen: list[Tensor] = []  # the terms (T,) of each step that nobody has looked at

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add the scalars of one step; every step has the same names.

        Raises:
            FloatingPointError: if a term is not finite; names the first such step and its terms.
        """
        values = torch.stack([term.detach() for term in terms.values()])  # (T,)
        for name, value in zip(terms, values, strict=True):
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._unseen.append(values)
        if not values.is_cuda or len(self._unseen) == LOOK_EVERY:
            self._look()

    def of(self, names: Iterable[str]) -> dict[str, float | None]:
        """Return the means, rounded to six digits; None for a name that was never added.

        Raises:
            FloatingPointError: as `add` does.
        """
        self._look()
        means: dict[str, float | None] = dict.fromkeys(names)
        for name in means.keys() & self._sums.keys():
            means[name] = round(float(self._sums[name]) / self._steps, 6)
        return means

    def _look(self) -> None:
        if not self._unseen:
            return
        rows = torch.stack(self._unseen).cpu()  # (steps, T)
        wrong = ~rows.isfinite()
        if wrong.any():
            first = int(wrong.any(1).int().argmax())
            step = self._steps - len(rows) + first + 1
            terms = zip(self._sums, rows[first].tolist(), wrong[first].tolist(), strict=True)
            parts = [
                f"{name} = {value:g}"
                for name, value, is_wrong in terms
                if is_wrong and name != "loss"
            ]
            listed = ", ".join(parts) or "but every term is"
            raise FloatingPointError(f"step {step}: the loss is not finite ({listed})")
        self._unseen = []


class Restorable(Protocol):
    """What takes over stored weights."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load stored weights. ValueError or RuntimeError if they do not fit."""


class Startable(Restorable, Protocol):
    """A network that a training can start from stored weights."""

    @property
    def backbone(self) -> Restorable:
        """The part that ImageNet's weights are of."""


def weight_files(weights: str) -> list[Path]:
    """Return the file that `network.weights` names, if it names one."""
    return [] if weights in ("none", "imagenet") else [resolve(weights)]


def load_weights(
    network: Startable, weights: str, imagenet: Callable[[], dict[str, Tensor]]
) -> None:
    """Load what `network.weights` names into `network`: nothing, ImageNet's weights or a file's.

    Args:
        network: has its random initial weights.
        weights: the parameter.
        imagenet: returns the weights of the backbone.

    Raises:
        InputError: if the file is missing or does not fit.
    """
    if weights == "imagenet":
        network.backbone.restore(imagenet())
    for path in weight_files(weights):
        try:
            restore(network, path)
        except InputError as error:
            raise InputError(f"network.weights: {error}") from None


def restore(network: Startable, path: Path) -> None:
    """Load the network that is stored at `path`. InputError if it is missing or does not fit."""
    tensors, _ = load_tensors(path)
    try:
        network.restore(tensors)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
