"""Agreement of labels with persons: values known by counting, and the released code's ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.parts.agreement import (
    agreement,
    assignment_accuracy,
    commonest_persons,
    label_distribution,
)

images = st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 4)), min_size=1, max_size=30).map(
    lambda pairs: tuple(np.array(pairs).T)
)


def test_perfect_labels_score_one_in_everything():
    persons = np.repeat([5, 9, 2], [2, 3, 4])
    result = agreement(persons * 10, persons)
    shares = ("ari", "nmi", "purity", "pair_precision", "pair_recall", "pair_f", "r_plq")
    assert [result[name] for name in shares] == pytest.approx([1.0] * 7)
    assert (result["clusters"], result["persons"], result["unclustered_share"]) == (3, 3, 0)


def test_values_by_hand():
    labels = np.array([0, 0, 0, 1, 1, -1, 7])  # 7 occurs once: as unclustered as -1
    persons = np.array([0, 0, 1, 1, 1, 1, 0])
    result = agreement(labels, persons)
    assert result["clusters"] == 2
    assert result["unclustered_share"] == pytest.approx(2 / 7)
    assert result["purity"] == pytest.approx(4 / 5)
    assert result["pair_precision"] == pytest.approx(2 / 4)
    assert result["pair_recall"] == pytest.approx(2 / (3 + 6))
    assert result["pair_f"] == pytest.approx(2 * 2 / (4 + 9))
    assert result["r_plq"] == pytest.approx(((1 + 2 / 3) / 2 + (2 / 3 + 1) / 2) / 2 * 5 / 7 * 2 / 2)


@settings(max_examples=100, deadline=None)
@given(images)
def test_pairs_are_counted_one_by_one(pair):
    labels, persons = pair
    n = range(len(labels))
    together = {(i, j) for i in n for j in n if i < j and labels[i] == labels[j] and labels[i] >= 0}
    same = {(i, j) for i in n for j in n if i < j and persons[i] == persons[j]}
    result = agreement(labels, persons)
    assert result["pair_precision"] == pytest.approx(len(together & same) / max(len(together), 1))
    recall = len(together & same) / len(same) if same and together else 0
    assert result["pair_recall"] == pytest.approx(recall)
    for name in ("ari", "nmi", "purity", "pair_f", "r_plq"):
        assert -0.5 <= result[name] <= 1 + 1e-12


@settings(max_examples=50, deadline=None)
@given(images, st.permutations(range(6)))
def test_names_of_labels_do_not_matter(pair, names):
    labels, persons = pair
    renamed = np.where(labels < 0, -1, np.array(names)[labels] * 3)
    assert agreement(renamed, persons) == pytest.approx(agreement(labels, persons))


def test_nothing_clustered_is_zero_not_nan():
    result = agreement(np.array([-1, -1, 4]), np.array([0, 0, 1]))
    assert result["unclustered_share"] == 1
    for name in ("clusters", "ari", "nmi", "purity", "pair_f", "r_plq"):
        assert result[name] == 0


@pytest.mark.parametrize("size", ["small", "large"])
def test_golden_quality_ratio(gold, size: str):
    g = gold("spcl/otla_export.npz")
    result = agreement(g[f"{size}_export_label_in"], g[f"{size}_real_label"])
    assert result["r_plq"] == pytest.approx(float(g[f"{size}_R_plq"]), abs=1e-12)
    assert 1 - result["unclustered_share"] == pytest.approx(float(g[f"{size}_P_v"]))
    assert result["clusters"] == len(np.unique(g[f"{size}_consumer_labels"]))


def test_accuracy_goes_through_the_commonest_person():
    labels, persons = np.array([0, 0, 1, 2, -1]), np.array([30, 8, 5, 5, 5])
    reference = np.array([0, 0, 0, 1, 1, -1]), np.array([30, 30, 8, 8, 5, 5])
    accuracy = assignment_accuracy(labels, persons, *reference)
    # Label 1 is a tie and stands for person 5; 2 and -1 stand for nobody.
    assert accuracy == pytest.approx(2 / 5)


def test_accuracy_of_labels_above_all_references():
    assert assignment_accuracy(np.array([9]), np.array([1]), np.array([0]), np.array([1])) == 0


def test_commonest_persons_are_those_of_a_count():
    labels, persons = np.array([7, 2, 7, 2, 2, 2, 7]), np.array([5, 9, 5, 4, 9, 4, 1])
    found, commonest = commonest_persons(labels, persons)
    assert found.tolist() == [2, 7]
    assert commonest.tolist() == [4, 5]  # 4 and 9 are a tie in label 2
    nothing = np.empty(0, np.int64)
    assert [len(each) for each in commonest_persons(nothing, nothing)] == [0, 0]


def test_distribution_of_labels():
    assert label_distribution(np.arange(12) % 4, 4) == pytest.approx(
        {"entropy": 1, "max_share": 1 / 4, "empty": 0}
    )
    assert label_distribution(np.array([2, 2, -1]), 4) == {"entropy": 0, "max_share": 1, "empty": 3}
    assert label_distribution(np.array([-1]), 4) == {"entropy": 0, "max_share": 0, "empty": 4}
    assert label_distribution(np.zeros(3, int), 1) == {"entropy": 0, "max_share": 1, "empty": 0}


def test_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"labels \(3,\) and persons \(2,\)"):
        agreement(np.zeros(3, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="N > 0"):
        agreement(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ValueError, match="label 4 is not below the 4 classes"):
        label_distribution(np.array([4]), 4)
