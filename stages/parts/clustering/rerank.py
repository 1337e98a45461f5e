"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): a search corrected by shared neighbours.

An image of the right person may look less like the query than a stranger does. If it shares its
nearest neighbours with the query, it is moved forward in the query's list.
"""

from collections.abc import Callable, Iterator

import numpy as np

from stages.parts.clustering import reciprocal
from stages.parts.clustering.reciprocal import Floats, Integers

SIMILARITIES = 1 << 24  # inner products that are made at a time: 64 MiB

# (rows (M, D), rows (L, D), size) → slices of the first rows and their inner products (m, L)
Blocks = Callable[[Floats, Floats, int], Iterator[tuple[slice, Floats]]]
# (inner products (m, L), nothing excluded, count) → positions of the largest (m, count)
Top = Callable[[Floats, None, int], Integers]


def reranked_distance(
    queries: Floats,
    gallery: Floats,
    blocks: Blocks,
    top: Top,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
) -> Floats:
    """Return the re-ranked distance of every query to every gallery image.

    `reciprocal.py` defines R, A, H, E, V, W and s, here for the N images of queries and gallery
    together. R_i is i and the k1 images nearest to it, and H_i is A_i with k1/2 for k1. d_ij is the
    squared Euclidean distance, divided by the largest one of i. Then

    J_ij = 1 - s_ij / (2 - s_ij);   result = (1 - λ) J + λ d

    These are the conventions of the authors' code, which rounds k1/2 half to even. Of equal
    distances, the image with the lower position is the nearer one, queries before gallery. The
    search is exact and compares all N · N pairs, so a gallery of a million images is out of reach.
    All memory but that of the result grows with N · k1.

    Args:
        queries: (Q, D) rows of length 1.
        gallery: (G, D) rows of length 1.
        blocks: makes the inner products, some rows at a time (`index.inner_product_blocks`).
        top: takes the first positions of each ranking from them (`ranking.top_ranked`).
        k1: length of the neighbour lists, the image itself not counted.
        k2: number of neighbours over which the weights are averaged.
        weight: λ of the paper, the share of the original distance.

    Returns:
        (Q, G) float32 from 0 to 1.

    Raises:
        ValueError: `check_neighbours` fails, or rows do not fit, are not finite or not of length 1.
    """
    images = np.concatenate([queries, gallery]).astype(np.float32)  # (N, D)
    check_neighbours(k1, k2, len(images))
    reciprocal.check_unit_rows(images, "re-ranking:")
    nearest, farthest = _search(images, k1 + 1, blocks, top)  # (N, k1 + 1), (N,)
    closer = nearest[:, : round(k1 / 2) + 1]
    expanded = reciprocal.expanded_neighbours(nearest, closer)
    largest = np.repeat(farthest, np.diff(expanded.indptr))  # (entries of E,)
    distances = _normalized(reciprocal.pair_products(images, expanded), largest)
    weights = reciprocal.neighbour_weights(expanded, distances, nearest[:, :k2])

    count = len(queries)
    query_weights = weights[:count]  # (Q, N)
    columns = weights[count:].tocsc()  # (G, N)
    first = columns.indptr[query_weights.indices]
    result = np.empty((count, len(gallery)), np.float32)
    for rows, terms in reciprocal.shared_weights(query_weights, columns, first):
        terms.toarray(out=result[rows])  # s: adds up the entries at the same place
    for rows, products in blocks(queries, gallery, SIMILARITIES):
        shared = result[rows]  # (q, G)
        jaccard = np.maximum(1 - shared / (2 - shared), 0)
        original = _normalized(products, farthest[:count][rows, None])
        result[rows] = (1 - weight) * jaccard + weight * original
    return result


def check_neighbours(k1: int, k2: int, images: int) -> None:
    """Raise ValueError unless 1 <= k2 <= k1 < images: with fewer images, k1 would be smaller."""
    if not 1 <= k2 <= k1 < images:
        raise ValueError(
            f"re-ranking: k1 = {k1} and k2 = {k2} neighbours among {images} images of queries and "
            "gallery; expected 1 <= k2 <= k1 < images"
        )


def _search(images: Floats, count: int, blocks: Blocks, top: Top) -> tuple[Integers, Floats]:
    """Return the `count` nearest of each image (N, count), and its largest squared distance."""
    nearest = np.empty((len(images), count), dtype=np.int64)
    farthest = np.empty(len(images), dtype=np.float32)
    for rows, products in blocks(images, images, SIMILARITIES):
        nearest[rows] = top(products, None, count)
        farthest[rows] = 2 - 2 * products.min(axis=1)
    return nearest, farthest


def _normalized(products: Floats, farthest: Floats) -> Floats:
    """Return d of the products; it is 0 for an image that is equal to all others."""
    squared: Floats = np.maximum(2 - 2 * products, 0)
    largest: Floats = np.maximum(farthest, np.finfo(np.float32).tiny)
    return squared / largest
