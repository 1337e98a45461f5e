"""`score_ranking` against loops over queries with the same rules, at the sizes of SYSU-MM01.

    OMP_NUM_THREADS=1 python -m benchmarks.ranking

Equal scores are asserted. The target is for the loop that works as the field's evaluators do, with
an array for each query and a Python list over every place of it. The leaner loop shows how much of
that is due to the way it is written. All run in one thread. Times are CPU seconds without the
matrix product. A gallery of a million images by blocks of queries follows.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np

from stages.evaluate.sysu_mm01 import excluded_pairs
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import (
    RankingScores,
    group_by_identity,
    mean_scores,
    score_queries,
    score_ranking,
)

QUERIES = 3803
GALLERIES = {"single-shot": 301, "all visible test images": 6775}
TARGET = 20.0
MILLION, DIMENSIONS, FEW = 1_000_000, 128, 256  # gallery images, length of an embedding, queries


def arrays_loop(
    similarity: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    excluded: np.ndarray,
    max_rank: int = 20,
) -> RankingScores:
    """Return the scores by the rule of SYSU-MM01, one query at a time, as is customary."""
    met, precisions, penalties = np.zeros(max_rank), [], []
    order = np.argsort(-similarity, axis=1, kind="stable")
    for query, person in enumerate(query_ids):
        kept = order[query][~excluded[query, order[query]]]
        people = gallery_ids[kept]
        relevant = people == person
        if not relevant.any():
            continue
        firsts = np.sort(np.unique(people, return_index=True)[1])
        met += (people[firsts] == person)[:max_rank].cumsum()
        hits = enumerate(relevant.cumsum(), start=1)
        precision = [count / place for place, count in hits]  # at every place of the list
        precisions.append((np.array(precision) * relevant).sum() / relevant.sum())
        penalties.append(relevant.sum() / (relevant.nonzero()[0].max() + 1))
    return _scores(met, precisions, penalties, len(query_ids))


def plain_loop(
    similarity: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    excluded: np.ndarray,
    max_rank: int = 20,
) -> RankingScores:
    """Return the same scores by plain integers and lists, the fastest loop that we could write."""
    met, precisions, penalties = np.zeros(max_rank), [], []
    people = gallery_ids.tolist()
    for query, person in enumerate(query_ids.tolist()):
        left_out = excluded[query].tolist()
        identities: dict[int, int] = {}  # identity → number of identities met before it
        position = count = last = 0
        total = 0.0
        for image in np.argsort(-similarity[query], kind="stable").tolist():
            if left_out[image]:
                continue
            position += 1
            identity = people[image]
            if identity not in identities:
                identities[identity] = len(identities)
            if identity == person:
                count += 1
                last = position
                total += count / position
        if count:
            met[identities[person] :] += 1
            precisions.append(total / count)
            penalties.append(count / last)
    return _scores(met, precisions, penalties, len(query_ids))


def _scores(
    met: np.ndarray, precisions: list[float], penalties: list[float], queries: int
) -> RankingScores:
    count = len(precisions)
    mean_ap, mean_inp = float(np.mean(precisions)), float(np.mean(penalties))
    return RankingScores(met / count, mean_ap, mean_inp, count, queries - count)


def problem(gallery: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return similarity (Q, G) float32, ids (Q,) and (G,), and excluded pairs (Q, G).

    There are 96 identities; some queries have no match.
    """
    rng = np.random.default_rng(gallery)
    query_ids = rng.integers(0, 96, QUERIES)
    gallery_ids = rng.integers(0, 94, gallery)
    centers = rng.normal(size=(96, 32))
    query_rows = centers[query_ids] + rng.normal(size=(QUERIES, 32))
    gallery_rows = centers[gallery_ids] + rng.normal(size=(gallery, 32))
    similarity = (query_rows @ gallery_rows.T).astype(np.float32)
    excluded = excluded_pairs(rng.choice([3, 6], QUERIES), rng.choice([1, 2, 4, 5], gallery))
    return similarity, query_ids, gallery_ids, excluded


def timed(call: Callable[[], RankingScores], runs: int) -> tuple[RankingScores, float]:
    """Return the result and the median of the CPU seconds."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        result = call()
        times.append(time.process_time() - started)
    return result, statistics.median(times)


def large_gallery() -> None:
    """Print time and memory of scores from a gallery too large for all similarities at once."""
    rng = np.random.default_rng(1)
    people = rng.integers(0, MILLION // 20, MILLION)
    gallery = rng.standard_normal((MILLION, DIMENSIONS), dtype=np.float32)
    queries = gallery[:FEW] + rng.standard_normal((FEW, DIMENSIONS), dtype=np.float32)
    tracemalloc.start()
    started = time.process_time()
    identities = group_by_identity(people)
    parts = [
        score_queries(similarity, people[block], identities, unique_ids=True)
        for block, similarity in inner_product_blocks(queries, gallery)
    ]
    scores = mean_scores(parts)
    seconds = time.process_time() - started
    used = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(
        f"{FEW} × {MILLION} of {DIMENSIONS} dimensions, by blocks: {seconds:.1f} s with the "
        f"products, {used:.0f} MB;\n  all similarities are {FEW * MILLION * 4 / 1e6:.0f} MB; "
        f"Rank-1 {scores.cmc[0]:.3f}, mAP {scores.mean_ap:.3f}"
    )


def main() -> None:
    """Print the times and their ratios for each gallery, then the large one."""
    for name, gallery in GALLERIES.items():
        arrays = problem(gallery)
        ours, fast = timed(partial(score_ranking, *arrays, unique_ids=True), 15)
        print(f"{QUERIES} × {gallery} ({name}): score_ranking {fast:.3f} s, median of 15")
        for loop, target in ((arrays_loop, TARGET), (plain_loop, None)):
            scores, slow = timed(partial(loop, *arrays), 1)
            np.testing.assert_allclose(ours.cmc, scores.cmc, rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours[1:], scores[1:], rtol=0, atol=1e-12)
            ratio = slow / fast
            line = f"  {loop.__name__} {slow:.2f} s, {ratio:.1f} times as long"
            if target:
                line += f"; target {target:.0f}: {'reached' if ratio >= target else 'missed'}"
            print(line)
    large_gallery()


if __name__ == "__main__":
    main()
