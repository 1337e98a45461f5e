"""What an index of embeddings can do, and the answer of a search."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Neighbors(NamedTuple):
    """The most similar rows of each query, the most similar first.

    Of equal similarities the lower id comes first. Where there are fewer rows than asked for, the
    id is -1 and the similarity minus infinity.
    """

    ids: np.ndarray  # (Q, K) int64
    similarity: np.ndarray  # (Q, K) float32, inner products


class Index(Protocol):
    """Rows that can be searched. Each has an id, a number that is never used again."""

    def ids(self) -> np.ndarray:
        """Return the ids (N,) int64 of all rows, ascending."""

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Add rows (N, D) float32 of length 1 under new ids (N,) int64, ascending."""

    def remove(self, ids: np.ndarray) -> None:
        """Leave the rows with these ids (M,) out of all further searches."""

    def search(
        self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """Return the `count` most similar rows of each query (Q, D).

        With `allowed` (A,) int64, ascending, only rows with these ids are searched: a filter
        chooses among all rows and not among the best ones.
        """

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the index into `folder`, to new files whose names start with `name`.

        Returns:
            What `load` of the kind needs to read it again, as JSON. Files that it names stay as
            they are until no reader can have this state any more.
        """


def no_neighbors(queries: int, count: int) -> Neighbors:
    """Return the answer of an index without rows."""
    similarity = np.full((queries, count), -np.inf, np.float32)
    return Neighbors(np.full((queries, count), -1), similarity)


def merged(one: Neighbors, other: Neighbors, count: int) -> Neighbors:
    """Return the `count` best of two answers to the same queries, which share no id.

    >>> first = Neighbors(np.array([[3, 1]]), np.array([[0.9, 0.2]], np.float32))
    >>> second = Neighbors(np.array([[7, -1]]), np.array([[0.5, -np.inf]], np.float32))
    >>> merged(first, second, 3).ids.tolist()
    [[3, 7, 1]]
    """
    ids = np.concatenate([one.ids, other.ids], axis=1)
    similarity = np.concatenate([one.similarity, other.similarity], axis=1)
    order = np.lexsort((ids, -similarity), axis=1)[:, :count]
    return Neighbors(
        np.take_along_axis(ids, order, axis=1), np.take_along_axis(similarity, order, axis=1)
    )
