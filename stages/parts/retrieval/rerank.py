"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): images are close that have their nearest neighbours in common."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import top_ranked

SIMILARITIES = 1 << 24  # of the search, at a time: 64 MiB
PAIRS = 1 << 20  # entries of sparse products and results, at a time: some tens of bytes each


def reranked_distance(
    queries: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> np.ndarray:
    """Distance (Q, G) float32, 0 to 1, of unit rows `queries` (Q, D) and `gallery` (G, D); `weight` is the paper's λ.

    i, j, l are images of queries and gallery together, N of them:
    d_ij = squared Euclidean distance, divided by the largest of i
    R_i  = i and the k1 images nearest to it;   A_i = {j in R_i : i in R_j};   H_i = A_i with k1/2 for k1
    E_i  = A_i and every H_c, c in A_i, with |H_c & A_i| > 2/3 |H_c|
    V_ij = exp(-d_ij) / sum over E_i, j in E_i
    W_i  = mean of V_j over the k2 images j nearest to i, itself included
    J_ij = 1 - s / (2 - s),   s = sum_l min(W_il, W_jl)
    result = (1 - λ) J + λ d

    These are the conventions of the authors' code: k1/2 is rounded half to even, the distance is normalized by each
    image's own farthest one, and the list of k1 holds the image itself besides. Of equal distances the image with the
    lower position is the nearer one, queries before gallery. Everything but the result grows with N · k1 (entries of
    E); the search is exact and compares all N · N, so a gallery of a million is out of reach.
    ValueError as `check_neighbours`, for rows that do not fit or are not finite, and for rows not of unit length.
    """
    images = np.concatenate([queries, gallery]).astype(np.float32)
    check_neighbours(k1, k2, len(images))
    lengths = np.sqrt(np.einsum("nd,nd->n", images, images))
    if not np.allclose(lengths, 1, atol=1e-3):
        worst = int(np.argmax(np.nan_to_num(np.abs(lengths - 1), nan=np.inf)))
        raise ValueError(
            f"re-ranking: row {worst} has length {lengths[worst]:.4g}; expected unit rows"
        )
    nearest, farthest = _search(images, k1 + 1)
    weights = _weights(images, farthest, _expanded(nearest))
    if k2 > 1:
        weights = _marks(nearest[:, :k2]) @ weights
        weights.data /= k2
    count = len(queries)
    distance = _jaccard(weights[:count], weights[count:])
    distance *= np.float32(1 - weight)
    for block, products in inner_product_blocks(queries, gallery, SIMILARITIES):
        distance[block] += np.float32(weight) * _normalized(products, farthest[:count][block, None])
    return distance


def check_neighbours(k1: int, k2: int, images: int) -> None:
    """ValueError unless 1 <= k2 <= k1 < images; fewer images would quietly mean another k1."""
    if not 1 <= k2 <= k1 < images:
        raise ValueError(
            f"re-ranking: k1 = {k1} and k2 = {k2} neighbours among {images} images of queries and gallery; "
            "expected 1 <= k2 <= k1 < images"
        )


def _search(images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest of each image, itself included, (N, count) int64; the largest squared distance (N,)."""
    nearest = np.empty((len(images), count), dtype=np.int64)
    farthest = np.empty(len(images), dtype=np.float32)
    for block, products in inner_product_blocks(images, images, SIMILARITIES):
        nearest[block] = top_ranked(products, count=count)
        farthest[block] = 2 - 2 * products.min(axis=1)
    return nearest, farthest


def _normalized(products: np.ndarray, farthest: np.ndarray) -> np.ndarray:
    """d of the products, 0 for images that are equal to all others."""
    return np.maximum(2 - 2 * products, 0) / np.maximum(farthest, np.finfo(np.float32).tiny)


def _marks(lists: np.ndarray) -> csr_array:
    """(N, N) float32 with a 1 for every image in each one's list (N, K)."""
    images, length = lists.shape
    return csr_array(
        (np.ones(lists.size, np.float32), lists.ravel(), length * np.arange(images + 1)),
        shape=(images, images),
    )


def _expanded(nearest: np.ndarray) -> csr_array:
    """E as the pattern of an (N, N) array; `nearest` holds each image and its k1 neighbours."""
    k1 = nearest.shape[1] - 1
    mutual, half = (
        marks.multiply(marks.T).tocsr()
        for marks in (_marks(nearest), _marks(nearest[:, : round(k1 / 2) + 1]))
    )
    sizes = half.sum(axis=1)
    parts = []
    for rows in _slices(mutual @ sizes):
        own = mutual[rows]
        common = (own @ half).multiply(own).tocsr()  # |H_c & A_i| at (i, c)
        common.data = (3 * common.data > 2 * sizes[common.indices]).astype(np.float32)
        parts.append(own + common @ half)
    expanded = vstack(parts, format="csr")
    expanded.eliminate_zeros()
    return expanded


def _weights(images: np.ndarray, farthest: np.ndarray, pattern: csr_array) -> csr_array:
    """V: of each image the softmax of minus the normalized distance over its row of the pattern."""
    count, size = pattern.shape[0], max(1, PAIRS // images.shape[1])
    row = np.repeat(np.arange(count), np.diff(pattern.indptr))
    scores = np.empty(pattern.nnz, dtype=np.float32)
    for start in range(0, pattern.nnz, size):
        i, j = row[start : start + size], pattern.indices[start : start + size]
        scores[start : start + size] = np.exp(
            -_normalized(np.einsum("pd,pd->p", images[i], images[j]), farthest[i])
        )
    sums = np.bincount(row, scores, minlength=count)
    return csr_array(
        (scores / sums[row].astype(np.float32), pattern.indices, pattern.indptr),
        shape=pattern.shape,
    )


def _jaccard(queries: csr_array, gallery: csr_array) -> np.ndarray:
    """J (Q, G) float32 of the rows of W."""
    columns, width = csc_array(gallery), gallery.shape[0]
    holders = np.diff(columns.indptr).astype(np.int64)  # gallery images with a weight for the image
    pairs = np.add.reduceat(np.append(holders[queries.indices], 0), queries.indptr[:-1])
    pairs[np.diff(queries.indptr) == 0] = 0
    distance = np.empty((queries.shape[0], width), dtype=np.float32)
    for block in _slices(pairs + width):
        own = queries[block]
        counts = holders[own.indices]
        begins = columns.indptr[own.indices] - np.cumsum(counts) + counts
        met = np.repeat(begins, counts) + np.arange(
            counts.sum()
        )  # where each weight of a query meets the gallery's
        shared = np.minimum(np.repeat(own.data, counts), columns.data[met])
        row = np.repeat(np.repeat(np.arange(own.shape[0]), np.diff(own.indptr)), counts)
        sums = np.bincount(
            row * width + columns.indices[met], shared, minlength=own.shape[0] * width
        )
        distance[block] = (1 - sums / (2 - sums)).reshape(-1, width)
    return np.maximum(distance, 0, out=distance)


def _slices(costs: np.ndarray) -> Iterator[slice]:
    """Consecutive rows that cost about PAIRS together; one row at least."""
    group = np.cumsum(costs) // PAIRS
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    for start, stop in zip(starts, np.append(starts[1:], len(group)), strict=True):
        yield slice(int(start), int(stop))
