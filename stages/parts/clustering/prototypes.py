"""A memory of prototypes: for each class its centroid and a hard one (BMIL, AAAI 2026)."""

import torch
from torch import Tensor
from torch.nn import functional


class PrototypeMemory:
    """Two unit rows for each class, which follow the embeddings of the batches.

    With the momentum μ, after a batch in which class c has images,

        centroid_c ← μ centroid_c + (1 - μ) · mean embedding of its images, at unit length
        hard_c ← μ hard_c + (1 - μ) · embedding of its image least similar to hard_c, at unit length

    Attributes:
        centroids: (C, D) float32.
        hard: (C, D) float32.

    >>> memory = PrototypeMemory(torch.eye(2), momentum=0.0)
    >>> memory.update(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 0]))
    >>> memory.hard[0]
    tensor([0.6000, 0.8000])
    >>> memory.centroids[0]
    tensor([0.8944, 0.4472])
    """

    def __init__(self, centroids: Tensor, momentum: float = 0.1) -> None:
        """Start both from `centroids` (C, D), rows of unit length. `momentum` is in [0, 1]."""
        if centroids.ndim != 2 or not 0 <= momentum <= 1:
            shape = tuple(centroids.shape)
            raise ValueError(f"prototypes {shape}, momentum {momentum}; expected (C, D) and 0 to 1")
        self.centroids = centroids.detach().float().clone()
        self.hard = self.centroids.clone()
        self.momentum = momentum

    @torch.no_grad()
    def update(self, embeddings: Tensor, classes: Tensor) -> None:
        """Move the prototypes of the classes (B,) int64 of a batch of embeddings (B, D)."""
        embeddings = embeddings.detach().float()
        present = torch.zeros(len(self.hard), len(classes), device=embeddings.device)
        present[classes, torch.arange(len(classes), device=embeddings.device)] = 1  # (C, B)
        counts = present.sum(1, keepdim=True)  # (C, 1)
        occurs = counts > 0
        means = present @ embeddings / counts.clamp(min=1)  # (C, D)
        similarity = (self.hard @ embeddings.T).masked_fill(present == 0, torch.inf)  # (C, B)
        hardest = embeddings[similarity.argmin(1)]  # (C, D)
        self.centroids = torch.where(occurs, self._moved(self.centroids, means), self.centroids)
        self.hard = torch.where(occurs, self._moved(self.hard, hardest), self.hard)

    def _moved(self, rows: Tensor, towards: Tensor) -> Tensor:
        return functional.normalize(self.momentum * rows + (1 - self.momentum) * towards, dim=1)
