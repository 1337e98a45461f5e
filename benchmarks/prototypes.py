"""Cost of `train.objective: prototypes` beside `otla`, at the size of the default run.

    python -m benchmarks.prototypes [--steps 40] [--rounds 2] [--threads 1]

The pictures show two colors for each of 90 people, as many of them as the rendered SYSU-MM01 has;
network, batches and losses are the default's. With `prototypes` all terms of the second stage are
on. Each measurement is a process of its own that trains two epochs and measures the second one. The
objectives take turns, so that other programs slow down both; times are medians over the rounds.
`epoch` is what an epoch needs beside its steps: embedding or predicting, clustering, labels. Memory
is the peak above what the process held before the first epoch; on a GPU, that of all tensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import pandas as pd
import torch

from benchmarks.gpu import method_of, peak_memory
from benchmarks.jaccard import memory
from stages.parts.network.head import IdentityNetwork, build
from stages.parts.run.device import open_device, uses_bfloat16
from stages.train.__main__ import OBJECTIVES
from stages.train.data import training_set
from stages.train.loop import new_state
from tests.builders import settings, store

PERSONS = 90
CAMERAS = [(1, "visible"), (4, "visible")] * 7 + [(3, "infrared")] * 6  # an image each
NAMES = ("step", "epoch", "memory")
UNITS = ("ms", "s", "MB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the costs of both objectives, and those of `prototypes` as multiples of `otla`'s."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", choices=OBJECTIVES, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        print(json.dumps(measure(given.measure, given.steps, given.threads)))
        return
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in OBJECTIVES}
    for _ in range(given.rounds):
        for objective, found in costs.items():
            found.append(run(objective, given.steps, given.threads))
    print(f"{'':12}" + "".join(f"{f'{n}, {u}':>14}" for n, u in zip(NAMES, UNITS, strict=True)))
    middle = {
        name: [median(each[n] for each in found) for n in NAMES] for name, found in costs.items()
    }
    for name, values in middle.items():
        print(f"{name:12}" + "".join(f"{value:14.2f}" for value in values))
    ratios = [one / other for one, other in zip(middle["prototypes"], middle["otla"], strict=True)]
    print(f"{'ratio':12}" + "".join(f"{ratio:14.2f}" for ratio in ratios))


def run(objective: str, steps: int, threads: int) -> dict[str, float]:
    """Return what `measure` returns, from a process of its own."""
    options = ["--measure", objective, "--steps", str(steps), "--threads", str(threads)]
    command = [sys.executable, "-m", "benchmarks.prototypes", *options]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    costs: dict[str, float] = json.loads(shown.splitlines()[-1])
    return costs


def measure(objective: str, steps: int, threads: int) -> dict[str, float]:
    """Train two epochs; return milliseconds of a step of the second one, its other seconds, MB."""
    changes = {
        "device.threads": threads,
        "train.objective": objective,
        "train.steps": steps,
        "prototypes.own_epochs": 0,
        "otla.infrared_from_epoch": 0,
    }
    method = method_of(changes)
    chosen, network_settings = settings("device", changes), settings("network", changes)
    device = open_device(chosen)
    size = settings("images", changes)
    images = [
        (person, camera, modality, "train")
        for person in range(PERSONS)
        for camera, modality in CAMERAS
    ]
    with tempfile.TemporaryDirectory() as folder:
        pictures = store(Path(folder) / "images", images, size.height, size.width)
        rows = pictures.rows("train", "visible")
        labels = Path(folder) / "visible.csv"
        table = pd.DataFrame({"row": rows, "label": pictures.table.loc[rows, "person"]})
        table.to_csv(labels, index=False)
        data = training_set(pictures, labels, method.train)
        network = build(IdentityNetwork, 0, network_settings.architecture, data.classes)
        network.half_precision = uses_bfloat16(device, chosen.precision)
        state = new_state(network, data, method, device)
        before = memory("VmRSS")
        for number in range(2):
            figures, times = OBJECTIVES[objective](state, data, method)
            state.history.append({"epoch": number + 1, **figures})
    on_cpu = memory("VmHWM") - before
    return {
        "step": 1000 * times["train_seconds"] / steps,
        "epoch": times["label_seconds"],
        "memory": 1024 * peak_memory() if torch.cuda.is_available() else on_cpu,
    }


if __name__ == "__main__":
    main()
