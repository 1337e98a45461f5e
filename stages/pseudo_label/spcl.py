"""SpCL: embed into the memory, cluster it, keep what is reliable, train against it; every epoch.

The memory has a row for each class of the source and a row for each image of the target. Without a
source the same loop also warms up, with every image as its own class.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.parts.agreement import agreement
from stages.parts.clustering.density import cluster
from stages.parts.clustering.memory import HybridMemory, class_rows
from stages.parts.clustering.neighbours import nearest_lists, similarity_of_lists
from stages.parts.network.domain_norm import group_statistics, split_domains
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, build
from stages.parts.run.checkpoint import Stored, optimizer_tensors, restore_optimizer
from stages.parts.run.console import busy, message, progress
from stages.parts.run.settings import Spcl
from stages.parts.run.shards import Shards
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import with_prefix, without_prefix
from stages.parts.run.training import Figures, Means
from stages.parts.run.world import World, divided, tensors_from_first
from stages.pseudo_label.data import (
    CLEAN_BATCH,
    SPCL,
    Method,
    TrainingSet,
    VisibleImages,
    joint_batches,
)
from stages.pseudo_label.schedule import epoch_title, learning_rate, new_optimizer, set_rate
from stages.pseudo_label.self_paced import reliable_labels

STATISTICS_PASSES = 30  # batches that the target's running statistics are measured on


@dataclass
class State:
    """All that SpCL changes."""

    network: Embedder
    memory: HybridMemory
    optimizer: torch.optim.Optimizer
    labels: np.ndarray  # (N,) int64, of the last clustering; -1 before the first
    phase: str = SPCL
    threshold: float | None = None  # of the independence; None before the first clustering
    history: list[Figures] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name."""
        return {
            **with_prefix("network.", self.network.state_dict()),
            **optimizer_tensors(self.optimizer),
            "memory.rows": self.memory.rows,
            "memory.labels": self.memory.labels,
            "labels": torch.from_numpy(self.labels),
        }

    def facts(self) -> dict[str, Any]:
        """Return the rest of the state, fit for JSON."""
        return {"phase": self.phase, "threshold": self.threshold}


def open_state(
    start: Embedder,
    data: TrainingSet,
    method: Method,
    stored: Stored | None = None,
    phase: str = SPCL,
) -> State:
    """Return the stored state, or one before the first epoch of `phase`.

    The network is that of `start`, on its device, without a classifier. If there is no stored
    state, the network fills the memory, and no image has a label.
    """
    backbone = start.backbone
    # any seed: weights are replaced
    network = build(Embedder, 0, backbone.architecture, backbone.extras)
    network.restore(start.state_dict())
    network.half_precision = start.half_precision
    if phase == SPCL:
        separate_statistics(network, data, method.spcl)
    network.to(start.neck.weight.device).to(memory_format=torch.channels_last)
    if stored is None:
        memory = fill_memory(network, data, method)
        labels = np.full(len(data.target.rows), -1)
        return State(network, memory, new_optimizer(network, method.spcl), labels, phase)
    network.load_state_dict(without_prefix("network.", stored.tensors))
    memory = new_memory(
        stored.tensors["memory.rows"], stored.tensors["memory.labels"], network, method
    )
    optimizer = new_optimizer(network, method.spcl)
    restore_optimizer(optimizer, stored.tensors)
    return State(
        network,
        memory,
        optimizer,
        labels=stored.tensors["labels"].numpy(),
        phase=phase,
        threshold=stored.facts["threshold"],
        history=stored.facts["history"],
    )


def new_memory(rows: Tensor, labels: Tensor, network: Embedder, method: Method) -> HybridMemory:
    """Return a memory of unit rows (L, D) with labels (L,), on the network's device."""
    momentum, temperature = method.spcl.momentum, method.spcl.temperature
    return HybridMemory(rows.to(_device(network)), labels, momentum, temperature)


def separate_statistics(network: Embedder, data: TrainingSet, settings: Spcl) -> None:
    """Give batch normalization SpCL's form: a pair for two domains, statistics over groups."""
    group = settings.statistics_group
    if data.source is not None:
        split_domains(network, group)
    elif group is not None:
        group_statistics(network, group)


def fill_memory(network: Embedder, data: TrainingSet, method: Method) -> HybridMemory:
    """Return a memory with unit rows: the mean of each source class, then each target image.

    Every row has a label of its own. After a warm-up the running statistics are the source's. They
    serve to embed the source. Then the target's are measured, and serve to embed the target.
    """
    parts = []
    if data.source is not None:
        embeddings = _embed(network, data.source, method)  # (N_source, D)
        parts.append(class_rows(embeddings, torch.from_numpy(data.source.persons)))  # (C, D)
        if method.spcl.warmup_epochs:
            measure_statistics(network, data, method)
    parts.append(_embed(network, data.target, method))  # (N, D)
    rows = torch.cat(parts)  # (C + N, D)
    return new_memory(rows, torch.arange(len(rows)), network, method)


def _embed(network: Embedder, images: VisibleImages, method: Method) -> Tensor:
    """Return the embeddings (N, D) of all images of a data set, on the CPU."""

    def compute(part: slice) -> Tensor:
        return embed(network, images.clean(method.spcl, _device(network), part))

    return divided(compute, len(images.rows), CLEAN_BATCH, method.world)


