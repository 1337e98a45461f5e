"""The loop that both solvers share: steps down F until the class masses are near their target."""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from stages.parts.assignment.dual import FullDual, Point
from stages.parts.assignment.thin import REACH, Dual, ThinDual, worth_thinning

Step = Callable[[Dual, Point], Point | None]


class Solution(NamedTuple):
    """Where a solver stopped."""

    point: Point
    iterations: int
    converged: bool


class Descent:
    """Repeats `step` up to `limit` times over all runs.

    A step returns the next point on a dual, or None if no step leads down. `long_steps` are those
    that can leave the region where a `ThinDual` is valid.
    """

    def __init__(self, step: Step, limit: int, long_steps: bool = False) -> None:
        self.step = step
        self.limit = limit
        self.long_steps = long_steps
        self.steps = 0

    def run(
        self, full: FullDual, potentials: Tensor, tolerance: float, depth: float | None = None
    ) -> Point:
        """Return the point on `full` where the error is small, or no step is left.

        The steps start at `potentials` (C,). They use a `ThinDual` where that is faster; without a
        depth, it leaves out less than tolerance / 4 of the mass.
        """
        depth = depth or math.log(4 * len(potentials) / tolerance) + REACH
        may_thin = True
        point = full.evaluate(potentials)
        while point.error > tolerance and self.steps < self.limit:
            steps_before, error_before = self.steps, point.error
            if may_thin and worth_thinning(full, point, depth):
                thin = ThinDual(full, point, depth)
                start = thin.evaluate(point.potentials)
                point = full.evaluate(self.descend(thin, start, tolerance / 2).potentials)
                # After a long step the thin dual may leave out too much. Then it is not used again.
                helped = not self.long_steps or point.error < 0.8 * error_before
                may_thin = helped and self.steps > steps_before
            else:
                point = self.descend(full, point, tolerance)
                if self.steps == steps_before:
                    break
        return point

    def descend(self, dual: Dual, point: Point, tolerance: float) -> Point:
        """Step until the error on `dual` is small, `dual` is not valid, or no step is left."""
        while point.error > tolerance and self.steps < self.limit:
            if not dual.covers(point.potentials):
                break
            next_point = self.step(dual, point)
            if next_point is None:
                break
            point = next_point
            self.steps += 1
        return point
