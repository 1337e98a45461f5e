"""Exact search: every query is compared with every row. Rows may be memory-mapped."""

from pathlib import Path
from typing import Any

import numpy as np

from search.indexes.protocol import Neighbors, merged, no_neighbors
from stages.parts.retrieval.order import first_positions, level_blocks

BLOCK = 1 << 16  # rows at a time: 32 MiB of 128 dimensions
QUERIES = 64  # queries at a time: 16 MiB of similarities


class Flat:
    """Rows as they were added, without a copy; blocks of them are read when they are searched."""

    def __init__(self) -> None:
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []  # ids, rows
        self._removed = np.empty(0, np.int64)

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Add rows (N, D) under ids (N,); rows under the id -1 are none."""
        self._blocks.append((ids, rows))

    def ids(self) -> np.ndarray:
        """Return the ids of all rows, ascending."""
        blocks = [ids[self._kept(ids, None)] for ids, _ in self._blocks]
        return np.sort(np.concatenate([np.empty(0, np.int64), *blocks]))

    def remove(self, ids: np.ndarray) -> None:
        """Leave the rows with these ids out."""
        self._removed = np.union1d(self._removed, ids)

    def search(
        self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """Return the exact neighbors, see `Index.search`."""
        answers = [
            self._search(queries[start : start + QUERIES], count, allowed)
            for start in range(0, len(queries), QUERIES)
        ]
        if not answers:
            return no_neighbors(0, count)
        ids, similarity = zip(*answers, strict=True)
        return Neighbors(np.concatenate(ids), np.concatenate(similarity))

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write nothing: the rows are files of the archive already."""
        return {}

    def _search(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> Neighbors:
        best = no_neighbors(len(queries), count)
        for block_ids, block_rows in self._blocks:
            for start in range(0, len(block_ids), BLOCK):
                ids, rows = block_ids[start : start + BLOCK], block_rows[start : start + BLOCK]
                kept = self._kept(ids, allowed)
                if kept.any():
                    if not kept.all():
                        ids, rows = ids[kept], rows[kept]
                    best = merged(best, _nearest(queries, ids, rows, count), count)
        return best

    def _kept(self, ids: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
        """Return which of the ids (n,) are searched, (n,) bool."""
        kept: np.ndarray = (ids >= 0) & ~contains(self._removed, ids)
        if allowed is not None:
            kept &= contains(allowed, ids)
        return kept


def contains(sorted_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return which of `ids` (n,) are among `sorted_ids` (m,), ascending: (n,) bool.

    >>> contains(np.array([2, 5, 9]), np.array([5, 6, 9, 10])).tolist()
    [True, False, True, False]
    """
    if not len(sorted_ids):
        return np.zeros(len(ids), bool)
    places = np.searchsorted(sorted_ids, ids).clip(max=len(sorted_ids) - 1)
    found: np.ndarray = sorted_ids[places] == ids
    return found


def _nearest(queries: np.ndarray, ids: np.ndarray, rows: np.ndarray, count: int) -> Neighbors:
    """Return the best of some rows (n, D) for queries (Q, D): (Q, min(count, n))."""
    best: list[np.ndarray] = []
    similarities: list[np.ndarray] = []
    similarity = queries @ rows.T  # (Q, n)
    for block, levels in level_blocks(similarity, None):
        positions = first_positions(levels, min(count, len(ids)))
        best.append(ids[positions])
        similarities.append(np.take_along_axis(similarity[block], positions, axis=1))
    return Neighbors(np.concatenate(best), np.concatenate(similarities))
