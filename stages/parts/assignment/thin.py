"""F over the entries of the plan that matter: an accelerator on the CPU.

A first reading may skip this file.

Where P is peaked, nearly all of the plan's mass lies in a few entries of each row. On the problem
of `benchmarks/transport.py` (11,909 images, 395 classes, error 1e-5) and one core, `sinkhorn` takes
4.6 CPU seconds with this file and 120 without, `newton` 0.7 and 1.1. The labels are the same.
"""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from stages.parts.assignment.dual import FullDual, Point, as_laplacian

THIN = 0.1  # share of entries that matter, below which picking them out pays
PIECE = 2**22  # entries worked on at a time, so that a step needs little memory beside them
CROWDED = 20  # rows with more than C / CROWDED entries are cheaper as a product of matrices
REACH = 8.0  # spread of the potentials over which a ThinDual is used
MATTERS = 1e-9  # share of a row below which an entry is left out of the Hessian


class Piece(NamedTuple):
    """The kept entries of neighboring rows, sorted by row."""

    rows: slice
    row: Tensor  # (E,) int32, counted from the first of the rows
    column: Tensor  # (E,) int32
    log_share: Tensor  # (E,) float64

    def weights(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries' weights (E,) at `shift` (C,) from the origin, and each row's sum."""
        weights = (self.log_share + shift[self.column]).exp_()
        totals = weights.new_zeros(self.rows.stop - self.rows.start)
        return weights, totals.index_add_(0, self.row, weights)


class ThinDual:
    """F over the entries that matter near a point, the origin; the other entries count as zero.

    An entry is kept if its share q_nk of its row is above exp(-depth), or above
    exp(-depth) · m_k / c_k if its column has less mass m_k than c_k. If the change of the
    potentials since the origin has max - min = D, the entries left out are below
    C · exp(D - depth) of a row.
    """

    reach = REACH

    def __init__(self, full: FullDual, origin: Point, depth: float) -> None:
        self.row_masses = full.row_masses
        self.column_masses = full.column_masses
        self.origin = origin.potentials
        self.demand = full.demand.recentered(full.shift(origin.potentials))
        self.pieces = _pick_entries(full, self.origin, _limits(full, origin, depth))

    def evaluate(self, potentials: Tensor) -> Point:
        """Return F less its value at the origin, and the class masses, over the kept entries."""
        shift = self.shift(potentials)
        mass = torch.zeros_like(self.column_masses)
        value = 0.0
        for piece in self.pieces:
            row_masses = self.row_masses[piece.rows]
            weights, totals = piece.weights(shift)
            scalings = row_masses / totals  # (B,)
            mass.index_add_(0, piece.column, weights.mul_(scalings[piece.row]))
            value += float(row_masses @ totals.log())
        value -= self.demand.soft_mean(shift)
        return Point(potentials, value, mass, self.demand.target(shift))

    def covers(self, potentials: Tensor) -> bool:
        """Return whether `potentials` (C,) are near enough to the origin."""
        shift = self.shift(potentials)
        return float(shift.max() - shift.min()) <= self.reach

    def shift(self, potentials: Tensor) -> Tensor:
        """Return the potentials less the origin (C,); 0 where both are -inf."""
        return torch.where(self.column_masses > 0, potentials - self.origin, 0.0)

    def laplacian(self, potentials: Tensor) -> Tensor:
        """Return the Hessian (C, C): a Laplacian whose links are pairs of entries of a row."""
        shift = self.shift(potentials)
        classes = len(shift)
        links = torch.zeros(classes, classes, dtype=torch.float64, device=shift.device)
        for piece in self.pieces:
            row_masses = self.row_masses[piece.rows]
            weights, totals = piece.weights(shift)
            shares = weights.div_(totals[piece.row])  # (E,)
            matters = shares > MATTERS
            row = piece.row[matters].long()
            column = piece.column[matters].long()
            root_shares = shares[matters] * row_masses[row].pow(0.5)
            entries = torch.bincount(row, minlength=len(row_masses))  # (B,)
            crowded = (entries > classes / CROWDED)[row]
            for chosen, products in ((~crowded, _pairwise_links), (crowded, _gram_links)):
                links += products(row[chosen], column[chosen], root_shares[chosen], classes)
        return as_laplacian(links + self.demand.links(shift))


Dual = FullDual | ThinDual


def worth_thinning(full: FullDual, point: Point, depth: float) -> bool:
    """Return whether a `ThinDual` is faster: on the CPU, if few entries of 256 rows matter."""
    if full.log_predictions.device.type != "cpu":
        return False
    sample = full.sample(256)
    limits = _limits(full, point, depth)
    kept = 0
    for _, scores in sample.scores(point.potentials):
        kept += int((scores.log_softmax(dim=1) > limits).sum())
    return kept < THIN * len(sample.row_masses) * len(sample.column_masses)


def _pick_entries(full: FullDual, potentials: Tensor, limits: Tensor) -> list[Piece]:
    """Return the entries of the plan whose log share of their row is above `limits` (C,)."""
    images, classes = len(full.row_masses), len(limits)
    # One large room for all: small results, kept between the large blocks, would hinder the
    # allocator from reusing the blocks' memory.
    room = min(PIECE + full.block_rows * classes, images * classes)
    places = torch.empty(2, room, dtype=torch.int32, device=limits.device)
    log_shares = torch.empty(room, dtype=torch.float64, device=limits.device)
    pieces = []
    first = count = 0
    for rows, scores in full.scores(potentials):
        block = scores.log_softmax(dim=1)  # (B, C)
        row, column = (block > limits).nonzero(as_tuple=True)  # (E,), (E,)
        entries = slice(count, count + len(row))
        places[0, entries] = row + (rows.start - first)
        places[1, entries] = column
        log_shares[entries] = block[row, column]
        count = entries.stop
        if count >= PIECE or rows.stop == images:
            row, column = places[:, :count].clone()
            pieces.append(Piece(slice(first, rows.stop), row, column, log_shares[:count].clone()))
            first, count = rows.stop, 0
    return pieces


def _limits(full: FullDual, point: Point, depth: float) -> Tensor:
    """Return the log share (C,) above which a column's entries matter near `point`."""
    lack = (full.column_masses / point.mass).log_()
    # NaN is 0 / 0: a column without mass lacks none.
    return -depth - lack.nan_to_num_(nan=0.0).clamp_(min=0.0)


def _pairwise_links(row: Tensor, column: Tensor, share: Tensor, classes: int) -> Tensor:
    """Return Σ over rows of the products of their entries (C, C), pair by pair.

    The entries (E,) are sorted by row. For rows of few entries.
    """
    links = torch.zeros(classes**2, dtype=torch.float64, device=share.device)
    row_end = torch.searchsorted(row, row, right=True)  # (E,) where each entry's row ends
    first = torch.arange(len(row), device=row.device)
    for distance in range(1, classes):
        first = first[first + distance < row_end[first]]
        if len(first) == 0:
            break
        second = first + distance
        link = column[first] * classes + column[second]
        links.index_add_(0, link, share[first] * share[second])
    links = links.view(classes, classes)
    return links + links.T


def _gram_links(row: Tensor, column: Tensor, share: Tensor, classes: int) -> Tensor:
    """Return the same as products of dense matrices of C rows each. For rows of many entries."""
    links = torch.zeros(classes, classes, dtype=torch.float32, device=share.device)
    present, row = torch.unique_consecutive(row, return_inverse=True)
    edges = torch.arange(0, len(present) + classes, classes, device=row.device)
    ends = torch.searchsorted(row, edges).tolist()  # where each C rows begin and end
    for number, (first, last) in enumerate(itertools.pairwise(ends)):
        entries = slice(first, last)
        dense = torch.zeros(classes, classes, dtype=torch.float32, device=share.device)
        dense[row[entries] - number * classes, column[entries]] = share[entries].float()
        links.addmm_(dense.T, dense)
    return links.double()
