"""Learning rate by epoch and length of an epoch."""

import numpy as np
import pytest

from stages.train.schedule import learning_rate, steps_in_epoch


def test_learning_rate_equals_the_reference(gold):
    expected = gold("otla/lr_schedule.npz")
    base = float(expected["base_lr"])
    rates = [learning_rate(int(epoch), base, 10, [20, 50], 0.1) for epoch in expected["epoch"]]
    np.testing.assert_allclose(rates, expected["lr_other"], rtol=1e-9)
    np.testing.assert_allclose(0.1 * np.array(rates), expected["lr_backbone"], rtol=1e-9)


def test_learning_rate_without_warm_up_and_milestones_is_the_base():
    assert [learning_rate(epoch, 0.5, 0, [], 0.1) for epoch in (0, 7)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("visible", "infrared", "multiplier", "persons", "images", "expected"),
    [
        (22_258, 11_909, 1, 4, 8, 696),  # SYSU-MM01, as the released code runs it
        (2_060, 2_060, 2, 4, 8, 129),  # RegDB
        (64, 640, 1, 4, 8, 21),  # the larger modality counts; a full last batch still gets one more
        (1, 1, 1, 4, 8, 1),
    ],
)
def test_steps_in_epoch(visible, infrared, multiplier, persons, images, expected):
    assert steps_in_epoch(visible, infrared, multiplier, persons, images) == expected


def test_steps_in_epoch_equals_the_reference(gold):
    expected = gold("otla/samplers.npz")
    steps = steps_in_epoch(
        len(expected["label_rgb"]),
        len(expected["bank"]),
        int(expected["mult"]),
        int(expected["P"]),
        int(expected["S"]),
    )
    assert steps == int(expected["pseudoIR_batches_iterated"])
