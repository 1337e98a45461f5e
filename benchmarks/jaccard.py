"""Jaccard similarity against a plain dense implementation: equal result, time, peak memory.

    python -m benchmarks.jaccard                             2,000 and 5,000 rows, 2,048 dimensions
    python -m benchmarks.jaccard --sizes 10000               about two minutes
    python -m benchmarks.jaccard --sizes --alone 22258x2048  ours at the size of SYSU-MM01
    python -m benchmarks.jaccard --sizes --alone 100000x256
    python -m benchmarks.jaccard --sizes --balanced 22258+11909x2048   of both modalities, minutes

The dense one is written as is customary, with N × N arrays and a loop over the images. Each
measurement is a process of its own. Memory is its peak above what it held when it began (imports
and embeddings). Times are CPU seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import load_npz, save_npz

from stages.parts.clustering import neighbours
from stages.parts.clustering.neighbours import jaccard_similarity

Floats = NDArray[np.float32]


def people(images: int, dimensions: int, seed: int = 0) -> Floats:
    """Unit rows: 20 to 90 images around each person's direction, and 6 % that belong to nobody."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(20, 91, size=images // 20 + 1)
    centers = generator.standard_normal((len(sizes), dimensions), dtype=np.float32)
    rows = centers[np.repeat(range(len(sizes)), sizes)][:images]
    for start in range(0, images, 1000):
        block = rows[start : start + 1000]
        spread = generator.uniform(0.6, 1.2, (len(block), 1))
        block += spread * generator.standard_normal(block.shape)
        stray = generator.random(len(block)) < 0.06
        block[stray] = generator.standard_normal((int(stray.sum()), dimensions))
    units: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units


def dense_similarity(embeddings: Floats, k1: int = 30, k2: int = 6) -> Floats:
    """The similarity as an N × N array, image by image."""
    images = len(embeddings)
    nearest = faiss.knn(embeddings, embeddings, k1, metric=faiss.METRIC_INNER_PRODUCT)[1]
    half_list = nearest[:, : round(k1 / 2) + 1]
    full = [row[(nearest[row] == i).any(axis=1)] for i, row in enumerate(nearest)]
    half = [row[(half_list[row] == i).any(axis=1)] for i, row in enumerate(half_list)]
    weights = np.zeros((images, images), dtype=np.float32)
    for i in range(images):
        expanded = full[i]
        for candidate in full[i]:
            if 3 * len(np.intersect1d(half[candidate], full[i])) > 2 * len(half[candidate]):
                expanded = np.append(expanded, half[candidate])
        expanded = np.unique(expanded)
        scores = np.exp(2 * embeddings[expanded] @ embeddings[i] - 2)
        weights[i, expanded] = scores / scores.sum()
    weights = np.stack([weights[row[:k2]].mean(axis=0) for row in nearest])
    holders = [np.flatnonzero(weights[:, column]) for column in range(images)]
    similarity = np.zeros((images, images), dtype=np.float32)
    for i in range(images):
        shared = np.zeros(images, dtype=np.float32)
        for column in np.flatnonzero(weights[i]):
            rows = holders[column]
            shared[rows] += np.minimum(weights[i, column], weights[rows, column])
        similarity[i] = np.minimum(shared / (2 - shared), 1)
    return similarity


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "ours": jaccard_similarity,
    "balanced": jaccard_similarity,
    "dense": dense_similarity,
}