@torch.no_grad()
def measure_statistics(network: Embedder, data: TrainingSet, method: Method) -> None:
    """Measure the running statistics of both domains on STATISTICS_PASSES batches of each.

    No weight changes.
    """
    network.train()
    own_classes = np.arange(len(data.target.rows))
    draw = ("statistics", 0, STATISTICS_PASSES)
    batches = joint_batches(data, method, own_classes, draw, _device(network))
    title = "pseudo_label: measuring batch statistics"
    for images, _ in progress(batches, title, "batch", STATISTICS_PASSES):
        network(images)


def one_epoch(state: State, data: TrainingSet, method: Method) -> tuple[Figures, Figures]:
    """Cluster (not in the warm-up), then train; return the figures, and those of the clock."""
    started = time.perf_counter()
    quality = relabel(state, data, method) if state.phase == SPCL else {}
    clustered = time.perf_counter()
    losses = train_epoch(state, data, method)
    times = {
        "cluster_seconds": clustered - started,
        "train_seconds": time.perf_counter() - clustered,
    }
    return {"phase": state.phase, **quality, **losses}, times


def relabel(state: State, data: TrainingSet, method: Method) -> Figures:
    """Cluster the target's memory rows at three radii, keep what is reliable, label the memory.

    Returns:
        How well the labels agree with the true identities, which nothing else uses.

    Raises:
        InputError: if the first clustering finds no cluster.
    """
    settings = method.spcl
    classes = data.source_classes
    shared = _clusterings(state.memory.rows[classes:], settings, method.world)
    normal, tight, loose = (shared[name].numpy() for name in ("normal", "tight", "loose"))
    if state.threshold is None and normal.max(initial=-1) < 0:
        raise InputError(
            f"the first clustering of {len(normal)} images found no cluster at spcl.radius "
            f"{settings.radius}: raise spcl.warmup_epochs, or start from trained weights "
            "(network.weights)"
        )
    quantile = settings.independence_quantile
    reliable = reliable_labels(normal, tight, loose, state.threshold, quantile)
    state.threshold = float(reliable.threshold)

    # labels of the memory: the source's classes, then the target's clusters and single images
    memory_labels = np.concatenate([np.arange(classes), classes + reliable.labels])  # (C + N,)
    state.memory.labels = torch.from_numpy(memory_labels)
    sizes = np.bincount(reliable.labels)
    state.labels = np.where(sizes[reliable.labels] > 1, reliable.labels, -1)  # (N,)

    quality = agreement(state.labels, data.target.persons)
    if not quality["clusters"]:
        message(
            f"pseudo_label: epoch {len(state.history) + 1} has no cluster at spcl.radius "
            f"{settings.radius}: every image is a class of its own"
        )
    return {name: round(value, 6) for name, value in quality.items()}


def _clusterings(rows: Tensor, settings: Spcl, world: World) -> dict[str, Tensor]:
    """Return the labels (N,) of rows (N, D) at the normal, the tighter and the looser radius.

    The processes search neighbours together; the first one clusters for all.
    """
    embeddings = rows.cpu().numpy()
    radii = {
        "normal": settings.radius,
        "tight": settings.radius - settings.radius_gap,
        "loose": settings.radius + settings.radius_gap,
    }
    found = None
    with busy(f"pseudo_label: clustering {len(rows)} images"):
        k1, k2 = settings.k1, settings.k2
        divide = partial(divided, world=world)
        lists = nearest_lists(embeddings, k1, k2, device=rows.device, divide=divide)
        if world.is_first:
            # Pairs beyond the loosest radius are of no use. Early in training most pairs are.
            floor = max(0.0, 1 - radii["loose"] - 1e-3)
            similarity = similarity_of_lists(embeddings, lists, floor)  # (N, N)
            found = {
                name: torch.from_numpy(cluster(similarity, radius, settings.min_samples))
                for name, radius in radii.items()
            }
        return tensors_from_first(found, world)


def train_epoch(state: State, data: TrainingSet, method: Method) -> Figures:
    """Train `spcl.steps` steps; return the mean loss of each domain and the learning rate.

    Raises:
        FloatingPointError: at the first loss that is not finite.
    """
    settings = method.spcl
    names = ["loss_target"] if data.source is None else ["loss_source", "loss_target"]
    epoch = len(state.history)
    rate = learning_rate(epoch, settings)
    set_rate(state.optimizer, rate)
    labels = state.memory.labels[data.source_classes :].cpu().numpy()  # (N,)
    means = Means()
    shards = Shards(state.network, method.shards, method.world)
    state.network.train()
    draw = ("train", epoch, settings.steps)
    batches = joint_batches(data, method, labels, draw, _device(state.network))
    title = epoch_title(epoch, settings)

    def forward(images: Tensor, _: int | None) -> list[Tensor]:
        return [state.network(images)]

    for images, indices in progress(batches, title, "step", settings.steps):
        blocks = [settings.batch] * len(indices)
        (rows,) = shards.forward(forward, images, blocks)
        embeddings = rows.split(settings.batch)  # (B, D) of each domain

        state.optimizer.zero_grad(set_to_none=True)
        losses = state.memory.step(list(zip(embeddings, indices, strict=True)))  # with backward
        means.add(dict(zip(names, losses, strict=True)))
        shards.backward()
        state.optimizer.step()
    shards.share_statistics()
    return {**means.of(("loss_source", "loss_target")), "learning_rate": rate}


def _device(network: Embedder) -> torch.device:
    return next(network.parameters()).device
