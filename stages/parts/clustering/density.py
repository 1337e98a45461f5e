"""Clusters as dense regions: DBSCAN on a sparse similarity."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.cluster import DBSCAN


def cluster(similarity: csr_array, radius: float, min_samples: int = 4) -> NDArray[np.int64]:
    """Return the cluster of each image by DBSCAN on the distance 1 - similarity.

    An image with at least `min_samples` images within `radius`, itself included, is a core. Cores
    within `radius` of each other share a cluster. An image that is no core joins a cluster with a
    core within `radius`, the one with the lowest number if there are several.

    Args:
        similarity: (N, N), symmetric. Absent pairs have similarity 0 and are thus 1 apart.
        radius: largest distance of neighbours, above 0 and below 1.
        min_samples: number of neighbours that makes an image a core.

    Returns:
        (N,) int64. Clusters are numbered by their first core; -1 = no cluster.

    Raises:
        ValueError: the matrix is not square, or `radius` is not between 0 and 1.

    >>> dense = np.array([[1, 0.8, 0.1, 0], [0.8, 1, 0, 0], [0.1, 0, 1, 0.7], [0, 0, 0.7, 1]])
    >>> cluster(csr_array(dense), radius=0.25, min_samples=2)
    array([ 0,  0, -1, -1])
    """
    count = similarity.shape[0]
    if similarity.shape != (count, count) or not 0 < radius < 1:
        raise ValueError(
            f"similarity {similarity.shape}, radius {radius}; expected (N, N) and 0 < radius < 1"
        )
    entries = similarity.tocoo()
    distances = 1 - entries.data
    # For scikit-learn, absent entries are far away and stored zeros are distances of 0. Each image
    # is its own neighbour, whatever the matrix says.
    near = (distances <= radius) & (entries.row != entries.col)
    numbers = np.arange(count)
    rows = np.concatenate([entries.row[near], numbers])
    columns = np.concatenate([entries.col[near], numbers])
    distances = np.concatenate([distances[near], np.zeros(count, distances.dtype)])
    order = np.lexsort((distances, rows))  # scikit-learn wants rows by ascending distance
    sizes = np.bincount(rows, minlength=count)
    starts = np.append(0, np.cumsum(sizes))  # (N + 1,)
    graph = csr_array((distances[order], columns[order], starts), shape=(count, count))
    search = DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed", n_jobs=1)
    labels: NDArray[np.int64] = search.fit(graph).labels_.astype(np.int64)
    return labels
