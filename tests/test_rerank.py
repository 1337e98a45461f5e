"""k-reciprocal re-ranking: laws, a dense twin of the published formulas, edges, bad input."""

import tracemalloc

import numpy as np
import pytest

from stages.parts.clustering import reciprocal, rerank
from stages.parts.clustering.rerank import reranked_distance
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import score_ranking, top_ranked

SEEDS = range(6)


def people(seed, persons=9, dimensions=6, spread=0.6, images=(2, 9)):
    """Unit rows float32 around a direction a person, and the persons."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(persons), rng.integers(*images, persons))
    person = rng.permutation(person)
    rows = rng.normal(size=(persons, dimensions))[person]
    rows = rows + spread * rng.normal(size=(len(person), dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), person


def problem(seed, **change):
    """Queries and gallery rows, and the persons of either."""
    rows, person = people(seed, **change)
    cut = len(rows) // 3
    return rows[:cut], rows[cut:], person[:cut], person[cut:]


def distance(queries, gallery, k1=20, k2=6, weight=0.3):
    """The re-ranked distance with the search that `evaluate` hands in."""
    return reranked_distance(queries, gallery, inner_product_blocks, top_ranked, k1, k2, weight)


def dense(queries, gallery, k1, k2, weight):
    """The published formulas over sets and full arrays; float32 products, so no order differs."""
    rows = np.concatenate([queries, gallery])
    products = rows @ rows.T
    count = len(rows)
    squared = np.maximum(2 - 2 * products.astype(np.float64), 0)
    original = squared / squared.max(axis=1, keepdims=True)
    ranked = np.argsort(-products, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in ranked[i, : k + 1].tolist() if i in ranked[j, : k + 1].tolist()}

    vectors = np.zeros((count, count))
    for i in range(count):
        near = reciprocal(i, k1)
        expanded = set(near)
        for candidate in near:
            theirs = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(theirs & near) > 2 / 3 * len(theirs):
                expanded |= theirs
        for j in expanded:
            vectors[i, j] = np.exp(-original[i, j])
        vectors[i] /= vectors[i].sum() or 1
    vectors = np.stack([vectors[ranked[i, :k2]].mean(axis=0) for i in range(count)])
    result = np.empty((len(queries), len(gallery)))
    for q in range(len(queries)):
        for g in range(len(queries), count):
            shared = np.minimum(vectors[q], vectors[g]).sum()
            jaccard = 1 - shared / np.maximum(vectors[q], vectors[g]).sum()
            result[q, g - len(queries)] = (1 - weight) * jaccard + weight * original[q, g]
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("k1", "k2", "weight"),
    [(20, 6, 0.3), (6, 3, 0.3), (5, 2, 0.0), (7, 1, 0.5), (1, 1, 0.2), (3, 3, 1)],
)
def test_agrees_with_the_dense_twin(seed, k1, k2, weight):
    queries, gallery, _, _ = problem(seed, persons=14)
    result = distance(queries, gallery, k1, k2, weight)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, dense(queries, gallery, k1, k2, weight), rtol=0, atol=2e-6)


def test_the_neighbourhood_is_expanded():
    """The twin and ours would agree without the second step too, if no list were ever joined."""
    rows, _ = people(3, persons=6, images=(12, 16))
    nearest, _ = rerank._search(rows, 11, inner_product_blocks, top_ranked)
    mutual = reciprocal._reciprocal_neighbours(nearest)
    assert reciprocal.expanded_neighbours(nearest, nearest[:, :6]).nnz > mutual.nnz


@pytest.mark.parametrize("seed", SEEDS)
def test_weight_one_is_the_original_order(seed):
    queries, gallery, _, _ = problem(seed)
    result = distance(queries, gallery, 6, 3, 1.0)
    np.testing.assert_array_equal(result.argsort(axis=1), (-(queries @ gallery.T)).argsort(axis=1))


@pytest.mark.parametrize("seed", SEEDS)
def test_range_and_mixture(seed):
    queries, gallery, _, _ = problem(seed)
    jaccard, original, mixed = (
        distance(queries, gallery, 6, 3, weight) for weight in (0.0, 1.0, 0.3)
    )
    for result in (jaccard, original, mixed):
        assert (result >= 0).all()
        assert (result <= 1 + 1e-6).all()
    np.testing.assert_allclose(mixed, 0.7 * jaccard + 0.3 * original, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_images_does_not_matter(seed):
    queries, gallery, _, _ = problem(seed)
    rng = np.random.default_rng(seed)
    q, g = rng.permutation(len(queries)), rng.permutation(len(gallery))
    there = distance(queries, gallery, 6, 3)
    shuffled = distance(queries[q], gallery[g], 6, 3)
    np.testing.assert_allclose(shuffled, there[q][:, g], rtol=0, atol=2e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_blocks_change_nothing(seed, monkeypatch):
    queries, gallery, _, _ = problem(seed)
    whole = distance(queries, gallery, 6, 3)
    for size in (1, 50):
        monkeypatch.setattr(rerank, "SIMILARITIES", size)
        monkeypatch.setattr(reciprocal, "PAIRS", size)
        result = distance(queries, gallery, 6, 3)
        np.testing.assert_allclose(result, whole, rtol=0, atol=1e-6)


def test_people_in_groups_are_found_better():
    """What it is for: an image that looks less like the query than a stranger does is found."""
    gains = []
    for seed in range(10):
        queries, gallery, query_ids, gallery_ids = problem(
            seed, persons=20, dimensions=12, images=(12, 20)
        )
        before = score_ranking(queries @ gallery.T, query_ids, gallery_ids).mean_ap
        similarity = -distance(queries, gallery, 10, 4)
        after = score_ranking(similarity, query_ids, gallery_ids).mean_ap
        gains.append(after - before)
    assert np.mean(gains) > 0.02
    assert min(gains) > 0


def test_no_array_of_all_pairs(monkeypatch):
    """An array of all pairs of 6,000 images would need 144 MB; the search goes by blocks."""
    monkeypatch.setattr(rerank, "SIMILARITIES", 1 << 20)
    rows, _ = people(0, persons=600, dimensions=16, images=(10, 11))
    tracemalloc.start()
    try:
        distance(rows[:300], rows[300:])
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("same", ["all", "pairs"])
def test_images_that_are_equal(same):
    """A network that gives one output for everything: no NaN, and all images are equally far."""
    rows, _ = people(1, persons=30)
    rows = np.repeat(rows[:1], 60, axis=0) if same == "all" else np.repeat(rows[:30], 2, axis=0)
    result = distance(rows[:20], rows[20:])
    assert np.isfinite(result).all()
    assert (result >= 0).all()
    if same == "all":
        assert set(np.unique(result)) <= {np.float32(0), np.float32(0.7)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k1": 9},
            "re-ranking: k1 = 9 and k2 = 2 neighbours among 9 images of queries and gallery; "
            "expected 1 <= k2",
        ),
        ({"k2": 5}, "re-ranking: k1 = 4 and k2 = 5 neighbours among 9 images"),
        ({"k2": 0}, "re-ranking: k1 = 4 and k2 = 0 neighbours among 9 images"),
        (
            {"queries": np.full((4, 3), 0.5)},
            "re-ranking: row 0 has length 0.866; expected unit rows",
        ),
        (
            {"queries": np.full((4, 3), np.nan)},
            "re-ranking: row 0 has length nan; expected unit rows",
        ),
    ],
)
def test_bad_input(change, message):
    rows = {"queries": np.eye(3)[[0, 1, 2, 0]], "gallery": np.eye(3)[[0, 1, 2, 0, 1]]}
    with pytest.raises(ValueError, match=message) as caught:
        distance(**({"k1": 4, "k2": 2} | rows | change))
    assert "\n" not in str(caught.value)
