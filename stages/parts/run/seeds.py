"""One seed, many independent streams: a generator for each named purpose."""

import hashlib

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for `purpose` (`derive(0, "train", "erase")`), the same on every machine.

    Streams do not shift when another purpose draws more or less.
    """
    name = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A torch generator on the CPU, whatever the device: draws are the same with and without a GPU."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator for `purpose`."""
    return np.random.default_rng(derive(seed, *purpose))
