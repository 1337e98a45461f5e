"""The self-paced filter: its laws, a twin with N × N matrices, and the released code's labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pseudo_label.self_paced import reliable_labels

labelings = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.integers(-1, 5), min_size=n, max_size=n).map(np.array) for _ in range(3)]
    )
)


def twin(normal, tight, loose, threshold: float | None) -> tuple[list[int], float]:
    """The definition with sets, image by image."""

    def alone(labels):
        fresh = iter(range(max(labels) + 1, 10_000))
        return [next(fresh) if label < 0 else int(label) for label in labels]

    def members(labels):
        return [{j for j, other in enumerate(labels) if other == label} for label in labels]

    def distance(a, b):
        return [
            np.float32(1) - np.float32(len(x & y)) / np.float32(len(x | y))
            for x, y in zip(a, b, strict=True)
        ]

    normal, tight, loose = alone(normal), alone(tight), alone(loose)
    mine = members(normal)
    compact, independent = distance(mine, members(tight)), distance(mine, members(loose))
    if threshold is None:
        values = sorted(
            min(independent[j] for j in c) for c in {frozenset(c) for c in mine if len(c) > 1}
        )
        threshold = float(values[min(len(values) - 1, round(0.9 * len(values)))])
    fresh = iter(range(max(normal) + 1, 10_000))
    return [
        label
        if min(independent[j] for j in mine[i]) <= threshold
        and compact[i] <= min(compact[j] for j in mine[i])
        else next(fresh)
        for i, label in enumerate(normal)
    ], threshold


def has_cluster(labels: np.ndarray) -> bool:
    return bool((np.unique(labels[labels >= 0], return_counts=True)[1] > 1).any())


@settings(max_examples=300, deadline=None)
@given(labelings, st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1 / 3, 1.0])))
def test_same_as_the_definition(three, threshold):
    if threshold is None and not has_cluster(three[0]):
        return
    result = reliable_labels(*three, threshold)
    labels, expected = twin(*three, threshold)
    assert result.labels.tolist() == labels
    assert result.threshold == expected


@settings(max_examples=100, deadline=None)
@given(labelings)
def test_equal_clusterings_keep_everything(three):
    normal = three[0]
    labels, _ = reliable_labels(normal, normal, normal, threshold=0.0)
    clustered = normal >= 0
    assert np.array_equal(labels[clustered], normal[clustered])
    assert len(np.unique(labels[~clustered])) == (~clustered).sum()


@settings(max_examples=100, deadline=None)
@given(labelings, st.sampled_from([0.0, 0.4]))
def test_images_leave_clusters_but_never_join(three, threshold):
    normal = three[0]
    labels, _ = reliable_labels(*three, threshold)
    numbers, counts = np.unique(labels, return_counts=True)
    for number in numbers[counts > 1]:
        assert len(set(normal[labels == number])) == 1
        assert normal[labels == number][0] == number


def test_a_cluster_merged_by_the_looser_radius_is_dissolved():
    normal = np.array([0, 0, 0, 1, 1, 1, -1])
    labels, _ = reliable_labels(normal, normal, np.array([0, 0, 0, 1, 1, 1, 1]), threshold=0.0)
    assert labels.tolist() == [0, 0, 0, 3, 4, 5, 6]


def test_only_the_largest_fragment_of_the_tighter_radius_stays():
    normal = np.zeros(6, dtype=int)
    labels, _ = reliable_labels(normal, np.array([0, 0, 0, 1, 1, -1]), normal, threshold=0.0)
    assert labels.tolist() == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("run", ["small e0", "small gap05", "large e0", "large gap05"])
def test_golden_first_epochs(gold, run: str):
    size, prefix = run.split()
    check(gold(f"spcl/selfpaced_{size}.npz"), f"{prefix}_", None)


@pytest.mark.parametrize("size", ["small", "large"])
def test_golden_second_epochs_use_the_first_ones_threshold(gold, size: str):
    g = gold(f"spcl/selfpaced_{size}.npz")
    check(g, "e1_", float(g["e0_indep_thres"]))


@pytest.mark.parametrize("case", range(4))
def test_golden_label_vectors(gold, case: int):
    check(gold("spcl/selfpaced_labels_only.npz"), f"c{case}_", None)


def check(g, prefix: str, threshold: float | None) -> None:
    result = reliable_labels(
        *(g[f"{prefix}raw_{name}"] for name in ("normal", "tight", "loose")), threshold
    )
    assert np.array_equal(result.labels, g[f"{prefix}pseudo_labels"])
    assert result.threshold == float(g[f"{prefix}indep_thres"])
    counts = np.unique(result.labels, return_counts=True)[1]
    assert (counts > 1).sum() == g[f"{prefix}n_clusters"]
    assert (counts == 1).sum() == g[f"{prefix}n_unclustered"]


def test_no_cluster_in_the_first_epoch():
    none = np.full(5, -1)
    with pytest.raises(ValueError, match="no cluster in the first clustering"):
        reliable_labels(none, none, none)
    assert reliable_labels(none, none, none, threshold=0.5).labels.tolist() == [0, 1, 2, 3, 4]
