"""Clusters as dense regions: DBSCAN on a sparse similarity."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Integers = NDArray[np.int64]


def cluster(similarity: csr_array, radius: float, min_samples: int = 4) -> Integers:
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
    # Each image is its own neighbour, whatever the matrix says; the others are the pairs (P,).
    rows = np.repeat(np.arange(count), np.diff(similarity.indptr))
    is_near = (1 - similarity.data <= radius) & (rows != similarity.indices)
    rows, columns = rows[is_near], similarity.indices[is_near]
    is_core = np.bincount(rows, minlength=count) + 1 >= min_samples
    joins_cores = is_core[rows] & is_core[columns]
    labels = np.full(count, -1)
    labels[is_core] = _components(rows[joins_cores], columns[joins_cores], is_core)
    beside = is_core[columns] & ~is_core[rows]
    lowest = np.full(count, count)  # cluster among the cores beside an image
    np.minimum.at(lowest, rows[beside], labels[columns[beside]])
    return np.where(lowest < count, lowest, labels)


def _components(rows: Integers, columns: Integers, is_core: NDArray[np.bool_]) -> Integers:
    """Return the component of each core, numbered by their first cores.

    Cores `rows` (P,), ascending, and `columns` (P,) are neighbours; `is_core` (N,) marks all cores.
    """
    count = len(is_core)
    starts = np.append(0, np.cumsum(np.bincount(rows, minlength=count)))  # (N + 1,)
    graph = csr_array((np.ones(len(rows)), columns, starts), shape=(count, count))
    # the graph is symmetric; "strong" needs no transposed copy of it
    _, components = connected_components(graph, connection="strong")
    _, first, numbers = np.unique(components[is_core], return_index=True, return_inverse=True)
    ranks: Integers = np.argsort(np.argsort(first))
    return ranks[numbers]
