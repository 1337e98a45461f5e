"""SpCL's Jaccard similarity: images are similar if they have the same k-reciprocal neighbours.

`jaccard_similarity` is `nearest_lists`, which several processes can divide among them, and then
`similarity_of_lists`, which one process computes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array, vstack
from torch import Tensor

from stages.parts.clustering import reciprocal
from stages.parts.clustering.reciprocal import Floats, Integers
from stages.parts.inner_products import CPU, Gallery

PRODUCTS = 1 << 24  # of the search, at a time: 64 MiB
GPU_QUERIES = 1 << 13  # at a time; faiss divides them further by the memory that is free

Rows = Callable[[slice], Tensor]  # the rows of some queries, on the CPU
Divide = Callable[[Rows, int, int], Tensor]  # (rows, queries, queries in a block) → all rows


class Lists(NamedTuple):
    """The nearest neighbours of N images, themselves included: rows of the embeddings, int64."""

    nearest: Integers  # (N, k1) R, nearest first
    closer: Integers  # (N, k1 / 2 + 1) the beginnings of R that H is made from
    closest: Integers  # (N, modalities · k2) the k2 nearest of each modality


def undivided(rows: Rows, count: int, block: int) -> Tensor:
    """Compute the rows of all queries here."""
    return rows(slice(0, count))


def jaccard_similarity(
    embeddings: Floats,
    k1: int = 30,
    k2: int = 6,
    floor: float = 0.0,
    modality: Integers | None = None,
    device: torch.device = CPU,
) -> csr_array:
    """Return 1 minus the Jaccard distance of the images' k-reciprocal neighbourhoods.

    `reciprocal.py` defines R, A, H, E, V, W and s. Here R_i has k1 images, the lists of H have
    k1/2 + 1, and d is the squared Euclidean distance. Then similarity_ij = s_ij / (2 - s_ij).

    With `modality` the lists are balanced (BMIL, AAAI 2026), because images of one's own modality
    are nearer than those of the other: R_i has the k1/2 nearest images of each modality, and the
    mean of W_i is over the k2 nearest of each.

    No (N, N) array is made: memory grows with N · k1 and with the number of pairs that are kept.
    Where images form no groups, every image shares a little with every other one. Set `floor` if
    small values are of no use, for example to 1 - (radius of DBSCAN) less some rounding. The search
    is exact.

    Args:
        embeddings: (N, D) float32, rows of length 1.
        k1: length of the neighbour lists.
        k2: number of neighbours over which the weights are averaged.
        floor: pairs with a similarity below this are left out.
        modality: (N,) int64, a number for each image; None takes all images as one modality.
        device: where neighbours are searched.

    Returns:
        (N, N) float32, symmetric to the bit, with ones on the diagonal. An absent pair shares no
        neighbours and has similarity 0, or its similarity is below `floor`.

    Raises:
        ValueError: rows are not of length 1, or a list is longer than there are images for it.

    >>> angles = np.deg2rad([0, 10, 20, 90, 100])  # three images of one person, two of another
    >>> embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    >>> jaccard_similarity(embeddings, k1=3, k2=1).toarray().round(2)
    array([[1.  , 0.96, 0.92, 0.  , 0.  ],
           [0.96, 1.  , 0.96, 0.  , 0.  ],
           [0.92, 0.96, 1.  , 0.  , 0.  ],
           [0.  , 0.  , 0.  , 1.  , 0.97],
           [0.  , 0.  , 0.  , 0.97, 1.  ]], dtype=float32)
    """
    lists = nearest_lists(embeddings, k1, k2, modality, device)
    return similarity_of_lists(embeddings, lists, floor)


def nearest_lists(
    embeddings: Floats,
    k1: int = 30,
    k2: int = 6,
    modality: Integers | None = None,
    device: torch.device = CPU,
    divide: Divide = undivided,
) -> Lists:
    """Return the lists that `jaccard_similarity` is made of; its arguments and errors.

    `divide` may divide the queries among processes, in whole blocks, which keeps all bits.
    """
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if modality is None:
        modality = np.zeros(len(embeddings), np.int64)
    groups = [np.flatnonzero(modality == number) for number in np.unique(modality)]
    _check_lists(k1, k2, groups)
    reciprocal.check_unit_rows(embeddings, "embeddings")
    share = k1 // len(groups)  # of the list, for each modality
    found = [_search(embeddings, embeddings[group], share, device, divide) for group in groups]
    lists = [group[places] for group, (places, _) in zip(groups, found, strict=True)]
    closest = np.concatenate([images[:, :k2] for images in lists], axis=1)
    nearest = np.concatenate(lists, axis=1)
    if len(groups) > 1:  # of equal distances the lower image comes first
        products = np.concatenate([values for _, values in found], axis=1)
        order = np.lexsort((nearest, -products), axis=1)
        nearest = np.take_along_axis(nearest, order, axis=1)
    # SpCL's released code cuts its lists at k + 1. Its long list has k1 entries only, so that the
    # short one alone is one entry longer than its k.
    return Lists(nearest, nearest[:, : round(k1 / 2) + 1], closest)


def similarity_of_lists(embeddings: Floats, lists: Lists, floor: float = 0.0) -> csr_array:
    """Return what `jaccard_similarity` returns, from the lists of the same embeddings (N, D)."""
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    expanded = reciprocal.expanded_neighbours(lists.nearest, lists.closer)
    distances = 2 - 2 * reciprocal.pair_products(embeddings, expanded)  # (entries of E,)
    weights = reciprocal.neighbour_weights(expanded, distances, lists.closest)
    return _similarity(weights, floor)


def _check_lists(k1: int, k2: int, groups: list[Integers]) -> None:
    """Raise ValueError if a modality has fewer images than its lists have entries."""
    fewest = min((len(group) for group in groups), default=0)
    share = k1 // max(1, len(groups))
    if not 1 <= k2 <= share <= fewest:
        of = "" if len(groups) < 2 else f" of a modality, k1 / {len(groups)} of them in each list"
        raise ValueError(
            f"k1 = {k1} and k2 = {k2} neighbours among {fewest} images{of}; "
            "expected 1 <= k2 <= k1 <= images"
        )


def _search(
    queries: Floats, rows: Floats, count: int, device: torch.device, divide: Divide
) -> tuple[Integers, Floats]:
    """Return the rows that are nearest to each query (Q, count) int64, and their products.

    Nearest first; of equal distances the lower row comes first, on a CPU. The nearest of unit rows
    are those with the largest products. On a CPU faiss makes the products but does not choose.
    """
    gallery = Gallery(rows, device)
    step = GPU_QUERIES if gallery.is_on_gpu else max(1, PRODUCTS // len(rows))

    def compute(part: slice) -> Tensor:
        """Return rows and products (q, 2, count) of some queries; float64 holds both exactly."""
        found = np.empty((part.stop - part.start, 2, count))
        for start in range(part.start, part.stop, step):
            block = queries[start : min(start + step, part.stop)]
            both = _nearest(gallery, block, count)
            place = start - part.start
            found[place : place + len(block)] = np.stack(both, axis=1)
        return torch.from_numpy(found)

    found = divide(compute, len(queries), step).numpy()
    return found[:, 0].astype(np.int64), found[:, 1].astype(np.float32)


def _nearest(gallery: Gallery, queries: Floats, count: int) -> tuple[Integers, Floats]:
    """Return the nearest rows of the gallery for a block of queries, as `_search` does."""
    if gallery.is_on_gpu:
        return gallery.nearest(queries, count)
    products = gallery.products(queries)  # (q, rows)
    nearest = _largest(products, count)
    return nearest, np.take_along_axis(products, nearest, axis=1)


def _largest(values: Floats, count: int) -> Integers:
    """Return the columns of the `count` largest values of each row (b, count), largest first.

    Of equal values the lower column comes first.
    """
    lowest = -np.partition(-values, count - 1, axis=1)[:, count - 1]  # (b,)
    row, column = np.nonzero(values >= lowest[:, None])  # `count` or more of each row
    order = np.lexsort((column, -values[row, column], row))
    starts = np.searchsorted(row, np.arange(len(values)))  # (b,)
    columns: Integers = column[order[starts[:, None] + np.arange(count)]]
    return columns


def _similarity(weights: csr_array, floor: float) -> csr_array:
    """Return s / (2 - s) of all pairs of rows of W (N, N), and ones on the diagonal."""
    weights.sort_indices()
    columns, following = _by_column(weights)
    numbers = np.arange(weights.shape[0] + 1)
    ones = np.ones(weights.shape[0], np.float32)
    identity = csr_array((ones, numbers[:-1], numbers), shape=weights.shape)
    parts = []
    # Each pair is summed once and mirrored: an entry meets only those of later rows, which are the
    # ones behind it in its column.
    for _, terms in reciprocal.shared_weights(weights, columns, first=following):
        sums = terms @ identity  # adds up entries at the same place, four times as fast as sorting
        sums.data = np.minimum(sums.data / (2 - sums.data), 1)
        sums.data[sums.data < floor] = 0
        sums.eliminate_zeros()
        parts.append(sums)
    upper = vstack(parts, format="csr")
    upper.sort_indices()
    return upper + upper.T.tocsr() + identity


def _by_column(matrix: csr_array) -> tuple[csc_array, Integers]:
    """Return the matrix by column, rows ascending, and for each entry the number after its own."""
    numbers = np.arange(matrix.nnz)
    numbered = csr_array((numbers, matrix.indices, matrix.indptr), shape=matrix.shape)
    following = np.empty(matrix.nnz, dtype=np.int64)
    following[numbered.tocsc().data] = numbers + 1
    return matrix.tocsc(), following
