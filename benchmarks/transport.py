"""How long labels by optimal transport take: Newton and Sinkhorn of this package, the plain loop of Eq. 4, and POT.

    python -m benchmarks.transport [--quick] [--threads 2]

The problem has SYSU-MM01's size (11,909 infrared images, 395 labels) and the paper's sharpness, 25: logits are N(0, 1)
plus 8 on one class, the right one for half of the images. All solve it to the same L1 error of the class marginal, in
one run on one machine, and their labels must be equal. The loop is what a few lines of numpy give: kernel P^25 in
float64, two products of matrix and vector a step, the error looked at every tenth step.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import ot
import torch
from threadpoolctl import threadpool_limits

from stages.parts.assignment.transport import solve

SHARPNESS = 25.0
Answer = tuple[np.ndarray, int]  # log weights of the classes, steps


def main() -> None:
    """Print a table: seconds, steps, error, and how many times longer than Newton."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="2,000 images and 100 labels")
    options.add_argument("--threads", type=int, default=2, help="threads of every method")
    options.add_argument("--error", type=float, default=1e-5, help="L1 error of the class marginal to reach")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    images, classes = (2000, 100) if given.quick else (11_909, 395)
    log_predictions = problem(images, classes)
    methods: dict[str, Callable[[np.ndarray, float], Answer]] = {
        "newton (ours)": lambda x, error: ours(x, error, "newton"),
        "sinkhorn (ours)": lambda x, error: ours(x, error, "sinkhorn"),
        "loop of Eq. 4": loop,
        "POT": pot,
    }
    print(f"{images:,} images, {classes} labels, sharpness {SHARPNESS:g}, {given.threads} threads")
    print(f"{'':16} {'seconds':>9} {'steps':>7} {'error':>8} {'ratio':>6}")
    seconds, labels = {}, {}
    with threadpool_limits(given.threads):
        for name, method in methods.items():
            started = time.perf_counter()
            weights, steps = method(log_predictions, given.error)
            seconds[name] = time.perf_counter() - started
            scores = SHARPNESS * log_predictions + weights
            labels[name] = scores.argmax(axis=1)
            error = marginal_error(scores)
            ratio = seconds[name] / seconds["newton (ours)"]
            print(f"{name:16} {seconds[name]:9.2f} {steps:7,} {error:8.1e} {ratio:6.1f}", flush=True)
            assert error <= 1.01 * given.error, f"{name} stopped at an error of {error:g}"
    for name, found in labels.items():
        different = int((found != labels["newton (ours)"]).sum())
        assert different == 0, f"{name} gives {different} of {images} images another label than newton"
    print("labels are identical")


def problem(images: int, classes: int) -> np.ndarray:
    """log P (images, classes) float64."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(images, classes))
    truth = np.arange(images) % classes
    liked = np.where(draw.random(images) < 0.5, truth, draw.integers(0, classes, images))
    logits[np.arange(images), liked] += 8
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


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
        if step % 10 == 0 and np.abs(of_classes * (of_images @ kernel) - 1 / classes).sum() <= error:
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


if __name__ == "__main__":
    main()
