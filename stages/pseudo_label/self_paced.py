"""SpCL's self-paced filter: which images keep the label of their cluster.

A cluster is independent when it stays the same at a looser radius, compact when it does at a tighter one. The rest
becomes images without a cluster, each with a label of its own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


class ReliableLabels(NamedTuple):
    """The labels after the filter and the threshold that made them, to be used again in the epochs that follow."""

    labels: Integers
    threshold: float


def reliable_labels(
    normal: Integers,
    tight: Integers,
    loose: Integers,
    threshold: float | None = None,
    quantile: float = 0.9,
) -> ReliableLabels:
    """Keep reliable labels of a clustering, given the same images clustered at a tighter and a looser radius.

    Each is (N,) whole numbers, -1 = no cluster. With C(i) the images that share i's label (itself alone without one),
        compactness_i  = 1 - |C_normal(i) & C_tight(i)| / |C_normal(i) | C_tight(i)|     0 = the very same images
        independence_i = 1 - |C_normal(i) & C_loose(i)| / |C_normal(i) | C_loose(i)|
    and both of a label the least of its images', image i keeps its label if and only if
        independence of its label <= threshold   and   compactness_i <= compactness of its label.
    All in float32, so equal ratios compare equal.

    `threshold` None: taken from this clustering (the first one) as the value at position round(quantile · n) of the n
    clusters' sorted independences, the last one at most. ValueError where there is no cluster to take it from.
    Kept images keep their number of `normal`. Every other image gets a new one of its own, in the order of the images,
    after the clusters' numbers and those of the images that `normal` left without; numbers that lost all their images
    stay unused. Labels are (N,) int64, none negative.
    """
    normal, tight, loose = (_singletons(labels) for labels in (normal, tight, loose))
    label, sizes = np.unique(normal, return_inverse=True, return_counts=True)[1:]
    compactness, independence = _distance(normal, tight), _distance(normal, loose)
    label_compactness, label_independence = (
        _least(values, label, len(sizes)) for values in (compactness, independence)
    )
    if threshold is None:
        threshold = _quantile(label_independence[sizes > 1], quantile)
    kept = (label_independence[label] <= np.float32(threshold)) & (
        compactness <= label_compactness[label]
    )
    numbers = normal.max(initial=-1) + np.cumsum(~kept)
    return ReliableLabels(np.where(kept, normal, numbers), threshold)


def _singletons(labels: Integers) -> Integers:
    """Every -1 replaced by a number of its own, after the largest label, in the order of the images."""
    labels = np.asarray(labels, dtype=np.int64)
    alone = labels < 0
    return np.where(alone, labels.max(initial=-1) + np.cumsum(alone), labels)


def _distance(first: Integers, second: Integers) -> Floats:
    """1 - intersection over union of each image's two clusters, from counts of label pairs; (N,)."""
    _, a, size_a = np.unique(first, return_inverse=True, return_counts=True)
    _, b, size_b = np.unique(second, return_inverse=True, return_counts=True)
    _, pair, shared = np.unique(a * len(size_b) + b, return_inverse=True, return_counts=True)
    intersection = shared[pair]
    union = size_a[a] + size_b[b] - intersection
    return np.float32(1) - intersection.astype(np.float32) / union.astype(np.float32)


def _least(values: Floats, label: Integers, labels: int) -> Floats:
    """The least value among each label's images."""
    least = np.full(labels, np.inf, dtype=np.float32)
    np.minimum.at(least, label, values)
    return least


def _quantile(independence: Floats, quantile: float) -> float:
    """The threshold of the first clustering."""
    if not len(independence):
        raise ValueError(
            "no cluster in the first clustering, so there is no threshold to take from it; "
            "expected at least one (more similar embeddings, a larger radius, or fewer images to make a core)"
        )
    # Python rounds half to even, and so does the released code.
    return float(
        np.sort(independence)[min(len(independence) - 1, round(quantile * len(independence)))]
    )
