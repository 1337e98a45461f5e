"""Laws of `score_ranking`, a slow twin, the reference's numbers, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.parts.retrieval import index, order
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import (
    group_by_identity,
    mean_scores,
    score_queries,
    score_ranking,
    top_ranked,
)

FLOATS = st.sampled_from([np.float32, np.float64])


@st.composite
def problems(draw, levels=None, everybody=False):
    """Similarity, query and gallery ids, exclusions; few `levels` give many ties."""
    queries, gallery = draw(st.integers(1, 8)), draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gallery_ids = rng.integers(0, draw(st.integers(1, 9)), gallery)
    query_ids = rng.choice(gallery_ids, queries) if everybody else rng.integers(0, 10, queries)
    if levels is None:
        numbers = rng.permutation(queries * gallery).reshape(queries, gallery)
        similarity = numbers / (queries * gallery) * 2 - 1
    else:
        similarity = rng.integers(-levels, levels + 1, (queries, gallery)) / levels
    excluded = None
    if draw(st.booleans()) and not everybody:
        excluded = rng.random((queries, gallery)) < 0.3
    return similarity.astype(draw(FLOATS)), query_ids, gallery_ids, excluded


def twin(similarity, query_ids, gallery_ids, excluded=None, unique_ids=False, max_rank=20):
    """The same rules, one query and one image at a time."""
    curves, precisions, penalties = [], [], []
    for q, row in enumerate(similarity):
        kept = [g for g in range(len(row)) if excluded is None or not excluded[q, g]]
        order = sorted(kept, key=lambda g: (-row[g], g))
        met = [gallery_ids[g] for g in order]
        positions = [place for place, person in enumerate(met, start=1) if person == query_ids[q]]
        if not positions:
            continue
        hits = [j / place for j, place in enumerate(positions, start=1)]
        precisions.append(sum(hits) / len(positions))
        penalties.append(len(positions) / positions[-1])
        listed = list(dict.fromkeys(met)) if unique_ids else met
        curves.append([query_ids[q] in listed[: rank + 1] for rank in range(max_rank)])
    if not curves:
        return None
    return np.mean(curves, axis=0), np.mean(precisions), np.mean(penalties), len(curves)


def assert_same(scores, expected):
    np.testing.assert_allclose(scores[0], expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores[1:3], expected[1:3], rtol=0, atol=1e-12)
    assert scores[3] == expected[3]


@given(problems(), st.booleans())
def test_a_perfect_ranking_scores_one(problem, unique_ids):
    similarity, query_ids, gallery_ids, _ = problem
    similarity = similarity + 3 * (query_ids[:, None] == gallery_ids)
    if not np.isin(query_ids, gallery_ids).any():
        return
    scores = score_ranking(similarity, query_ids, gallery_ids, None, unique_ids)
    assert (scores.cmc == 1).all()
    assert scores.mean_ap == scores.mean_inp == 1


@given(problems(everybody=True), st.booleans(), st.randoms(use_true_random=False))
def test_order_of_the_gallery_does_not_matter_without_ties(problem, unique_ids, random):
    similarity, query_ids, gallery_ids, excluded = problem
    order = random.sample(range(len(gallery_ids)), len(gallery_ids))
    there = score_ranking(similarity, query_ids, gallery_ids, excluded, unique_ids)
    back = score_ranking(similarity[:, order], query_ids, gallery_ids[order], excluded, unique_ids)
    assert_same(there, back)


@given(problems(levels=2, everybody=True), st.booleans())
def test_only_the_order_of_similarities_counts(problem, unique_ids):
    similarity, query_ids, gallery_ids, excluded = problem
    there = score_ranking(similarity, query_ids, gallery_ids, excluded, unique_ids)
    stretched = score_ranking(similarity * 4 - 1, query_ids, gallery_ids, excluded, unique_ids)
    assert_same(there, stretched)


@given(problems(levels=2, everybody=True), st.booleans(), st.integers(0, 2**32 - 1))
def test_impostors_never_raise_a_score(problem, unique_ids, seed):
    similarity, query_ids, gallery_ids, _ = problem
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    more = rng.integers(-2, 3, (len(query_ids), count)).astype(similarity.dtype) / 2
    strangers = rng.integers(100, 103, count)
    before = score_ranking(similarity, query_ids, gallery_ids, None, unique_ids)
    both = np.concatenate([gallery_ids, strangers])
    after = score_ranking(np.hstack([similarity, more]), query_ids, both, None, unique_ids)
    assert (after.cmc <= before.cmc + 1e-12).all()
    assert after.mean_ap <= before.mean_ap + 1e-12
    assert after.mean_inp <= before.mean_inp + 1e-12


@given(problems(levels=2), st.booleans())
def test_ties_fall_as_if_later_positions_were_a_little_less_similar(problem, unique_ids):
    similarity, query_ids, gallery_ids, excluded = problem
    if twin(*problem) is None:
        return
    untied = similarity - np.arange(len(gallery_ids), dtype=similarity.dtype) / 1024
    there = score_ranking(similarity, query_ids, gallery_ids, excluded, unique_ids)
    assert_same(there, score_ranking(untied, query_ids, gallery_ids, excluded, unique_ids))


@given(problems(levels=3), st.booleans(), st.integers(1, 8))
def test_blocks_of_queries_give_the_same_bits(problem, unique_ids, size):
    similarity, query_ids, gallery_ids, excluded = problem
    if twin(*problem) is None:
        return
    blocks = [slice(start, start + size) for start in range(0, len(query_ids), size)]
    gallery = group_by_identity(gallery_ids)
    parts = []
    for block in blocks:
        left_out = None if excluded is None else excluded[block]
        rows = similarity[block], query_ids[block]
        parts.append(score_queries(*rows, gallery, left_out, unique_ids))
    scores, whole = mean_scores(parts), score_ranking(*problem, unique_ids)
    assert scores[1:] == whole[1:]
    np.testing.assert_array_equal(scores.cmc, whole.cmc)


@given(problems(everybody=True))
def test_identities_are_met_no_later_than_images(problem):
    similarity, query_ids, gallery_ids, excluded = problem
    images = score_ranking(similarity, query_ids, gallery_ids, excluded)
    identities = score_ranking(similarity, query_ids, gallery_ids, excluded, unique_ids=True)
    assert (identities.cmc >= images.cmc).all()
    assert identities[1:] == images[1:]
    assert (np.diff(images.cmc) >= 0).all()


def test_excluding_is_the_same_as_leaving_out():
    rng = np.random.default_rng(4)
    similarity, ids = rng.normal(size=(6, 30)).astype(np.float32), rng.integers(0, 4, 30)
    kept = rng.random(30) >= 0.4
    excluded = np.broadcast_to(~kept, similarity.shape)
    for unique_ids in (False, True):
        inside = score_ranking(similarity, np.arange(6), ids, excluded, unique_ids)
        without = score_ranking(similarity[:, kept], np.arange(6), ids[kept], None, unique_ids)
        assert_same(inside, without)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("unique_ids", [False, True])
def test_of_equal_similarities_the_lower_position_ranks_first(kind, unique_ids):
    similarity = np.array([[0, 1, 1, 0]], dtype=kind)
    last = 2 if unique_ids else 3
    for ids, rank in (([5, 5, 7, 5], 2), ([5, 7, 5, 5], 1), ([7, 5, 5, 5], last)):
        curve = score_ranking(similarity, [7], ids, None, unique_ids).cmc
        assert curve.tolist() == [0.0] * (rank - 1) + [1.0] * (21 - rank)
    assert top_ranked(similarity, count=4).tolist() == [[1, 2, 0, 3]]


def test_zero_and_minus_zero_tie_and_infinities_have_their_place():
    similarity = np.array([[-0.0, 0.0, np.inf, -np.inf, -1e-45, 1e-45]], dtype=np.float32)
    for kind in (np.float32, np.float64):
        assert top_ranked(similarity.astype(kind), count=6).tolist() == [[2, 5, 0, 1, 4, 3]]
    excluded = np.array([[False, False, True, False, True, False]])
    assert top_ranked(similarity, excluded, count=6).tolist() == [[5, 0, 1, 3, -1, -1]]


@given(problems(levels=3), st.booleans(), st.integers(1, 30))
@settings(max_examples=200)
def test_agrees_with_the_slow_twin(problem, unique_ids, max_rank):
    expected = twin(*problem, unique_ids, max_rank)
    if expected is None:
        with pytest.raises(ValueError, match="none of the"):
            score_ranking(*problem, unique_ids, max_rank)
        return
    scores = score_ranking(*problem, unique_ids, max_rank)
    assert_same(scores, expected)
    assert scores.unmatched == len(problem[1]) - scores.queries


@given(problems(levels=3))
def test_top_is_the_start_of_the_ranked_list(problem):
    similarity, _, _, excluded = problem
    for q, top in enumerate(top_ranked(similarity, excluded, count=7)):
        kept = [g for g in range(similarity.shape[1]) if excluded is None or not excluded[q, g]]
        expected = sorted(kept, key=lambda g: (-similarity[q, g], g))[:7]
        assert top.tolist() == expected + [-1] * (7 - len(expected))


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    similarity = rng.normal(size=(50, 40)).astype(np.float32)
    problem = similarity, rng.integers(0, 9, 50), rng.integers(0, 7, 40), rng.random((50, 40)) < 0.2
    whole = score_ranking(*problem, unique_ids=True)
    for block in (1, 130):
        monkeypatch.setattr(order, "BLOCK", block)
        assert_same(score_ranking(*problem, unique_ids=True), whole)
        nothing = np.zeros((50, 40), dtype=bool)
        np.testing.assert_array_equal(top_ranked(similarity), top_ranked(similarity, nothing))


@pytest.mark.parametrize(
    "name",
    ["sysu_allsearch", "sysu_indoor", "sysu_multishot", "sysu_fewids", "regdb_v2t", "regdb_t2v"],
)
def test_reference_numbers(gold, name):
    expected = gold(f"otla/eval_{name}.npz")
    sysu = name.startswith("sysu")
    excluded = (expected["q_cams"][:, None] == 3) & (expected["g_cams"] == 2) if sysu else None
    for kind in (np.float32, np.float64):
        similarity = -expected["dist"].astype(kind)
        scores = score_ranking(similarity, expected["q_ids"], expected["g_ids"], excluded, sysu)
        curve = expected["cmc"]
        curve = np.pad(curve, (0, 20 - len(curve)), mode="edge")
        np.testing.assert_allclose(scores.cmc, curve, rtol=0, atol=1e-6)
        np.testing.assert_allclose(scores.mean_ap, expected["mAP"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(scores.mean_inp, expected["mINP"], rtol=0, atol=1e-6)
        assert scores.queries == expected["n_valid_query"]
        assert scores.unmatched == len(expected["q_ids"]) - expected["n_valid_query"]
    if sysu:
        images = score_ranking(similarity, expected["q_ids"], expected["g_ids"], excluded)
        curve = expected["standard_cmc_not_returned"]
        np.testing.assert_allclose(images.cmc, curve, rtol=0, atol=1e-6)


def test_lists_of_different_length(gold):
    """The reference fails if a query has fewer than 20 identities; its AP and INP are known."""
    expected = gold("otla/eval_sysu_ragged.npz")
    excluded = (expected["q_cams"][:, None] == 3) & (expected["g_cams"] == 2)
    problem = -expected["dist"], expected["q_ids"], expected["g_ids"], excluded
    scores = score_ranking(*problem, unique_ids=True)
    assert_same(scores, twin(*problem, unique_ids=True))
    np.testing.assert_allclose(scores.mean_ap, expected["per_query_AP"].mean(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores.mean_inp, expected["per_query_INP"].mean(), rtol=0, atol=1e-6)
    assert scores.queries == expected["n_valid_query"]
    assert scores.cmc[-1] == 1


@pytest.mark.parametrize("unique_ids", [False, True])
def test_a_network_that_gives_one_output_for_everything(unique_ids):
    """All similarities are equal, the worst case of ties: every list is the gallery in order."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, 40), rng.integers(0, 9, 300)
    problem = np.ones((40, 300), np.float32), *ids, rng.random((40, 300)) < 0.3
    assert_same(score_ranking(*problem, unique_ids), twin(*problem, unique_ids))


