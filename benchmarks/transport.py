"""What labels by optimal transport cost: Newton and Sinkhorn of this package, the plain loop of Eq. 4, and POT.

    python -m benchmarks.transport [--quick] [--threads 2]
    python -m benchmarks.transport --large [IMAGES]

The problem has SYSU-MM01's size (11,909 infrared images, 395 labels) and the paper's sharpness, 25: logits are N(0, 1)
plus 8 on one class, the right one for half of the images. All solve it to the same L1 error of the class marginal, in
one run on one machine, each in a fresh process, and their labels must be equal. The loop is what a few lines of numpy
give: kernel P^25 in float64, two products of matrix and vector a step, the error looked at every tenth step. Memory is
the most that the process held while it solved, in multiples of log P (float64, itself included), read from Linux.

With --large Newton alone solves 1,000,000 x 2,000 in float32, 8 GB; memory is then that of the whole process.
"""

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ot
import torch
from threadpoolctl import threadpool_limits

from stages.parts.assignment.transport import solve

SHARPNESS = 25.0
BLOCK = 10_000  # images drawn at a time
Answer = tuple[np.ndarray, int]  # log weights of the classes, steps


@dataclass(frozen=True)
class Cost:
    """What a method answered and what that took; memory in multiples of log P."""

    weights: np.ndarray
    steps: int
    seconds: float
    memory: float


def main() -> None:
    """Print a table: seconds, steps, error, how many times longer than Newton, memory."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="2,000 images and 100 labels")
    options.add_argument(
        "--large", type=int, nargs="?", const=1_000_000, help="images of the large problem"
    )
    options.add_argument("--threads", type=int, default=2, help="threads of every method")
    options.add_argument(
        "--error", type=float, default=1e-5, help="L1 error of the class marginal to reach"
    )
    given = options.parse_args()
    if given.large:
        large(given.large, 2000, given.error, given.threads)
    else:
        compare(*((2000, 100) if given.quick else (11_909, 395)), given.error, given.threads)


def compare(images: int, classes: int, goal: float, threads: int) -> None:
    """All methods on one problem."""
    log_predictions = problem(images, classes)
    print(f"{images:,} images, {classes} labels, sharpness {SHARPNESS:g}, {threads} threads")
    print(f"{'':16} {'seconds':>9} {'steps':>7} {'error':>8} {'ratio':>6} {'memory':>7}")
    labels, newton = {}, 0.0
    for name in METHODS:
        cost = in_fresh_process(name, log_predictions, goal, threads)
        newton = newton or cost.seconds
        scores = SHARPNESS * log_predictions + cost.weights
        labels[name], error = scores.argmax(axis=1), marginal_error(scores)
        figures = f"{cost.seconds:9.2f} {cost.steps:7,} {error:8.1e} {cost.seconds / newton:6.1f} {cost.memory:7.2f}"
        print(f"{name:16} {figures}", flush=True)
        assert error <= 1.01 * goal, f"{name} stopped at an error of {error:g}"
        different = int((labels[name] != labels["newton (ours)"]).sum())
        assert different == 0, (
            f"{name} gives {different} of {images} images another label than newton"
        )
    print("labels are identical")


def large(images: int, classes: int, goal: float, threads: int) -> None:
    """Newton on a problem whose size matters."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    log_predictions = problem(images, classes, np.float32)
    drawn = time.perf_counter()
    size = f"{log_predictions.nbytes / 1e9:.1f} GB"
    print(
        f"{images:,} images, {classes:,} labels, {size}, drawn in {drawn - started:.0f} s; {threads} threads"
    )
    found = solve(torch.from_numpy(log_predictions), SHARPNESS, tolerance=goal)
    seconds, peak = time.perf_counter() - drawn, resident("VmHWM")
    print(f"{seconds:.0f} s, {found.iterations} steps, error {found.error:.1e}", end=", ")
    print(f"peak of the process {peak / 1e9:.1f} GB = {peak / log_predictions.nbytes:.2f} of log P")
    assert found.converged, f"newton stopped at an error of {found.error:g}"


