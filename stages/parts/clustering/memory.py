"""SpCL's hybrid memory: a row for each source class and each target image, compared by cluster."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.parts.upload import upload

# Added to the softmax's denominator and to the probability in the logarithm (SpCL's released code).
FLOOR = 1e-6


def class_rows(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the memory's first rows for a labeled data set: the mean of each class.

    Args:
        embeddings: (N, D) float.
        labels: (N,) int64.

    Returns:
        (C, D) float32 of unit length, one row for each label that occurs, labels ascending.
    """
    _, members, counts = _group(labels.cpu())
    means = _segment_means(embeddings.detach().float(), members, counts)
    return F.normalize(means, dim=1)


class HybridMemory:
    """Rows of unit length with a label each. The rows that share a label are one cluster.

    `loss` compares embeddings with the means of the clusters. `update` moves rows towards new
    embeddings. `step` does both for a training step, in the order of SpCL's released code. Nothing
    is computed in less than float32, even under autocast, as exp(1 / temperature) exceeds float16.

    Attributes:
        rows: (L, D) float32, on the device of the tensor from which they were copied.

    >>> memory = HybridMemory(torch.eye(3), torch.tensor([0, 0, 1]), temperature=0.5)
    >>> round(memory.loss(torch.eye(3)[:1], torch.tensor([0])).item(), 4)  # -log(e / (e + 1))
    0.3133
    >>> memory.update(torch.eye(3)[2:], torch.tensor([0]))  # 0.2 and 0.8 at unit length
    >>> memory.rows[0]
    tensor([0.2425, 0.0000, 0.9701])
    """

    def __init__(
        self, rows: Tensor, labels: Tensor, momentum: float = 0.2, temperature: float = 0.05
    ) -> None:
        """Copy the rows (L, D) of unit length with labels (L,) int64.

        `momentum` is the weight of the OLD row in an update; `temperature` divides similarities.
        Raises ValueError if rows or labels do not fit, or a number is out of its range.
        """
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
        """Label of each row, (L,) int64, none negative; numbers may have gaps.

        New labels can be set at any time, as each epoch's clustering does.
        """
        return self._labels

    @labels.setter
    def labels(self, labels: Tensor) -> None:
        fits = labels.shape == self.rows.shape[:1] and not labels.is_floating_point()
        if not fits or bool((labels < 0).any()):
            raise ValueError(
                f"memory labels: {labels.dtype} of shape {tuple(labels.shape)}; expected "
                f"({len(self.rows)},) whole numbers from 0 (no cluster = a label of its own)"
            )
        self._labels = labels.to(self.rows.device, torch.int64)
        # Clusters are the labels that occur, numbered without gaps. A label without a row would
        # otherwise act as a logit of 0. Who is in which cluster stays on the CPU, where the indices
        # of a batch are: a GPU would have to be waited for at each step.
        self._cluster, self._members, self._counts = _group(labels.cpu())
        self._starts = self._counts.cumsum(0) - self._counts
        self._means = _segment_means(self.rows, self._members, self._counts)

    def loss(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Return the contrastive loss of embeddings against the clusters, SpCL Eq. 1.

        z_bk = <f_b, mean of the rows of cluster k> / temperature, the mean not at unit length;
        p_bk = exp(z_bk) / (sum_k' exp(z_bk') + 1e-6);   loss = -mean_b log(p_b,cluster(b) + 1e-6)

        The loss differentiates with respect to the embeddings only. As in SpCL's released code, the
        derivative uses the rows as they are when backward runs: call `update` after backward, or
        leave the order to `step`.

        Args:
            embeddings: (B, D) of unit length.
            indices: (B,) the rows to which they belong, on the CPU.

        Returns:
            A scalar, float32.
        """
        clusters = upload(self._cluster[indices], self.rows.device)  # (B,)
        with torch.autocast(self.rows.device.type, enabled=False):
            similarities = _ClusterSimilarity.apply(embeddings.float(), self)
            scores = (similarities / self.temperature).exp()  # (B, clusters)
            positives = scores.gather(1, clusters[:, None]).squeeze(1)  # (B,)
            probabilities = positives / (scores.sum(1) + FLOOR)
            return -torch.log(probabilities + FLOOR).mean()

    @torch.no_grad()
    def update(self, embeddings: Tensor, indices: Tensor) -> None:
        """Set row i to momentum · row + (1 - momentum) · embedding at unit length, SpCL Eq. 2.

        A row that occurs several times is updated as often, in the order of the batch.

        Args:
            embeddings: (B, D) of unit length.
            indices: (B,) the row i of each, on the CPU.
        """
        embeddings = embeddings.detach().float()
        # Different rows do not affect each other: the first occurrences of all rows are one
        # operation, the second occurrences are the next one, and so on.
        for occurrence in _occurrences(indices):
            positions = upload(occurrence, self.rows.device)
            rows = upload(indices[occurrence], self.rows.device)
            old = self.momentum * self.rows[rows]
            new = (1 - self.momentum) * embeddings[positions]
            self.rows[rows] = F.normalize(old + new, dim=1)
        self._renew_means(self._cluster[indices].unique())

    def step(self, batches: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Compute the losses of several batches, back-propagate their sum, and update the rows.

        All losses use the memory as it was before. Then come derivative and update of each batch,
        from the last to the first. This is the order in which autograd visits them in SpCL's
        released code, where the update is a part of backward. With batches (source, target), the
        derivative of the source uses the updated rows of the target (some 1 % of difference).

        Args:
            batches: for each batch, its embeddings and indices as in `loss`.

        Returns:
            The losses, detached, in the order of `batches`.
        """
        losses = [self.loss(embeddings, indices) for embeddings, indices in batches]
        gradients: list[Tensor] = []
        for loss, (embeddings, indices) in zip(reversed(losses), reversed(batches), strict=True):
            gradients += torch.autograd.grad(loss, embeddings)
            self.update(embeddings, indices)
        outputs = [embeddings for embeddings, _ in batches]
        torch.autograd.backward(outputs, gradients[::-1])
        return [loss.detach() for loss in losses]

    def _renew_means(self, clusters: Tensor) -> None:
        """Compute the means of some clusters again from their rows, so that no error adds up."""
        counts = self._counts[clusters]
        offsets = self._starts[clusters] - (counts.cumsum(0) - counts)
        first = offsets.repeat_interleave(counts)
        members = self._members[first + torch.arange(len(first))]
        means = _segment_means(self.rows, members, counts)
        self._means[upload(clusters, means.device)] = means


