"""The approximate index of an archive: made, kept up to date, and measured against exact search."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from search.archive import Archive, Manifest
from search.indexes.approximate import EFFORTS, Approximate
from search.indexes.flat import Flat, contains
from search.indexes.protocol import Index, Neighbors
from search.writer import Writer

if TYPE_CHECKING:
    from search.indexes.lance import Lance

KINDS = ("flat", "ivf", "hnsw", "lance")
FAISS = ("ivf", "hnsw")
FEWEST = 1024  # pictures of a faiss index; fewer are searched exactly
STALE = 0.25  # an index more of whose rows have left is made anew
GROWN = 4  # IVF finds its centers anew when there are so many times as many pictures
SAMPLE = 1 << 16  # rows that the centers are found with, at most
QUERIES = 256  # rows that recall is measured with
DEPTH = 10  # recall@10
ENOUGH = 0.95  # recall at which the effort is not raised further
EQUAL = 1e-6  # similarities that differ less are equal: the same picture may be there twice


class Recall(NamedTuple):
    """Which share of the true nearest neighbors an approximate index finds."""

    value: float
    queries: int
    effort: int


def check_kind(kind: str) -> None:
    """Refuse a kind whose package is not installed, before any picture is embedded."""
    if kind == "lance":
        _lance()


def _lance() -> "type[Lance]":
    from search.indexes.lance import Lance  # an optional package

    return Lance


def open_index(archive: Archive, writes: bool = False) -> Index | None:
    """Return the index that the state of an archive names; None if all of it is searched exactly.

    The index may hold rows that have left the archive, and lack those that came: a checkpoint in
    the middle of a run leaves it as it was. `lookup.py` searches what it lacks exactly.
    """
    kind, state = archive.manifest.kind, archive.manifest.index
    if state is None:
        return None
    if kind == "lance":
        return _lance().load(archive.folder, state, writes)
    return Approximate.load(kind, archive.folder, state)


def update_index(writer: Writer, kind: str) -> Recall | None:
    """Bring the index of the kind up to date with the rows; return its recall if it was measured.

    Rows that came are added, rows that left are removed. The index is made anew if it is of another
    kind, if much of it has left, or if IVF was made for far fewer rows.
    """
    manifest = writer.manifest
    if kind != manifest.kind:
        manifest.kind, manifest.index = kind, None
    archive = writer.archive()
    live = archive.ids()
    if kind == "flat" or not len(live) or (kind in FAISS and len(live) < FEWEST):
        manifest.index = None
        return None
    index = open_index(archive, writes=True)
    made = len(live)
    if index is not None and manifest.index is not None and not _is_stale(index, manifest, live):
        if np.array_equal(index.ids(), live):
            return None
        made = manifest.index["made"]
    else:
        index = _new_index(kind, writer, archive)
    held = index.ids()
    index.remove(np.setdiff1d(held, live))
    for ids, rows in archive.blocks():
        new = np.flatnonzero((ids >= 0) & ~contains(held, ids))
        if len(new):
            index.add(ids[new], rows[new])
    recall = _raise_effort(index, archive) if isinstance(index, Approximate) else None
    state = index.save(writer.folder, writer.new_name())
    manifest.index = state | {"made": made, "recall": recall and round(recall.value, 4)}
    return recall


def _is_stale(index: Index, manifest: Manifest, live: np.ndarray) -> bool:
    if not isinstance(index, Approximate) or manifest.index is None:
        return False
    left = 1 - len(np.intersect1d(index.ids(), live)) / index.total
    return left > STALE or (index.kind == "ivf" and len(live) > GROWN * manifest.index["made"])


def _new_index(kind: str, writer: Writer, archive: Archive) -> Index:
    if kind == "lance":
        return _lance().new(writer.folder, writer.new_name(), archive.rows[0].shape[1])
    return Approximate.new(kind, _sample(archive, SAMPLE)[1], archive.count)


def _sample(archive: Archive, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (S,) and rows (S, D) of at most `most` pictures, drawn from all alike."""
    chosen = np.random.default_rng(0).permutation(archive.ids())[:most]
    chosen.sort()
    parts = []
    for ids, rows in archive.blocks():
        parts.append((ids[contains(chosen, ids)], rows[contains(chosen, ids)]))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([rows for _, rows in parts])


def _raise_effort(index: Approximate, archive: Archive) -> Recall:
    """Give the index the lowest effort at which it finds enough; return what it then finds."""
    own, queries = _sample(archive, QUERIES)
    flat = Flat()
    for ids, rows in archive.blocks():
        flat.add(ids, rows)
    exact = flat.search(queries, DEPTH + 1)
    for effort in EFFORTS:
        index.effort = effort
        value = recall(index.search(queries, DEPTH + 1), exact, own, DEPTH)
        if value >= ENOUGH:
            break
    return Recall(value, len(queries), index.effort)


def recall(found: Neighbors, exact: Neighbors, own: np.ndarray, depth: int) -> float:
    """Return the share of the `depth` true nearest neighbors that were found, over all queries.

    A row counts if it is as similar as the last true neighbor, because which of equal ones is
    listed means nothing. The row that a query is itself does not count.

    Args:
        found: (Q, depth + 1) neighbors.
        exact: (Q, depth + 1) true neighbors.
        own: (Q,) the ids of the queries.
        depth: how many neighbors are looked at.
    """
    others = np.where(exact.ids == own[:, None], -np.inf, exact.similarity)
    last = -np.sort(-others, axis=1)[:, depth - 1]  # (Q,)
    right = (found.ids != own[:, None]) & (found.similarity >= last[:, None] - EQUAL)
    return float(np.minimum(right.sum(1), depth).mean() / depth)
