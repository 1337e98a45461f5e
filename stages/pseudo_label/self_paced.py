"""SpCL's self-paced filter: which images keep the label of their cluster.

A cluster is independent if it stays the same at a looser radius, and compact if it stays the same
at a tighter one. Images of other clusters get a label of their own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


class ReliableLabels(NamedTuple):
    """The labels after the filter, and the threshold, which the following epochs use again."""

    labels: Integers
    threshold: float


def reliable_labels(
    normal: Integers,
    tight: Integers,
    loose: Integers,
    threshold: float | None = None,
    quantile: float = 0.9,
) -> ReliableLabels:
    """Keep the reliable labels of a clustering.

    With C(i) the images that have i's label (i alone if it has none) and
    IoU(A, B) = |A & B| / |A | B|,

        compactness_i  = 1 - IoU(C_normal(i), C_tight(i))      0 = the very same images
        independence_i = 1 - IoU(C_normal(i), C_loose(i))

    and both of a label the smallest value among its images, image i keeps its label if and only if

        independence of its label <= threshold   and   compactness_i <= compactness of its label.

    All values are float32, so equal ratios compare equal.

    Args:
        normal: (N,) int64 labels of a clustering, -1 = no cluster.
        tight: (N,) labels of the same images at a tighter radius.
        loose: (N,) labels of the same images at a looser radius.
        threshold: None takes it from this clustering (the first one): of the sorted independences
            of its n clusters the one at position round(quantile · n), at most the last.
        quantile: see `threshold`.

    Returns:
        Labels (N,) int64, none negative, and the threshold. Kept images keep their number of
        `normal`. Every other image gets a new number of its own, in the order of the images, after
        the numbers of the clusters and of the images that `normal` left without a cluster. Numbers
        that lost all their images stay unused.

    Raises:
        ValueError: if there is no cluster to take the threshold from.

    >>> normal = np.array([0, 0, 0, 1, 1])
    >>> loose = np.array([0, 0, 0, 1, 1])
    >>> tight = np.array([0, 0, -1, 1, 1])  # the third image leaves its cluster
    >>> reliable_labels(normal, tight, loose)
    ReliableLabels(labels=array([0, 0, 2, 1, 1]), threshold=0.0)
    """
    normal = _with_singletons(normal)
    _, cluster, sizes = np.unique(normal, return_inverse=True, return_counts=True)
    compactness = _distance(normal, _with_singletons(tight))
    independence = _distance(normal, _with_singletons(loose))
    cluster_compactness = _smallest(compactness, cluster, len(sizes))
    cluster_independence = _smallest(independence, cluster, len(sizes))
    if threshold is None:
        threshold = _threshold(cluster_independence[sizes > 1], quantile)
    is_independent = cluster_independence[cluster] <= np.float32(threshold)
    is_compact = compactness <= cluster_compactness[cluster]
    is_kept = is_independent & is_compact
    own_numbers = normal.max(initial=-1) + np.cumsum(~is_kept)
    return ReliableLabels(np.where(is_kept, normal, own_numbers), threshold)


def _with_singletons(labels: Integers) -> Integers:
    """Replace every -1 by a number of its own, after the largest label, in image order."""
    labels = np.asarray(labels, dtype=np.int64)
    is_single = labels < 0
    return np.where(is_single, labels.max(initial=-1) + np.cumsum(is_single), labels)


def _distance(first: Integers, second: Integers) -> Floats:
    """Return 1 - IoU of each image's two clusters, (N,), from counts of label pairs."""
    _, a, size_a = np.unique(first, return_inverse=True, return_counts=True)
    _, b, size_b = np.unique(second, return_inverse=True, return_counts=True)
    _, pair, pair_sizes = np.unique(a * len(size_b) + b, return_inverse=True, return_counts=True)
    intersection = pair_sizes[pair]
    union = size_a[a] + size_b[b] - intersection
    distance: Floats = np.float32(1) - intersection.astype(np.float32) / union.astype(np.float32)
    return distance


def _smallest(values: Floats, cluster: Integers, clusters: int) -> Floats:
    """Return the smallest value among the images of each cluster."""
    smallest = np.full(clusters, np.inf, dtype=np.float32)
    np.minimum.at(smallest, cluster, values)
    return smallest


def _threshold(independence: Floats, quantile: float) -> float:
    """Return the threshold of the first clustering."""
    if not len(independence):
        raise ValueError(
            "no cluster in the first clustering, so there is no threshold to take from it; "
            "expected at least one (more similar embeddings, a larger radius, or fewer images to "
            "make a core)"
        )
    # Python rounds half to even, and so does the released code.
    position = round(quantile * len(independence))
    return float(np.sort(independence)[min(len(independence) - 1, position)])
