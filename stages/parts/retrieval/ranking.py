"""Ranked lists and their scores: CMC, mean average precision, mean inverse negative penalty.

**Ties.** Of two gallery images with equal similarity, the one with the lower gallery position ranks first.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

BLOCK = (
    1 << 19
)  # similarities ranked at a time: 2 MiB a working array, whatever the size of the gallery
EXCLUDED = np.uint32(0xFFFFFFFF)  # the level behind every similarity, minus infinity included
LAST = np.uint64(0xFFFFFFFF00000000)  # the first key of that level
POSITION = np.uint64(0x00000000FFFFFFFF)


class RankingScores(NamedTuple):
    """Means over the queries that have a relevant gallery image."""

    cmc: np.ndarray  # (max_rank,) share of queries whose identity is met at rank 1, 2, … or before
    mean_ap: float
    mean_inp: float
    queries: int  # queries that the means are over
    unmatched: int  # queries left out: their identity is not in the gallery, or all its images are excluded


class QueryScores(NamedTuple):
    """The scores of each query (Q,); the last two mean nothing where `first` is -1."""

    first: (
        np.ndarray
    )  # int64, images (or identities) in the list before the query's own; -1: none is relevant
    precision: np.ndarray  # float64, AP
    penalty: np.ndarray  # float64, INP


def score_ranking(
    similarity: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    excluded: np.ndarray | None = None,
    unique_ids: bool = False,
    max_rank: int = 20,
) -> RankingScores:
    """Scores of the rankings of a gallery by decreasing `similarity` (Q, G).

    query_ids, gallery_ids   (Q,), (G,) identities; a gallery image of the query's identity is *relevant*
    excluded                 (Q, G) bool: pairs that are taken out of the query's list before anything is counted
    unique_ids               CMC over identities instead of images: of each identity only the first image of the list
                             counts, so the rank is 1 + the identities met before (the rule of SYSU-MM01)

    With R relevant images at positions p_1 < … < p_R of the list (from 1):
    AP = (1/R) Σ_j j / p_j, INP = R / p_R; both count images whatever `unique_ids` is.
    A list shorter than `max_rank` keeps its last value to the end of the curve.
    Float32 is ranked about ten times faster than other types, which are ranked in float64.
    A gallery too large for similarities (Q, G): `score_queries` on a block of queries at a time, then `mean_scores`.

    Raises ValueError for shapes that do not fit, NaN, or when no query has a relevant image.

    >>> score_ranking(np.array([[0.9, 0.8, 0.1]]), [7], [3, 7, 7], max_rank=2)[:3]
    (array([0., 1.]), 0.5833333333333333, 0.6666666666666666)
    """
    return mean_scores(
        [score_queries(similarity, query_ids, gallery_ids, excluded, unique_ids)], max_rank
    )


def score_queries(
    similarity: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    excluded: np.ndarray | None = None,
    unique_ids: bool = False,
) -> QueryScores:
    """`score_ranking` before the means are taken. A query's scores are its own: blocks of queries change nothing.

    They come from the full list, however long, without making it: the place of a relevant image is the number of
    images with a larger similarity, found in the sorted similarities, and ties are counted where there are any.
    """
    similarity, excluded = _checked(similarity, excluded)
    query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
    if similarity.shape != (len(query_ids), len(gallery_ids)):
        raise ValueError(
            f"similarity is {similarity.shape}, expected ({len(query_ids)}, {len(gallery_ids)}): queries, gallery"
        )
    people = _people(gallery_ids)
    # an identity that is not in the gallery gets a code that no gallery image has
    query_codes = np.searchsorted(people.identities, query_ids).astype(np.int32)
    query_codes[~np.isin(query_ids, people.identities)] = len(people.identities)
    parts = []
    for block, levels in _level_blocks(similarity, excluded):
        relevant = people.codes == query_codes[block, None]
        if excluded is not None:
            relevant &= ~excluded[block]
        scores = _list_scores(levels, relevant)
        if unique_ids:
            late = (
                scores.first > 0
            )  # with no image before the query's own there is no identity before it either
            scores.first[late] = _identities_before(levels[late], people, query_codes[block][late])
        parts.append(scores)
    return QueryScores(*(np.concatenate(series) for series in zip(*parts, strict=True)))


def mean_scores(parts: Iterable[QueryScores], max_rank: int = 20) -> RankingScores:
    """The means over all queries of `parts`. ValueError when none has a relevant image."""
    first, precision, penalty = (np.concatenate(series) for series in zip(*parts, strict=True))
    matched = first >= 0
    count = int(matched.sum())
    if not count:
        raise ValueError(
            f"none of the {len(first)} queries has an image of its identity in its gallery list"
        )
    met = np.bincount(np.minimum(first[matched], max_rank), minlength=max_rank + 1)[
        :max_rank
    ].cumsum()
    return RankingScores(
        met / count,
        float(precision[matched].mean()),
        float(penalty[matched].mean()),
        count,
        len(first) - count,
    )


def top_ranked(
    similarity: np.ndarray, excluded: np.ndarray | None = None, count: int = 20
) -> np.ndarray:
    """The first `count` gallery positions of every query's list, int64 (Q, count), -1 behind the end of a short list.

    Same order and same errors as `score_ranking`.
    """
    similarity, excluded = _checked(similarity, excluded)
    top = np.full((len(similarity), count), -1, dtype=np.int64)
    for block, levels in _level_blocks(similarity, excluded):
        # level and position in one integer: all keys of a row differ, and their order has the tie rule in it
        keys = levels.astype(np.uint64) << np.uint64(32) | np.arange(
            levels.shape[1], dtype=np.uint64
        )
        if count < keys.shape[1]:
            keys = np.partition(keys, count, axis=1)[:, :count]
        keys.sort(axis=1)
        top[block, : keys.shape[1]] = np.where(keys < LAST, (keys & POSITION).view(np.int64), -1)
    return top


def _checked(
    similarity: np.ndarray, excluded: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    similarity = np.asarray(similarity)
    if similarity.dtype != np.float32:
        similarity = similarity.astype(np.float64)
    if similarity.ndim != 2 or 0 in similarity.shape:
        raise ValueError(
            f"similarity is {similarity.shape}, expected (queries, gallery) with at least one of each"
        )
    if np.isnan(similarity).any():
        raise ValueError(
            f"similarity of query {np.isnan(similarity).any(axis=1).argmax()} holds NaN"
        )
    if excluded is not None:
        excluded = np.asarray(excluded)
        if excluded.shape != similarity.shape or excluded.dtype != np.bool_:
            raise ValueError(
                f"excluded is {excluded.dtype} {excluded.shape}, expected bool {similarity.shape}"
            )
    return similarity, excluded


class _People(NamedTuple):
    """Who is in the gallery."""

    identities: np.ndarray  # (I,) ascending
    codes: np.ndarray  # (G,) int32: each image's place in `identities`
    order: np.ndarray  # (G,) positions, identity by identity
    starts: np.ndarray  # (I,) where each one's begin there


def _people(gallery_ids: np.ndarray) -> _People:
    order = np.argsort(gallery_ids, kind="stable")
    ranked = gallery_ids[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    codes = np.empty(len(order), dtype=np.int32)
    codes[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))
    return _People(ranked[starts], codes, order, starts)


def _level_blocks(
    similarity: np.ndarray, excluded: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the queries and their levels (b, G), in pieces that bound the memory.

    Levels are uint32, smaller = earlier in the list: integers sort faster than floats, and one is left for exclusion.
    """
    size = max(1, BLOCK // similarity.shape[1])
    for start in range(0, len(similarity), size):
        block = slice(start, start + size)
        levels = _levels(similarity[block])
        if excluded is not None:
            np.maximum(levels, excluded[block] * EXCLUDED, out=levels)
        yield block, levels


def _levels(similarity: np.ndarray) -> np.ndarray:
    """(b, G) uint32 that falls where the similarity rises; below EXCLUDED for everything but NaN."""
    if similarity.dtype == np.float32:
        bits = (similarity + np.float32(0)).view(
            np.uint32
        )  # + 0 turns -0.0 into 0.0: they are equal
        # the bits of negative floats fall with the value already; those of positive ones rise, so all but the sign flip
        positive = bits.view(np.int32) >> 31
        np.invert(positive, out=positive)
        bits ^= positive.view(np.uint32) >> np.uint32(1)
        return bits
    order = np.argsort(-similarity, axis=1, kind="stable")
    level = np.empty(similarity.shape, dtype=np.uint32)
    np.put_along_axis(level, order, np.arange(similarity.shape[1], dtype=np.uint32)[None], axis=1)
    return level


def _list_scores(levels: np.ndarray, relevant: np.ndarray) -> QueryScores:
    """Of lists that rank by `levels` (b, G), with the relevant images marked (b, G); CMC over images."""
    queries, gallery = levels.shape
    rows, columns = np.divmod(np.flatnonzero(relevant), gallery)  # ten times as fast as nonzero
    places = _places(levels, rows, columns)
    rows, places = np.divmod(np.sort(rows * gallery + places), gallery)  # in the order of the list
    counts = np.bincount(rows, minlength=queries)
    ends = counts.cumsum()
    nth = np.arange(1, len(rows) + 1) - (ends - counts)[rows]
    sums = np.bincount(rows, nth / (places + 1), minlength=queries)
    bounds = np.append(places, 0)  # the lists behind the last relevant image begin and end here
    matched = counts > 0
    first = np.where(matched, bounds[ends - counts], -1)
    return QueryScores(first, sums / np.maximum(counts, 1), counts / (bounds[ends - 1] + 1))


def _places(levels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(P,) places from 0 of the images `columns` in the lists of the queries `rows`."""
    gallery = levels.shape[1]
    own, ranked, begin = levels[rows, columns], np.sort(levels, axis=1).ravel(), rows * gallery
    places = np.zeros(len(rows), dtype=np.int64)
    for bit in reversed(
        range(gallery.bit_length())
    ):  # binary search of all pairs at once: how many are smaller
        ahead = np.minimum(
            places + (1 << bit), gallery
        )  # all of them are never smaller: one is the image's own
        places = np.where(ranked[begin + ahead - 1] < own, ahead, places)
    # an image's own level stands at its place; where it stands once more, those at lower positions go first
    again = ranked[begin + np.minimum(places + 1, gallery - 1)] == own
    for pair in np.flatnonzero(again & (places + 1 < gallery)):
        places[pair] += np.count_nonzero(levels[rows[pair], : columns[pair]] == own[pair])
    return places


def _identities_before(levels: np.ndarray, people: _People, query_codes: np.ndarray) -> np.ndarray:
    """(b,) identities met before the query's own, of queries that have a relevant image."""
    best = np.minimum.reduceat(
        np.take(levels, people.order, axis=1), people.starts, axis=1
    )  # (b, identities)
    own = np.take_along_axis(best, query_codes[:, None], axis=1)
    before = (best < own).sum(axis=1)
    for row in np.flatnonzero((best == own).sum(axis=1) > 1):  # tied with another identity's best
        met = people.codes[levels[row] == own[row]]
        ahead = np.unique(met[: np.argmax(met == query_codes[row])])
        before[row] += np.count_nonzero(best[row, ahead] == own[row])
    return before
