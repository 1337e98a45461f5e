"""Exact search: every query against every gallery image, no approximation."""

from collections.abc import Iterator

import faiss
import numpy as np

BLOCK = 1 << 25  # similarities at a time: 128 MiB; about three times that while a block is made


def inner_products(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Similarity (Q, G) float32 of the rows of `queries` (Q, D) and `gallery` (G, D); cosines where rows have length 1.

    By faiss, on the first GPU where it sees one. The ranking is made from these numbers (`ranking.py`) and not by
    faiss's own search, which leaves the order of equal similarities open and returns 2048 neighbours at most on a GPU.
    Raises ValueError for arrays that do not fit and for values that are not finite.
    """
    return _products(*_pair(queries, gallery))


def inner_product_blocks(
    queries: np.ndarray, gallery: np.ndarray, size: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """`inner_products` by blocks of queries: slices of them and their similarities (q, G), together all queries.

    A block has at most `size` similarities (BLOCK, if not given), and one query at least: a gallery of a million images
    takes 33 queries at a time. Same errors.
    """
    queries, gallery = _pair(queries, gallery)
    count = max(1, (size or BLOCK) // max(1, len(gallery)))
    for start in range(0, len(queries), count):
        block = slice(start, min(start + count, len(queries)))
        yield block, _products(queries[block], gallery)


def _products(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    if faiss.get_num_gpus() and len(queries) and len(gallery):
        return faiss.pairwise_distance_gpu(
            faiss.StandardGpuResources(),
            queries,
            gallery,
            metric=faiss.METRIC_INNER_PRODUCT,
            device=0,
        )
    return faiss.pairwise_distances(queries, gallery, faiss.METRIC_INNER_PRODUCT)


def _pair(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    queries, gallery = _rows(queries, "queries"), _rows(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions, the gallery has {gallery.shape[1]}"
        )
    return queries, gallery


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"{name}: expected rows (N, D), found an array of shape {values.shape}")
    # NaN goes through both; unlike isfinite of everything, this takes no memory
    wrong = ~(
        np.isfinite(values.min(axis=1, initial=0)) & np.isfinite(values.max(axis=1, initial=0))
    )
    if wrong.any():
        raise ValueError(
            f"{name}: row {wrong.argmax()} of {len(values)} holds a value that is not finite"
        )
    return values
