"""`score_ranking` against a loop over queries with the same rules, at the sizes of SYSU-MM01's test set.

    OMP_NUM_THREADS=1 python -m benchmarks.ranking

Equal scores are asserted. The target is for the loop that works as the field's evaluators do, with an array a query and
a Python list over every place of it; the leaner loop shows how much of that is due to the way they are written. All run
in one thread; CPU seconds, without the matrix product. Then a gallery of a million images by blocks of queries.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from stages.evaluate.sysu_mm01 import excluded_pairs
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import RankingScores, mean_scores, score_queries, score_ranking

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
    """The scores by the rule of SYSU-MM01, one query at a time, in the manner of the field's evaluators."""
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
        precision = [
            found / (place + 1) for place, found in enumerate(relevant.cumsum())
        ]  # at every place of the list
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
    """The same in plain integers and lists, the fastest loop in Python that we could write."""
    met, precisions, penalties = np.zeros(max_rank), [], []
    people = gallery_ids.tolist()
    for query, person in enumerate(query_ids.tolist()):
        gone = excluded[query].tolist()
        identities: dict[int, int] = {}  # identity → the number met before it
        position = found = last = 0
        total = 0.0
        for place in np.argsort(-similarity[query], kind="stable").tolist():
            if gone[place]:
                continue
            position += 1
            here = people[place]
            if here not in identities:
                identities[here] = len(identities)
            if here == person:
                found, last = found + 1, position
                total += found / position
        if found:
            met[identities[person] :] += 1
            precisions.append(total / found)
            penalties.append(found / last)
    return _scores(met, precisions, penalties, len(query_ids))


def _scores(
    met: np.ndarray, precisions: list[float], penalties: list[float], queries: int
) -> RankingScores:
    count = len(precisions)
    return RankingScores(
        met / count, float(np.mean(precisions)), float(np.mean(penalties)), count, queries - count
    )


def problem(gallery: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Similarity (float32), query ids, gallery ids, excluded pairs; 96 identities, some queries without a match."""
    rng = np.random.default_rng(gallery)
    query_ids = rng.integers(0, 96, QUERIES)
    gallery_ids = rng.integers(0, 94, gallery)
    rows = rng.normal(size=(96, 32))
    similarity = (rows[query_ids] + rng.normal(size=(QUERIES, 32))) @ (
        rows[gallery_ids] + rng.normal(size=(gallery, 32))
    ).T
    excluded = excluded_pairs(rng.choice([3, 6], QUERIES), rng.choice([1, 2, 4, 5], gallery))
    return similarity.astype(np.float32), query_ids, gallery_ids, excluded


def timed(call: Callable[[], RankingScores], runs: int) -> tuple[RankingScores, float]:
    """The result and the median of the CPU seconds."""
    times = []
    for _ in range(runs):
        started = time.process_time()
        result = call()
        times.append(time.process_time() - started)
    return result, statistics.median(times)


def large_gallery() -> None:
    """Print time and memory of scores from a gallery whose similarities are never all there."""
    rng = np.random.default_rng(1)
    people = rng.integers(0, MILLION // 20, MILLION)
    gallery = rng.standard_normal((MILLION, DIMENSIONS), dtype=np.float32)
    queries = gallery[:FEW] + rng.standard_normal((FEW, DIMENSIONS), dtype=np.float32)
    tracemalloc.start()
    started = time.process_time()
    blocks = inner_product_blocks(queries, gallery)
    scores = mean_scores(
        [score_queries(values, people[block], people, None, True) for block, values in blocks]
    )
    seconds, used = time.process_time() - started, tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(
        f"{FEW} × {MILLION} of {DIMENSIONS} dimensions, by blocks: {seconds:.1f} s with the products, {used:.0f} MB;"
    )
    print(
        f"  all similarities are {FEW * MILLION * 4 / 1e6:.0f} MB; Rank-1 {scores.cmc[0]:.3f}, mAP {scores.mean_ap:.3f}"
    )


def main() -> None:
    """Print the times and their ratios for each gallery, then the large one."""
    for name, gallery in GALLERIES.items():
        given = problem(gallery)
        ours, fast = timed(lambda given=given: score_ranking(*given, unique_ids=True), 15)  # type: ignore[misc]
        print(f"{QUERIES} × {gallery} ({name}): score_ranking {fast:.3f} s, median of 15")
        for loop, target in ((arrays_loop, TARGET), (plain_loop, None)):
            theirs, slow = timed(lambda given=given, loop=loop: loop(*given), 1)  # type: ignore[misc]
            np.testing.assert_allclose(ours.cmc, theirs.cmc, rtol=0, atol=1e-12)
            np.testing.assert_allclose(ours[1:], theirs[1:], rtol=0, atol=1e-12)
            line = f"  {loop.__name__} {slow:.2f} s, {slow / fast:.1f} times as long"
            if target:
                line += f"; target {target:.0f}: {'reached' if slow / fast >= target else 'missed'}"
            print(line)
    large_gallery()


if __name__ == "__main__":
    main()
