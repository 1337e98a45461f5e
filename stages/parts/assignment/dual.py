"""The dual of entropic optimal transport as a function of one number a class.

With Z = sharpness · log P (N, C), row masses r (N,) and column masses c (C,), the plan that keeps the row masses
exactly is r_n · q_nk, where q_n = softmax over k of (Z_nk + w_k). The w that gives every column its mass too minimises

    F(w) = Σ_n r_n logsumexp_k (Z_nk + w_k) - Σ_k c_k w_k,

which is convex, with gradient (mass of the columns) - c and Hessian diag(mass) - Σ_n r_n q_n q_nᵀ. This is paper
Eq. 3-5 with the scaling of the images solved for.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

THIN = 0.1  # share of entries that matter, below which it pays to pick them out
CROWDED = 20  # rows with more than C / CROWDED entries are cheaper as a product of matrices than pair by pair


class FullDual:
    """F over all of log P, in float64 by blocks of rows, so that nothing of the size of log P is stored."""

    def __init__(self, log_predictions: Tensor, sharpness: float, rows: Tensor, columns: Tensor) -> None:
        self.log_predictions, self.sharpness = log_predictions, sharpness
        self.rows, self.columns = rows, columns
        classes = log_predictions.shape[1]
        # A block that stays in a core's cache makes a pass twice as fast; a GPU wants all the work at once.
        self.block = max(1, (2**16 if log_predictions.device.type == "cpu" else 2**25) // classes)

    def evaluate(self, potentials: Tensor) -> tuple[float, Tensor]:
        """F(w) and the columns' masses (C,)."""
        mass = torch.zeros_like(self.columns)
        value = torch.zeros((), dtype=torch.float64, device=mass.device)
        for some, scores in self.scores(potentials):
            peak = scores.amax(dim=1, keepdim=True)
            scores.sub_(peak).exp_()
            total = scores.sum(dim=1)
            mass.addmv_(scores.T, self.rows[some] / total)
            value += self.rows[some] @ total.log_().add_(peak.squeeze(1))
        return float(value) - inner(self.columns, potentials), mass

    def laplacian(self, potentials: Tensor) -> Tensor:
        """The Hessian (C, C) up to rounding of float32, as the Laplacian of a graph: exactly zero row sums."""
        links = torch.zeros(*self.columns.shape * 2, dtype=torch.float32, device=self.columns.device)
        step = max(self.block, len(links))  # C² of additions a product must not outweigh the product itself
        for first in range(0, len(self.rows), step):
            some = slice(first, first + step)
            part = FullDual(self.log_predictions[some], self.sharpness, self.rows[some], self.columns)
            shares = torch.cat([part.root_shares(block, scores) for block, scores in part.scores(potentials)])
            links.addmm_(shares.T, shares)
        return as_laplacian(links.double())

    def root_shares(self, some: slice, scores: Tensor) -> Tensor:
        """√r_n · q_nk in float32: its Gram matrix has only sums of positive products, so no digits cancel."""
        return scores.softmax(dim=1).mul_(self.rows[some].sqrt()[:, None]).float()

    def scores(self, potentials: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of Z + w, float64, with their rows."""
        for first in range(0, len(self.rows), self.block):
            some = slice(first, first + self.block)
            yield some, self.log_predictions[some].to(torch.float64, copy=True).mul_(self.sharpness).add_(potentials)

    def sample(self, count: int, sharpness: float) -> "FullDual":
        """The problem on about `count` of the rows, at another sharpness; which rows is always the same draw."""
        images = len(self.rows)
        order = torch.randperm(images, generator=torch.Generator().manual_seed(0))[:count].sort().values
        chosen = order.to(self.rows.device)
        if count >= images or not self.rows[chosen].any():
            return FullDual(self.log_predictions, sharpness, self.rows, self.columns)
        rows = self.rows[chosen]
        return FullDual(self.log_predictions[chosen], sharpness, rows / rows.sum(), self.columns)


class ThinDual:
    """F over the entries of the plan that matter near given potentials; the rest counts as zero.

    An entry is kept where its share q_nk of its row is above exp(-depth); for a column that has less mass than it
    should, above as much less. As long as the potentials stay within a spread d of the given ones, what is left out is
    below C · exp(d - depth) of a row.
    """

    def __init__(self, full: FullDual, potentials: Tensor, mass: Tensor, depth: float) -> None:
        self.rows, self.columns, self.origin = full.rows, full.columns, potentials
        limit = limits(full.columns, mass, depth)
        row, column, log_share = [], [], []
        for some, scores in full.scores(potentials):
            scores = scores.log_softmax(dim=1)
            kept = (scores > limit).nonzero()
            row.append(kept[:, 0] + some.start)
            column.append(kept[:, 1])
            log_share.append(scores[kept[:, 0], kept[:, 1]])
        self.row, self.column, self.log_share = torch.cat(row), torch.cat(column), torch.cat(log_share)

    def evaluate(self, potentials: Tensor) -> tuple[float, Tensor]:
        """F(w) - F(origin) and the columns' masses (C,), over the kept entries."""
        shift = self.shift(potentials)
        weight = (self.log_share + shift[self.column]).exp_()
        total = torch.zeros_like(self.rows).index_add_(0, self.row, weight)
        weight *= (self.rows / total)[self.row]
        mass = torch.zeros_like(self.columns).index_add_(0, self.column, weight)
        return float(self.rows @ total.log()) - inner(self.columns, shift), mass

    def laplacian(self, potentials: Tensor) -> Tensor:
        """The Hessian (C, C), as the Laplacian of a graph whose edges are pairs of entries of a row."""
        weight = (self.log_share + self.shift(potentials)[self.column]).exp_()
        total = torch.zeros_like(self.rows).index_add_(0, self.row, weight)
        weight /= total[self.row]
        large = weight > 1e-9
        row, column, share = self.row[large], self.column[large], weight[large] * self.rows[self.row[large]].sqrt()
        crowded = (torch.bincount(row, minlength=len(self.rows)) > len(self.columns) / CROWDED)[row]
        few = pairwise_links(row[~crowded], column[~crowded], share[~crowded], len(self.columns))
        return as_laplacian(few + gram_links(row[crowded], column[crowded], share[crowded], len(self.columns)))

    def shift(self, potentials: Tensor) -> Tensor:
        """w - origin; 0 where both are -inf."""
        return torch.where(self.columns > 0, potentials - self.origin, 0.0)

    def spread(self, potentials: Tensor) -> float:
        """How far the potentials have moved from the origin, largest less smallest."""
        shift = self.shift(potentials)
        return float(shift.max() - shift.min())


def pairwise_links(row: Tensor, column: Tensor, share: Tensor, classes: int) -> Tensor:
    """Σ over rows of the products of their entries, (C, C); entries sorted by row. For rows of few entries."""
    links = torch.zeros(classes**2, dtype=torch.float64, device=share.device)
    past = torch.searchsorted(row, row, right=True)  # where each entry's row ends
    first = torch.arange(len(row), device=row.device)
    for apart in range(1, classes):
        first = first[first + apart < past[first]]
        if len(first) == 0:
            break
        second = first + apart
        links.index_add_(0, column[first] * classes + column[second], share[first] * share[second])
    links = links.view(classes, classes)
    return links + links.T


def gram_links(row: Tensor, column: Tensor, share: Tensor, classes: int) -> Tensor:
    """The same as a product of matrices, for rows of many entries."""
    links = torch.zeros(classes, classes, dtype=torch.float32, device=share.device)
    present, row = torch.unique_consecutive(row, return_inverse=True)
    edges = torch.searchsorted(row, torch.arange(0, len(present) + classes, classes, device=row.device))
    for number, (first, past) in enumerate(itertools.pairwise(edges.tolist())):
        some = slice(first, past)
        dense = torch.zeros(classes, classes, dtype=torch.float32, device=share.device)
        dense[row[some] - number * classes, column[some]] = share[some].float()
        links.addmm_(dense.T, dense)
    return links.double()


def worth_thinning(full: FullDual, potentials: Tensor, mass: Tensor, depth: float) -> bool:
    """Whether a `ThinDual` would be faster: seen on 256 rows, few entries a row matter. Never on a GPU."""
    if full.log_predictions.device.type != "cpu":
        return False
    sample = full.sample(256, full.sharpness)
    limit = limits(full.columns, mass, depth)
    kept = sum(int((scores.log_softmax(dim=1) > limit).sum()) for _, scores in sample.scores(potentials))
    return kept < THIN * len(sample.rows) * len(sample.columns)


def limits(columns: Tensor, mass: Tensor, depth: float) -> Tensor:
    """The log share above which an entry matters, (C,)."""
    return -depth - (columns / mass).log_().nan_to_num_(nan=0.0).clamp_(min=0.0)


def as_laplacian(links: Tensor) -> Tensor:
    """diag(Σ_j links_ij) - links, for symmetric non-negative links (C, C) whose diagonal is ignored."""
    links = links.neg_().fill_diagonal_(0.0)
    links.diagonal().copy_(-links.sum(dim=1))
    return links


def inner(columns: Tensor, potentials: Tensor) -> float:
    """Σ_k c_k w_k; columns without mass have w = -inf and add nothing."""
    return float((columns * potentials.masked_fill(columns == 0, 0.0)).sum())
