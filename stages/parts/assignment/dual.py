"""The dual of entropic optimal transport: a convex function F of one number per class.

With Z = sharpness · log P (N, C), row masses r (N,) and column masses c (C,), a plan that has the
row masses exactly is r_n · q_nk, where q_n = softmax over k of (Z_nk + w_k). The potentials w (C,)
that give every column its mass too minimize

    F(w) = Σ_n r_n logsumexp_k (Z_nk + w_k) - Σ_k c_k w_k.

F is convex. Its gradient is m - c, where m = Σ_n r_n q_n are the masses of the columns; its Hessian
is diag(m) - Σ_n r_n q_n q_nᵀ. This is paper Eq. 3-5 with the scalings of the images eliminated.

With slack the last term is + log(Σ_k c_k exp(-s w_k)) / s instead, which tends to the one above as
s goes to 0. The target d (`demand.py`) takes the place of c in the gradient, and the Hessian gains
s · (diag(d) - d dᵀ). In both forms a common shift of all potentials does not change F.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from stages.parts.assignment.demand import Demand

# Entries worked on at a time. A pass is twice as fast if a block stays in a core's cache; a GPU
# needs more work at once.
CPU_BLOCK, GPU_BLOCK = 2**16, 2**25


class Point(NamedTuple):
    """Potentials, and F and the class masses there."""

    potentials: Tensor  # (C,) w
    value: float  # F(w), up to a constant of the dual that computed it
    mass: Tensor  # (C,) m
    target: Tensor  # (C,) d

    @property
    def gradient(self) -> Tensor:
        """The gradient of F, (C,)."""
        return self.mass - self.target

    @property
    def error(self) -> float:
        """The L1 distance of the class masses from their target."""
        return float(self.gradient.abs().sum())


@dataclass(eq=False)
class FullDual:
    """F over all of log P, in float64 by blocks of rows, so nothing of log P's size is stored."""

    log_predictions: Tensor  # (N, C) float32 or float64
    sharpness: float  # δ > 0
    row_masses: Tensor  # (N,) float64, sum 1
    column_masses: Tensor  # (C,) float64, sum 1
    slack: float = 0.0
    floor: float = -math.inf  # lower values of log P count as this one

    reach = math.inf  # the spread of potentials over which the dual is valid

    def __post_init__(self) -> None:
        log_masses = self.column_masses.log()
        self.demand = Demand(self.column_masses, log_masses, self.slack / self.sharpness)
        entries = CPU_BLOCK if self.log_predictions.device.type == "cpu" else GPU_BLOCK
        self.block_rows = max(1, entries // len(self.column_masses))

    def evaluate(self, potentials: Tensor, levels: Tensor | None = None) -> Point:
        """Return F and the class masses at `potentials` (C,).

        `levels` (N,) is filled with each row's logsumexp, the log of row mass / image's scaling.
        """
        mass = torch.zeros_like(self.column_masses)
        value = torch.zeros((), dtype=torch.float64, device=mass.device)
        for rows, scores in self.scores(potentials):
            row_masses = self.row_masses[rows]
            peaks = scores.amax(dim=1, keepdim=True)  # (B, 1)
            weights = scores.sub_(peaks).exp_()  # (B, C)
            totals = weights.sum(dim=1)  # (B,)
            mass.addmv_(weights.T, row_masses / totals)
            row_levels = totals.log_().add_(peaks.squeeze(1))
            value += row_masses @ row_levels
            if levels is not None:
                levels[rows] = row_levels
        shift = self.shift(potentials)
        dual_value = float(value) - self.demand.soft_mean(shift)
        return Point(potentials, dual_value, mass, self.demand.target(shift))

    def covers(self, potentials: Tensor) -> bool:
        """Return whether the dual is valid at `potentials`; this one is valid everywhere."""
        return True

    def shift(self, potentials: Tensor) -> Tensor:
        """Return the potentials (C,) with 0 in place of -inf, in columns without mass."""
        return potentials.masked_fill(self.column_masses == 0, 0.0)

    def zero_potentials(self) -> Tensor:
        """Return potentials (C,) of 0, and of -inf in columns without mass."""
        zeros = torch.zeros_like(self.column_masses)
        return zeros.masked_fill_(self.column_masses == 0, -math.inf)

    def leveled(self, potentials: Tensor) -> Tensor:
        """Shift the potentials by a constant so that Σ_k c_k exp(-s w_k), with slack, is 1."""
        return potentials - self.demand.soft_mean(self.shift(potentials))

    def laplacian(self, potentials: Tensor) -> Tensor:
        """Return the Hessian (C, C), a graph's Laplacian, up to rounding of float32."""
        classes = len(self.column_masses)
        links = torch.zeros(classes, classes, dtype=torch.float32, device=potentials.device)
        # C rows or more at a time: adding to C² links must not cost more than the product itself.
        step = max(self.block_rows, classes)
        for first in range(0, len(self.row_masses), step):
            rows = slice(first, first + step)
            part = self.part(rows, self.row_masses[rows])
            shares = torch.cat(list(part.root_shares(potentials)))  # (step, C)
            links.addmm_(shares.T, shares)
        return as_laplacian(links.double() + self.demand.links(self.shift(potentials)))

    def root_shares(self, potentials: Tensor) -> Iterator[Tensor]:
        """Yield √r_n · q_nk of each block (B, C), float32; no digits cancel in its Gram matrix."""
        for rows, scores in self.scores(potentials):
            roots = self.row_masses[rows].pow(0.5)
            yield scores.softmax(dim=1).mul_(roots[:, None]).float()

    def scores(self, potentials: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of each block and its Z + w (B, C), float64."""
        for rows, block in self.blocks():
            yield rows, block.mul_(self.sharpness).add_(potentials)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of each block and a copy of its log P (B, C), float64."""
        count = len(self.row_masses)
        for first in range(0, count, self.block_rows):
            rows = slice(first, min(first + self.block_rows, count))
            block = self.log_predictions[rows].to(torch.float64, copy=True)
            if self.floor > -math.inf:
                block.clamp_(min=self.floor)
            yield rows, block

    def sample(self, count: int) -> "FullDual":
        """Return the problem on about `count` rows, always the same ones."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.row_masses), generator=generator)
        rows = order[:count].sort().values.to(self.row_masses.device)
        row_masses = self.row_masses[rows]
        if count >= len(order) or not row_masses.any():
            return self
        return self.part(rows, row_masses / row_masses.sum())

    def part(self, rows: slice | Tensor, row_masses: Tensor) -> "FullDual":
        """Return the problem on some rows, with these masses."""
        return replace(self, log_predictions=self.log_predictions[rows], row_masses=row_masses)


def as_laplacian(links: Tensor) -> Tensor:
    """Turn symmetric links >= 0 (C, C) into diag(Σ_j links_ij) - links, in place.

    The diagonal of the links is ignored; the rows of the result sum to 0.
    """
    links = links.neg_().fill_diagonal_(0.0)
    links.diagonal().copy_(-links.sum(dim=1))
    return links
