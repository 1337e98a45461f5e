"""Training against prototypes of both modalities (`train.objective: prototypes`), beyond the paper.

Every epoch: embed all training images, cluster the infrared ones, make a prototype for each visible
label and each infrared cluster, associate the clusters with labels; then train against them.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.assignment.bank import LabelBank
from stages.parts.clustering.prototypes import PrototypeMemory
from stages.parts.images.pairing import class_batches
from stages.parts.losses.prototypes import own_contrast, self_distillation, unified_contrast
from stages.parts.run import seeds
from stages.parts.run.console import busy, progress
from stages.parts.run.settings import Prototypes
from stages.parts.run.shards import Shards
from stages.parts.run.training import Figures, Means
from stages.parts.upload import upload
from stages.train import diagnostics
from stages.train.assignment import Assignment
from stages.train.association import ASSOCIATIONS, Classes, log_affinity
from stages.train.data import Method, TrainingSet, augmented, embed_images
from stages.train.groups import clusters_of
from stages.train.labels import label_prior
from stages.train.loop import State, set_rate, times_of, validate
from stages.train.schedule import steps_of

TERMS = ("own", "unified", "distillation")


@dataclass(frozen=True)
class Epoch:
    """What an epoch trains with. Prototypes: visible labels first, infrared classes behind them."""

    centroids: Tensor  # (P, D) float32 unit rows, on the CPU
    modality: Tensor  # (P,) int64, 0 visible, 1 infrared
    identities: Tensor  # (P,) int64: a visible label, or a number of its own
    infrared: np.ndarray  # (R,) int64, the infrared class of each image, -1 for none


def one_epoch(state: State, data: TrainingSet, method: Method) -> tuple[Figures, Figures]:
    """Make prototypes, associate, train; return the figures, and those of the clock."""
    started = time.perf_counter()
    epoch, label_figures, assignment_seconds = prepare_epoch(state, data, method)
    prepared = time.perf_counter()
    losses, count = train_epoch(state, data, method, epoch)
    train_seconds = time.perf_counter() - prepared
    figures = losses | label_figures | validate(state, data, method)
    seconds = time.perf_counter() - started
    return figures, times_of(seconds, train_seconds, assignment_seconds, count)


def prepare_epoch(state: State, data: TrainingSet, method: Method) -> tuple[Epoch, Figures, float]:
    """Return what the epoch trains with, figures of the labels, seconds of the association.

    The bank gets the label of every infrared image whose class has one.
    """
    visible, infrared = (
        embed_images(state.network, data.store, rows, count, method.world)
        for rows, count in ((data.visible_rows, None), (data.infrared_rows, 0))
    )
    clusters, overlap = infrared_classes(visible, infrared, data, method, state)
    inside = clusters >= 0
    classes = Classes(
        visible=centroids_of(visible, data.visible_labels),
        infrared=centroids_of(infrared[inside], clusters[inside]),
        prior=None,
        masses=shares(clusters[inside]),
        overlap=overlap,
    )
    if len(classes.infrared):
        affinity = log_affinity(classes, method.prototypes.temperature)
        prior = label_prior(state.labels, affinity, data, method.otla, classes.masses)
        classes = classes._replace(prior=prior)
    started = time.perf_counter()
    name = method.prototypes.association
    with busy(f"train: {name} of {len(classes.infrared)} clusters to {data.classes} labels"):
        found = associate(classes, data, method)
    seconds = time.perf_counter() - started
    # the classifier serves predictions for the report: its rows are the visible prototypes
    with torch.no_grad():
        state.network.classifier.weight.copy_(classes.visible)
    epoch = Epoch(
        centroids=torch.cat([classes.visible, classes.infrared]),
        modality=torch.arange(data.classes + len(classes.infrared)).ge(data.classes).long(),
        identities=identities_of(found.labels, data.classes),
        infrared=clusters,
    )
    return epoch, _write_labels(state, data, classes, found, clusters, infrared), seconds


def infrared_classes(
    visible: Tensor, infrared: Tensor, data: TrainingSet, method: Method, state: State
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each infrared image (R,) int64, -1 for none, and `Classes.overlap`.

    In the supervised setting the classes are the true labels. For the association `global` they are
    the infrared parts of clusters of both modalities.
    """
    labels = data.visible_labels
    device = state.network.classifier.weight.device
    if data.infrared_truth is not None:
        return data.infrared_truth, np.eye(data.classes, dtype=np.int64)
    if method.prototypes.association != "global":
        clusters = clusters_of(infrared.numpy(), method.clusters, device, world=method.world)
        return clusters, np.zeros((clusters.max(initial=-1) + 1, data.classes), np.int64)
    modality = (np.arange(len(visible) + len(infrared)) >= len(visible)).astype(np.int64)
    both = torch.cat([visible, infrared]).numpy()
    chosen = chosen_images(modality, method, state.epoch)
    joint = np.full(len(both), -1)
    joint[chosen] = clusters_of(
        both[chosen], method.clusters, device, modality[chosen], method.world
    )
    parts = joint[len(visible) :]
    numbers, compact = np.unique(parts[parts >= 0], return_inverse=True)
    clusters = np.full(len(infrared), -1)
    clusters[parts >= 0] = compact
    overlap = np.zeros((len(numbers), data.classes), np.int64)
    for row, number in enumerate(numbers.tolist()):
        overlap[row] = np.bincount(labels[joint[: len(visible)] == number], minlength=data.classes)
    return clusters, overlap


