"""Cross-modal training: paper Algorithm 1, lines 2 to 15."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stages.parts.adversary.discriminator import ModalityDiscriminator
from stages.parts.adversary.reversal import coefficient, reverse_gradient
from stages.parts.images.pairing import CrossModalBatches, cross_modal_batches, unpaired_batches
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.checkpoint import (
    Stored,
    optimizer_tensors,
    restore_optimizer,
)
from stages.parts.run.console import progress
from stages.parts.run.settings import Den, Train
from stages.parts.run.shards import Shards
from stages.parts.run.tensors import with_prefix, without_prefix
from stages.parts.run.training import Figures, Means
from stages.parts.upload import upload
from stages.train.data import Method, TrainingSet, augmented
from stages.train.groups import find_groups
from stages.train.labels import (
    AssignmentState,
    assign,
    labels_of_epoch,
    log_predictions,
    new_labels,
)
from stages.train.objective import WEIGHTS, loss_terms, weighted_sum, weights
from stages.train.schedule import learning_rate, steps_of
from stages.train.validation import validation_map


@dataclass
class State:
    """All that training changes. A checkpoint holds all of it."""

    network: IdentityNetwork
    discriminator: ModalityDiscriminator
    optimizer: torch.optim.Optimizer
    labels: AssignmentState
    step: int = 0  # of the gradient reversal
    best: dict[str, Tensor] = field(default_factory=dict)  # network of the best validation mAP
    history: list[Figures] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name."""
        return {
            **with_prefix("network.", self.network.state_dict()),
            **with_prefix("discriminator.", self.discriminator.state_dict()),
            **optimizer_tensors(self.optimizer),
            **self.labels.tensors(),
            **with_prefix("best.", self.best),
        }

    def facts(self) -> dict[str, Any]:
        """Return the rest of the state without the history, fit for JSON."""
        return {"step": self.step}

    def restore(self, stored: Stored) -> None:
        """Take over a stored state."""
        self.network.load_state_dict(without_prefix("network.", stored.tensors))
        self.discriminator.load_state_dict(without_prefix("discriminator.", stored.tensors))
        restore_optimizer(self.optimizer, stored.tensors)
        self.labels.restore(stored.tensors)
        self.best = without_prefix("best.", stored.tensors)
        self.step, self.history = stored.facts["step"], stored.facts["history"]


def new_state(
    network: IdentityNetwork, data: TrainingSet, method: Method, device: torch.device
) -> State:
    """Return the state before the first epoch.

    The optimizer has two groups: the backbone, and everything new. The rate of a group is its
    `share` of the learning rate.
    """
    sizes = network.backbone.sizes
    features = sum(sizes) if method.den.levels == "all" else sizes[-1]
    generator = seeds.generator(method.seed, "train", "discriminator")
    discriminator = ModalityDiscriminator(features, method.den.dropout, generator)
    network.to(device).to(memory_format=torch.channels_last)
    discriminator.to(device)
    backbone = list(network.backbone.parameters())
    new = [
        parameter
        for name, parameter in network.named_parameters()
        if not name.startswith("backbone.") and parameter.requires_grad
    ]
    new += [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    groups = [
        {"params": backbone, "share": method.train.backbone_rate},
        {"params": new, "share": 1.0},
    ]
    rate, decay = method.train.learning_rate, method.train.weight_decay
    optimizer = torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)
    return State(network, discriminator, optimizer, new_labels(data, method))


def one_epoch(state: State, data: TrainingSet, method: Method) -> tuple[Figures, Figures]:
    """Draw batches, train, label (Algorithm 1); return the figures, and those of the clock.

    With `otla.label_lag` 1 the images are labeled before the steps, as in the released code. The
    steps of this epoch still use the older labels, and those of the next epoch use the new ones.
    """
    started = time.perf_counter()
    batches, is_paired = draw_batches(state, data, method)
    take_steps = partial(train_epoch, state, data, method, batches, is_paired)
    label_images = partial(predict_and_assign, state, data, method, batches)
    if method.otla.label_lag:
        label_figures, assignment_seconds = label_images()
        losses, train_seconds = _timed(take_steps)
    else:
        losses, train_seconds = _timed(take_steps)
        label_figures, assignment_seconds = label_images()
    figures = losses | label_figures | validate(state, data, method)
    seconds = time.perf_counter() - started
    images = 2 * batches.visible.size
    return figures, times_of(seconds, train_seconds, assignment_seconds, images)


def times_of(
    seconds: float, train_seconds: float, assignment_seconds: float, images: int
) -> Figures:
    """Return the figures of the clock, of an epoch of `seconds` whose steps saw `images`."""
    return {
        "train_seconds": train_seconds,
        "label_seconds": seconds - train_seconds,
        "assignment_seconds": assignment_seconds,
        "assignment_share": assignment_seconds / seconds,
        "images_per_second": images / train_seconds,
    }


def _timed(call: Callable[[], Figures]) -> tuple[Figures, float]:
    """Return what `call` returns, and the seconds that it took."""
    started = time.perf_counter()
    figures = call()
    return figures, time.perf_counter() - started


