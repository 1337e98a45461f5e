"""The dual of entropic optimal transport as a function of one number a class.

With Z = sharpness · log P (N, C), row masses r (N,) and column masses c (C,), the plan that keeps the row masses
exactly is r_n · q_nk, where q_n = softmax over k of (Z_nk + w_k). The w that gives every column its mass too minimizes

    F(w) = Σ_n r_n logsumexp_k (Z_nk + w_k) - Σ_k c_k w_k,

which is convex, with gradient (mass of the columns) - c and Hessian diag(mass) - Σ_n r_n q_n q_nᵀ. This is paper
Eq. 3-5 with the scaling of the images solved for.

Where the columns' masses m may leave c at a cost of KL(m || c) / slack, s = slack / sharpness, the last term becomes
+ log(Σ_k c_k exp(-s w_k)) / s, which tends to the one above with s. The columns are then to get d_k, c_k exp(-s w_k)
scaled to sum 1, in place of c; the Hessian gains s · (diag(d) - d dᵀ). In either form F does not see a common shift.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

THIN = 0.1  # share of entries that matter, below which it pays to pick them out
PIECE = (
    2**22
)  # entries that are worked on at a time, so that what a step needs beside them stays small
CROWDED = 20  # rows with more than C / CROWDED entries are cheaper as a product of matrices than pair by pair


class Demand:
    """What the columns are to get, d, at potentials that lie `shift` (C,) away from where it is `masses` (C,).

    A column without mass gets none at any; its shift must be finite.
    """

    def __init__(self, masses: Tensor, elasticity: float, log_masses: Tensor | None = None) -> None:
        self.masses, self.elasticity = masses, elasticity  # s
        self.log_masses = (
            masses.log() if log_masses is None else log_masses
        )  # kept: masses may underflow

    def at(self, shift: Tensor) -> Tensor:
        """d (C,), sum 1."""
        return self.masses if self.elasticity == 0 else self.log_at(shift).exp()

    def log_at(self, shift: Tensor) -> Tensor:
        """log d (C,)."""
        return self.log_masses - self.elasticity * (shift - self.value(shift))

    def value(self, shift: Tensor) -> float:
        """The last term of F, sign reversed, less its value without shift: a mean of `shift`."""
        if self.elasticity == 0:
            return float((self.masses * shift).sum())
        exponents = -self.elasticity * shift
        if (
            float(exponents.abs().max()) < 1
        ):  # the logarithm of a number near 1, which must not be rounded first
            log_mean = (self.log_masses.exp() @ exponents.expm1()).log1p()
        else:
            log_mean = (self.log_masses + exponents).logsumexp(dim=0)
        return -float(log_mean) / self.elasticity

    def moved(self, shift: Tensor) -> "Demand":
        """The same seen from there."""
        return Demand(self.at(shift), self.elasticity, self.log_at(shift))

    def links(self, shift: Tensor) -> Tensor | float:
        """s · d dᵀ (C, C): its Laplacian is what the slack adds to the Hessian."""
        demand = self.at(shift)
        return self.elasticity * torch.outer(demand, demand) if self.elasticity else 0.0


class FullDual:
    """F over all of log P, in float64 by blocks of rows, so that nothing of the size of log P is stored.

    Values of log P below `floor` count as `floor`.
    """

    def __init__(
        self,
        log_predictions: Tensor,
        sharpness: float,
        rows: Tensor,
        columns: Tensor,
        slack: float = 0.0,
        floor: float = -math.inf,
    ) -> None:
        self.log_predictions, self.sharpness, self.slack, self.floor = (
            log_predictions,
            sharpness,
            slack,
            floor,
        )
        self.rows, self.columns = rows, columns
        self.demand = Demand(columns, slack / sharpness)
        classes = log_predictions.shape[1]
        # A block that stays in a core's cache makes a pass twice as fast; a GPU wants all the work at once.
        self.block = max(1, (2**16 if log_predictions.device.type == "cpu" else 2**25) // classes)

    def evaluate(self, potentials: Tensor, levels: Tensor | None = None) -> tuple[float, Tensor]:
        """F(w) and the columns' masses (C,); `levels` (N,) is filled with each row's logsumexp."""
        mass = torch.zeros_like(self.columns)
        value = torch.zeros((), dtype=torch.float64, device=mass.device)
        for some, scores in self.scores(potentials):
            peak = scores.amax(dim=1, keepdim=True)
            scores.sub_(peak).exp_()
            total = scores.sum(dim=1)
            mass.addmv_(scores.T, self.rows[some] / total)
            level = total.log_().add_(peak.squeeze(1))
            value += self.rows[some] @ level
            if levels is not None:
                levels[some] = level
        return float(value) - self.demand.value(self.shift(potentials)), mass

    def wanted(self, potentials: Tensor) -> Tensor:
        """What the columns are to get, (C,)."""
        return self.demand.at(self.shift(potentials))

    def shift(self, potentials: Tensor) -> Tensor:
        """w; 0 where it is -inf, in columns without mass."""
        return potentials.masked_fill(self.columns == 0, 0.0)

    def first_scaling(self) -> Tensor:
        """The potentials (C,) that Eq. 4 gives the classes when the images' scalings are their masses."""
        total = torch.full_like(self.columns, -math.inf)
        for some, scores in self.scores(torch.zeros_like(self.columns)):
            total = torch.logaddexp(
                total, scores.add_(self.rows[some].log()[:, None]).logsumexp(dim=0)
            )
        return (self.columns.log() - total) / (1 + self.demand.elasticity)

    def laplacian(self, potentials: Tensor) -> Tensor:
        """The Hessian (C, C) up to rounding of float32, as the Laplacian of a graph: exactly zero row sums."""
        links = torch.zeros(
            *self.columns.shape * 2, dtype=torch.float32, device=self.columns.device
        )
        step = max(
            self.block, len(links)
        )  # C² of additions a product must not outweigh the product itself
        for first in range(0, len(self.rows), step):
            some = slice(first, first + step)
            part = self.part(some, self.sharpness, self.rows[some])
            shares = torch.cat(
                [part.root_shares(block, scores) for block, scores in part.scores(potentials)]
            )
            links.addmm_(shares.T, shares)
        return as_laplacian(links.double() + self.demand.links(self.shift(potentials)))

    def root_shares(self, some: slice, scores: Tensor) -> Tensor:
        """√r_n · q_nk in float32: its Gram matrix has only sums of positive products, so no digits cancel."""
        return scores.softmax(dim=1).mul_(self.rows[some].sqrt()[:, None]).float()

    def scores(self, potentials: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of Z + w, float64, with their rows."""
        for some, block in self.blocks():
            yield some, block.mul_(self.sharpness).add_(potentials)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of log P, float64 copies, with their rows."""
        for first in range(0, len(self.rows), self.block):
            some = slice(first, first + self.block)
            block = self.log_predictions[some].to(torch.float64, copy=True)
            yield some, block.clamp_(min=self.floor) if self.floor > -math.inf else block

    def sample(self, count: int, sharpness: float) -> "FullDual":
        """The problem on about `count` of the rows, at another sharpness; which rows is always the same draw."""
        images = len(self.rows)
        order = (
            torch.randperm(images, generator=torch.Generator().manual_seed(0))[:count].sort().values
        )
        chosen = order.to(self.rows.device)
        if count >= images or not self.rows[chosen].any():
            return self.part(slice(None), sharpness, self.rows)
        rows = self.rows[chosen]
        return self.part(chosen, sharpness, rows / rows.sum())

    def part(self, some: slice | Tensor, sharpness: float, rows: Tensor) -> "FullDual":
        """The problem on some of the images, with these masses, at another sharpness."""
        return FullDual(
            self.log_predictions[some], sharpness, rows, self.columns, self.slack, self.floor
        )


class Piece(NamedTuple):
    """Entries of some neighbouring rows, sorted by row; `row` counts from the first of them."""

    rows: slice
    row: Tensor  # int32, as `column`
    column: Tensor
    log_share: Tensor

    def weights(self, shift: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """The entries at potentials that lie `shift` away, and the sum of each row's."""
        weight = (self.log_share + shift[self.column]).exp_()
        return weight, torch.zeros(rows, dtype=weight.dtype, device=weight.device).index_add_(
            0, self.row, weight
        )


class ThinDual:
    """F over the entries of the plan that matter near given potentials; the rest counts as zero.

    An entry is kept where its share q_nk of its row is above exp(-depth); for a column that has less mass than it
    should, above as much less. As long as the potentials stay within a spread d of the given ones, what is left out is
    below C · exp(d - depth) of a row.
    """

    def __init__(self, full: FullDual, potentials: Tensor, mass: Tensor, depth: float) -> None:
        self.rows, self.columns, self.origin = full.rows, full.columns, potentials
        self.demand = full.demand.moved(full.shift(potentials))
        limit = limits(full.columns, mass, depth)
        self.pieces: list[Piece] = []
        # Not lists of small results: kept between the large blocks, they would keep the allocator from reusing those.
        room = min(PIECE + full.block * len(limit), len(self.rows) * len(limit))
        buffers = [
            torch.empty(room, dtype=d, device=limit.device)
            for d in (torch.int32, torch.int32, torch.float64)
        ]
        first = count = 0
        for some, scores in full.scores(potentials):
            scores = scores.log_softmax(dim=1)
            row, column = (scores > limit).nonzero(as_tuple=True)
            found = slice(count, count := count + len(row))
            for buffer, values in zip(
                buffers, (row + (some.start - first), column, scores[row, column]), strict=True
            ):
                buffer[found] = values
            if count >= PIECE or some.stop >= len(self.rows):
                self.pieces.append(
                    Piece(slice(first, some.stop), *(buffer[:count].clone() for buffer in buffers))
                )
                first, count = some.stop, 0

    def evaluate(self, potentials: Tensor) -> tuple[float, Tensor]:
        """F(w) - F(origin) and the columns' masses (C,), over the kept entries."""
        shift, value = self.shift(potentials), 0.0
        mass = torch.zeros_like(self.columns)
        for piece in self.pieces:
            rows = self.rows[piece.rows]
            weight, total = piece.weights(shift, len(rows))
            mass.index_add_(0, piece.column, weight.mul_((rows / total)[piece.row]))
            value += float(rows @ total.log())
        return value - self.demand.value(shift), mass

    def wanted(self, potentials: Tensor) -> Tensor:
        """What the columns are to get, (C,)."""
        return self.demand.at(self.shift(potentials))

    def laplacian(self, potentials: Tensor) -> Tensor:
        """The Hessian (C, C), as the Laplacian of a graph whose edges are pairs of entries of a row."""
        shift, classes = self.shift(potentials), len(self.columns)
        links = torch.zeros(classes, classes, dtype=torch.float64, device=shift.device)
        for piece in self.pieces:
            rows = self.rows[piece.rows]
            weight, total = piece.weights(shift, len(rows))
            weight /= total[piece.row]
            large = weight > 1e-9
            row, column = piece.row[large].long(), piece.column[large].long()
            share = weight[large] * rows[row].sqrt()
            crowded = (torch.bincount(row, minlength=len(rows)) > classes / CROWDED)[row]
            links += pairwise_links(row[~crowded], column[~crowded], share[~crowded], classes)
            links += gram_links(row[crowded], column[crowded], share[crowded], classes)
        return as_laplacian(links + self.demand.links(shift))

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
    edges = torch.searchsorted(
        row, torch.arange(0, len(present) + classes, classes, device=row.device)
    )
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
    kept = sum(
        int((scores.log_softmax(dim=1) > limit).sum()) for _, scores in sample.scores(potentials)
    )
    return kept < THIN * len(sample.rows) * len(sample.columns)


def limits(columns: Tensor, mass: Tensor, depth: float) -> Tensor:
    """The log share above which an entry matters, (C,)."""
    return -depth - (columns / mass).log_().nan_to_num_(nan=0.0).clamp_(min=0.0)


def as_laplacian(links: Tensor) -> Tensor:
    """diag(Σ_j links_ij) - links, for symmetric non-negative links (C, C) whose diagonal is ignored."""
    links = links.neg_().fill_diagonal_(0.0)
    links.diagonal().copy_(-links.sum(dim=1))
    return links