def chosen_images(modality: np.ndarray, method: Method, epoch: int) -> np.ndarray:
    """Return the images (n,) int64, ascending, that are clustered: a share of the larger modality.

    `modality` (N,) is 0 or 1. The share is `clusters.share`, drawn in every epoch.
    """
    larger = np.bincount(modality, minlength=2).argmax()
    images = np.flatnonzero(modality == larger)
    stream = seeds.numpy_generator(method.seed, "train", "clustered", epoch)
    count = max(1, round(method.clusters.share * len(images)))
    kept = stream.permutation(images)[:count]
    return np.sort(np.concatenate([kept, np.flatnonzero(modality != larger)]))


def associate(classes: Classes, data: TrainingSet, method: Method) -> Assignment:
    """Return the visible label of each infrared class, -1 for none."""
    if data.infrared_truth is not None:  # classes are the labels themselves
        labels = torch.arange(data.classes)
        return Assignment(labels, torch.ones(data.classes), iterations=None)
    if not len(classes.infrared):
        return Assignment(torch.empty(0, dtype=torch.int64), torch.empty(0), iterations=None)
    associated = ASSOCIATIONS[method.prototypes.association]
    return associated(classes, method.prototypes.temperature, method.otla)


def identities_of(labels: Tensor, visible: int) -> Tensor:
    """Return the identity (P,) of all prototypes, for the labels (C_r,) of the infrared ones.

    A class without a label is an identity of its own, and so is each of the `visible` labels.

    >>> identities_of(torch.tensor([1, -1, 1]), 2)
    tensor([0, 1, 1, 3, 1])
    """
    own = visible + torch.arange(len(labels))
    return torch.cat([torch.arange(visible), torch.where(labels < 0, own, labels)])


def centroids_of(embeddings: Tensor, labels: np.ndarray) -> Tensor:
    """Return the unit mean (C, D) of the rows (N, D) of each label (N,) 0..C-1."""
    count = int(labels.max(initial=-1)) + 1
    sums = torch.zeros(count, embeddings.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(labels), embeddings.double())
    return functional.normalize(sums).float()


def shares(labels: np.ndarray) -> Tensor:
    """Return each label's share (C,) float64 of the labels (N,)."""
    counts = torch.from_numpy(np.bincount(labels)).double()
    return counts / counts.sum()