def in_fresh_process(name: str, log_predictions: np.ndarray, goal: float, threads: int) -> Cost:
    """A method's cost where nothing but the problem is in memory."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh,
    ):
        np.save(path := Path(folder) / "log_predictions.npy", log_predictions)
        return fresh.submit(measured, name, path, goal, threads).result()


def measured(name: str, path: Path, goal: float, threads: int) -> Cost:
    """Run in the fresh process; a small problem first, for what libraries load and keep."""
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        METHODS[name](problem(500, 20), goal)
        before = resident("VmRSS")
        log_predictions = np.load(path)
        started = time.perf_counter()
        weights, steps = METHODS[name](log_predictions, goal)
        seconds = time.perf_counter() - started
    return Cost(weights, steps, seconds, (resident("VmHWM") - before) / log_predictions.nbytes)


def resident(field: str) -> int:
    """Bytes of memory that this process holds (VmRSS) or held at most (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, f"/proc/self/status has no {field}"
    return int(found[1]) * 1024


def problem(images: int, classes: int, dtype: type = np.float64) -> np.ndarray:
    """log P (images, classes), drawn in blocks."""
    found: np.ndarray = np.empty((images, classes), dtype)
    for first in range(0, images, BLOCK):
        part = found[first : first + BLOCK]
        draw = np.random.default_rng(first)
        draw.standard_normal(dtype=dtype, out=part)
        image = np.arange(len(part))
        liked = np.where(
            draw.random(len(part)) < 0.5,
            (first + image) % classes,
            draw.integers(0, classes, len(part)),
        )
        part[image, liked] += 8
        part -= np.log(np.exp(part).sum(axis=1, keepdims=True))
    return found


def ours(log_predictions: np.ndarray, error: float, solver: str) -> Answer:
    """`solve`, labels and confidence included."""
    found = solve(torch.from_numpy(log_predictions), SHARPNESS, solver=solver, tolerance=error)
    return found.potentials.numpy(), found.iterations


def loop(log_predictions: np.ndarray, error: float) -> Answer:
    """Eq. 4 as it stands."""
    kernel = np.exp(log_predictions) ** SHARPNESS
    images, classes = kernel.shape
    of_images = np.full(images, 1 / images)
    for step in range(1, 10**6):
        of_classes = (1 / classes) / (of_images @ kernel)
        of_images = (1 / images) / (kernel @ of_classes)
        if (
            step % 10 == 0
            and np.abs(of_classes * (of_images @ kernel) - 1 / classes).sum() <= error
        ):
            break
    return np.log(of_classes), step


def pot(log_predictions: np.ndarray, error: float) -> Answer:
    """Python Optimal Transport's `sinkhorn`, which also keeps the kernel and looks every tenth step."""
    images, classes = log_predictions.shape
    threshold = error / classes**0.5  # it stops on the L2 norm
    _, log = ot.sinkhorn(
        np.full(images, 1 / images),
        np.full(classes, 1 / classes),
        -log_predictions,
        1 / SHARPNESS,
        numItermax=10**6,
        stopThr=threshold,
        log=True,
    )
    return np.log(log["v"]), 10 * len(log["err"])


def marginal_error(scores: np.ndarray) -> float:
    """L1 distance of the class marginal from uniform when the images' marginal is exact."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    mass = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    return float(np.abs(mass - 1 / len(mass)).sum())


METHODS: dict[str, Callable[[np.ndarray, float], Answer]] = {
    "newton (ours)": lambda x, error: ours(x, error, "newton"),
    "sinkhorn (ours)": lambda x, error: ours(x, error, "sinkhorn"),
    "loop of Eq. 4": loop,
    "POT": pot,
}


if __name__ == "__main__":
    main()