def validate(state: State, data: TrainingSet, method: Method) -> Figures:
    """Return the validation mAP and keep a copy of the best network (the first of equals).

    Without `train.selection: validation` there is nothing to do.
    """
    if method.train.selection != "validation":
        return {}
    score = validation_map(state.network, data.store, method.world)
    scores = [figures["validation_map"] for figures in state.history]
    if score > max(scores, default=-1.0):
        tensors = state.network.state_dict()
        state.best = {name: value.detach().clone() for name, value in tensors.items()}
    return {"validation_map": score}


def draw_batches(state: State, data: TrainingSet, method: Method) -> tuple[CrossModalBatches, bool]:
    """Return the batches of an epoch, and whether their infrared images have labels.

    Algorithm 1, line 5. Before `otla.infrared_from_epoch`, and without any assignment, infrared
    images come from one pool and have no labels. The released code draws in other ways, for which
    there is no parameter (docs/paper.md).
    """
    train, epoch = method.train, state.epoch
    stream = seeds.numpy_generator(method.seed, "train", "batches", epoch)
    shape = (train.persons, train.images, steps_of(data, train), stream)
    labels = labels_of_epoch(state.labels, data, method.otla, epoch)
    if labels is None:
        return unpaired_batches(data.visible_labels, len(data.infrared_rows), *shape), False
    return cross_modal_batches(data.visible_labels, labels, *shape), True


def predict_and_assign(
    state: State, data: TrainingSet, method: Method, batches: CrossModalBatches
) -> tuple[Figures, float]:
    """Predict infrared images and assign labels (Algorithm 1, lines 8 to 14), see `assign`."""
    positions, log_p = log_predictions(state.network, data, method, batches.infrared, state.epoch)
    log_p = log_p.to(state.network.classifier.weight.device)  # (M, C)
    groups = None
    if method.otla.rows == "clusters" and method.otla.assignment != "none":
        groups = find_groups(state.network, data, positions, method.clusters, method.world)
    return assign(state.labels, positions, log_p, data, method.otla, groups)


def train_epoch(
    state: State,
    data: TrainingSet,
    method: Method,
    batches: CrossModalBatches,
    is_paired: bool,
) -> Figures:
    """Train one pass over `batches` (Algorithm 1, lines 4 to 7).

    Returns:
        The mean of each loss term (None for a term that is switched off), and the rates.

    Raises:
        FloatingPointError: at the first loss that is not finite.
    """
    train = method.train
    device = state.network.classifier.weight.device
    generator = seeds.generator(method.seed, "train", "augment", state.epoch)
    augment = partial(augmented, data.store, device=device, settings=train, generator=generator)
    visible_rows = data.visible_rows[batches.visible]  # (steps, B)
    infrared_rows = data.infrared_rows[batches.infrared]  # (steps, B)
    steps = zip(visible_rows, infrared_rows, batches.labels, strict=True)
    title = f"train: epoch {state.epoch + 1}/{train.epochs}"
    rate = set_rate(state, train, state.epoch)
    weight = weights(method)
    means = Means()
    shards = Shards(state.network.backbone, method.shards, method.world)
    state.network.train()
    state.discriminator.train()
    for visible, infrared, label in progress(steps, title, "step", len(batches.labels)):
        images = torch.cat([augment(visible, gray=True), augment(infrared, gray=False)])
        images = images.contiguous(memory_format=torch.channels_last)  # (2B, 3, H, W)
        labels = upload(torch.from_numpy(label), device)  # (B,)
        blocks = (len(visible), len(infrared))
        pooled = shards.forward(state.network.pooled, images, blocks, visible=len(visible))
        outputs = state.network.behind(pooled)  # logits (2B, C), pooled (2B, D), levels (2B, F)

        modality = discriminate(state, outputs.levels, method.den, generator)  # (2B,)
        infrared_labels = labels if is_paired else None
        terms = loss_terms(outputs, modality, labels, infrared_labels, train, method.pal)
        loss = weighted_sum(terms, weight)  # Eq. 11
        means.add({"loss": loss, **terms})

        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        shards.backward()
        state.optimizer.step()
    shards.share_statistics()
    losses = means.of(("loss", *WEIGHTS))
    reversal = round(reversal_strength(state, method.den), 6)
    return {**losses, "learning_rate": round(rate, 10), "reversal": reversal}


def set_rate(state: State, train: Train, epoch: int) -> float:
    """Set the learning rate of an epoch (from 0) and return it; a group gets its share of it."""
    rate = learning_rate(
        epoch, train.learning_rate, train.warmup_epochs, train.milestones, train.decay
    )
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


def discriminate(
    state: State, levels: Tensor, den: Den, generator: torch.Generator
) -> Tensor | None:
    """Count a step of the reversal; return the discriminator's logits (2B,), None without DEN.

    Args:
        state: network and discriminator.
        levels: (2B, F) all levels behind their necks, the last level last.
        den: the section `den`.
        generator: where the dropout is drawn from.
    """
    state.step += den.step
    if not den.enabled:
        return None
    last = state.network.backbone.sizes[-1]
    features = levels if den.levels == "all" else levels[:, -last:]
    reversed_features = reverse_gradient(features, reversal_strength(state, den))
    logits: Tensor = state.discriminator(reversed_features, generator)
    return logits


def reversal_strength(state: State, den: Den) -> float:
    """Return the coefficient of the gradient reversal at the last step; 0 without DEN."""
    return coefficient(state.step, den.max_steps, den.tau) if den.enabled else 0.0