def _write_labels(
    state: State,
    data: TrainingSet,
    classes: Classes,
    found: Assignment,
    clusters: np.ndarray,
    infrared: Tensor,
) -> Figures:
    """Write the labels of the images into the bank; return figures of them."""
    has_label = np.zeros(len(clusters), bool)
    has_label[clusters >= 0] = (found.labels >= 0).numpy()[clusters[clusters >= 0]]
    positions = np.flatnonzero(has_label)
    of_class = torch.from_numpy(clusters[positions])
    labels, confidence = found.labels[of_class], found.confidence[of_class]
    state.labels.bank = LabelBank(len(clusters))
    state.labels.bank.write(positions, labels, confidence)
    nearest = (infrared @ classes.visible.T).argmax(1)  # (R,)
    is_assigned = len(positions) > 0
    counts = diagnostics.label_counts(labels, nearest, data.classes, is_assigned)
    state.labels.counts = torch.cat([state.labels.counts, counts[None]])  # (epochs, 2, C)
    judged = positions if is_assigned else np.arange(len(clusters))
    closest = Assignment(nearest[judged], torch.zeros(len(judged)), None)
    written = Assignment(labels, confidence, found.iterations) if is_assigned else closest
    figures = diagnostics.label_figures(written, closest, judged, data, is_assigned)
    figures |= diagnostics.cluster_figures(clusters, data.infrared_persons)
    return figures | diagnostics.prototype_figures(classes, found.labels, clusters, data)


def train_epoch(
    state: State, data: TrainingSet, method: Method, epoch: Epoch
) -> tuple[Figures, int]:
    """Train one epoch; return the mean of each loss term with the rate, and the images seen.

    Raises:
        FloatingPointError: at the first loss that is not finite.
    """
    train = method.train
    device = state.network.classifier.weight.device
    generator = seeds.generator(method.seed, "train", "augment", state.epoch)
    batches = draw_batches(data, method, epoch.infrared, state.epoch)
    memory = PrototypeMemory(epoch.centroids.to(device), method.prototypes.momentum)
    groups = epoch.modality.to(device), epoch.identities.to(device)
    views = method.prototypes.views
    weight = weights(state.epoch, method.prototypes)
    rate = set_rate(state, train, epoch_of_rate(state.epoch, method.prototypes))
    means, images_seen = Means(), 0
    shards = Shards(state.network.backbone, method.shards, method.world)
    state.network.train()
    title = f"train: epoch {state.epoch + 1}/{train.epochs}"
    plain = replace(train, grayscale=0.0, exchange=0.0, mixture=0.0)

    def last_level(images: Tensor, visible: int | None) -> list[Tensor]:
        return state.network.pooled(images, visible)[-1:]

    for halves in progress(batches, title, "step", len(batches)):
        images = [
            augmented(data.store, rows, device, how, generator, gray=number == 0)
            for number, (rows, _) in enumerate(halves)
            for how in ((plain, train) if number == 0 and views == 2 else (train,))
        ]
        stacked = torch.cat(images).contiguous(memory_format=torch.channels_last)
        visible = views * len(halves[0][1])
        blocks = [len(block) for block in images]
        (pooled,) = shards.forward(last_level, stacked, blocks, visible)
        embeddings = state.network.embedding(pooled)  # (B, D), visible images first
        own = [halves[0][1]] * views + [classes for _, classes in halves[1:]]
        classes = upload(torch.from_numpy(np.concatenate(own)), device)  # (B,)
        terms = loss_terms(
            embeddings, classes, visible, memory, groups, state.epoch, method.prototypes
        )
        loss = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
        means.add({"loss": loss, **terms})

        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        shards.backward()
        state.optimizer.step()
        memory.update(embeddings, classes)
        images_seen += len(embeddings)
    shards.share_statistics()
    return {**means.of(("loss", *TERMS)), "learning_rate": round(rate, 10)}, images_seen


