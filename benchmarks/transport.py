"""Cost of labels by optimal transport: our Newton and Sinkhorn, the loop of Eq. 4, and POT.

    python -m benchmarks.transport [--quick] [--threads 2]
    python -m benchmarks.transport --large [IMAGES]

The problem has SYSU-MM01's size (11,909 infrared images, 395 labels) and the paper's sharpness, 25.
The logits are N(0, 1) plus 8 on one class, the right one for half of the images. Each method solves
it to the same L1 error of the class marginal, on the same machine, in a fresh process; all labels
must be equal. The loop is what a few lines of numpy give: the kernel P^25 in float64, two products
of matrix and vector per step, the error computed at every tenth step. Memory is the most that the
process held while it solved, in multiples of log P (float64, itself included), read from Linux.

With --large, Newton alone solves 1,000,000 x 2,000 in float32, 8 GB; then memory is that of the
whole process.
"""

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
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
    """The answer of a method and its cost; memory in multiples of log P."""

    weights: np.ndarray
    steps: int
    seconds: float
    memory: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table: seconds, steps, error, how many times longer than Newton, memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="2,000 images and 100 labels")
    add("--large", type=int, nargs="?", const=1_000_000, help="images of the large problem")
    add("--threads", type=int, default=2, help="threads of every method")
    add("--error", type=float, default=1e-5, help="L1 error of the class marginal to reach")
    options = parser.parse_args(arguments)
    if options.large:
        large(options.large, 2000, options.error, options.threads)
    elif options.quick:
        compare(2000, 100, options.error, options.threads)
    else:
        compare(11_909, 395, options.error, options.threads)


def compare(images: int, classes: int, tolerance: float, threads: int) -> None:
    """Solve one problem with all methods."""
    log_predictions = problem(images, classes)
    print(f"{images:,} images, {classes} labels, sharpness {SHARPNESS:g}, {threads} threads")
    print(f"{'':16} {'seconds':>9} {'steps':>7} {'error':>8} {'ratio':>6} {'memory':>7}")
    labels, newton_seconds = {}, 0.0
    for name in METHODS:
        cost = in_fresh_process(name, log_predictions, tolerance, threads)
        newton_seconds = newton_seconds or cost.seconds
        scores = SHARPNESS * log_predictions + cost.weights  # (N, C)
        labels[name] = scores.argmax(axis=1)
        error = marginal_error(scores)
        ratio = cost.seconds / newton_seconds
        figures = (
            f"{cost.seconds:9.2f} {cost.steps:7,} {error:8.1e} {ratio:6.1f} {cost.memory:7.2f}"
        )
        print(f"{name:16} {figures}", flush=True)
        assert error <= 1.01 * tolerance, f"{name} stopped at an error of {error:g}"
        differences = int((labels[name] != labels["newton (ours)"]).sum())
        assert differences == 0, f"{name} and newton differ in {differences} of {images} labels"
    print("labels are identical")


def large(images: int, classes: int, tolerance: float, threads: int) -> None:
    """Solve a problem whose size matters with Newton."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    log_predictions = problem(images, classes, np.float32)
    drawn = time.perf_counter()
    size = f"{log_predictions.nbytes / 1e9:.1f} GB, drawn in {drawn - started:.0f} s"
    print(f"{images:,} images, {classes:,} labels, {size}; {threads} threads")
    transport = solve(torch.from_numpy(log_predictions), SHARPNESS, tolerance=tolerance)
    seconds, peak = time.perf_counter() - drawn, resident("VmHWM")
    multiple = peak / log_predictions.nbytes
    print(f"{seconds:.0f} s, {transport.iterations} steps, error {transport.error:.1e}", end=", ")
    print(f"peak of the process {peak / 1e9:.1f} GB = {multiple:.2f} of log P")
    assert transport.converged, f"newton stopped at an error of {transport.error:g}"


def in_fresh_process(
    name: str, log_predictions: np.ndarray, tolerance: float, threads: int
) -> Cost:
    """Return a method's cost where nothing but the problem is in memory."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawn) as process:
        path = Path(folder) / "log_predictions.npy"
        np.save(path, log_predictions)
        return process.submit(measured, name, path, tolerance, threads).result()


def measured(name: str, path: Path, tolerance: float, threads: int) -> Cost:
    """Return a method's cost, in the fresh process.

    A small problem is solved first, because libraries load and keep something.
    """
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        METHODS[name](problem(500, 20), tolerance)
        before = resident("VmRSS")
        log_predictions = np.load(path, allow_pickle=False)
        started = time.perf_counter()
        weights, steps = METHODS[name](log_predictions, tolerance)
        seconds = time.perf_counter() - started
    memory = (resident("VmHWM") - before) / log_predictions.nbytes
    return Cost(weights, steps, seconds, memory)


def resident(field: str) -> int:
    """Return the bytes of memory that this process holds (VmRSS) or held at most (VmHWM)."""
    line = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert line, f"/proc/self/status has no {field}"
    return int(line[1]) * 1024


def problem(images: int, classes: int, dtype: type = np.float64) -> np.ndarray:
    """Draw log P (images, classes), in blocks."""
    log_predictions: np.ndarray = np.empty((images, classes), dtype)
    for first in range(0, images, BLOCK):
        block = log_predictions[first : first + BLOCK]
        draw = np.random.default_rng(first)
        draw.standard_normal(dtype=dtype, out=block)
        image = np.arange(len(block))
        is_right = draw.random(len(block)) < 0.5
        other = draw.integers(0, classes, len(block))
        peak = np.where(is_right, (first + image) % classes, other)
        block[image, peak] += 8
        block -= np.log(np.exp(block).sum(axis=1, keepdims=True))
    return log_predictions


def ours(log_predictions: np.ndarray, tolerance: float, solver: str) -> Answer:
    """Call `solve`, which also computes labels and confidence."""
    tensor = torch.from_numpy(log_predictions)
    transport = solve(tensor, SHARPNESS, solver=solver, tolerance=tolerance)
    return transport.potentials.numpy(), transport.iterations


def loop(log_predictions: np.ndarray, tolerance: float) -> Answer:
    """Repeat Eq. 4 as the paper prints it."""
    kernel = np.exp(log_predictions) ** SHARPNESS
    images, classes = kernel.shape
    of_images = np.full(images, 1 / images)
    for step in range(1, 10**6):
        of_classes = (1 / classes) / (of_images @ kernel)
        of_images = (1 / images) / (kernel @ of_classes)
        if step % 10 == 0:
            mass = of_classes * (of_images @ kernel)
            if np.abs(mass - 1 / classes).sum() <= tolerance:
                break
    return np.log(of_classes), step


def pot(log_predictions: np.ndarray, tolerance: float) -> Answer:
    """Call `sinkhorn` of Python Optimal Transport.

    It keeps the kernel too, and computes the error at every tenth step.
    """
    images, classes = log_predictions.shape
    threshold = tolerance / classes**0.5  # it stops on the L2 norm
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
    """Return the L1 distance of the class marginal from uniform, given exact image marginals."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    mass = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    return float(np.abs(mass - 1 / len(mass)).sum())


METHODS: dict[str, Callable[[np.ndarray, float], Answer]] = {
    "newton (ours)": partial(ours, solver="newton"),
    "sinkhorn (ours)": partial(ours, solver="sinkhorn"),
    "loop of Eq. 4": loop,
    "POT": pot,
}


if __name__ == "__main__":
    main()
