"""The triplet loss of a batch: each anchor with its hardest positive and its hardest negative."""

import torch
from torch import Tensor


def batch_hard_triplet(
    embeddings: Tensor, labels: Tensor, margin: float = 0.3, anchors: slice = slice(None)
) -> Tensor:
    """Return the mean over anchors of max(0, d(hardest positive) - d(hardest negative) + margin).

    Distances are Euclidean. The hardest positive is the farthest image of the anchor's label, the
    hardest negative the nearest image of another label. The anchor counts as its own positive, at
    distance 1e-6, so an identity with one image still pushes negatives away.

    Args:
        embeddings: (B, D), any float type; computed in float32 or, for float64, in float64.
        labels: (B,) int64.
        margin: the paper's 0.3.
        anchors: the images that the mean is over; all images are positives and negatives.

    Returns:
        A scalar; gradients reach `embeddings`.

    Raises:
        ValueError: if all labels are the same, since then no anchor has a negative, or if the
            shapes do not fit. On a GPU, labels are not looked at: the loss is 0 then.

    >>> embeddings = torch.tensor([[0.0], [1.0], [3.0], [5.0]])
    >>> batch_hard_triplet(embeddings, torch.tensor([0, 0, 1, 1]), margin=0.5)
    tensor(0.1250)
    """
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        shapes = f"embeddings {tuple(embeddings.shape)} do not fit labels {tuple(labels.shape)}"
        raise ValueError(f"triplet: {shapes}")
    same = labels[:, None] == labels[None, :]  # (B, B)
    # To look at labels on a GPU, the host would have to wait for it.
    if not labels.is_cuda and same.all():
        images = f"all {len(labels)} images of the batch have one label"
        raise ValueError(f"triplet: {images}, a second one is needed")
    distances = _distances(embeddings)  # (B, B)
    positive = distances.masked_fill(~same, -torch.inf).amax(dim=1)  # (B,)
    negative = distances.masked_fill(same, torch.inf).amin(dim=1)  # (B,)
    return torch.relu(positive - negative + margin)[anchors].mean()


def _distances(x: Tensor) -> Tensor:
    """Return Euclidean distances (B, B), at least 1e-6: the square root has no slope at 0."""
    # Autocast is off because differences of large squares need every bit.
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        squares = x.square().sum(dim=1)
        squared = squares[:, None] + squares[None, :] - 2 * x @ x.T
        # not torch's root, which gives other bits on other processors (docs/reproducibility.md)
        return squared.clamp(min=1e-12).pow(0.5)
