"""Sinkhorn's algorithm, paper Eq. 4, in the log domain.

The plan is diag(α) K diag(β) with the kernel K = P^sharpness (N, C). Sinkhorn's algorithm computes
the scalings of the images α (N,) and of the classes β (C,) in turn, so that the plan gets the row
masses r, then the column masses c, and so on:

    α_n = r_n / Σ_k K_nk β_k
    β_k = c_k / Σ_n α_n K_nk                                                      (Eq. 4)

For uniform masses the paper writes 1 for r_n and c_k, which only scales α and β by constants.

    >>> import torch
    >>> from stages.parts.assignment.transport import solve
    >>> probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]).double()
    >>> kernel, beta = probabilities**5, torch.ones(2).double()
    >>> for _ in range(100):
    ...     alpha = (1 / 3) / (kernel @ beta)
    ...     beta = (1 / 2) / (kernel.T @ alpha)
    >>> transport = solve(probabilities.log(), sharpness=5.0, solver="sinkhorn")
    >>> torch.allclose(transport.potentials, beta.log() - beta.log().mean(), atol=1e-5)
    True

K underflows where P is peaked. With Z = log K and the potentials w = log β, Eq. 4 becomes

    log α_n = log r_n - logsumexp_k (Z_nk + w_k)
    w_k    <- w_k + log c_k - log m_k,    m_k = β_k Σ_n α_n K_nk.

`FullDual.evaluate` does the first line and returns the masses m of the classes, which follow from
it. `class_update` does the second line.
"""

import torch
from torch import Tensor

from stages.parts.assignment.descent import Descent, Solution
from stages.parts.assignment.dual import FullDual, Point
from stages.parts.assignment.thin import Dual

TINY = 1e-300  # lower bound of masses whose logarithm is taken


def sinkhorn(full: FullDual, tolerance: float, limit: int) -> Solution:
    """Repeat Eq. 4, images first, until the label marginal's L1 error is within `tolerance`."""
    descent = Descent(sinkhorn_step, limit)
    point = descent.run(full, full.zero_potentials(), tolerance)
    return Solution(point, descent.steps, point.error <= tolerance)


def released(full: FullDual, tolerance: float, limit: int) -> Solution:
    """Repeat Eq. 4 as OTLA's released code does: classes first, with its stopping rule.

    The images' scalings start at their masses. At every tenth update, the first included, the sum
    over the images of |old scaling / new scaling - 1| is compared with `tolerance`, which is 0.1 in
    the released code. So the number of updates is 1 mod 10, unless `limit` ends them.
    """
    has_mass = full.row_masses > 0
    old_levels = torch.zeros_like(full.row_masses)  # (N,) log r - log α
    levels = torch.empty_like(full.row_masses)
    potentials = first_class_update(full)
    for update in range(limit):
        if full.slack:
            potentials = full.leveled(potentials)
        point = full.evaluate(potentials, levels)
        change = (levels - old_levels)[has_mass].expm1().abs().sum()
        if update % 10 == 0 and float(change) <= tolerance:
            return Solution(point, update + 1, True)
        old_levels.copy_(levels)
        potentials = class_update(full, point)
    return Solution(point, limit, False)


def sinkhorn_step(dual: Dual, point: Point) -> Point:
    """Return the point after the classes' and the images' update."""
    return dual.evaluate(class_update(dual, point))


def class_update(dual: Dual, point: Point) -> Tensor:
    """Return the potentials (C,) after the classes' update of Eq. 4.

    With slack the step is divided by 1 + s, because the target d changes with the potentials.
    """
    ratio = point.target.clamp(min=TINY) / point.mass.clamp(min=TINY)
    return point.potentials + ratio.log() / (1 + dual.demand.elasticity)


def first_class_update(full: FullDual) -> Tensor:
    """Return the potentials (C,) that Eq. 4 gives the classes if α_n = r_n."""
    total = torch.full_like(full.column_masses, -torch.inf)  # (C,) log Σ_n α_n K_nk
    for rows, scores in full.scores(torch.zeros_like(total)):
        scores.add_(full.row_masses[rows].log()[:, None])  # (B, C)
        total = torch.logaddexp(total, scores.logsumexp(dim=0))
    return (full.column_masses.log() - total) / (1 + full.demand.elasticity)
