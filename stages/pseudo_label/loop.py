"""SpCL: embed into the memory, cluster it, keep what is reliable, train against it; again each epoch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.agreement import agreement
from stages.parts.clustering.density import cluster
from stages.parts.clustering.memory import HybridMemory, class_rows
from stages.parts.clustering.neighbours import jaccard_similarity
from stages.parts.images.sampling import camera_aware_order, epoch_batches
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.domain_norm import group_statistics, split_domains
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.run import seeds
from stages.parts.run.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from stages.parts.run.console import busy, message, progress
from stages.parts.run.settings import Spcl
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import without_prefix
from stages.pseudo_label.data import Domain
from stages.pseudo_label.self_paced import reliable_labels


@dataclass
class State:
    """All that stage 1 changes; a checkpoint holds all of it.

    `labels` (N,) are those of the last clustering, in the order of the target's images; -1 before the first.
    """

    network: Embedder
    labels: np.ndarray
    memory: HybridMemory | None = None
    optimizer: torch.optim.Optimizer | None = None
    threshold: float | None = None
    epoch: int = 0  # finished epochs, those of the warm-up included
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """What to do, with what, where."""

    settings: Spcl
    target: Domain
    source: Domain | None  # None: USL mode
    device: torch.device
    seed: int

    @property
    def classes(self) -> int:
        """Memory rows of the source: its classes, or none."""
        return self.source.classes if self.source else 0


def run(
    state: State,
    task: Task,
    checkpoint: Checkpoint,
    watch: Callable[[dict[str, Any]], None],
    last: int,
) -> None:
    """Go on to epoch `last` (the warm-up's included); after each one write the checkpoint and call `watch`."""
    settings = task.settings
    for epoch in range(state.epoch, last):
        started = time.perf_counter()
        warming = epoch < settings.warmup_epochs
        if epoch == 0 or epoch == settings.warmup_epochs:
            begin(state, task, warming)
        figures = {} if warming else relabel(state, task)
        clustered = time.perf_counter()
        figures |= train_epoch(state, task)
        seconds = {
            "cluster_seconds": clustered - started,
            "train_seconds": time.perf_counter() - clustered,
        }
        state.epoch += 1
        state.history.append(
            {"epoch": state.epoch, "phase": "warmup" if warming else "spcl", **figures}
        )
        save(state, checkpoint)
        watch(state.history[-1] | seconds)


def begin(state: State, task: Task, warming: bool) -> None:
    """Network, memory and optimizer at the start of the warm-up, or of SpCL itself.

    Warm-up: on a labeled source a classifier joins the network, without one every image is its own class of the
    memory. SpCL: every batch normalization becomes a pair, one for each domain, with equal state.
    """
    if warming and task.source is not None:
        state.network = with_classifier(state.network, task)
        state.memory = None
    else:
        state.network = without_classifier(state.network)
        if not warming:
            separate_statistics(state.network, task)
        state.network.to(task.device).to(memory_format=torch.channels_last)
        state.memory = fill_memory(state.network, task)
    state.network.to(task.device).to(memory_format=torch.channels_last)
    state.optimizer = new_optimizer(state.network, task.settings)


def with_classifier(network: Embedder, task: Task) -> IdentityNetwork:
    """The network with a classifier of the source's identities, for the warm-up."""
    seed = seeds.derive(task.seed, "pseudo_label", "classifier")
    taught = build(IdentityNetwork, seed, network.backbone.architecture, task.classes)
    taught.restore(network.state_dict())
    taught.half_precision = network.half_precision
    return taught


def without_classifier(network: Embedder) -> Embedder:
    """The plain network again; the same object where there is no classifier."""
    if not isinstance(network, IdentityNetwork):
        return network
    plain = Embedder(network.backbone.architecture)
    plain.restore(network.state_dict())
    plain.half_precision = network.half_precision
    return plain


def fill_memory(network: Embedder, task: Task) -> HybridMemory:
    """A row for each source class (unit mean of its embeddings) and for each target image, every one its own label.

    A network that a warm-up trained has seen the source alone: it embeds the source as it is, the target only after
    the target's statistics are measured.
    """
    settings, rows = task.settings, []
    if task.source is not None:
        embeddings = embed(network, task.source.clean(settings, task.device))
        rows.append(class_rows(embeddings, torch.from_numpy(task.source.persons)))
        if settings.warmup_epochs:
            measure_statistics(network, task)
    rows.append(embed(network, task.target.clean(settings, task.device)))
    stacked = torch.cat(rows).to(task.device)
    return HybridMemory(
        stacked, torch.arange(len(stacked)), settings.momentum, settings.temperature
    )


def separate_statistics(network: Embedder, task: Task) -> None:
    """Batch normalization as SpCL has it: a pair for the two domains, statistics over groups of images."""
    group = task.settings.statistics_group
    if task.source is not None:
        split_domains(network, group)
    elif group is not None:
        group_statistics(network, group)


def new_optimizer(network: Embedder, settings: Spcl) -> torch.optim.Optimizer:
    """Adam over everything that learns; L2 decay on all of it, as in SpCL."""
    learning = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(learning, lr=settings.learning_rate, weight_decay=settings.weight_decay)


@torch.no_grad()
def measure_statistics(network: Embedder, task: Task, passes: int = 30) -> None:
    """Running statistics of both branches from `passes` batches of either domain; no weight changes."""
    network.train()
    batches = joint_batches(task, np.arange(len(task.target.rows)), "statistics", 0, passes)
    for images, _ in progress(batches, "pseudo_label: measuring batch statistics", "batch", passes):
        network(images)


def relabel(state: State, task: Task) -> dict[str, Any]:
    """Cluster the target's memory rows at three radii and keep what is reliable; the memory takes the labels.

    Returns the figures of the labels, for which alone the true identities are read.
    Raises InputError when the first clustering finds no cluster.
    """
    settings, memory = task.settings, state.memory
    assert memory is not None
    radii = (
        settings.radius,
        settings.radius - settings.radius_gap,
        settings.radius + settings.radius_gap,
    )
    rows = memory.rows[task.classes :].cpu().numpy()
    # Pairs beyond the loosest radius are of no use; early in training they are most of all.
    with busy(f"pseudo_label: clustering {len(rows)} images"):
        similarity = jaccard_similarity(
            rows, settings.k1, settings.k2, floor=max(0.0, 1 - radii[2] - 1e-3)
        )
        normal, tight, loose = (
            cluster(similarity, radius, settings.min_samples) for radius in radii
        )
    if state.threshold is None and normal.max(initial=-1) < 0:
        raise InputError(
            f"the first clustering of {len(normal)} images found no cluster at spcl.radius {settings.radius}: "
            "raise spcl.warmup_epochs, or start from trained weights (network.weights)"
        )
    reliable = reliable_labels(
        normal, tight, loose, state.threshold, settings.independence_quantile
    )
    state.threshold = float(reliable.threshold)
    memory.labels = torch.from_numpy(
        np.concatenate([np.arange(task.classes), task.classes + reliable.labels])
    )
    counts = np.bincount(reliable.labels)
    state.labels = np.where(counts[reliable.labels] > 1, reliable.labels, -1)
    quality = agreement(state.labels, task.target.persons)
    if not quality["clusters"]:
        message(
            f"pseudo_label: epoch {state.epoch + 1} has no cluster at spcl.radius {settings.radius}: "
            "every image is a class of its own"
        )
    return {name: round(value, 6) for name, value in quality.items()}


def joint_batches(
    task: Task, labels: np.ndarray | None, purpose: str, epoch: int, steps: int
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Batches of the source, then the target, each by labels and cameras: images, and the memory indices by domain.

    labels: of the target's images; None leaves the target out (the warm-up of UDA).
    Yields (images (B·domains, 3, H, W), [memory indices (B,) of each domain]).
    """
    settings = task.settings
    generator = seeds.generator(task.seed, "pseudo_label", purpose, "augment", epoch)
    parts: list[tuple[Domain, np.ndarray, int]] = []
    if task.source is not None:
        parts.append((task.source, task.source.persons, 0))
    if labels is not None:
        parts.append((task.target, labels, task.classes))
    streams = []
    for number, (domain, given, _) in enumerate(parts):
        draws = seeds.numpy_generator(task.seed, "pseudo_label", purpose, number, epoch)
        streams.append(
            epoch_batches(
                partial(camera_aware_order, given, domain.cameras, settings.instances, draws),
                settings.batch,
                steps,
            )
        )
    for picked in zip(*streams, strict=True):
        images, indices = [], []
        for chosen, (domain, _, offset) in zip(picked, parts, strict=True):
            images.append(domain.augmented(chosen, settings, task.device, generator))
            of_source = domain is task.source
            indices.append(
                torch.from_numpy(domain.persons[chosen] if of_source else chosen + offset)
            )
        yield torch.cat(images).contiguous(memory_format=torch.channels_last), indices


def train_epoch(state: State, task: Task) -> dict[str, Any]:
    """`spcl.steps` steps; returns the mean loss of each domain and the learning rate.

    Raises FloatingPointError at the first loss that is not finite.
    """
    settings, memory, optimizer = task.settings, state.memory, state.optimizer
    assert optimizer is not None
    rate = learning_rate(state.epoch, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    labels = None if memory is None else memory.labels[task.classes :].cpu().numpy()
    sums: list[Tensor] | None = None
    state.network.train()
    batches = joint_batches(task, labels, "train", state.epoch, settings.steps)
    what = f"pseudo_label: epoch {state.epoch + 1}/{settings.warmup_epochs + settings.epochs}"
    for images, indices in progress(batches, what, "step", settings.steps):
        optimizer.zero_grad(set_to_none=True)
        if isinstance(state.network, IdentityNetwork):
            losses = [supervised_step(state.network, images, indices[0])]
        else:
            assert memory is not None
            embeddings = state.network(images).split(settings.batch)
            losses = memory.step(list(zip(embeddings, indices, strict=True)))
        if not all(bool(torch.isfinite(loss)) for loss in losses):
            raise FloatingPointError(
                f"epoch {state.epoch + 1}: the loss is not finite ({[*map(float, losses)]})"
            )
        optimizer.step()
        sums = losses if sums is None else [a + b for a, b in zip(sums, losses, strict=True)]
    assert sums is not None
    means = [round(float(entry) / settings.steps, 6) for entry in sums]
    source = means.pop(0) if task.source is not None else None
    return {
        "loss_source": source,
        "loss_target": means[0] if means else None,
        "learning_rate": rate,
    }


def supervised_step(network: IdentityNetwork, images: Tensor, persons: Tensor) -> Tensor:
    """Cross-entropy and triplet of labeled images (B, 3, H, W), (B,), and their derivatives; the detached loss."""
    outputs = network.outputs(images)
    persons = persons.to(images.device)
    loss = functional.cross_entropy(outputs.logits, persons) + batch_hard_triplet(
        outputs.pooled, persons
    )
    loss.backward()
    return loss.detach()


def learning_rate(epoch: int, settings: Spcl) -> float:
    """The rate of an epoch (from 0, the warm-up's included): `warmup_rate`, decayed in the epochs of the warm-up's
    last quarter, then SpCL's steps down every `decay_every` epochs.
    """
    if epoch < settings.warmup_epochs:
        late = 4 * epoch >= 3 * settings.warmup_epochs
        return settings.warmup_rate * (settings.decay if late else 1)
    past = (epoch - settings.warmup_epochs) // settings.decay_every
    return float(settings.learning_rate * settings.decay**past)


def save(state: State, checkpoint: Checkpoint) -> None:
    """Write everything, whole or not at all."""
    assert state.optimizer is not None
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= optimizer_tensors(state.optimizer)
    if state.memory is not None:
        tensors |= {"memory.rows": state.memory.rows, "memory.labels": state.memory.labels}
    tensors["labels"] = torch.from_numpy(state.labels)
    facts = {"epoch": state.epoch, "threshold": state.threshold, "history": state.history}
    checkpoint.save(tensors, facts)


def restore(state: State, task: Task, checkpoint: Checkpoint) -> bool:
    """Take over a stored state. False where there is none."""
    stored = checkpoint.load()
    if stored is None:
        return False
    tensors, facts = stored
    settings = task.settings
    state.epoch, state.threshold, state.history = (
        facts["epoch"],
        facts["threshold"],
        facts["history"],
    )
    if state.epoch <= settings.warmup_epochs and task.source is not None:
        state.network = with_classifier(state.network, task)
    if state.epoch > settings.warmup_epochs:
        separate_statistics(state.network, task)
    state.network.load_state_dict(without_prefix("network.", tensors))
    state.network.to(task.device).to(memory_format=torch.channels_last)
    if "memory.rows" in tensors:
        rows, labels = tensors["memory.rows"].to(task.device), tensors["memory.labels"]
        state.memory = HybridMemory(rows, labels, settings.momentum, settings.temperature)
    state.labels = tensors["labels"].numpy()
    state.optimizer = new_optimizer(state.network, settings)
    restore_optimizer(state.optimizer, tensors)
    return True
