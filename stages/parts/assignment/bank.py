"""The label bank: what each infrared image was last taken for."""

import numpy as np
import torch
from torch import Tensor


class LabelBank:
    """Label, confidence and age of `count` images, on the CPU.

    `labels` (N,) int64, -1 = none yet; `confidence` (N,) float32, the label's share of the image's mass, 0 = none yet;
    `age` (N,) int64, epochs since the label was written, -1 = never.
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
        """Overwrite the entries of distinct `rows` (M,); all others keep theirs. ValueError for rows out of range."""
        rows, labels = torch.as_tensor(rows).cpu().long(), torch.as_tensor(labels).cpu().long()
        confidence = torch.as_tensor(confidence).cpu().float()
        if not rows.shape == labels.shape == confidence.shape:
            shapes = f"{len(rows)} rows, {len(labels)} labels, {len(confidence)} confidences"
            raise ValueError(f"label bank: {shapes}, expected as many of each")
        if len(rows) == 0:
            return
        if rows.min() < 0 or rows.max() >= len(self.labels) or len(rows.unique()) != len(rows):
            raise ValueError(
                f"label bank: rows must be distinct and from 0 to {len(self.labels) - 1}"
            )
        if labels.min() < 0:
            raise ValueError(f"label bank: label {int(labels.min())}, expected 0 or more")
        self.labels[rows], self.confidence[rows], self.age[rows] = labels, confidence, 0

    def advance(self) -> None:
        """An epoch passes: every label that was ever written gets older."""
        self.age[self.age >= 0] += 1

    def tensors(self) -> dict[str, Tensor]:
        """The whole state by name, for a checkpoint."""
        return {
            "bank.labels": self.labels,
            "bank.confidence": self.confidence,
            "bank.age": self.age,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` gave, of a bank of the same size; ignores other names."""
        for name, own in self.tensors().items():
            if name not in tensors or tensors[name].shape != own.shape:
                found = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(
                    f"label bank: {name} should be {tuple(own.shape)}, the checkpoint has {found}"
                )
            own.copy_(tensors[name])
