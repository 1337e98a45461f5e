"""Fixtures for all tests."""

# First: it chooses the kernels that numpy and torch take.
import stages  # isort: skip  # noqa: F401

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

GOLD = Path(os.environ.get("VIREID_GOLD", Path(__file__).parents[2] / "shared" / "gold"))

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def gold() -> Callable[[str], np.lib.npyio.NpzFile]:
    """Golden arrays of the reference implementations: `gold("otla/grl.npz")["coeff"]`."""

    def load(name: str) -> np.lib.npyio.NpzFile:
        if not GOLD.is_dir():
            pytest.skip(f"no golden arrays in {GOLD} (set VIREID_GOLD to their folder)")
        return np.load(GOLD / name)

    return load