def memory(name: str) -> float:
    """Return the MB of this process: `VmRSS` now, `VmHWM` at its peak (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1024


def measure(which: str, folder: Path) -> None:
    """Run one implementation on the stored embeddings, store its result and print its costs.

    This runs in a process of its own.
    """
    search = [0.0]

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            result = call(*arguments, **options)
            search[0] += time.process_time() - started
            return result

        return timed_call

    faiss.knn = timed(faiss.knn)  # the dense one's search
    neighbours._search = timed(neighbours._search)
    embeddings = np.load(folder / "embeddings.npy", allow_pickle=False)
    options = {}
    if which == "balanced":
        options["modality"] = np.load(folder / "modality.npy", allow_pickle=False)
    before, started = memory("VmRSS"), time.process_time()
    result = IMPLEMENTATIONS[which](embeddings, **options)
    total = time.process_time() - started
    costs = {"total": total, "search": search[0], "memory": memory("VmHWM") - before}
    costs["pairs"] = float(np.count_nonzero(result if which == "dense" else result.data))
    if which == "dense":
        np.save(folder / "dense.npy", result)
    else:
        save_npz(folder / f"{which}.npz", result, compressed=False)
    print(json.dumps(costs))


def run(which: str, folder: Path) -> dict[str, float]:
    """Return the costs that `measure` prints."""
    command = [sys.executable, "-m", "benchmarks.jaccard", "--measure", which, str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    costs: dict[str, float] = json.loads(output)
    after = costs["total"] - costs["search"]
    print(
        f"  {which:8} {costs['total']:8.2f} s, {after:8.2f} s of it after the search, "
        f"{costs['memory']:8.1f} MB"
    )
    return costs


def compare(folder: Path) -> float:
    """Return the largest difference of the two results, without the dense one in memory."""
    ours = load_npz(folder / "ours.npz")
    dense = np.load(folder / "dense.npy", mmap_mode="r", allow_pickle=False)
    worst = 0.0
    for start in range(0, len(dense), 500):
        rows = slice(start, start + 500)
        worst = max(worst, float(np.abs(ours[rows].toarray() - dense[rows]).max()))
    return worst


def measure_ours(images: int, dimensions: int, folder: Path) -> dict[str, float]:
    """Store embeddings, and return the costs of our implementation."""
    np.save(folder / "embeddings.npy", people(images, dimensions))
    print(f"{images:,} images of {dimensions:,} dimensions", flush=True)
    return run("ours", folder)


def measure_balanced(visible: int, infrared: int, dimensions: int, folder: Path) -> None:
    """Measure ours with lists that are balanced over two modalities, which each person has."""
    modality = np.repeat([0, 1], [visible, infrared])
    np.save(folder / "modality.npy", np.random.default_rng(1).permutation(modality))
    np.save(folder / "embeddings.npy", people(len(modality), dimensions))
    print(f"{visible:,} + {infrared:,} images of {dimensions:,} dimensions", flush=True)
    costs = run("balanced", folder)
    print(f"  {costs['pairs'] / len(modality):.0f} pairs an image")


def measure_both(images: int, dimensions: int, folder: Path) -> None:
    """Measure both implementations, and exit with a message if their results differ."""
    ours = measure_ours(images, dimensions, folder)
    dense = run("dense", folder)
    worst = compare(folder)
    if worst > 2e-6:
        sys.exit(f"the results differ by {worst:.1e}")
    speed = dense["total"] / ours["total"]
    after = [costs["total"] - costs["search"] for costs in (dense, ours)]
    print(
        f"  same result (largest difference {worst:.1e}); {speed:.1f} × the speed, "
        f"{after[0] / after[1]:.0f} × after the search, "
        f"1/{dense['memory'] / ours['memory']:.0f} of the memory"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both implementations at each of the sizes, then ours alone at the others."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2000, 5000], help="images")
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--alone", nargs="*", default=[], metavar="IMAGESxDIMENSIONS")
    parser.add_argument("--balanced", nargs="*", default=[], metavar="VISIBLE+INFRAREDxDIMENSIONS")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        measure(given.measure[0], Path(given.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for images in given.sizes:
            measure_both(images, given.dimensions, Path(folder))
        for size in given.alone:
            images, dimensions = map(int, size.split("x"))
            ours = measure_ours(images, dimensions, Path(folder))
            print(
                f"  {ours['pairs'] / images:.0f} pairs an image; "
                f"one N × N array has {images**2 * 4e-6:,.0f} MB"
            )
        for size in given.balanced:
            visible, infrared, dimensions = map(int, size.replace("x", "+").split("+"))
            measure_balanced(visible, infrared, dimensions, Path(folder))


if __name__ == "__main__":
    main()
