"""Which run is next when several run at once, and how many do."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs import Run, Tree

DATA = ("synthesize", "prepare", "source")
LABELS = (*DATA, "pseudo_label")
GPU = Path("/dev/nvidia0")


def default_jobs(tree: Tree, gpu: Path = GPU) -> int:
    """Return how many runs the machine takes at once: one for each `device.threads` cores.

    On a GPU, which all runs would share, it is one.
    """
    name = tree["device"]["name"]
    if name != "cpu" and (name != "auto" or gpu.exists()):
        return 1
    return max(1, len(os.sched_getaffinity(0)) // int(tree["device"]["threads"]))


def shared_parts(tree: Tree, stages: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the stages of the data, and all stages before `train`, depend on, as texts.

    Runs with an equal text share these stages: DVC computes them once, if not both compute at once.

    Args:
        tree: the parameters of a run.
        stages: those of dvc.yaml.
    """
    return _part(tree, stages, DATA), _part(tree, stages, LABELS)


def _part(tree: Tree, stages: Mapping[str, Any], names: Sequence[str]) -> str:
    values = {}
    for stage in names:
        for name in stages.get(stage, {}).get("params", ()):
            path = name.replace("${scale}", tree["scale"]).replace("${dataset}", tree["dataset"])
            node: Any = tree
            for key in path.split("."):
                node = node.get(key) if isinstance(node, dict) else None
            values[path] = node
    return json.dumps([names, values], sort_keys=True, default=str)


def next_run(
    waiting: Sequence[Run],
    shared: Mapping[str, tuple[str, ...]],
    known: Collection[str],
    running: Collection[str],
) -> int | None:
    """Return the position of the run to start next, None if all must wait.

    It is the first one whose shared stages are computed already, or by no run at this time.

    Args:
        waiting: the runs that are left, in order.
        shared: the shared parts of each run, by its name.
        known: shared parts of runs that have finished.
        running: shared parts of runs that are on.
    """
    for position, run in enumerate(waiting):
        if all(part in known or part not in running for part in shared[run.name]):
            return position
    return None
