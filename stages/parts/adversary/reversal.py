"""Gradient reversal between the backbone and the modality discriminator.

The discriminator learns to distinguish the modalities; the backbone learns features in which they
cannot be distinguished.
"""

import math
from typing import Any

import torch
from torch import Tensor


def coefficient(step: int, max_steps: int = 10_000, steepness: float = 10.0) -> float:
    """Return the strength of the reversal, 2 / (1 + exp(-steepness · step / max_steps)) - 1.

    It grows from 0 towards 1, also beyond `max_steps`. `steepness` is the paper's τ.

    Raises:
        ValueError: for a negative step, or for `max_steps` below 1.

    >>> [round(coefficient(step), 3) for step in (0, 1_000, 10_000)]
    [0.0, 0.462, 1.0]
    """
    if step < 0 or max_steps <= 0:
        expected = "expected a step from 0 and a positive number of steps"
        raise ValueError(f"reversal: step {step} of {max_steps}, {expected}")
    return math.tanh(steepness * step / (2 * max_steps))  # the same function, without overflow


def reverse_gradient(x: Tensor, coefficient: float) -> Tensor:
    """Return `x`; in the backward pass its gradient is multiplied by `-coefficient`.

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    same: Tensor = _Reversal.apply(x, coefficient)
    return same


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradient, None