def test_queries_without_a_match_are_left_out_and_counted():
    similarity = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    excluded = np.array([[False, False], [False, False], [True, False]])
    scores = score_ranking(similarity, [1, 8, 1], [1, 2], excluded)
    assert scores[1:] == (1.0, 1.0, 1, 2)
    assert (scores.cmc == 1).all()


@pytest.mark.parametrize(
    ("similarity", "query_ids", "gallery_ids", "excluded", "message"),
    [
        ([[0.1, np.nan]], [1], [1, 2], None, "similarity of query 0 holds NaN"),
        ([[0.1, 0.2]], [1, 2], [1, 2], None, r"expected \(2, 2\)"),
        ([[0.1, 0.2]], [1], [1, 2], [[1, 0]], "expected bool"),
        ([[0.1, 0.2]], [1], [1, 2], [[True]], "expected bool"),
        (np.empty((3, 0)), [1, 2, 3], [], None, "at least one of each"),
        (np.empty((0, 3)), [], [1, 2, 3], None, "at least one of each"),
        ([0.1, 0.2], [1], [1, 2], None, "expected"),
        ([[0.1, 0.2]], [9], [1, 2], None, "none of the 1 queries"),
        ([[0.1, 0.2]], [1], [1, 2], [[True, False]], "none of the 1 queries"),
    ],
)
def test_bad_input(similarity, query_ids, gallery_ids, excluded, message):
    with pytest.raises(ValueError, match=message) as caught:
        score_ranking(similarity, query_ids, gallery_ids, excluded)
    assert "\n" not in str(caught.value)


