"""The triplet loss of a batch: every image against its farthest friend and its nearest stranger."""

import torch
from torch import Tensor


def batch_hard_triplet(
    embeddings: Tensor, labels: Tensor, margin: float = 0.3, anchors: slice = slice(None)
) -> Tensor:
    """Mean over anchors of max(0, farthest positive - nearest negative + margin), Euclidean.

    The anchor counts as its own positive, at distance 1e-6, so an identity with one image still pushes strangers away.

    Args:
        embeddings: (B, D), any float type; computed in float32 or, for float64, in float64.
        labels: (B,) int64.
        margin: the paper's 0.3.
        anchors: the images that the mean is over; all of them are positives and negatives.

    Returns:
        A scalar; gradients reach `embeddings`.

    Raises:
        ValueError: where all labels are the same, since then no anchor has a negative, or shapes do not fit.
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"triplet: embeddings {tuple(embeddings.shape)} do not fit labels {tuple(labels.shape)}"
        )
    same = labels[:, None] == labels[None, :]  # (B, B)
    if same.all():
        raise ValueError(
            f"triplet: all {len(labels)} images of the batch have one label, a second one is needed"
        )
    distances = _distances(embeddings)
    positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    negative = distances.masked_fill(same, torch.inf).amin(dim=1)
    return torch.relu(positive - negative + margin)[anchors].mean()


def _distances(x: Tensor) -> Tensor:
    """Euclidean distances (B, B), at least 1e-6 because the square root has no slope at 0."""
    with torch.autocast(
        x.device.type, enabled=False
    ):  # differences of large squares need every bit
        x = x if x.dtype == torch.float64 else x.float()
        squares = x.square().sum(dim=1)
        return (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp(min=1e-12).sqrt()
