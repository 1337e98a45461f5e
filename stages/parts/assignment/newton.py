"""Newton's method on the dual F (`dual.py`): the plan of Sinkhorn's algorithm in few steps.

Each step of Sinkhorn's algorithm divides the error by a factor, which is close to 1 where P is
peaked. A Newton step solves C linear equations, but some tens of steps are enough. Where the plan
is nearly an assignment, F is nearly linear and a plain Newton step goes far too far. Hence:

- Continuation: the problem is solved roughly at lower sharpnesses first (`_approach`).
- The first steps are Sinkhorn's, as long as each of them divides the error by five.
- Damping (Levenberg-Marquardt) keeps a step from going too far (`NewtonSteps.newton_step`).
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from stages.parts.assignment.descent import Descent, Solution
from stages.parts.assignment.dual import FullDual, Point
from stages.parts.assignment.sinkhorn import sinkhorn_step
from stages.parts.assignment.thin import Dual, worth_thinning

STRIDE = 5.0  # the most that a Newton step changes a potential, at first
LEAST_DAMPING, MOST_DAMPING = 1e-10, 1e10
# Continuation: the error to stop at, the depth of a ThinDual, the rows to look at per class. More
# noise in the potentials would cost more steps later than it saves.
ROUGH_ERROR, ROUGH_DEPTH, ROUGH_ROWS = 3e-3, 12.0, 64
EASY_PEAK = 32.0  # a row's largest score less its mean, up to which no continuation is needed


def newton(full: FullDual, tolerance: float, limit: int) -> Solution:
    """Step until the L1 error of the label marginal is within `tolerance`."""
    descent = Descent(NewtonSteps().step, limit, long_steps=True)
    potentials = _approach(full, full.zero_potentials(), descent)
    point = descent.run(full, potentials, tolerance)
    return Solution(point, descent.steps, point.error <= tolerance)


def _approach(full: FullDual, potentials: Tensor, descent: Descent) -> Tensor:
    """Return potentials (C,) to start from, by continuation in the sharpness.

    The problem is solved roughly, on a sample of the rows, at sharpnesses that double up to the
    wanted one. Newton's method from zero stalls where the plan is nearly an assignment; at half the
    sharpness the potentials are about half.
    """
    sample = full.sample(ROUGH_ROWS * len(potentials))
    for halvings in range(_halvings(sample), 0, -1):
        sharpness = full.sharpness / 2**halvings
        stage = replace(sample, sharpness=sharpness)
        if sample is not full and worth_thinning(stage, stage.evaluate(potentials), ROUGH_DEPTH):
            # A thin dual of all rows is small enough: the sample is not needed any more.
            sample = full
            stage = replace(full, sharpness=sharpness)
        point = descent.run(stage, potentials, ROUGH_ERROR, ROUGH_DEPTH)
        potentials = 2 * point.potentials
    return potentials


def _halvings(full: FullDual) -> int:
    """Return how often to halve the sharpness so that the rows' mean peak is at most EASY_PEAK."""
    has_mass = full.column_masses > 0
    peaks = torch.empty_like(full.row_masses)  # (N,)
    for rows, block in full.blocks():
        values = block[:, has_mass]
        peaks[rows] = values.amax(dim=1) - values.mean(dim=1)
    peak = max(full.sharpness * float(peaks.mean()), 1e-9)
    return max(0, math.ceil(math.log2(peak / EASY_PEAK)))


class NewtonSteps:
    """Steps of Sinkhorn's algorithm, then damped Newton steps.

    Holds what one step leaves to the next: the damping and the longest stride.
    """

    def __init__(self) -> None:
        self.scaling = True  # whether the next step is one of Sinkhorn's
        self.damping = 0.0
        self.stride = STRIDE

    def step(self, dual: Dual, point: Point) -> Point | None:
        """Return the next point, or None where rounding hides all progress."""
        if not self.scaling:
            return self.newton_step(dual, point)
        next_point = sinkhorn_step(dual, point)
        self.scaling = next_point.error < 0.2 * point.error
        return next_point

    def newton_step(self, dual: Dual, point: Point) -> Point | None:
        """Return the point after a damped Newton step that lowers F, or None.

        The damping grows until both hold: F falls, and each potential changes by at most the
        stride. F is close to linear if hardly any image is divided between two groups of classes.
        """
        columns = dual.column_masses
        gradient = point.gradient
        # F does not change by a common shift of all potentials: c cᵀ makes the Hessian definite.
        hessian = dual.laplacian(point.potentials) + torch.outer(columns, columns)
        scale = torch.where(columns > 0, torch.maximum(point.mass, 1e-3 * columns), 1.0)
        stride = min(self.stride, dual.reach)
        rounding = 1e-13 * (1 + abs(point.value))
        self.damping = max(self.damping / 100, LEAST_DAMPING)
        while self.damping < MOST_DAMPING:
            factor, failed = torch.linalg.cholesky_ex(hessian + torch.diag(self.damping * scale))
            step = -torch.cholesky_solve(gradient[:, None], factor).squeeze(1)  # (C,)
            longest = float(step.abs().max())
            if int(failed) or not longest <= stride:
                self.damping *= _growth(longest / stride)
                continue
            next_point = dual.evaluate(point.potentials + step)
            decrease = 1e-4 * float(gradient @ step)
            if next_point.value <= point.value + decrease + rounding:
                goes_on = longest > stride / 8 and float(next_point.gradient @ step) < 0
                self.stride = 2 * stride if goes_on else STRIDE
                return next_point
            self.damping = max(self.damping * 8, 1e-4)
        return None


def _growth(excess: float) -> float:
    """Return the factor of the damping after a step `excess` times as long as allowed."""
    if not math.isfinite(excess):
        return 100.0
    return min(max(excess, 4.0), 100.0)
