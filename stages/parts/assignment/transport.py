"""Labels by optimal transport (OTLA, paper Eq. 3-5): every class gets its share of the images, at the least cost.

With slack the shares are a wish and not a must.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.parts.assignment.dual import FullDual, ThinDual, worth_thinning

REACH = 8.0  # spread of the potentials over which a ThinDual serves
STRIDE = 5.0  # the most that a Newton step changes a potential
# On the way to the wanted sharpness: the error to stop at, the depth of a ThinDual, rows a class to look at. More noise
# than that in the potentials costs more steps later than it saves.
ROUGH, DEPTH, ROUGH_ROWS = 3e-3, 12.0, 64
EASY_PEAK = 32.0  # the largest of a row's scores over their mean, up to which no such way is needed
ZERO = -149 * math.log(2)  # log of the smallest float32
TINY = 1e-300  # masses are at least that where they are divided by
LIMITS = {
    ("newton", "marginal"): 500,
    ("sinkhorn", "marginal"): 100_000,
    ("sinkhorn", "change"): 50_000,
}


@dataclass(frozen=True)
class Transport:
    """A solution: the plan is r_n · softmax over k of (sharpness · log P_nk + w_k).

    `labels` (N,) int64: each row's largest entry, the lowest class among equals. `confidence` (N,) float64: that
    entry's share of its row. `potentials` (C,) float64: w (-inf for a class that is to get nothing). Their mean is 0;
    with slack, their height is that at which what the classes are to get, columns · exp(-w · slack / sharpness), adds
    up to 1. `error`: L1 distance of the classes' masses from what they are to get, all masses adding up to 1; the
    rows' masses are exact. `iterations`: updates of the potentials. `converged`: whether the stopping rule was met.
    """

    labels: Tensor
    confidence: Tensor
    potentials: Tensor
    error: float
    iterations: int
    converged: bool


@torch.no_grad()
def solve(
    log_predictions: Tensor,
    sharpness: float,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    solver: str = "newton",
    tolerance: float = 1e-6,
    max_iterations: int | None = None,
    slack: float = 0.0,
    stop: str = "marginal",
) -> Transport:
    """The plan Q >= 0 with given marginals that minimizes <Q, -log P> + KL(Q || uniform) / sharpness.

    That is paper Eq. 3 with kernel P^sharpness (its δ). All arithmetic is float64 in the log domain, so nothing
    underflows however peaked P is. A probability of exactly 0 counts as the smallest that float32 can hold, 2^-149, or
    as the smallest that occurs if that is less: then a plan exists in every case, and a class that every image gives
    exactly 0 gets the images that lose least.

    With slack > 0 the classes' masses m need not be `columns`: KL(m || columns) / slack is added to what is minimized.
    Little slack gives the plan above, much slack every image's own softmax(sharpness · log P).

    Args:
        log_predictions: (N, C) float32 or float64, on any device; rows need not be normalized.
        sharpness: δ > 0.
        rows: (N,) mass of each image; None is uniform.
        columns: (C,) mass that each class is to get; None is uniform. Same sum as `rows`; both are scaled to 1.
        solver: `newton`: few iterations on the potentials of the classes; `sinkhorn`: Eq. 4 step by step.
        tolerance: what the stopping rule compares with.
        max_iterations: None is 500 for `newton`, 100,000 for `sinkhorn`, 50,000 for the rule `change`.
        slack: >= 0.
        stop: `marginal`: when `Transport.error` is within the tolerance. `change`, for `sinkhorn` only: the rule, the
            start and the order of OTLA's released code, whose tolerance is 0.1: at every tenth update the sum over the
            images of |old scaling / new scaling - 1| is within the tolerance. Its numbers of updates are 1 mod 10.

    Raises:
        ValueError: for no images or classes, NaN or +inf among the predictions, a sharpness or tolerance that is not
            positive, masses that are negative, do not fit or differ in their sum, a negative slack, an unknown solver
            or rule.
    """
    _check_predictions(log_predictions)
    _check_options(sharpness, slack, solver, stop, tolerance, max_iterations)
    rows, columns = _marginals(rows, columns, log_predictions)
    with torch.autocast(log_predictions.device.type, enabled=False):
        full = FullDual(log_predictions, sharpness, rows, columns, slack, _floor(log_predictions))
        search = _Search(solver, max_iterations or LIMITS[solver, stop])
        if stop == "change":
            potentials, error, converged = search.settle(full, tolerance)
        else:
            potentials = torch.zeros_like(columns).masked_fill_(columns == 0, -math.inf)
            if solver == "newton":
                potentials = _approach(full, potentials, search)
            potentials, error = search.run(full, potentials, tolerance)
            converged = error <= tolerance
        potentials = (
            _levelled(full, potentials) if slack else potentials - potentials[columns > 0].mean()
        )
        labels, confidence = _labels(full, potentials)
    return Transport(labels, confidence, potentials, error, search.done, converged)


@torch.no_grad()
def plan(
    log_predictions: Tensor, sharpness: float, transport: Transport, rows: Tensor | None = None
) -> Tensor:
    """The dense plan (N, C) float64 of a solution of the same problem, sum 1; for looking and testing."""
    rows, _ = _marginals(rows, None, log_predictions)
    scores = (
        log_predictions.double().clamp(min=_floor(log_predictions)) * sharpness
        + transport.potentials
    )
    return rows[:, None] * scores.softmax(dim=1)


def _approach(full: FullDual, potentials: Tensor, search: "_Search") -> Tensor:
    """Potentials to start from: roughly solved on some of the rows at sharpnesses that double up to the wanted one.

    Newton from zero stalls where the plan is nearly an assignment; at half the sharpness the potentials are about half.
    """
    few = full.sample(ROUGH_ROWS * len(full.columns), full.sharpness)
    peaks = torch.empty_like(few.rows)
    for some, block in few.blocks():
        served = block[:, full.columns > 0]
        peaks[some] = served.amax(dim=1) - served.mean(dim=1)
    halvings = max(
        0, math.ceil(math.log2(max(full.sharpness * float(peaks.mean()), 1e-9) / EASY_PEAK))
    )
    for halving in range(halvings, 0, -1):
        sharpness = full.sharpness / 2**halving
        stage = few.part(slice(None), sharpness, few.rows)
        if len(few.rows) < len(full.rows) and worth_thinning(
            stage, potentials, stage.evaluate(potentials)[1], DEPTH
        ):
            stage = few = full.part(slice(None), sharpness, full.rows)
        potentials, _ = search.run(stage, potentials, ROUGH, DEPTH)
        potentials = potentials * 2
    return potentials


class _Search:
    """Descent on a dual by Sinkhorn or Newton steps; counts them."""

    def __init__(self, solver: str, limit: int) -> None:
        self.newton = solver == "newton"
        self.left, self.done = limit, 0
        self.scaling = True  # whether the next step is one of Sinkhorn's
        self.damping, self.stride = 0.0, STRIDE

    def run(
        self, full: FullDual, potentials: Tensor, goal: float, depth: float | None = None
    ) -> tuple[Tensor, float]:
        """Potentials whose error, measured on the full problem, is below `goal` if steps last, and that error."""
        depth = (
            depth or math.log(4 * len(full.columns) / goal) + REACH
        )  # leaves out less than goal / 4
        may_thin = True
        value, mass = full.evaluate(potentials)
        while (error := distance(mass, full.wanted(potentials))) > goal and self.left > 0:
            before = self.done
            if may_thin and worth_thinning(full, potentials, mass, depth):
                thin = ThinDual(full, potentials, mass, depth)
                potentials, _, _ = self.descend(
                    thin, potentials, thin.evaluate(potentials), goal / 2
                )
                value, mass = full.evaluate(potentials)
                # A long Newton step can leave the region where what was left out is small, and then not help at all.
                fell = distance(mass, full.wanted(potentials)) < 0.8 * error
                may_thin = self.done > before and (not self.newton or fell)
            else:
                potentials, value, mass = self.descend(full, potentials, (value, mass), goal)
                if self.done == before:
                    break
        return potentials, error

    def settle(self, full: FullDual, goal: float) -> tuple[Tensor, float, bool]:
        """The updates of OTLA's released code, classes first, up to its rule: potentials, error, whether it was met."""
        old, new = (
            torch.zeros_like(full.rows),
            torch.empty_like(full.rows),
        )  # log of row mass / image's scaling
        counts, met = full.rows > 0, False
        potentials = mass = full.columns
        while self.left > 0 and not met:
            potentials = scaled(full, potentials, mass) if self.done else full.first_scaling()
            potentials = _levelled(full, potentials) if full.slack else potentials
            _, mass = full.evaluate(potentials, new)
            met = self.done % 10 == 0 and float((new - old)[counts].expm1().abs().sum()) <= goal
            old, new = new, old
            self.done, self.left = self.done + 1, self.left - 1
        return potentials, distance(mass, full.wanted(potentials)), met

    def descend(
        self, dual: FullDual | ThinDual, potentials: Tensor, at: tuple[float, Tensor], goal: float
    ) -> tuple[Tensor, float, Tensor]:
        """Step until the error on `dual` is below `goal`, its validity or the steps end, or no step leads down."""
        value, mass = at
        while (error := distance(mass, dual.wanted(potentials))) > goal and self.left > 0:
            if isinstance(dual, ThinDual) and dual.spread(potentials) > REACH:
                break
            if self.scaling:
                potentials = scaled(dual, potentials, mass)
                value, mass = dual.evaluate(potentials)
                self.scaling = (
                    not self.newton or distance(mass, dual.wanted(potentials)) < 0.2 * error
                )
            else:
                found = self.newton_step(dual, potentials, value, mass)
                if found is None:
                    break
                potentials, value, mass = found
            self.done, self.left = self.done + 1, self.left - 1
        return potentials, value, mass

    def newton_step(
        self, dual: FullDual | ThinDual, potentials: Tensor, value: float, mass: Tensor
    ) -> tuple[Tensor, float, Tensor] | None:
        """A damped Newton step that lowers F: potentials, F and masses there. None where rounding hides all progress.

        Damping (Levenberg-Marquardt) grows until no potential changes by more than STRIDE and F falls: where hardly an
        image is torn between two groups of classes, F is close to linear and the plain step would go far too far.
        """
        columns, gradient = dual.columns, mass - dual.wanted(potentials)
        hessian = dual.laplacian(potentials) + torch.outer(
            columns, columns
        )  # F does not see a common shift of all
        scale = torch.where(columns > 0, torch.maximum(mass, 1e-3 * columns), 1.0)
        self.damping = max(self.damping / 100, 1e-10)
        stride = min(self.stride, REACH) if isinstance(dual, ThinDual) else self.stride
        while self.damping < 1e10:
            factor, failed = torch.linalg.cholesky_ex(hessian + torch.diag(self.damping * scale))
            step = -torch.cholesky_solve(gradient[:, None], factor).squeeze(1)
            longest = float(step.abs().max())
            if int(failed) or not longest <= stride:
                self.damping *= (
                    min(max(longest / stride, 4.0), 100.0) if math.isfinite(longest) else 100.0
                )
                continue
            there = potentials + step
            new_value, new_mass = dual.evaluate(there)
            rounding = 1e-13 * (1 + abs(value))
            if new_value <= value + 1e-4 * float(gradient @ step) + rounding:
                onwards = longest > stride / 8 and float((new_mass - dual.wanted(there)) @ step) < 0
                self.stride = 2 * stride if onwards else STRIDE
                return there, new_value, new_mass
            self.damping = max(self.damping * 8, 1e-4)
        return None


