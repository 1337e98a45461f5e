"""One seed, many independent streams: a generator for each named purpose."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for a purpose, the same on every machine.

    Purposes do not share a stream: what one draws does not change what another one draws.

    >>> derive(0, "train", "erase")
    619103335577136597
    """
    name = "/".join([str(seed), *map(str, purpose)])
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a torch generator for a purpose, on the CPU: draws are the same with a GPU."""
    import torch  # here, because it takes 2 s, and the stages that use numpy alone do not need it

    return torch.Generator().manual_seed(derive(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator for a purpose."""
    return np.random.default_rng(derive(seed, *purpose))
