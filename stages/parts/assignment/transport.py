"""Labels by optimal transport (OTLA, paper Eq. 3-5): each class gets its share of the images.

Among all plans with these shares, `solve` returns the one of least cost. With slack > 0 the class
shares are a soft constraint.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.parts.assignment.descent import Solution
from stages.parts.assignment.dual import FullDual
from stages.parts.assignment.newton import newton
from stages.parts.assignment.sinkhorn import released, sinkhorn

Solver = Callable[[FullDual, float, int], Solution]  # (problem, tolerance, most iterations)

# Each solver, and how many iterations it may take if `max_iterations` is None.
SOLVERS: dict[str, tuple[Solver, int]] = {
    "newton": (newton, 500),
    "sinkhorn": (sinkhorn, 100_000),
    "released": (released, 50_000),
}
LOG_ZERO = -149 * math.log(2)  # log of the smallest float32


@dataclass(frozen=True)
class Transport:
    """A solution: the plan is r_n · softmax over k of (sharpness · log P_nk + w_k).

    Attributes:
        labels: (N,) int64, each row's largest entry; the lowest class among equals.
        confidence: (N,) float64, that entry's share of its row.
        potentials: (C,) float64, w; -inf for a class that must get nothing. Their mean is 0. With
            slack, they are shifted so that the target masses columns · exp(-w · slack / sharpness)
            sum to 1.
        error: L1 distance of the class masses from their target, where all masses sum to 1. The
            row masses are exact.
        iterations: how often the potentials were updated.
        converged: whether the solver's stopping rule was met.
    """

    labels: Tensor
    confidence: Tensor
    potentials: Tensor
    error: float
    iterations: int
    converged: bool


@torch.no_grad()
def solve(  # noqa: PLR0913 (one problem, eight named values; other tools call it)
    log_predictions: Tensor,
    sharpness: float,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    solver: str = "newton",
    tolerance: float = 1e-6,
    max_iterations: int | None = None,
    slack: float = 0.0,
) -> Transport:
    """Return the plan Q >= 0 of least cost with given marginals (paper Eq. 3).

    The cost is <Q, -log P> + KL(Q || uniform) / sharpness, where sharpness is the paper's δ and
    the kernel is P^δ. All arithmetic is float64 in the log domain, so nothing underflows, even if P
    is very peaked. A probability of exactly 0 counts as the smallest positive float32, 2^-149, or
    as the smallest probability that occurs if this is less. So a plan always exists, and a class to
    which every image gives exactly 0 gets the images that lose least.

    With slack > 0 the class masses m may differ from `columns`: the cost gains
    KL(m || columns) / slack. With little slack the plan is the one above; with much slack it is
    every image's own softmax(sharpness · log P).

    Args:
        log_predictions: (N, C) float32 or float64, on any device; rows need not be normalized.
        sharpness: δ > 0.
        rows: (N,) mass of each image; None is uniform.
        columns: (C,) mass that each class must get; None is uniform. The sum must be that of
            `rows`; both are scaled to 1.
        solver: `newton`: few iterations on the potentials of the classes. `sinkhorn`: paper Eq. 4.
            Both stop when `Transport.error` is within the tolerance. `released`: Eq. 4 with the
            start, the order and the stopping rule of OTLA's released code, whose customary
            tolerance is 0.1 (`sinkhorn.py`).
        tolerance: what the stopping rule compares with, > 0.
        max_iterations: None is 500 for `newton`, 100,000 for `sinkhorn`, 50,000 for `released`.
        slack: >= 0. KL(class shares || `columns`) / slack is a cost in units of -log P.

    Returns:
        The plan as labels, confidence and potentials, and how the solver stopped.

    Raises:
        ValueError: if there are no images or classes; if the predictions contain NaN or +inf; if
            the sharpness or the tolerance is not positive, or the slack negative; if masses are
            negative, have another length or differ in their sum; if the solver is unknown.

    Example:
        All four images prefer class 0; two of them must get class 1.

        >>> probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
        >>> solve(probabilities.log(), sharpness=25.0).labels
        tensor([0, 1, 0, 1])
        >>> prior = torch.tensor([0.75, 0.25])
        >>> solve(probabilities.log(), sharpness=25.0, columns=prior).labels
        tensor([0, 1, 0, 0])
        >>> solve(probabilities.log(), sharpness=25.0, slack=100.0).labels
        tensor([0, 0, 0, 0])
    """
    _check_predictions(log_predictions)
    _check_options(sharpness, solver, tolerance, max_iterations, slack)
    row_masses, column_masses = _marginals(rows, columns, log_predictions)
    floor = _floor(log_predictions)
    run, most_iterations = SOLVERS[solver]
    with torch.autocast(log_predictions.device.type, enabled=False):
        full = FullDual(log_predictions, sharpness, row_masses, column_masses, slack, floor)
        solution = run(full, tolerance, max_iterations or most_iterations)
        potentials = solution.point.potentials
        if slack:
            potentials = full.leveled(potentials)
        else:
            potentials = potentials - potentials[column_masses > 0].mean()
        labels, confidence = _labels(full, potentials)
    error = solution.point.error
    return Transport(labels, confidence, potentials, error, solution.iterations, solution.converged)


@torch.no_grad()
def plan(
    log_predictions: Tensor, sharpness: float, transport: Transport, rows: Tensor | None = None
) -> Tensor:
    """Return the dense plan of a solution, for looking and testing; `solve` never stores it.

    Args:
        log_predictions: (N, C), those that were solved.
        sharpness: the one that was solved with.
        transport: the solution.
        rows: (N,) mass of each image, as for `solve`.

    Returns:
        The plan (N, C), float64, sum 1.

    Example:
        >>> log_predictions = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]]).log()
        >>> transport = solve(log_predictions, sharpness=5.0)
        >>> plan(log_predictions, 5.0, transport).sum(dim=0)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    row_masses, _ = _marginals(rows, None, log_predictions)
    scores = log_predictions.double().clamp(min=_floor(log_predictions)) * sharpness
    shares = (scores + transport.potentials).softmax(dim=1)  # (N, C)
    return row_masses[:, None] * shares


