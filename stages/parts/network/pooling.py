"""Pooling of a feature map to one value for each channel."""

import torch
from torch import Tensor, nn

SMALLEST = 1e-6  # what a value is at least: the power of 0 has no gradient


class Average(nn.Module):
    """The mean over all places."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means (B, C) of maps (B, C, H, W)."""
        return maps.mean((2, 3))


class GeneralizedMean(nn.Module):
    """The generalized mean (GeM) over all places, (mean x^p)^(1/p), with a trained exponent p.

    p = 1 is the mean, p → ∞ the maximum. As in AGW, p starts at 3 and is one number for all
    channels; values below SMALLEST, which a ReLU gives, count as SMALLEST.

    >>> GeneralizedMean()(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[2.4101]], grad_fn=<PowBackward1>)
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the generalized means (B, C) of maps (B, C, H, W), float32 or better."""
        powers = maps.clamp(min=SMALLEST).to(self.exponent.dtype).pow(self.exponent)
        return powers.mean((2, 3)).pow(1 / self.exponent)


POOLINGS = {"average": Average, "gem": GeneralizedMean}
