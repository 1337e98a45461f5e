"""Infrared labels: predict, assign, write the bank (paper Algorithm 1, lines 8 to 14)."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stages.parts.assignment.bank import LabelBank
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.console import busy, progress
from stages.parts.run.settings import Otla
from stages.parts.run.training import Figures
from stages.train import diagnostics
from stages.train.assignment import ASSIGNMENTS, Assignment, by_argmax
from stages.train.data import Method, TrainingSet, apply_to_images, augmented
from stages.train.groups import Groups

# Lower bound of an estimated prior, as a fraction of 1/C. It keeps every label alive.
LOWEST_PRIOR = 0.1
ROWS = 1 << 13  # of log P at a time, for its mean


@dataclass
class AssignmentState:
    """What the assignment of an epoch changes.

    `prior` (C,) float64 is the estimated prior, sum 1. `counts` (epochs, 2, C) int64 holds the
    images of each label, as assigned ([:, 0]; -1 without assignment) and by argmax ([:, 1]).
    """

    bank: LabelBank
    prior: Tensor
    counts: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name, for a checkpoint."""
        own = {"labels.prior": self.prior, "labels.counts": self.counts}
        return self.bank.tensors() | own

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned; other names are ignored."""
        self.bank.restore(tensors)
        self.prior, self.counts = tensors["labels.prior"], tensors["labels.counts"]


def new_labels(data: TrainingSet, method: Method) -> AssignmentState:
    """Return the state before the first epoch: a uniform prior, and no labels or random ones.

    With `otla.infrared_from_epoch` 0 every image starts with a random label and keeps it until it
    is predicted. The batches are drawn by these labels, also in the first epoch. In the released
    code an image gets another random label at each visit in the first epoch (docs/paper.md).
    """
    images, classes = len(data.infrared_rows), data.classes
    bank = LabelBank(images)
    is_assigned = data.infrared_truth is None and method.otla.assignment != "none"
    if is_assigned and method.otla.infrared_from_epoch == 0:
        stream = seeds.numpy_generator(method.seed, "train", "random_labels")
        bank.write(np.arange(images), stream.integers(classes, size=images), np.zeros(images))
    prior = torch.full((classes,), 1 / classes, dtype=torch.float64)
    return AssignmentState(bank, prior, torch.empty(0, 2, classes, dtype=torch.int64))


def labels_of_epoch(
    state: AssignmentState, data: TrainingSet, otla: Otla, epoch: int
) -> np.ndarray | None:
    """Return the labels (R,) int64 that an epoch (from 0) trains with, or None without any."""
    if data.infrared_truth is not None:
        return data.infrared_truth
    if otla.assignment == "none" or epoch < otla.infrared_from_epoch:
        return None
    return state.bank.labels.numpy()


def log_predictions(
    network: IdentityNetwork, data: TrainingSet, method: Method, batches: np.ndarray, epoch: int
) -> tuple[np.ndarray, Tensor]:
    """Predict infrared training images.

    `otla.predict` chooses all images, or the ones in `batches`. `otla.predict_mode` chooses
    evaluation mode and clean images, or training mode without gradients.

    Args:
        network: predicts the identities.
        data: the infrared images.
        method: the sections `train` and `otla`.
        batches: (steps, B) positions in `data.infrared_rows` that the epoch draws.
        epoch: from 0; selects the random stream of the augmentation.

    Returns:
        Positions (M,) in `data.infrared_rows`, ascending, and log P (M, C) of these images on the
        CPU.

    Raises:
        FloatingPointError: if a prediction is not finite.
    """
    visited = method.otla.predict == "visited"
    positions = np.unique(batches) if visited else np.arange(len(data.infrared_rows))
    if method.otla.predict_mode == "eval":
        predict = partial(network.predict, visible=0)
        rows = data.infrared_rows[positions]
        logits = apply_to_images(network, predict, data.store, rows, method.world)
        log_p = logits.log_softmax(1)  # (M, C)
    else:
        parts = -(-len(positions) // batches.shape[1])
        visits = batches if visited else np.array_split(positions, parts)
        generator = seeds.generator(method.seed, "train", "predict", epoch)
        log_p = _mean_over_visits(network, data, method, list(visits), generator)[positions].log()
    if log_p.isnan().any():
        raise FloatingPointError("the predictions that labels come from are not finite")
    return positions, log_p


@torch.no_grad()
def _mean_over_visits(
    network: IdentityNetwork,
    data: TrainingSet,
    method: Method,
    visits: list[np.ndarray],
    generator: torch.Generator,
) -> Tensor:
    """Return P (R, C) float64 of augmented images in training mode, the mean over their visits.

    Batch normalization uses the statistics of each batch, and the running statistics follow. Rows
    of images without a visit are NaN.
    """
    device = network.classifier.weight.device
    total = torch.zeros(len(data.infrared_rows), data.classes, dtype=torch.float64)  # (R, C)
    network.train()
    for positions in progress(visits, "train: predicting", "batch", len(visits)):
        rows = data.infrared_rows[positions]
        images = augmented(data.store, rows, device, method.train, generator, gray=False)
        images = images.contiguous(memory_format=torch.channels_last)
        logits = network.outputs(images, visible=0).logits
        total.index_add_(0, torch.from_numpy(positions), logits.double().softmax(1).cpu())
    return total / total.sum(1, keepdim=True)


def assign(
    state: AssignmentState,
    positions: np.ndarray,
    log_p: Tensor,
    data: TrainingSet,
    otla: Otla,
    groups: Groups | None = None,
) -> tuple[Figures, float]:
    """Give images labels by their predictions, and write them into the bank.

    Args:
        state: the bank, the prior and the counts, which change.
        positions: (M,) of the images in `data.infrared_rows`.
        log_p: (M, C) log P of the images, on the device where the assignment is computed.
        data: the training set.
        otla: the section `otla`.
        groups: images that get one label together; None assigns each image by itself.

    Returns:
        Figures of the labels (the only use of true identities), and the seconds that the
        assignment took.
    """
    argmax = by_argmax(log_p, None, None, otla)
    assignment, seconds = argmax, 0.0
    is_assigned = otla.assignment != "none"
    if is_assigned:
        prior = label_prior(state, log_p, data, otla)
        started = time.perf_counter()
        what = f"{otla.assignment} of {len(positions)} images to {data.classes} labels"
        with busy(f"train: {what}"):
            assignment = _assigned(log_p, prior, otla, groups)
        seconds = time.perf_counter() - started
    state.bank.advance()
    state.bank.write(positions, assignment.labels, assignment.confidence)
    counts = diagnostics.label_counts(assignment.labels, argmax.labels, data.classes, is_assigned)
    state.counts = torch.cat([state.counts, counts[None]])  # (epochs, 2, C)
    figures = diagnostics.label_figures(assignment, argmax, positions, data, is_assigned)
    clusters = None if groups is None else groups.clusters
    return figures | diagnostics.cluster_figures(
        clusters, data.infrared_persons[positions]
    ), seconds


def _assigned(log_p: Tensor, prior: Tensor | None, otla: Otla, groups: Groups | None) -> Assignment:
    """Return a label for each image, by the method of `otla.assignment`.

    A group has the mean log P of its images, and their number as its mass.
    """
    method = ASSIGNMENTS[otla.assignment]
    if groups is None:
        return method(log_p, None, prior, otla)
    masses = groups.sizes.double() / groups.sizes.sum()
    found = method(groups.means(log_p), masses, prior, otla)
    return found._replace(
        labels=found.labels[groups.members], confidence=found.confidence[groups.members]
    )


def label_prior(
    state: AssignmentState,
    log_p: Tensor,
    data: TrainingSet,
    otla: Otla,
    masses: Tensor | None = None,
) -> Tensor | None:
    """Return the prior over labels (C,) by `otla.label_prior`; None is uniform.

    Args:
        state: the estimated prior, which changes.
        log_p: (M, C) log P.
        data: the visible labels.
        otla: the section `otla`.
        masses: (M,) float64, the weight of each row in an estimate, sum 1; None is uniform.
    """
    if otla.label_prior == "uniform":
        return None
    if otla.label_prior == "visible":
        counts = np.bincount(data.visible_labels, minlength=data.classes)
        shares = torch.from_numpy(counts)
        return shares / shares.sum()
    mean = _mean_prediction(log_p, masses)
    momentum = otla.prior_momentum
    state.prior = momentum * state.prior + (1 - momentum) * mean / mean.sum()
    prior = state.prior.clamp(min=LOWEST_PRIOR / data.classes)
    return prior / prior.sum()


def _mean_prediction(log_p: Tensor, masses: Tensor | None) -> Tensor:
    """Return the mean of P (C,) float64 on the CPU, of log P (M, C) and `masses` as above.

    P is made for some rows at a time: in float64 it takes twice the memory of log P.
    """
    total = log_p.new_zeros(log_p.shape[1], dtype=torch.float64)
    for first in range(0, len(log_p), ROWS):
        rows = slice(first, first + ROWS)
        shares = log_p[rows].double().exp_()
        total += shares.sum(0) if masses is None else masses[rows].to(shares.device) @ shares
    return (total / len(log_p) if masses is None else total).cpu()