def _labels(full: FullDual, potentials: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's largest entry (N,) and its share of the row (N,)."""
    labels = torch.empty_like(full.row_masses, dtype=torch.int64)
    confidence = torch.empty_like(full.row_masses)
    for rows, scores in full.scores(potentials):
        peaks, labels[rows] = scores.max(dim=1)  # the first of equals
        confidence[rows] = 1 / scores.sub_(peaks[:, None]).exp_().sum(dim=1)
    return labels, confidence


def _floor(log_predictions: Tensor) -> float:
    """Return the finite value that stands for -inf; -inf where none occurs."""
    if log_predictions.amin() > -math.inf:
        return -math.inf
    lowest = LOG_ZERO
    for block in log_predictions.split(2**12):
        finite = block.masked_fill(block == -math.inf, math.inf)
        lowest = min(lowest, float(finite.amin()))
    return float(log_predictions.new_tensor(lowest))


def _marginals(
    rows: Tensor | None, columns: Tensor | None, log_predictions: Tensor
) -> tuple[Tensor, Tensor]:
    """Return row masses (N,) and column masses (C,), float64, each scaled to sum 1."""
    images, classes = log_predictions.shape
    row_masses = _masses("rows", rows, images, log_predictions.device)
    column_masses = _masses("columns", columns, classes, log_predictions.device)
    row_sum, column_sum = float(row_masses.sum()), float(column_masses.sum())
    both_given = rows is not None and columns is not None
    if both_given and not math.isclose(row_sum, column_sum, rel_tol=1e-5):
        sums = f"rows add up to {row_sum:g}, columns to {column_sum:g}"
        raise ValueError(f"transport: {sums}, expected the same")
    return row_masses / row_sum, column_masses / column_sum


def _masses(name: str, masses: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Return the masses (count,) as float64, checked; uniform if None."""
    if masses is None:
        masses = torch.full((count,), 1 / count)
    if masses.shape != (count,):
        shape = tuple(masses.shape)
        raise ValueError(f"transport: {name} has shape {shape}, expected ({count},)")
    masses = masses.to(device, torch.float64)
    if not (torch.isfinite(masses).all() and (masses >= 0).all() and masses.sum() > 0):
        raise ValueError(f"transport: {name} must be finite, not negative, and not all 0")
    return masses


def _check_predictions(log_predictions: Tensor) -> None:
    shape, dtype = tuple(log_predictions.shape), log_predictions.dtype
    if log_predictions.ndim != 2 or log_predictions.numel() == 0:
        raise ValueError(f"transport: log_predictions {shape}, expected (images, classes)")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"transport: log_predictions are {dtype}, expected float32 or float64")
    if not log_predictions.amax() < math.inf:
        raise ValueError("transport: log_predictions contain NaN or +inf")


def _check_options(
    sharpness: float, solver: str, tolerance: float, max_iterations: int | None, slack: float
) -> None:
    for name, value in (("sharpness", sharpness), ("tolerance", tolerance)):
        if not 0 < value < math.inf:
            raise ValueError(f"transport: {name} {value}, expected a positive number")
    if not 0 <= slack < math.inf:
        raise ValueError(f"transport: slack {slack}, expected a number of at least 0")
    if solver not in SOLVERS:
        names = ", ".join(SOLVERS)
        raise ValueError(f"transport: solver {solver!r}, expected one of {names}")
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"transport: max_iterations {max_iterations}, expected at least 1")
