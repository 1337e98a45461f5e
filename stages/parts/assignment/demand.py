"""Target masses of the classes: fixed, or a soft constraint with slack.

Without slack, each class must get its mass c_k. With slack > 0, the class masses m may differ from
c at a cost of KL(m || c) / slack. The optimal plan then gives the classes the target masses

    d_k = c_k exp(-s w_k) / Σ_j c_j exp(-s w_j),    s = slack / sharpness,

where w are the potentials. A class that needs a high potential to get its mass gets less than c_k.
The number s is called elasticity here; at s = 0 the target d is c.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Demand:
    """The target masses as a function of a finite shift of the potentials.

    Example:
        >>> masses = torch.tensor([0.5, 0.5])
        >>> demand = Demand(masses, masses.log(), elasticity=1.0)
        >>> demand.target(torch.tensor([1.0, 4.0]).log())
        tensor([0.8000, 0.2000])
    """

    masses: Tensor  # (C,) float64, the target at shift 0; sum 1
    log_masses: Tensor  # (C,) kept beside the masses, which may underflow
    elasticity: float  # s >= 0

    def target(self, shift: Tensor) -> Tensor:
        """Return d (C,) at `shift` (C,); sum 1."""
        if self.elasticity == 0:
            return self.masses
        return self.log_target(shift).exp()

    def log_target(self, shift: Tensor) -> Tensor:
        """Return log d (C,) at `shift` (C,)."""
        return self.log_masses - self.elasticity * (shift - self.soft_mean(shift))

    def soft_mean(self, shift: Tensor) -> float:
        """Return -log(Σ_k d_k exp(-s shift_k)) / s with d at shift 0, or Σ_k d_k shift_k if s = 0.

        F (`dual.py`) subtracts this term. It is 0 at shift 0.
        """
        if self.elasticity == 0:
            return float((self.masses * shift).sum())
        exponents = -self.elasticity * shift
        if float(exponents.abs().max()) < 1:
            # The sum is near 1: log1p keeps the digits that rounding the sum would lose.
            log_sum = (self.log_masses.exp() @ exponents.expm1()).log1p()
        else:
            log_sum = (self.log_masses + exponents).logsumexp(dim=0)
        return -float(log_sum) / self.elasticity

    def recentered(self, shift: Tensor) -> "Demand":
        """Return the demand whose shifts count from `shift` (C,)."""
        return Demand(self.target(shift), self.log_target(shift), self.elasticity)

    def links(self, shift: Tensor) -> Tensor:
        """Return s · d dᵀ (C, C), whose Laplacian is what slack adds to the Hessian of F."""
        target = self.target(shift)
        return self.elasticity * torch.outer(target, target)
