"""Clusters as dense regions: DBSCAN on a sparse similarity."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import DBSCAN


def cluster(similarity: csr_array, radius: float, min_samples: int = 4) -> NDArray[np.int64]:
    """DBSCAN on the distance 1 - similarity: a cluster number for each image, (N,) int64, -1 = no cluster.

    An image with at least `min_samples` images within `radius`, itself included, is a core; cores within `radius` of
    each other share a cluster, and an image near a core of several joins the lowest number. Clusters are numbered by
    their first core.

    similarity (N, N), symmetric, absent = 0, so absent pairs are 1 apart and `radius` must be below 1. ValueError
    where it is not or the matrix is not square.
    """
    images = similarity.shape[0]
    if similarity.shape != (images, images) or not 0 < radius < 1:
        raise ValueError(
            f"similarity {similarity.shape}, radius {radius}; expected (N, N) and 0 < radius < 1"
        )
    entries = similarity.tocoo()
    distance = 1 - entries.data
    # scikit-learn reads absent entries as far away and stored zeros as zeros: equal images must stay stored. A point is
    # its own neighbour whatever the matrix says.
    near = (distance <= radius) & (entries.row != entries.col)
    own = np.arange(images)
    row, column = np.concatenate([entries.row[near], own]), np.concatenate([entries.col[near], own])
    distance = np.concatenate([distance[near], np.zeros(images, distance.dtype)])
    order = np.lexsort((distance, row))  # scikit-learn wants rows by ascending distance
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=images))])
    graph = csr_array((distance[order], column[order], starts), shape=(images, images))
    return (
        DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed", n_jobs=1)
        .fit(graph)
        .labels_.astype(np.int64)
    )
