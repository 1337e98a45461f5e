"""Which visible label each infrared class belongs to, for `train.objective: prototypes`.

To add a way: write its function, enter it in ASSOCIATIONS, add its name to `settings.ASSOCIATIONS`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from stages.parts.run.settings import Otla
from stages.train.assignment import Assignment, by_transport


class Classes(NamedTuple):
    """What both modalities look like; all on the CPU."""

    visible: Tensor  # (V, D) float32 unit rows, a prototype for each visible label
    infrared: Tensor  # (R, D) float32 unit rows, a prototype for each infrared class
    prior: Tensor | None  # (V,) float, the share of images that each label gets; None is uniform
    masses: Tensor  # (R,) float, the share of images that each infrared class has, sum 1
    overlap: np.ndarray  # (R, V) int64, visible images of the label in the same joint cluster


def log_affinity(classes: Classes, temperature: float) -> Tensor:
    """Return log softmax over labels of cos / temperature, (R, V)."""
    return (classes.infrared @ classes.visible.T / temperature).log_softmax(1)


def by_plan(classes: Classes, temperature: float, settings: Otla) -> Assignment:
    """Associate by optimal transport with the masses of both sides, by the section `otla`."""
    log_shares = log_affinity(classes, temperature)
    return by_transport(log_shares, classes.masses, classes.prior, settings)


def by_matching(classes: Classes, temperature: float, settings: Otla) -> Assignment:
    """Associate one to one, with the largest sum of cosines; what is left over has no label."""
    log_shares = log_affinity(classes, temperature)
    cosines = (classes.infrared @ classes.visible.T).numpy()
    rows, columns = map(torch.from_numpy, linear_sum_assignment(cosines, maximize=True))
    labels = torch.full((len(cosines),), -1, dtype=torch.int64)
    labels[rows] = columns
    confidence = torch.zeros(len(cosines))
    confidence[rows] = log_shares[rows, columns].exp()
    return Assignment(labels, confidence, iterations=None)


def by_overlap(classes: Classes, temperature: float, settings: Otla) -> Assignment:
    """Associate with the label of most visible images in the same cluster of both modalities.

    A class without a visible image in its cluster has no label. The confidence is the label's share
    of these visible images.
    """
    overlap = torch.from_numpy(classes.overlap)
    count, labels = overlap.max(1)
    total = overlap.sum(1)
    labels = labels.masked_fill(total == 0, -1)
    return Assignment(labels, count / total.clamp(min=1), iterations=None)


def nothing(classes: Classes, temperature: float, settings: Otla) -> Assignment:
    """Associate nothing: every class is an identity of its own."""
    count = len(classes.infrared)
    labels = torch.full((count,), -1, dtype=torch.int64)
    return Assignment(labels, torch.zeros(count), iterations=None)


AssociationMethod = Callable[[Classes, float, Otla], Assignment]
ASSOCIATIONS: dict[str, AssociationMethod] = {
    "transport": by_plan,
    "matching": by_matching,
    "global": by_overlap,
    "none": nothing,
}
