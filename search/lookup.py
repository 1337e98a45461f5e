"""Queries to an archive: filters, exact and approximate search, the pictures that were found."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from search.archive import Archive, Picture, open_state, pictures_of
from search.build import open_index
from search.facts import Moment, as_names
from search.indexes.flat import Flat, contains
from search.indexes.protocol import Neighbors, merged
from stages.parts.run.stage import InputError

# Fewer allowed pictures than this, or than this share, are searched exactly: an approximate index
# would have to pass many others before it meets enough of them.
FEW = 20_000
SHARE = 0.1
SHOWN = 10  # cameras that a message lists


class Filter(NamedTuple):
    """Which pictures are searched. By default all are."""

    cameras: tuple[str, ...] = ()  # one of these
    not_cameras: tuple[str, ...] = ()  # none of these
    start: Moment | None = None  # not before
    end: Moment | None = None  # not after


class Result(NamedTuple):
    """A picture that was found."""

    rank: int  # from 1
    similarity: float
    folder: str
    picture: Picture


class Lookup:
    """An archive that has been opened for queries.

    Attributes:
        archive: the state that is searched, whatever a writer does meanwhile.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._ids = archive.ids()
        self._columns = [np.ascontiguousarray(table["id"]) for table in archive.tables]
        self._flat = Flat()
        for ids, rows in archive.blocks():
            self._flat.add(ids, rows)
        self._index = open_index(archive)
        held = np.empty(0, np.int64) if self._index is None else self._index.ids()
        self._is_held = contains(held, self._ids)  # (N,) what the approximate index can find
        self._held = self._ids[self._is_held]
        self._held_all = len(self._held) == len(held)

    def find(
        self, queries: np.ndarray, count: int, chosen: Filter | None = None
    ) -> list[list[Result]]:
        """Return the `count` most similar pictures of each query (Q, D), the most similar first.

        Raises:
            InputError: if the filter names a camera or a kind of time that no picture has.
        """
        allowed = None if chosen is None or chosen == Filter() else self.allowed(chosen)
        neighbors = self.neighbors(queries, count, allowed)
        return [self._results(ids, row) for ids, row in zip(*neighbors, strict=True)]

    def allowed(self, chosen: Filter) -> np.ndarray:
        """Return the ids of the pictures that pass a filter, ascending."""
        self._check(chosen)
        masks = []
        for table in self.archive.tables:
            mask = np.ones(len(table), bool)
            if chosen.cameras:
                mask &= np.isin(table["camera"], [name.encode() for name in chosen.cameras])
            if chosen.not_cameras:
                mask &= ~np.isin(table["camera"], [name.encode() for name in chosen.not_cameras])
            for bound, sign in ((chosen.start, 1), (chosen.end, -1)):
                if bound is not None:  # a picture without a time, NaN, does not pass
                    mask &= table["is_date"] == bound.is_date
                    mask &= sign * table["moment"] >= sign * bound.value
            masks.append(table["id"][mask])
        return np.sort(np.concatenate([np.empty(0, np.int64), *masks]))

    def neighbors(
        self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """Return the neighbors of queries (Q, D) among the allowed ids, or among all pictures.

        The approximate index answers for the rows that it holds, unless few of them are allowed.
        Exact search answers for all others.
        """
        pool, is_held = self._ids, self._is_held
        if allowed is not None:
            pool, is_held = allowed, contains(self._held, allowed)  # (A,)
        held = pool[is_held]
        is_few = len(held) < FEW or len(held) < SHARE * len(self._held)
        if self._index is None or (allowed is not None and is_few) or not len(held):
            return self._flat.search(queries, count, allowed)
        whole = allowed is None and self._held_all
        found = self._index.search(queries, count, None if whole else held)
        if len(held) < len(pool):
            rest = self._flat.search(queries, count, pool[~is_held])
            found = merged(found, rest, count)
        # A graph can end before it meets `count` allowed rows.
        short = np.flatnonzero((found.ids[:, : min(count, len(pool))] < 0).any(1))
        if len(short):
            exact = self._flat.search(queries[short], count, allowed)
            found.ids[short], found.similarity[short] = exact
        return found

    def _results(self, ids: np.ndarray, similarity: np.ndarray) -> list[Result]:
        results = []
        for rank, (number, value) in enumerate(zip(ids.tolist(), similarity, strict=True), start=1):
            if number >= 0:
                picture = self._picture(number)
                folder = self.archive.manifest.roots[picture.root].path
                results.append(Result(rank, float(value), folder, picture))
        return results

    def _picture(self, number: int) -> Picture:
        for table, ids in zip(self.archive.tables, self._columns, strict=True):
            row = int(np.searchsorted(ids, number))
            if row < len(ids) and ids[row] == number:
                return pictures_of(table[row : row + 1])[0]
        raise KeyError(number)

    @cached_property
    def _cameras(self) -> list[str]:
        """The names of all cameras, ascending."""
        names = {name for table in self.archive.tables for name in np.unique(table["camera"])}
        return sorted(name.decode() for name in names if name)

    def _check(self, chosen: Filter) -> None:
        """Refuse what no picture has: it is nearly always a slip of the pen."""
        for name in chosen.cameras + chosen.not_cameras:
            if name not in self._cameras:
                some = as_names(self._cameras[:SHOWN]) or "none is known"
                rest = ", …" if len(self._cameras) > SHOWN else ""
                raise InputError(f"no picture is of camera {name!r}; cameras: {some}{rest}")
        tables = self.archive.tables
        for bound in (chosen.start, chosen.end):
            if bound is not None and not any(_has_time(table, bound.is_date) for table in tables):
                kind = "a date" if bound.is_date else "a number"
                raise InputError(f"no picture has {kind} as its time")


def _has_time(table: np.ndarray, is_date: bool) -> bool:
    return bool(((table["is_date"] == is_date) & ~np.isnan(table["moment"])).any())


def open_lookup(folder: Path) -> Lookup:
    """Return the index in `folder`, opened for queries; InputError if there is none."""
    return open_state(folder, Lookup)
