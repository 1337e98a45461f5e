"""Stand-ins for faiss and DVCLive, so that a machine with a GPU needs neither of them.

python -m tests.gpu.stand_ins stages.train

runs a module with them. A package that is installed is not replaced.
"""

import stages  # isort: skip  # noqa: F401 - chooses the kernels before numpy and torch are imported

import importlib.util
import runpy
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch


def install() -> list[str]:
    """Put a stand-in where a package is missing; return the names of those packages."""
    missing = [name for name in STAND_INS if importlib.util.find_spec(name) is None]
    for package in missing:
        for name, contents in STAND_INS[package].items():
            module = ModuleType(name)
            vars(module).update(contents)
            sys.modules[name] = module
    return missing


class Live:
    """DVCLive's logger as `curves.py` uses it; it writes nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def log_metric(self, *_: object, **__: object) -> None:
        """Ignore a value."""

    def next_step(self) -> None:
        """Ignore the end of an epoch."""


def pairwise_distances(queries: np.ndarray, gallery: np.ndarray, metric: int = 0) -> np.ndarray:
    """Inner products (Q, G) float32 on the CPU."""
    products: np.ndarray = (torch.from_numpy(queries) @ torch.from_numpy(gallery).T).numpy()
    return products


# The modules of each package, and what they hold.
STAND_INS: dict[str, dict[str, dict[str, Any]]] = {
    "dvclive": {"dvclive": {}, "dvclive.live": {"Live": Live}},
    "faiss": {
        "faiss": {
            "METRIC_INNER_PRODUCT": 0,
            "get_num_gpus": lambda: 0,
            "pairwise_distances": pairwise_distances,
        },
    },
}


if __name__ == "__main__":
    install()
    _, name, *arguments = sys.argv
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