def one_block(queries, gallery):
    """The similarities of all queries, which fit into one block."""
    [(block, similarity)] = inner_product_blocks(queries, gallery)
    assert block == slice(0, len(queries))
    return similarity


def test_inner_products_are_exact():
    rng = np.random.default_rng(2)
    queries = rng.normal(size=(7, 33)).astype(np.float32)
    gallery = rng.normal(size=(90, 33)).astype(np.float32)
    similarity = one_block(queries, gallery)
    assert similarity.dtype == np.float32
    expected = queries.astype(float) @ gallery.astype(float).T
    np.testing.assert_allclose(similarity, expected, rtol=0, atol=1e-5)
    strided = one_block(queries.astype(float)[::2], gallery)  # float64, not contiguous
    np.testing.assert_allclose(strided, similarity[::2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 90, 200, None])
def test_inner_products_by_blocks(size, monkeypatch):
    rng = np.random.default_rng(2)
    queries = rng.integers(-8, 9, (7, 33)) / 8  # the sums of these products are exact
    gallery = rng.integers(-8, 9, (90, 33)) / 8
    whole = one_block(queries, gallery)
    monkeypatch.setattr(index, "BLOCK", 300)
    blocks = list(inner_product_blocks(queries, gallery, size))
    lengths = {1: [1] * 7, 90: [1] * 7, 200: [2, 2, 2, 1], None: [3, 3, 1]}
    assert [len(values) for _, values in blocks] == lengths[size]
    assert np.concatenate([np.arange(7)[block] for block, _ in blocks]).tolist() == list(range(7))
    np.testing.assert_array_equal(np.concatenate([values for _, values in blocks]), whole)


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (
            np.array([[0.0, 1.0], [np.nan, 0.0]]),
            np.eye(2),
            "queries: row 1 of 2 holds a value that is not finite",
        ),
        (
            np.eye(2),
            np.array([[np.inf, 0.0]]),
            "gallery: row 0 of 1 holds a value that is not finite",
        ),
        (np.eye(2), np.eye(3), "queries have 2 dimensions, the gallery has 3"),
        (np.eye(3), np.eye(2), "queries have 3 dimensions, the gallery has 2"),
        (np.ones(2), np.eye(2), r"queries: expected rows \(N, D\)"),
    ],
)
def test_bad_embeddings(queries, gallery, message):
    with pytest.raises(ValueError, match=message):
        next(inner_product_blocks(queries, gallery))
