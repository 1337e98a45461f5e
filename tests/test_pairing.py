"""Cross-modal batches: every count that the sampling promises, over random data sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.parts.images.pairing import class_batches, cross_modal_batches, unpaired_batches


@st.composite
def problems(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes = draw(st.integers(1, 9))
    visible = np.concatenate(
        [np.arange(classes), generator.integers(-1, classes + 2, draw(st.integers(0, 60)))]
    )
    infrared = np.concatenate(
        [np.arange(classes), generator.integers(-1, classes, draw(st.integers(0, 60)))]
    )
    persons = draw(st.integers(1, classes))
    return visible, infrared, persons, draw(st.integers(1, 5)), draw(st.integers(1, 30)), generator


def spread(values: np.ndarray, among: np.ndarray) -> int:
    counts = [int((values == value).sum()) for value in among]
    return max(counts) - min(counts)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_paired_batches_keep_every_promise(problem):
    visible, infrared, persons, images_per_person, steps, generator = problem
    batches = cross_modal_batches(visible, infrared, persons, images_per_person, steps, generator)
    shared = np.intersect1d(visible, infrared)
    shared = shared[shared >= 0]
    for rows, labels in ((batches.visible, visible), (batches.infrared, infrared)):
        assert rows.shape == (steps, persons * images_per_person)
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(labels[rows], batches.labels)
        # The images of a label are drawn without replacement until none is left.
        for label in np.unique(batches.labels):
            assert spread(rows, np.flatnonzero(labels == label)) <= 1
    blocks = batches.labels.reshape(steps, persons, images_per_person)
    assert (blocks == blocks[:, :, :1]).all()
    assert all(len(set(block)) == persons for block in blocks[:, :, 0].tolist())
    assert spread(blocks[:, :, 0], shared) <= 1


@settings(max_examples=60, deadline=None)
@given(problems())
def test_unpaired_batches_keep_every_promise(problem):
    visible, infrared, persons, images_per_person, steps, generator = problem
    batches = unpaired_batches(visible, len(infrared), persons, images_per_person, steps, generator)
    np.testing.assert_array_equal(visible[batches.visible], batches.labels)
    assert batches.infrared.shape == (steps, persons * images_per_person)
    assert spread(batches.infrared, np.arange(len(infrared))) <= 1
    assert (batches.labels >= 0).all()


@settings(max_examples=60, deadline=None)
@given(problems())
def test_batches_of_one_modality_keep_every_promise(problem):
    visible, _, persons, images_per_person, steps, generator = problem
    positions, labels = class_batches(visible, persons, images_per_person, steps, generator)
    assert positions.shape == (steps, persons * images_per_person)
    np.testing.assert_array_equal(visible[positions], labels)
    blocks = labels.reshape(steps, persons, images_per_person)
    assert (blocks == blocks[:, :, :1]).all()
    assert all(len(set(block)) == persons for block in blocks[:, :, 0].tolist())
    assert spread(blocks[:, :, 0], np.unique(visible[visible >= 0])) <= 1
    for label in np.unique(labels):
        assert spread(positions, np.flatnonzero(visible == label)) <= 1


def test_draws_are_equal_for_equal_generators_and_differ_for_others():
    visible, infrared = np.arange(40) // 4, np.arange(30) % 10
    first, again, other = (
        cross_modal_batches(visible, infrared, 4, 2, 5, np.random.default_rng(s)) for s in (0, 0, 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.visible, other.visible)


def test_infrared_images_come_in_another_order_each_round():
    """The order alone decides which images are in a batch with which labels."""
    batches = unpaired_batches(np.arange(2), 20, 2, 10, 2, np.random.default_rng(0))
    first, second = batches.infrared
    assert sorted(first) == sorted(second) == list(range(20))
    assert list(range(20)) not in (first.tolist(), second.tolist())
    assert first.tolist() != second.tolist()


def test_every_pair_of_labels_meets():
    """No label is twice in a batch, and yet all pairs of labels occur about equally often."""
    labels = np.arange(7)
    batches = cross_modal_batches(labels, labels, 3, 1, 7000, np.random.default_rng(0))
    meets = np.zeros((7, 7))
    for batch in batches.labels:
        meets[np.ix_(batch, batch)] += 1
    pairs = meets[~np.eye(7, dtype=bool)]
    assert pairs.min() > 0.9 * pairs.mean()


def test_classes_of_the_golden_data_set(gold):
    """Same pool and counts as the reference's sampler, whose own random stream is not followed."""
    expected = gold("otla/samplers.npz")
    visible, bank = expected["label_rgb"], expected["bank"]
    theirs = visible[expected["pseudoIR_index_rgb"]]
    batches = cross_modal_batches(
        visible, bank, int(expected["P"]), int(expected["S"]), 7, np.random.default_rng(0)
    )
    assert set(batches.labels.ravel()) == set(theirs)
    assert batches.labels.size == theirs.size
    ours, counts = (
        np.sort(np.unique(labels, return_counts=True)[1]) for labels in (batches.labels, theirs)
    )
    np.testing.assert_array_equal(ours, counts)


def test_too_few_shared_labels_is_an_error_that_names_both_numbers():
    with pytest.raises(
        ValueError, match="1 labels have images in both modalities, but a batch takes persons = 2"
    ):
        cross_modal_batches(
            np.array([0, 1, -1]), np.array([1, 2, -1]), 2, 4, 3, np.random.default_rng(0)
        )


def test_too_few_visible_labels_is_an_error_that_names_both_numbers():
    with pytest.raises(
        ValueError, match="2 labels have visible images, but a batch takes persons = 3"
    ):
        unpaired_batches(np.array([0, 1, -1]), 5, 3, 4, 3, np.random.default_rng(0))


def test_no_infrared_image_is_an_error():
    with pytest.raises(ValueError, match="no infrared images"):
        unpaired_batches(np.array([0, 1]), 0, 1, 1, 1, np.random.default_rng(0))


def test_one_infrared_image_is_enough():
    batches = unpaired_batches(np.array([0, 1]), 1, 2, 3, 2, np.random.default_rng(0))
    assert batches.infrared.tolist() == [[0] * 6] * 2


@pytest.mark.parametrize("sizes", [(0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 2, -1)])
def test_sizes_are_positive(sizes):
    persons, images, steps = sizes
    message = f"{steps} batches of {persons} × {images} images, expected positive numbers"
    one, random = np.array([0]), np.random.default_rng(0)
    for draw in (
        lambda: cross_modal_batches(one, one, *sizes, random),
        lambda: unpaired_batches(one, 1, *sizes, random),
        lambda: class_batches(one, *sizes, random),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
