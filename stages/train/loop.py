"""Cross-modal training: paper Algorithm 1, lines 2 to 15."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.parts.adversary.discriminator import ModalityDiscriminator
from stages.parts.adversary.reversal import coefficient, reverse_gradient
from stages.parts.images.pairing import CrossModalBatches, cross_modal_batches, unpaired_batches
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from stages.parts.run.console import progress
from stages.parts.run.settings import Den, Otla, Pal, Train
from stages.parts.run.tensors import without_prefix
from stages.train.data import TrainingSet, pictures
from stages.train.labels import Labels, assign, log_predictions, new_labels
from stages.train.objective import loss_terms, total, weights
from stages.train.schedule import learning_rate, steps_in_epoch
from stages.train.validation import validation_map


@dataclass(frozen=True)
class Method:
    """The sections of `params.yaml` that say what is done."""

    train: Train
    den: Den
    otla: Otla
    pal: Pal
    seed: int


@dataclass
class State:
    """All that training changes; a checkpoint holds all of it."""

    network: IdentityNetwork
    discriminator: ModalityDiscriminator
    optimizer: torch.optim.Optimizer
    labels: Labels
    epoch: int = 0
    step: int = 0
    best: dict[str, Tensor] = field(
        default_factory=dict
    )  # the network of the best validation mAP, where asked for
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything, whole or not at all."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {
            f"discriminator.{name}": value
            for name, value in self.discriminator.state_dict().items()
        }
        tensors |= optimizer_tensors(self.optimizer) | self.labels.tensors()
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        checkpoint.save(tensors, {"epoch": self.epoch, "step": self.step, "history": self.history})

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Take over a stored state. False where there is none."""
        stored = checkpoint.load()
        if stored is None:
            return False
        tensors, facts = stored
        self.network.load_state_dict(without_prefix("network.", tensors))
        self.discriminator.load_state_dict(without_prefix("discriminator.", tensors))
        restore_optimizer(self.optimizer, tensors)
        self.labels.restore(tensors)
        self.best = without_prefix("best.", tensors)
        self.epoch, self.step, self.history = facts["epoch"], facts["step"], facts["history"]
        return True


def new_state(network: IdentityNetwork, images: int, method: Method, device: torch.device) -> State:
    """A state before the first epoch: optimizer in two groups (backbone, everything new), an empty bank."""
    sizes = network.backbone.sizes
    features = sum(sizes) if method.den.levels == "all" else sizes[-1]
    generator = seeds.generator(method.seed, "train", "discriminator")
    discriminator = ModalityDiscriminator(features, method.den.dropout, generator)
    network.to(device).to(memory_format=torch.channels_last)
    discriminator.to(device)
    backbone = list(network.backbone.parameters())
    new = [
        p
        for name, p in network.named_parameters()
        if not name.startswith("backbone.") and p.requires_grad
    ]
    new += [p for p in discriminator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        [{"params": backbone, "share": method.train.backbone_rate}, {"params": new, "share": 1.0}],
        lr=method.train.learning_rate,
        weight_decay=method.train.weight_decay,
    )
    return State(
        network, discriminator, optimizer, new_labels(images, network.classifier.out_features)
    )


def run(
    state: State,
    data: TrainingSet,
    method: Method,
    checkpoint: Checkpoint,
    watch: Callable[[dict[str, Any]], None],
) -> None:
    """Train `state` to the last epoch; after each one write the checkpoint and give `watch` the epoch's figures.

    Raises FloatingPointError at the first loss or prediction that is not finite: it names the step and the terms, and
    where the state of the last finished epoch is.
    """
    for epoch in range(state.epoch, method.train.epochs):
        try:
            figures, seconds = one_epoch(state, data, method)
        except FloatingPointError as error:
            where = (
                f"the state after epoch {epoch} is in {checkpoint.path}"
                if epoch
                else "no epoch was finished"
            )
            raise FloatingPointError(f"epoch {epoch + 1}, {error}; {where}") from None
        state.epoch += 1
        state.history.append(figures)
        keep_best(state)
        state.save(checkpoint)
        watch(figures | seconds)


def one_epoch(
    state: State, data: TrainingSet, method: Method
) -> tuple[dict[str, Any], dict[str, float]]:
    """Sample, train, label; its figures, and those that depend on the clock.

    With `otla.label_lag` 1 the labels are made before the steps, by the network of the epoch before, from the batches
    that the steps then use with the labels of one epoch earlier: the order of the released code.
    """
    started, epoch = time.perf_counter(), state.epoch
    batches, paired = draw_batches(state.labels, data, method, epoch)

    def label() -> tuple[dict[str, Any], float]:
        draw = (method.seed, epoch)
        images, given = log_predictions(
            state.network, data, method.train, method.otla, batches.infrared, draw
        )
        device = state.network.classifier.weight.device
        return assign(state.labels, images, given.to(device), data, method.otla)

    before = label() if method.otla.label_lag else None
    begun = time.perf_counter()
    figures = train_epoch(state, data, method, batches, paired)
    trained = time.perf_counter() - begun
    of_labels, transport = before or label()
    figures |= of_labels
    if method.train.selection == "validation":
        figures["validation_map"] = validation_map(state.network, data.store)
    seconds = time.perf_counter() - started
    return figures, {
        "train_seconds": trained,
        "assign_seconds": seconds - trained,
        "transport_seconds": transport,
        "transport_share": transport / seconds,
        "images_per_second": 2 * batches.visible.size / trained,
    }


