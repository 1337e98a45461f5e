"""The label bank: the last label of each infrared image."""

import numpy as np
import torch
from torch import Tensor


class LabelBank:
    """Label, confidence and age of `count` images, on the CPU.

    Attributes:
        labels: (N,) int64; -1 before the first label.
        confidence: (N,) float32, the label's share of the image's mass; 0 before the first label.
        age: (N,) int64, epochs since the label was written; -1 before the first label.

    Example:
        >>> bank = LabelBank(3)
        >>> bank.write(torch.tensor([2]), torch.tensor([7]), torch.tensor([0.5]))
        >>> bank.advance()
        >>> bank.labels, bank.age
        (tensor([-1, -1,  7]), tensor([-1, -1,  1]))
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"label bank: {count} images, expected at least one")
        self.labels = torch.full((count,), -1, dtype=torch.int64)
        self.confidence = torch.zeros(count, dtype=torch.float32)
        self.age = torch.full((count,), -1, dtype=torch.int64)

    def write(
        self,
        rows: Tensor | np.ndarray,
        labels: Tensor | np.ndarray,
        confidence: Tensor | np.ndarray,
    ) -> None:
        """Overwrite the entries of some images; all other entries stay.

        Args:
            rows: (M,) distinct positions of the images in the bank.
            labels: (M,) integers >= 0.
            confidence: (M,) the labels' shares of the images' masses.

        Raises:
            ValueError: if the lengths differ, rows are out of range or repeated, or a label is
                negative.
        """
        rows = torch.as_tensor(rows).cpu().long()
        labels = torch.as_tensor(labels).cpu().long()
        confidence = torch.as_tensor(confidence).cpu().float()
        if not rows.shape == labels.shape == confidence.shape:
            counts = f"{len(rows)} rows, {len(labels)} labels, {len(confidence)} confidences"
            raise ValueError(f"label bank: {counts}, expected as many of each")
        if len(rows) == 0:
            return
        last = len(self.labels) - 1
        if rows.min() < 0 or rows.max() > last or len(rows.unique()) != len(rows):
            raise ValueError(f"label bank: rows must be distinct and from 0 to {last}")
        if labels.min() < 0:
            raise ValueError(f"label bank: label {int(labels.min())}, expected 0 or more")
        self.labels[rows] = labels
        self.confidence[rows] = confidence
        self.age[rows] = 0

    def advance(self) -> None:
        """Add an epoch to the age of every label that was ever written."""
        self.age[self.age >= 0] += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name, for a checkpoint."""
        return {
            "bank.labels": self.labels,
            "bank.confidence": self.confidence,
            "bank.age": self.age,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Copy the state from what `tensors` returned for a bank of the same size.

        Args:
            tensors: the state by name; other names are ignored.

        Raises:
            ValueError: if a tensor is missing or has another shape.
        """
        for name, state in self.tensors().items():
            stored = tensors.get(name)
            if stored is None or stored.shape != state.shape:
                shape = "nothing" if stored is None else tuple(stored.shape)
                wanted = f"{name} should be {tuple(state.shape)}"
                raise ValueError(f"label bank: {wanted}, the checkpoint has {shape}")
            state.copy_(stored)