def scaled(dual: FullDual | ThinDual, potentials: Tensor, mass: Tensor) -> Tensor:
    """The classes' update of Eq. 4, which makes their masses right if the images' scalings stay; less with slack."""
    wanted = dual.wanted(potentials).clamp(min=TINY) / mass.clamp(min=TINY)
    return potentials + wanted.log() / (1 + dual.demand.elasticity)


def _levelled(full: FullDual, potentials: Tensor) -> Tensor:
    """Potentials at the height at which what the classes are to get adds up to 1 by itself."""
    return potentials - full.demand.value(full.shift(potentials))


def distance(mass: Tensor, columns: Tensor) -> float:
    """L1 distance of two distributions over classes."""
    return float((mass - columns).abs().sum())


def _labels(full: FullDual, potentials: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's largest entry and its share of the row."""
    labels, confidence = torch.empty_like(full.rows, dtype=torch.int64), torch.empty_like(full.rows)
    for some, scores in full.scores(potentials):
        peak, labels[some] = scores.max(dim=1)  # the first of equals
        confidence[some] = 1 / scores.sub_(peak[:, None]).exp_().sum(dim=1)
    return labels, confidence


def _floor(log_predictions: Tensor) -> float:
    """The finite value that stands for -inf; -inf where there is none."""
    if log_predictions.amin() > -math.inf:
        return -math.inf
    lowest = min(
        float(some.masked_fill(some == -math.inf, math.inf).amin())
        for some in log_predictions.split(2**12)
    )
    return float(log_predictions.new_tensor(min(lowest, ZERO)))


def _marginals(
    rows: Tensor | None, columns: Tensor | None, log_predictions: Tensor
) -> tuple[Tensor, Tensor]:
    """Row and column masses, float64, each scaled to sum 1."""
    found = []
    for name, given, count in zip(
        ("rows", "columns"), (rows, columns), log_predictions.shape, strict=True
    ):
        if given is None:
            given = torch.full((count,), 1 / count)
        if given.shape != (count,):
            raise ValueError(
                f"transport: {name} has shape {tuple(given.shape)}, expected ({count},)"
            )
        masses = given.to(log_predictions.device, torch.float64)
        if not (torch.isfinite(masses).all() and (masses >= 0).all() and masses.sum() > 0):
            raise ValueError(f"transport: {name} must be finite, not negative, and not all 0")
        found.append(masses)
    totals = [float(masses.sum()) for masses in found]
    if rows is not None and columns is not None and not math.isclose(*totals, rel_tol=1e-5):
        raise ValueError(
            f"transport: rows add up to {totals[0]:g}, columns to {totals[1]:g}, expected the same"
        )
    return found[0] / totals[0], found[1] / totals[1]


def _check_predictions(log_predictions: Tensor) -> None:
    if log_predictions.ndim != 2 or log_predictions.numel() == 0:
        raise ValueError(
            f"transport: log_predictions {tuple(log_predictions.shape)}, expected (images, classes)"
        )
    if log_predictions.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"transport: log_predictions are {log_predictions.dtype}, expected float32 or float64"
        )
    if not log_predictions.amax() < math.inf:
        raise ValueError("transport: log_predictions contain NaN or +inf")


def _check_options(
    sharpness: float,
    slack: float,
    solver: str,
    stop: str,
    tolerance: float,
    max_iterations: int | None,
) -> None:
    for name, value in (("sharpness", sharpness), ("tolerance", tolerance)):
        if not 0 < value < math.inf:
            raise ValueError(f"transport: {name} {value}, expected a positive number")
    if not 0 <= slack < math.inf:
        raise ValueError(f"transport: slack {slack}, expected a number of at least 0")
    if solver not in ("newton", "sinkhorn"):
        raise ValueError(f"transport: solver {solver!r}, expected newton or sinkhorn")
    if stop not in ("marginal", "change"):
        raise ValueError(f"transport: stop {stop!r}, expected marginal or change")
    if (solver, stop) not in LIMITS:
        raise ValueError(
            f"transport: stop {stop!r} is a rule for the solver sinkhorn, not for {solver}"
        )
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"transport: max_iterations {max_iterations}, expected at least 1")
