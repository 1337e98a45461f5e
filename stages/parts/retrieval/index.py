"""Exact search: every query is compared with every gallery image, without an approximation."""

from collections.abc import Iterator

import numpy as np
import torch

from stages.parts.inner_products import CPU, Gallery

BLOCK = 1 << 25  # similarities at a time: 128 MiB, and about three times that while they are made


def inner_product_blocks(
    queries: np.ndarray,
    gallery: np.ndarray,
    size: int | None = None,
    device: torch.device = CPU,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the similarities of all queries to the whole gallery, some queries at a time.

    The products are made by faiss. The ranking is made from them (`ranking.py`) and not by the
    search of faiss, which leaves the order of equal similarities open and returns 2048 neighbours
    at most on a GPU.

    Args:
        queries: (Q, D) float, converted to float32.
        gallery: (G, D) float, converted to float32.
        size: most similarities in a block, BLOCK by default, which are 33 queries for a gallery of
            a million images. A block has one query at least.
        device: where the products are made. A GPU needs room for the whole gallery.

    Yields:
        A slice of the queries and their inner products (q, G) float32. These are cosines if all
        rows have length 1.

    Raises:
        ValueError: the arrays do not fit each other, or a value is not finite.

    >>> for queries, similarity in inner_product_blocks(np.eye(3), np.eye(3)[:2], size=4):
    ...     print(queries.start, queries.stop, similarity.tolist())
    0 2 [[1.0, 0.0], [0.0, 1.0]]
    2 3 [[0.0, 0.0]]
    """
    queries, gallery = _rows(queries, "queries"), _rows(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries have {queries.shape[1]} dimensions, the gallery has {gallery.shape[1]}"
        )
    count = max(1, (size or BLOCK) // max(1, len(gallery)))
    rows = Gallery(gallery, device)
    for start in range(0, len(queries), count):
        block = slice(start, min(start + count, len(queries)))
        yield block, rows.products(queries[block])


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    """Return `values` as contiguous float32 rows (N, D), all of them finite."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"{name}: expected rows (N, D), found an array of shape {values.shape}")
    # NaN passes through both minimum and maximum, and unlike isfinite they need no (N, D) array.
    smallest = values.min(axis=1, initial=0)  # (N,)
    largest = values.max(axis=1, initial=0)  # (N,)
    wrong = ~(np.isfinite(smallest) & np.isfinite(largest))
    if wrong.any():
        raise ValueError(
            f"{name}: row {wrong.argmax()} of {len(values)} holds a value that is not finite"
        )
    return values