class _ClusterSimilarity(torch.autograd.Function):
    """embeddings @ means.T, with a derivative that uses the means at the time of backward."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, memory: HybridMemory) -> Tensor:
        ctx.memory = memory
        ctx.clusters = len(memory._means)
        return embeddings @ memory._means.T  # (B, D) -> (B, clusters)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if len(ctx.memory._means) != ctx.clusters:
            raise RuntimeError("the memory's labels changed between loss and backward")
        return gradient @ ctx.memory._means, None  # (B, clusters) -> (B, D)


def _group(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's cluster without gaps, the rows by cluster, and the size of each cluster."""
    _, cluster, counts = labels.unique(return_inverse=True, return_counts=True)
    return cluster, cluster.argsort(stable=True), counts


def _segment_means(rows: Tensor, members: Tensor, counts: Tensor) -> Tensor:
    """Return (clusters, D), the mean of the first counts[0] members' rows, of the next counts[1] …

    Members and counts are on the CPU. Unlike a scatter, this has no atomic additions on a GPU,
    whose order varies. `unsafe` leaves out a check of the counts that waits for the GPU.
    """
    members, counts = upload(members, rows.device), upload(counts, rows.device)
    return torch.segment_reduce(rows[members], "mean", lengths=counts, axis=0, unsafe=True)


def _occurrences(indices: Tensor) -> list[Tensor]:
    """Return the positions of each index's first occurrence, of each one's second, and so on."""
    ordered, order = indices.sort(stable=True)
    numbers = torch.arange(len(indices))
    occurrence = numbers - torch.searchsorted(ordered, ordered)  # (B,) counted from 0
    most = int(occurrence.max()) + 1
    return [order[occurrence == nth] for nth in range(most)]