def keep_best(state: State) -> None:
    """Keep a copy of the network where the last epoch has the best validation mAP so far (the first of equals)."""
    scores = [figures["validation_map"] for figures in state.history if "validation_map" in figures]
    if scores and scores.index(max(scores)) == len(state.history) - 1:
        state.best = {
            name: value.detach().clone() for name, value in state.network.state_dict().items()
        }


def draw_batches(
    labels: Labels, data: TrainingSet, method: Method, epoch: int
) -> tuple[CrossModalBatches, bool]:
    """The batches of an epoch, and whether their infrared images have labels (Algorithm 1, line 5).

    Where the first epoch has labels already, they are random, as in the released code, and stay in the bank until an
    image is predicted; before `otla.infrared_from_epoch`, and without any assignment, infrared images come from one
    pool and have none.
    """
    settings = method.train
    visible, infrared = len(data.visible_rows), len(data.infrared_rows)
    steps = settings.steps or steps_in_epoch(
        visible, infrared, settings.epoch_multiplier, settings.persons, settings.images
    )
    generator = seeds.numpy_generator(method.seed, "train", "batches", epoch)
    shape = (settings.persons, settings.images, steps, generator)
    given: np.ndarray | None = data.infrared_truth
    if (
        given is None
        and method.otla.assignment != "none"
        and epoch >= method.otla.infrared_from_epoch
    ):
        if epoch == 0:
            random = generator.integers(data.classes, size=infrared)
            labels.bank.write(np.arange(infrared), random, np.zeros(infrared))
        given = labels.bank.labels.numpy()
    if given is None:
        return unpaired_batches(data.visible_labels, infrared, *shape), False
    return cross_modal_batches(data.visible_labels, given, *shape), True


def train_epoch(
    state: State,
    data: TrainingSet,
    method: Method,
    batches: CrossModalBatches,
    paired: bool,
) -> dict[str, Any]:
    """One pass over `batches` (Algorithm 1, lines 4 to 7); returns the mean of each loss term and the rates used.

    Raises FloatingPointError at the first loss that is not finite: it names the step and the terms.
    """
    settings, device = method.train, state.network.classifier.weight.device
    epoch = state.epoch
    rate = learning_rate(
        epoch, settings.learning_rate, settings.warmup_epochs, settings.milestones, settings.decay
    )
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["share"]
    weight = weights(settings, method.den, method.pal)
    generator = seeds.generator(method.seed, "train", "augment", epoch)
    sums: dict[str, Tensor] = {}
    state.network.train()
    state.discriminator.train()
    reversal = 0.0
    each = zip(batches.visible, batches.infrared, batches.labels, strict=True)
    what = f"train: epoch {epoch + 1}/{settings.epochs}"
    bar = progress(each, what, "step", len(batches.labels))
    for step, (visible, infrared, label) in enumerate(bar, 1):
        images = torch.cat(
            [
                pictures(
                    data.store, data.visible_rows[visible], device, settings, generator, gray=True
                ),
                pictures(
                    data.store,
                    data.infrared_rows[infrared],
                    device,
                    settings,
                    generator,
                    gray=False,
                ),
            ]
        ).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(label).to(device)
        outputs = state.network.outputs(images)
        state.step += method.den.step
        modality = None
        if method.den.enabled:
            reversal = coefficient(state.step, method.den.max_steps, method.den.tau)
            features = outputs.levels
            if method.den.levels == "last":
                features = features[:, -state.network.backbone.sizes[-1] :]
            modality = state.discriminator(reverse_gradient(features, reversal), generator)
        terms = loss_terms(
            outputs, modality, labels, labels if paired else None, settings, method.pal
        )
        loss = total(terms, weight)
        _refuse_non_finite(loss, terms, step)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        for name, term in {"loss": loss, **terms}.items():
            sums[name] = sums.get(name, 0) + term.detach()
    names = ("loss", *weight)
    means = {
        name: round(float(sums[name]) / len(batches.labels), 6) if name in sums else None
        for name in names
    }
    return {
        "epoch": epoch + 1,
        **means,
        "learning_rate": round(rate, 10),
        "reversal": round(reversal, 6),
    }


def _refuse_non_finite(loss: Tensor, terms: dict[str, Tensor], step: int) -> None:
    if torch.isfinite(loss):
        return
    bad = [f"{name} = {term.item():g}" for name, term in terms.items() if not torch.isfinite(term)]
    raise FloatingPointError(
        f"step {step}: the loss is not finite ({', '.join(bad) or 'but every term is'})"
    )
