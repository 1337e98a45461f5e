"""SpCL's hybrid memory: a row for every source class and every target image, compared with cluster by cluster."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6  # of the softmax's denominator and of the probability inside the logarithm, as in SpCL's released code


def class_rows(embeddings: Tensor, labels: Tensor) -> Tensor:
    """The memory's first rows for a labeled data set: the unit-length mean of each class, labels ascending.

    embeddings (N, D) float, labels (N,) int64 -> (C, D) float32, C = number of different labels.
    """
    _, members, counts = _group(labels.to(embeddings.device))
    return F.normalize(_segment_means(embeddings.detach().float(), members, counts), dim=1)


class HybridMemory:
    """Rows `(L, D)` of unit length and a label `(L,)` for each; rows that share a label are one cluster.

    `loss` compares embeddings with the clusters' means, `update` moves rows towards new embeddings, `step` does both
    for a training step in the order of SpCL's released code. Nothing is computed in less than float32, also under
    autocast: exp(1 / temperature) does not fit into float16.

    `labels` can be set anew at any time (each epoch's clustering); numbers may have gaps. `rows` lies on the device of
    the tensor given at construction, which is copied.
    """

    def __init__(
        self, rows: Tensor, labels: Tensor, momentum: float = 0.2, temperature: float = 0.05
    ) -> None:
        """`momentum` is the weight of the OLD row in an update. ValueError when rows or labels do not fit."""
        if rows.ndim != 2 or not len(rows):
            raise ValueError(
                f"memory rows have shape {tuple(rows.shape)}; expected (L, D) with L > 0"
            )
        if not 0 <= momentum < 1 or temperature <= 0:
            raise ValueError(
                f"momentum {momentum} must be in [0, 1) and temperature {temperature} above 0"
            )
        self.rows = rows.detach().float().clone().contiguous()
        self.momentum = momentum
        self.temperature = temperature
        self.labels = labels

    @property
    def labels(self) -> Tensor:
        """Label of each row, (L,) int64, none negative."""
        return self._labels

    @labels.setter
    def labels(self, labels: Tensor) -> None:
        if (
            labels.shape != self.rows.shape[:1]
            or labels.is_floating_point()
            or bool((labels < 0).any())
        ):
            raise ValueError(
                f"memory labels: {labels.dtype} of shape {tuple(labels.shape)}; "
                f"expected ({len(self.rows)},) whole numbers from 0 (no cluster = a label of its own)"
            )
        self._labels = labels.to(self.rows.device, torch.int64)
        # Clusters are the labels that occur, numbered without gaps: labels without a row cannot act as a logit of 0.
        self._cluster, self._members, self._counts = _group(self._labels)
        self._starts = self._counts.cumsum(0) - self._counts
        self._means = _segment_means(self.rows, self._members, self._counts)

    def loss(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Contrastive loss of unit embeddings (B, D) that belong to the rows `indices` (B,); a scalar.

        z_bk = <f_b, mean of the rows of cluster k> / temperature, the mean not brought to unit length;
        p_bk = exp(z_bk) / (sum_k' exp(z_bk') + 1e-6);   loss = -mean_b log(p_b,cluster(b) + 1e-6)

        Differentiates with respect to embeddings only. As in SpCL's released code the derivative is formed with the
        rows as they are when backward runs: call `update` after backward, or leave the order to `step`.
        """
        indices = indices.to(self.rows.device)
        with torch.autocast(self.rows.device.type, enabled=False):
            logits = (
                _ClusterSimilarity.apply(embeddings.float(), self) / self.temperature
            )  # (B, clusters)
            scores = logits.exp()
            own = scores.gather(1, self._cluster[indices, None]).squeeze(1)
            return -torch.log(own / (scores.sum(1) + FLOOR) + FLOOR).mean()

    @torch.no_grad()
    def update(self, embeddings: Tensor, indices: Tensor) -> None:
        """Row i becomes momentum · row + (1 - momentum) · embedding at unit length, for each (embedding, i) in turn.

        A row that occurs several times is updated as often, in the order of the batch.
        """
        indices = indices.to(self.rows.device)
        embeddings = embeddings.detach().float()
        # Different rows do not touch each other: all first occurrences are one operation, then all second ones, …
        for turn in _occurrences(indices):
            moved = (
                self.momentum * self.rows[indices[turn]] + (1 - self.momentum) * embeddings[turn]
            )
            self.rows[indices[turn]] = F.normalize(moved, dim=1)
        # Only the means of the clusters that were touched change; from their rows again, so that no error adds up.
        clusters = self._cluster[indices].unique()
        counts = self._counts[clusters]
        first = (self._starts[clusters] - (counts.cumsum(0) - counts)).repeat_interleave(counts)
        members = self._members[first + torch.arange(len(first), device=first.device)]
        self._means[clusters] = _segment_means(self.rows, members, counts)

    def step(self, batches: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Loss of each (embeddings, indices), derivatives of their sum into the network, and the updates.

        All losses see the memory as it was. Then the batches take turns from the last to the first: derivative, then
        update. Autograd visits them in this order in SpCL's released code, where the update is part of backward, so
        with (source, target) the source's derivative sees the target's rows already updated (some 1 % of difference).
        Returns the losses, detached, in the order of `batches`.
        """
        losses = [self.loss(embeddings, indices) for embeddings, indices in batches]
        gradients: list[Tensor] = []
        for loss, (embeddings, indices) in zip(reversed(losses), reversed(batches), strict=True):
            gradients += torch.autograd.grad(loss, embeddings)
            self.update(embeddings, indices)
        torch.autograd.backward([embeddings for embeddings, _ in batches], gradients[::-1])
        return [loss.detach() for loss in losses]


class _ClusterSimilarity(torch.autograd.Function):
    """embeddings @ means.T whose derivative uses the memory's means at the time of backward."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, memory: HybridMemory) -> Tensor:
        ctx.memory = memory
        ctx.clusters = len(memory._means)
        return embeddings @ memory._means.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if len(ctx.memory._means) != ctx.clusters:
            raise RuntimeError("the memory's labels changed between loss and backward")
        return gradient @ ctx.memory._means, None


def _group(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gapless cluster number of each row, rows ordered by cluster, and rows of each cluster."""
    _, cluster, counts = labels.unique(return_inverse=True, return_counts=True)
    return cluster, cluster.argsort(stable=True), counts


def _segment_means(rows: Tensor, members: Tensor, counts: Tensor) -> Tensor:
    """Mean of the first counts[0] members' rows, of the next counts[1], …: (clusters, D). No atomic adds on a GPU."""
    return torch.segment_reduce(rows[members], "mean", lengths=counts, axis=0)


def _occurrences(indices: Tensor) -> list[Tensor]:
    """Positions of each index's first occurrence, of each one's second occurrence, … ascending within a list entry."""
    ordered, order = indices.sort(stable=True)
    rank = torch.arange(len(indices), device=indices.device) - torch.searchsorted(ordered, ordered)
    return [order[rank == turn] for turn in range(int(rank.max()) + 1 if len(rank) else 0)]
