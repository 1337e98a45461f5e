"""The label bank: writing, ageing, checkpoints, and what it refuses."""

import numpy as np
import pytest
import torch

from stages.parts.assignment.bank import LabelBank


def test_a_new_bank_knows_nothing():
    bank = LabelBank(3)
    assert bank.labels.tolist() == [-1, -1, -1]
    assert bank.confidence.tolist() == [0, 0, 0]
    assert bank.age.tolist() == [-1, -1, -1]
    assert bank.labels.dtype == bank.age.dtype == torch.int64
    assert bank.confidence.dtype == torch.float32


def test_writing_touches_the_given_rows_only_and_ageing_the_written_ones_only():
    bank = LabelBank(4)
    bank.write(np.array([2, 0]), torch.tensor([5, 6]), np.array([0.5, 0.75]))
    bank.advance()
    bank.write(torch.tensor([0]), torch.tensor([7]), torch.tensor([1.0], dtype=torch.float64))
    assert bank.labels.tolist() == [7, -1, 5, -1]
    assert bank.confidence.tolist() == [1.0, 0.0, 0.5, 0.0]
    assert bank.age.tolist() == [0, -1, 1, -1]


def test_writing_nothing_changes_nothing():
    bank = LabelBank(2)
    bank.write(np.array([], dtype=np.int64), np.array([], dtype=np.int64), np.array([]))
    assert bank.labels.tolist() == [-1, -1]


def test_a_bank_comes_back_from_its_tensors():
    bank, other = LabelBank(3), LabelBank(3)
    bank.write(np.array([1]), np.array([4]), np.array([0.25]))
    bank.advance()
    stored = {name: value.clone() for name, value in bank.tensors().items()}
    other.restore(stored | {"network.weight": torch.zeros(2)})
    other.advance()
    assert other.labels.tolist() == [-1, 4, -1]
    assert other.confidence.tolist() == [0, 0.25, 0]
    assert other.age.tolist() == [-1, 2, -1]
    assert stored["bank.age"].tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    ("rows", "labels", "confidence", "message"),
    [
        ([0, 3], [1, 1], [1, 1], "rows must be distinct and from 0 to 2"),
        ([-1], [1], [1], "rows must be distinct and from 0 to 2"),
        ([1, 1], [1, 2], [1, 1], "rows must be distinct and from 0 to 2"),
        ([0, 1], [1], [1, 1], "2 rows, 1 labels, 2 confidences"),
        ([0], [-1], [1], "label -1, expected 0 or more"),
    ],
)
def test_wrong_entries_are_refused(rows, labels, confidence, message):
    bank = LabelBank(3)
    with pytest.raises(ValueError, match=message):
        bank.write(np.array(rows), np.array(labels), np.array(confidence))
    assert bank.labels.tolist() == [-1, -1, -1]


def test_a_checkpoint_of_another_size_is_refused():
    message = r"bank.labels should be \(2,\), the checkpoint has \(3,\)"
    with pytest.raises(ValueError, match=message):
        LabelBank(2).restore(LabelBank(3).tensors())
    with pytest.raises(ValueError, match="the checkpoint has nothing"):
        LabelBank(2).restore({})


def test_a_bank_has_images():
    with pytest.raises(ValueError, match="0 images"):
        LabelBank(0)