def epoch_of_rate(epoch: int, settings: Prototypes) -> int:
    """Return the epoch (from 0) that the learning rate is of, with `prototypes.restart_rate` too.

    The schedule then starts again after the first `own_epochs` epochs.
    """
    is_second = settings.restart_rate and epoch >= settings.own_epochs
    return epoch - settings.own_epochs if is_second else epoch


def weights(epoch: int, settings: Prototypes) -> dict[str, float]:
    """Return the weight of each term in an epoch (from 0); terms of weight 0 are absent."""
    if epoch < settings.own_epochs:
        return {"own": 1.0}
    all_terms = {name: float(getattr(settings, f"weight_{name}")) for name in TERMS}
    return {name: weight for name, weight in all_terms.items() if weight}


def loss_terms(
    embeddings: Tensor,
    classes: Tensor,
    visible: int,
    memory: PrototypeMemory,
    groups: tuple[Tensor, Tensor],
    epoch: int,
    settings: Prototypes,
) -> dict[str, Tensor]:
    """Return the terms of a batch, not weighted; each is a float32 scalar.

    The contrast over both modalities is applied to the visible images in even epochs and to the
    infrared ones in odd epochs, as in PoSeD.

    Args:
        embeddings: (B, D), the first `visible` are of visible images.
        classes: (B,) int64, the prototype of each image.
        visible: number of visible images.
        memory: the prototypes.
        groups: modality (P,) and identity (P,) of each prototype.
        epoch: from 0.
        settings: the section `prototypes`.
    """
    modality, identities = groups
    temperature = settings.temperature
    terms = {}
    for name in weights(epoch, settings):
        if name == "own":
            terms[name] = own_term(embeddings, classes, visible, memory, modality, temperature)
        elif name == "unified":
            half = slice(0, visible) if epoch % 2 == 0 else slice(visible, None)
            if len(embeddings[half]) == 0:
                half = slice(None)
            terms[name] = unified_contrast(
                embeddings[half], memory.hard, classes[half], identities, temperature
            )
        else:
            terms[name] = self_distillation(
                embeddings,
                memory.centroids,
                classes,
                modality,
                temperature,
                settings.teacher_temperature,
            )
    return terms


def own_term(
    embeddings: Tensor,
    classes: Tensor,
    visible: int,
    memory: PrototypeMemory,
    modality: Tensor,
    temperature: float,
) -> Tensor:
    """Return the contrast of each modality with its own centroids and hard prototypes, summed."""
    total = torch.zeros((), device=embeddings.device)
    first_infrared = int((modality == 0).sum())
    halves = (slice(0, visible), 0, first_infrared), (slice(visible, None), first_infrared, None)
    for half, first, end in halves:
        if len(embeddings[half]):
            for rows in (memory.centroids, memory.hard):
                own = own_contrast(
                    embeddings[half], rows[first:end], classes[half] - first, temperature
                )
                total = total + own / 2
    return total


def draw_batches(
    data: TrainingSet, method: Method, clusters: np.ndarray, epoch: int
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Return for each step the rows of the store (B,) and prototypes (B,) of each modality.

    Each modality has its own classes. With fewer than two infrared classes there are visible images
    only.
    """
    train = method.train
    steps = steps_of(data, train)
    stream = seeds.numpy_generator(method.seed, "train", "batches", epoch)
    modalities = [(data.visible_rows, data.visible_labels, 0)]
    if clusters.max(initial=-1) > 0:
        modalities.append((data.infrared_rows, clusters, data.classes))
    drawn = []
    for rows, labels, offset in modalities:
        persons = min(train.persons, int(labels.max()) + 1)
        positions, classes = class_batches(labels, persons, train.images, steps, stream)
        drawn.append([(rows[p], c + offset) for p, c in zip(positions, classes, strict=True)])
    return [list(halves) for halves in zip(*drawn, strict=True)]
