"""Infrared labels: predict, transport, write the bank (paper Algorithm 1, lines 8 to 14)."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.parts.agreement import assignment_accuracy, label_distribution
from stages.parts.assignment.bank import LabelBank
from stages.parts.assignment.transport import Transport, solve
from stages.parts.network.embed import gather
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.console import busy, message, progress
from stages.parts.run.settings import Otla, Train
from stages.train.data import TrainingSet, clean_batches, pictures

LEAST_SHARE = 0.1  # of the uniform share, which an estimated prior leaves to every label, so that none dies out


@dataclass
class Labels:
    """What the assignment of an epoch changes: the bank, and the prior where it is estimated.

    `prior` (C,) float64, sum 1. `counts` (epochs, 2, C) int64: images that transport and that argmax gave each label;
    the first is -1 where there was no transport.
    """

    bank: LabelBank
    prior: Tensor
    counts: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by name, for a checkpoint."""
        return self.bank.tensors() | {"labels.prior": self.prior, "labels.counts": self.counts}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave."""
        self.bank.restore(tensors)
        self.prior, self.counts = tensors["labels.prior"], tensors["labels.counts"]


def new_labels(images: int, classes: int) -> Labels:
    """No image has a label, the prior is uniform."""
    prior = torch.full((classes,), 1 / classes, dtype=torch.float64)
    return Labels(LabelBank(images), prior, torch.empty(0, 2, classes, dtype=torch.int64))


def log_predictions(
    network: IdentityNetwork,
    data: TrainingSet,
    train: Train,
    otla: Otla,
    batches: np.ndarray,
    draw: tuple[int, int],
) -> tuple[np.ndarray, Tensor]:
    """Images (M,), positions in `data.infrared_rows`, ascending, and log P (M, C) of them, on the CPU.

    `otla.predict`: all infrared training images, or those in the `batches` (steps, size) of the epoch.
    `otla.predict_mode`: evaluation mode and clean images; or training mode, without gradients: augmented images, the
    statistics of each batch, which the running ones follow, and the mean of P over an image's visits. `draw` is the
    seed and the epoch. Raises FloatingPointError for a prediction that is not finite.
    """
    device = network.classifier.weight.device
    images = np.unique(batches) if otla.predict == "visited" else np.arange(len(data.infrared_rows))
    if otla.predict_mode == "eval":
        found = gather(
            network, network.predict, clean_batches(data.store, data.infrared_rows[images], device)
        )
        found = found.log_softmax(1)
    else:
        visits = (
            batches
            if otla.predict == "visited"
            else np.array_split(images, -(-len(images) // batches.shape[1]))
        )
        generator = seeds.generator(draw[0], "train", "predict", draw[1])
        total = torch.zeros(len(data.infrared_rows), data.classes, dtype=torch.float64)
        network.train()
        with torch.no_grad():
            for batch in progress(visits, "train: predicting", "batch", len(visits)):
                drawn = pictures(
                    data.store, data.infrared_rows[batch], device, train, generator, gray=False
                )
                logits = network.outputs(drawn.contiguous(memory_format=torch.channels_last)).logits
                total.index_add_(0, torch.from_numpy(batch), logits.double().softmax(1).cpu())
        found = (total[images] / total[images].sum(1, keepdim=True)).log()
    if found.isnan().any():
        raise FloatingPointError("the predictions that labels come from are not finite")
    return images, found


def assign(
    labels: Labels, images: np.ndarray, predicted: Tensor, data: TrainingSet, otla: Otla
) -> tuple[dict[str, Any], float]:
    """Give the `images` (M,) labels by their log P (M, C) and write the bank.

    Returns the figures of the labels, in which alone true identities appear, and the seconds that transport took.
    """
    confidence, argmax = (found.cpu() for found in predicted.exp().max(1))
    chosen, iterations, seconds = argmax, None, 0.0
    if otla.assignment == "transport":
        started = time.perf_counter()
        with busy(f"train: transport of {len(images)} images to {data.classes} labels"):
            transport = _transport(labels, predicted, data, otla)
        seconds = time.perf_counter() - started
        chosen, confidence, iterations = (
            transport.labels.cpu(),
            transport.confidence,
            transport.iterations,
        )
    labels.bank.advance()
    labels.bank.write(images, chosen, confidence)
    counts = torch.stack(
        [torch.bincount(given, minlength=data.classes) for given in (chosen, argmax)]
    )
    if iterations is None:
        counts[0] = -1
    labels.counts = torch.cat([labels.counts, counts[None]])
    spread = label_distribution(chosen.numpy(), data.classes)
    return {
        "accuracy_transport": None if iterations is None else _accuracy(chosen, images, data),
        "accuracy_argmax": _accuracy(argmax, images, data),
        "label_entropy": round(spread["entropy"], 6),
        "label_max_share": round(spread["max_share"], 6),
        "empty_labels": int(spread["empty"]),
        "transport_iterations": iterations,
        "predicted_share": round(len(images) / len(data.infrared_rows), 6),
    }, seconds


def _transport(labels: Labels, predicted: Tensor, data: TrainingSet, otla: Otla) -> Transport:
    """The plan of Eq. 3 with the prior of `otla.label_prior`."""
    columns = None
    if otla.label_prior == "visible":
        counts = torch.from_numpy(np.bincount(data.visible_labels, minlength=data.classes))
        columns = counts / counts.sum()
    elif otla.label_prior == "estimated":
        mean = predicted.double().exp().mean(0).cpu()
        labels.prior = (
            otla.prior_momentum * labels.prior + (1 - otla.prior_momentum) * mean / mean.sum()
        )
        columns = labels.prior.clamp(min=LEAST_SHARE / data.classes)
        columns = columns / columns.sum()
    found = solve(
        predicted,
        otla.delta,
        columns=columns,
        solver=otla.solver,
        tolerance=otla.tolerance,
        max_iterations=otla.max_iterations,
        slack=otla.label_slack,
        stop=otla.stop,
    )
    if not found.converged:
        message(
            f"train: transport stopped after {found.iterations} iterations at an error of {found.error:.1e} of the "
            f"label marginal, wanted {otla.tolerance:.1e} (otla.tolerance, otla.stop {otla.stop})"
        )
    return found


def _accuracy(labels: Tensor, images: np.ndarray, data: TrainingSet) -> float:
    persons = data.infrared_persons[images]
    return round(
        assignment_accuracy(labels.numpy(), persons, data.visible_labels, data.visible_persons), 6
    )
