"""Exact search: every query against every gallery image, no approximation."""

import faiss
import numpy as np


def inner_products(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Similarity (Q, G) float32 of the rows of `queries` (Q, D) and `gallery` (G, D); cosines where rows have length 1.

    By faiss, on the first GPU where it sees one. The ranking is made from these numbers (`ranking.py`) and not by
    faiss's own search, which leaves the order of equal similarities open and returns 2048 neighbours at most on a GPU.
    Raises ValueError for arrays that do not fit and for values that are not finite.
    """
    queries, gallery = _rows(queries, "queries"), _rows(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} dimensions, the gallery has {gallery.shape[1]}")
    if faiss.get_num_gpus() and len(queries) and len(gallery):
        return faiss.pairwise_distance_gpu(
            faiss.StandardGpuResources(), queries, gallery, metric=faiss.METRIC_INNER_PRODUCT, device=0
        )
    return faiss.pairwise_distances(queries, gallery, faiss.METRIC_INNER_PRODUCT)


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    values = np.ascontiguousarray(values, dtype=np.float32)
    if values.ndim != 2:
        raise ValueError(f"{name}: expected rows (N, D), found an array of shape {values.shape}")
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        raise ValueError(f"{name}: row {wrong.argmax()} of {len(values)} holds a value that is not finite")
    return values
