"""Ranked lists and their scores: CMC, mean average precision, mean inverse negative penalty.

**Ties.** Of two gallery images with equal similarity, the one with the lower gallery position ranks first.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 19  # similarities ranked at a time: 4 MiB a working array, whatever the size of the gallery
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

    Raises ValueError for shapes that do not fit, NaN, or when no query has a relevant image.

    >>> score_ranking(np.array([[0.9, 0.8, 0.1]]), [7], [3, 7, 7], max_rank=2)[:3]
    (array([0., 1.]), 0.5833333333333333, 0.6666666666666666)
    """
    similarity, excluded = _checked(similarity, excluded)
    query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
    if similarity.shape != (len(query_ids), len(gallery_ids)):
        raise ValueError(
            f"similarity is {similarity.shape}, expected ({len(query_ids)}, {len(gallery_ids)}): queries, gallery"
        )
    identities, gallery_codes = np.unique(gallery_ids, return_inverse=True)
    # an identity that is not in the gallery gets a code that no gallery image has
    query_codes = np.where(np.isin(query_ids, identities), np.searchsorted(identities, query_ids), len(identities))
    gallery_codes, query_codes = gallery_codes.astype(np.int32), query_codes.astype(np.int32)
    firsts, precisions, penalties = [], [], []
    for block, keys in _key_blocks(similarity, excluded):
        ranked = np.sort(keys, axis=1)
        relevant = gallery_codes[(ranked & POSITION).view(np.int64)] == query_codes[block, None]
        if excluded is not None:
            relevant &= ranked < LAST
        first, precision, penalty = _list_scores(relevant)
        if unique_ids:
            first = _identities_before(keys, gallery_codes, query_codes[block])[relevant.any(axis=1)]
        firsts.append(first)
        precisions.append(precision)
        penalties.append(penalty)
    first = np.concatenate(firsts)
    if not len(first):
        raise ValueError(f"none of the {len(query_ids)} queries has an image of its identity in its gallery list")
    met = np.bincount(np.minimum(first, max_rank), minlength=max_rank + 1)[:max_rank].cumsum()
    return RankingScores(
        met / len(first),
        float(np.concatenate(precisions).mean()),
        float(np.concatenate(penalties).mean()),
        len(first),
        len(query_ids) - len(first),
    )


def top_ranked(similarity: np.ndarray, excluded: np.ndarray | None = None, count: int = 20) -> np.ndarray:
    """The first `count` gallery positions of every query's list, int64 (Q, count), -1 behind the end of a short list.

    Same order and same errors as `score_ranking`.
    """
    similarity, excluded = _checked(similarity, excluded)
    top = np.full((len(similarity), count), -1, dtype=np.int64)
    for block, keys in _key_blocks(similarity, excluded):
        ranked = np.sort(keys, axis=1)[:, :count]
        top[block, : ranked.shape[1]] = np.where(ranked < LAST, (ranked & POSITION).view(np.int64), -1)
    return top


def _checked(similarity: np.ndarray, excluded: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    similarity = np.asarray(similarity)
    if similarity.dtype != np.float32:
        similarity = similarity.astype(np.float64)
    if similarity.ndim != 2 or 0 in similarity.shape:
        raise ValueError(f"similarity is {similarity.shape}, expected (queries, gallery) with at least one of each")
    if np.isnan(similarity).any():
        raise ValueError(f"similarity of query {np.isnan(similarity).any(axis=1).argmax()} holds NaN")
    if excluded is not None:
        excluded = np.asarray(excluded)
        if excluded.shape != similarity.shape or excluded.dtype != np.bool_:
            raise ValueError(f"excluded is {excluded.dtype} {excluded.shape}, expected bool {similarity.shape}")
    return similarity, excluded


def _key_blocks(similarity: np.ndarray, excluded: np.ndarray | None) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the queries and their sort keys, in pieces that bound the memory.

    Keys are (b, G) uint64, all different in a row, smaller = earlier in the list. The upper half falls with the
    similarity and the lower half is the gallery position, so one plain sort of integers gives the order *and* the
    tie rule; it is many times faster than a stable argsort of floats.
    """
    count = similarity.shape[1]
    size = max(1, BLOCK // count)
    for start in range(0, len(similarity), size):
        block = slice(start, start + size)
        level = _levels(similarity[block])
        if excluded is not None:
            np.putmask(level, excluded[block], EXCLUDED)
        keys = level.astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= np.arange(count, dtype=np.uint64)
        yield block, keys


def _levels(similarity: np.ndarray) -> np.ndarray:
    """(b, G) uint32 that falls where the similarity rises; below EXCLUDED for everything but NaN."""
    if similarity.dtype == np.float32:
        bits = (similarity + np.float32(0)).view(np.uint32)  # + 0 turns -0.0 into 0.0: they are equal
        # the bits of negative floats fall with the value already; those of positive ones rise, so all but the sign flip
        positive = ~(bits.view(np.int32) >> 31).view(np.uint32)
        return bits ^ (positive & np.uint32(0x7FFFFFFF))
    order = np.argsort(-similarity, axis=1, kind="stable")
    level = np.empty(similarity.shape, dtype=np.uint32)
    np.put_along_axis(level, order, np.arange(similarity.shape[1], dtype=np.uint32)[None], axis=1)
    return level


def _identities_before(keys: np.ndarray, gallery_codes: np.ndarray, query_codes: np.ndarray) -> np.ndarray:
    """(b,) identities met before the query's own; no meaning where the query has no relevant image."""
    by_identity = np.argsort(gallery_codes, kind="stable")
    starts = np.searchsorted(gallery_codes[by_identity], np.arange(gallery_codes.max() + 1))
    best = np.minimum.reduceat(np.take(keys, by_identity, axis=1), starts, axis=1)  # (b, identities)
    own = np.take_along_axis(best, np.minimum(query_codes, len(starts) - 1)[:, None], axis=1)
    return (best < own).sum(axis=1)


def _list_scores(relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of lists (b, G) bool in ranked order: first relevant position (from 0), AP, INP; of lists that have one."""
    counts = relevant.sum(axis=1)
    rows, columns = np.divmod(np.flatnonzero(relevant), relevant.shape[1])  # ten times as fast as nonzero
    ends = counts.cumsum()
    nth = np.arange(1, len(rows) + 1) - (ends - counts)[rows]
    sums = np.bincount(rows, nth / (columns + 1), minlength=len(relevant))
    matched = counts > 0
    counts, ends = counts[matched], ends[matched]
    return columns[ends - counts], sums[matched] / counts, counts / (columns[ends - 1] + 1)
