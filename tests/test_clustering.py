"""Jaccard similarity and DBSCAN: laws, a dense twin with loops, and the released code's numbers."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from stages.parts.clustering import neighbours, reciprocal
from stages.parts.clustering.density import cluster
from stages.parts.clustering.neighbours import jaccard_similarity


def people(
    images: int, dimensions: int, persons: int, seed: int = 0, spread: float = 1.0
) -> np.ndarray:
    """Unit rows around one direction a person."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((persons, dimensions))[np.arange(images) % persons]
    rows = rows + spread * generator.standard_normal((images, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def twin(
    embeddings: np.ndarray, k1: int, k2: int, modality: np.ndarray | None = None
) -> np.ndarray:
    """The definition image by image, in float64."""
    x = embeddings.astype(np.float64)
    squared = np.maximum(2 - 2 * x @ x.T, 0)
    images = range(len(x))
    order = np.argsort(squared, axis=1, kind="stable")
    nearest, closest = order, order[:, :k2]
    if modality is not None:
        numbers = np.unique(modality)
        own = [np.stack([row[modality[row] == m] for row in order]) for m in numbers]
        closest = np.concatenate([lists[:, :k2] for lists in own], axis=1)
        kept = np.concatenate([lists[:, : k1 // len(numbers)] for lists in own], axis=1)
        nearest = np.stack([[j for j in order[i] if j in kept[i]] for i in images])

    def reciprocal(k):
        lists = [set(row[:k]) for row in nearest]
        return [{j for j in lists[i] if i in lists[j]} for i in images]

    full, half = reciprocal(k1), reciprocal(round(k1 / 2) + 1)
    v = np.zeros_like(squared)
    for i in images:
        chosen = set(full[i]).union(
            *(half[c] for c in full[i] if 3 * len(half[c] & full[i]) > 2 * len(half[c]))
        )
        members = sorted(chosen)
        v[i, members] = np.exp(-squared[i, members]) / np.exp(-squared[i, members]).sum()
    w = np.stack([v[row].mean(axis=0) for row in closest])
    q = np.array([np.minimum(w[i], w).sum(axis=1) for i in images])
    return q / (2 - q)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(20, 60),
    st.integers(1, 20),
    st.integers(1, 6),
    st.sampled_from([0.3, 1, 4]),
)
def test_same_as_the_definition(seed: int, images: int, k1: int, k2: int, spread: float):
    embeddings = people(images, 8, 5, seed, spread)
    expected = twin(embeddings, k1, min(k2, k1))
    result = jaccard_similarity(embeddings, k1, min(k2, k1))
    np.testing.assert_allclose(result.toarray(), expected, atol=2e-6, rtol=0)
    off_diagonal = ~np.eye(images, dtype=bool)
    assert np.array_equal((result.toarray() > 0)[off_diagonal], (expected > 0)[off_diagonal])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(24, 60),
    st.integers(1, 10),
    st.integers(1, 6),
    st.sampled_from([0.3, 1]),
)
def test_balanced_lists_are_the_definition_too(
    seed: int, images: int, share: int, k2: int, spread: float
):
    modality = np.arange(images) % 7 % 2
    embeddings = people(images, 8, 5, seed, spread)
    expected = twin(embeddings, 2 * share, min(k2, share), modality)
    result = jaccard_similarity(embeddings, 2 * share, min(k2, share), modality=modality)
    np.testing.assert_allclose(result.toarray(), expected, atol=2e-6, rtol=0)


def test_balanced_lists_reach_the_other_modality():
    """Two people in two modalities that are far apart: only balanced lists cross the gap."""
    person, modality = np.arange(80) // 2 % 2, np.arange(80) % 2
    rows = 0.05 * np.random.default_rng(0).standard_normal((80, 16))
    rows[np.arange(80), person] += 0.5
    rows[np.arange(80), 2 + modality] += 1
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    across = modality[:, None] != modality
    same = person[:, None] == person
    assert jaccard_similarity(rows, 10, 2).toarray()[across].max() == 0
    balanced = jaccard_similarity(rows, 20, 2, modality=modality).toarray()
    assert balanced[across & same].mean() > 10 * balanced[across & ~same].mean()


def test_one_modality_is_none(similarity: scipy.sparse.csr_array):
    same = jaccard_similarity(people(900, 32, 30), modality=np.full(900, 3))
    assert np.array_equal(same.toarray(), similarity.toarray())


@pytest.fixture(scope="module")
def similarity() -> scipy.sparse.csr_array:
    return jaccard_similarity(people(900, 32, 30))


def test_symmetric_to_the_bit_within_0_and_1(similarity: scipy.sparse.csr_array):
    assert (similarity != similarity.T).nnz == 0
    assert similarity.dtype == np.float32
    assert similarity.data.min() > 0
    assert similarity.data.max() <= 1
    assert np.array_equal(similarity.diagonal(), np.ones(900, np.float32))
    for row in range(900):  # columns ascend, each of them once
        columns = similarity.indices[similarity.indptr[row] : similarity.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()


def test_the_order_of_images_does_not_matter(similarity: scipy.sparse.csr_array):
    order = np.random.default_rng(0).permutation(900)
    shuffled = jaccard_similarity(people(900, 32, 30)[order])
    np.testing.assert_allclose(
        shuffled.toarray(), similarity.toarray()[np.ix_(order, order)], atol=2e-6, rtol=0
    )


def test_blocks_do_not_change_the_result(
    similarity: scipy.sparse.csr_array, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reciprocal, "PAIRS", 500)
    monkeypatch.setattr(neighbours, "PRODUCTS", 64 * 900)  # queries in blocks of 64, the last of 4
    small = jaccard_similarity(people(900, 32, 30))
    assert np.array_equal(small.indices, similarity.indices)
    assert np.array_equal(small.data, similarity.data)


def test_floor_only_leaves_out_smaller_ones(similarity: scipy.sparse.csr_array):
    dense = similarity.toarray()
    floored = jaccard_similarity(people(900, 32, 30), floor=0.3)
    assert np.array_equal(floored.toarray(), np.where(dense >= 0.3, dense, 0))
    assert floored.nnz == (dense >= 0.3).sum() < similarity.nnz


def test_groups_far_apart_share_nothing():
    first, second = np.zeros((30, 16)), np.zeros((30, 16))
    first[:, :8], second[:, 8:] = people(30, 8, 1, 0, 0.5), people(30, 8, 1, 1, 0.5)
    result = jaccard_similarity(np.concatenate([first, second]), k1=20).toarray()
    assert (result[:30, 30:] == 0).all()
    assert (result[:30, :30] > 0).mean() > 0.9


def test_more_equal_images_than_neighbours_are_one_cluster():
    result = jaccard_similarity(np.tile(people(1, 8, 1), (100, 1)))
    assert np.isfinite(result.data).all()
    assert (cluster(result, 0.6) == 0).all()


GOLDEN = [
    ("small", "jaccard", 30, 6),
    ("small", "jaccard_k1_20_k2_1", 20, 1),
    ("small", "jaccard_k1_25_k2_6", 25, 6),
]
GOLDEN += [("large", "jaccard_triu", 30, 6), ("sparse", "jaccard_triu", 30, 6)]


@pytest.mark.parametrize(("size", "name", "k1", "k2"), GOLDEN)
def test_golden_distances(gold, size: str, name: str, k1: int, k2: int):
    g = gold(f"spcl/jaccard_{size}.npz")
    expected = g[name]
    if name == "jaccard_triu":
        images = len(g["features"])
        expected = np.zeros((images, images), np.float32)
        expected[np.triu_indices(images)] = g[name]
        expected += np.triu(expected, 1).T
    similarity = jaccard_similarity(g["features"], k1, k2).toarray()
    np.testing.assert_allclose(1 - similarity, expected, atol=2e-6, rtol=0)
    assert np.array_equal(similarity == 0, expected == 1)


@pytest.mark.parametrize(
    "run", ["small e0", "small e1", "small gap05", "large e0", "large e1", "large gap05"]
)
def test_golden_clusters_from_embeddings(gold, run: str):
    size, prefix = run.split()
    g = gold(f"spcl/selfpaced_{size}.npz")
    first = gold(f"spcl/jaccard_{size}.npz")["features"]
    embeddings = g["e1_features"] if prefix == "e1" else first
    gap = 0.05 if prefix == "gap05" else 0.02
    similarity = jaccard_similarity(embeddings, floor=1 - 0.6 - gap - 1e-3)
    for radius, name in ((0.6 - gap, "tight"), (0.6, "normal"), (0.6 + gap, "loose")):
        assert np.array_equal(cluster(similarity, radius), g[f"{prefix}_raw_{name}"]), name


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 1000), st.integers(1, 40), st.sampled_from([0.2, 0.5, 0.9]), st.integers(1, 5)
)
def test_clusters_are_those_of_the_dense_distance(
    seed: int, images: int, radius: float, min_samples: int
):
    generator = np.random.default_rng(seed)
    shares = [0.85, 0.05, 0.05, 0.05]
    dense = generator.choice([0, 0.3, 0.55, 1.0], (images, images), p=shares).astype(np.float32)
    dense = np.maximum(dense, dense.T)
    np.fill_diagonal(dense, 1)
    search = DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed")
    expected = search.fit(1 - dense).labels_
    for diagonal in (1, 0.999999, 0):  # an image is its own neighbour, whatever the matrix says
        np.fill_diagonal(dense, diagonal)
        labels = cluster(scipy.sparse.csr_array(dense), radius, min_samples)
        assert labels.dtype == np.int64
        assert np.array_equal(labels, expected)


def test_equal_images_are_neighbours():
    dense = np.ones((4, 4), np.float32)
    assert cluster(scipy.sparse.csr_array(dense), 0.01).tolist() == [0, 0, 0, 0]


def test_embeddings_that_do_not_fit():
    with pytest.raises(ValueError, match="k1 = 30 and k2 = 6 neighbours among 20 images"):
        jaccard_similarity(people(20, 8, 2))
    words = "k1 = 30 and k2 = 6 neighbours among 10 images of a modality, k1 / 2 of them in each"
    with pytest.raises(ValueError, match=words):
        jaccard_similarity(people(40, 8, 2), modality=np.arange(40) // 30)
    with pytest.raises(ValueError, match=r"row 3 has length 2; expected unit rows"):
        jaccard_similarity(people(40, 8, 2) * np.where(np.arange(40) == 3, 2, 1)[:, None])
    with pytest.raises(ValueError, match="row 5 has length nan"):
        jaccard_similarity(np.where(np.arange(40) == 5, np.nan, people(40, 8, 2).T).T)


@pytest.mark.parametrize("radius", [0, 1, 1.2])
def test_radii_at_which_absent_pairs_would_count(radius: float):
    with pytest.raises(ValueError, match=r"expected \(N, N\) and 0 < radius < 1"):
        cluster(scipy.sparse.csr_array(np.eye(3)), radius)


def test_a_similarity_is_square():
    with pytest.raises(ValueError, match=r"similarity \(3, 4\), radius 0.5; expected \(N, N\)"):
        cluster(scipy.sparse.csr_array(np.ones((3, 4))), 0.5)


def test_four_images_within_the_radius_make_a_core():
    dense = scipy.sparse.csr_array(np.ones((3, 3), np.float32))
    assert cluster(dense, 0.5).tolist() == [-1] * 3
    assert cluster(scipy.sparse.csr_array(np.ones((4, 4), np.float32)), 0.5).tolist() == [0] * 4


def test_rows_are_of_unit_length_but_for_rounding():
    rows = people(40, 8, 2)
    reciprocal.check_unit_rows(rows * 1.0008, "rows")
    for factor in (1.0015, 0.9985):
        with pytest.raises(ValueError, match=r"^rows row 0 has length"):
            reciprocal.check_unit_rows(np.float32(factor) * rows[:1], "rows")


@pytest.mark.parametrize(("k1", "k2"), [(20, 20), (20, 1), (1, 1)])
def test_lists_as_long_as_there_are_images_fit(k1: int, k2: int):
    embeddings = people(20, 8, 2)
    result = jaccard_similarity(embeddings, k1, k2)
    np.testing.assert_allclose(result.toarray(), twin(embeddings, k1, k2), atol=2e-6, rtol=0)
    for bad in ((21, 1), (4, 5), (4, 0)):
        with pytest.raises(ValueError, match="neighbours among 20 images; expected 1 <= k2 <= k1"):
            jaccard_similarity(embeddings, *bad)


def test_an_odd_list_is_halved_downwards():
    """Eleven neighbours are five of each modality, and that many are there."""
    embeddings, modality = people(12, 8, 2), np.arange(12) // 5
    two = modality < 2
    rows, own = embeddings[two], modality[two]
    odd = jaccard_similarity(rows, 11, 2, modality=own)
    assert odd.shape == (10, 10)
    np.testing.assert_array_equal(odd.diagonal(), np.ones(10, np.float32))
    with pytest.raises(ValueError, match="k1 = 12 and k2 = 2 neighbours among 5 images of a mod"):
        jaccard_similarity(rows, 12, 2, modality=own)
