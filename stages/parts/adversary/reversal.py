"""Gradient reversal: the discriminator learns to tell the modalities apart, what feeds it learns to hide them."""

import math
from typing import Any

import torch
from torch import Tensor


def coefficient(step: int, max_steps: int = 10_000, steepness: float = 10.0) -> float:
    """Strength of the reversal at `step`: 2 / (1 + exp(-steepness · step / max_steps)) - 1, from 0 towards 1.

    `steepness` is the paper's τ. Goes on towards 1 beyond `max_steps`. ValueError for a negative step.
    """
    if step < 0 or max_steps <= 0:
        raise ValueError(
            f"reversal: step {step} of {max_steps}, expected a step from 0 and a positive number of steps"
        )
    return math.tanh(steepness * step / (2 * max_steps))  # the same function, without overflow


def reverse_gradient(x: Tensor, coefficient: float) -> Tensor:
    """`x` on the way forward; on the way back the gradient times `-coefficient`."""
    return _Reversal.apply(x, coefficient)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None
