"""How time and memory grow with the number of images: what doubles, and what grows faster.

    python -m benchmarks.scale                                   10,000 to 40,000 images, minutes
    python -m benchmarks.scale --largest 1000000 --exact 80000   an hour
    python -m benchmarks.scale --only clustering --largest 1000000

Sizes double from 10,000. Each measurement is a process of its own with one thread. Times are CPU
seconds: the program's, and behind the + the kernel's, which provides memory. Small arrays lie in
memory that the process holds already, large ones in fresh memory, so the kernel's time grows
faster than the work. Memory is the most that the process held above what its imports take, inputs
included. The exponent p is fitted to cost ~ size^p where the cost is large enough to be measured.

transport    labels of N images, 395 labels at 10,000 and as the cube root of N beyond; its size is
             the number of entries of log P
search       the 30 nearest of every image, exact, up to --exact images: all N · N pairs
clustering   Jaccard similarity and DBSCAN after the search. So that this can be measured where the
             exact search is too slow, the search is NOT part of it: the lists are those within
             blocks of 2,000 consecutive rows, which hold whole persons
ranking      128 queries against N images: products of 128 dimensions, then scores
sampling     the batches of an epoch of both trainings
store        a store of 32 x 16 pixels: opening it (with hashes), reading every image once in random
             order; its memory is pages of the file, which the system takes back
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.gpu import PER_PERSON, Size, random_store
from benchmarks.jaccard import memory, people
from benchmarks.transport import problem
from stages.parts.assignment.transport import solve
from stages.parts.clustering import neighbours
from stages.parts.clustering.density import cluster
from stages.parts.images.pairing import cross_modal_batches
from stages.parts.images.sampling import camera_aware_order
from stages.parts.images.store import ImageStore
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import group_by_identity, score_queries

SMALLEST, LABELS = 10_000, 395
DIMENSIONS = 256  # of the embeddings that are clustered
K1, K2, RADIUS = 30, 6, 0.6  # SpCL's
BLOCK = 2_000  # rows whose neighbours are searched among themselves
QUERIES, QUERY_DIMENSIONS = 128, 128
LEAST_SECONDS, LEAST_MEMORY = 0.1, 0.02  # GiB; smaller costs say nothing about growth
TO_COME = (10_000_000, 100_000_000)
GIB = 2**30


class Cost(NamedTuple):
    """Of one step at one size."""

    size: float  # what the exponent is of: images, or entries of log P
    seconds: float  # of the CPU, in the program
    kernel: float  # seconds of the CPU, in the kernel
    memory: float  # GiB


class Meter:
    """Measures the steps of a process."""

    def __init__(self) -> None:
        self.costs: dict[str, tuple[float, float, float]] = {}
        self._start = resident("VmRSS")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the body; bodies of the same name are one step."""
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM starts again
        seconds, kernel, memory = self.costs.get(name, (0.0, 0.0, 0.0))
        before = resource.getrusage(resource.RUSAGE_SELF)
        yield
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds += after.ru_utime - before.ru_utime
        kernel += after.ru_stime - before.ru_stime
        self.costs[name] = (seconds, kernel, max(memory, resident("VmHWM") - self._start))


def resident(field: str) -> float:
    """Return the GiB that this process holds (VmRSS) or held at most (VmHWM)."""
    return memory(field) / 1024


def transport(images: int, meter: Meter) -> float:
    """Labels by optimal transport, float32 log P."""
    labels = round(LABELS * (images / SMALLEST) ** (1 / 3))
    log_p = torch.from_numpy(problem(images, labels, np.float32))
    with meter.step("transport"):
        solve(log_p, 25.0)
    return log_p.numel()


def search(images: int, meter: Meter) -> float:
    """The nearest neighbours of every image among all."""
    rows = people(images, DIMENSIONS)
    with meter.step("exact search"):
        neighbours.nearest_lists(rows, K1, K2)
    return images


def clustering(images: int, meter: Meter) -> float:
    """What follows the search: similarity, then DBSCAN."""
    rows = people(images, DIMENSIONS)
    lists = lists_by_blocks(rows)
    floor = 1 - RADIUS - 0.021  # as SpCL sets it
    with meter.step("Jaccard"):
        similarity = neighbours.similarity_of_lists(rows, lists, floor)
    with meter.step("DBSCAN"):
        cluster(similarity, RADIUS)
    return images


def lists_by_blocks(rows: np.ndarray) -> neighbours.Lists:
    """Return the neighbours of rows (N, D) within blocks of BLOCK rows."""
    starts = list(range(0, len(rows) - BLOCK + 1, BLOCK))
    blocks = [
        [start + numbers for numbers in neighbours.nearest_lists(rows[start:stop], K1, K2)]
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)
    ]
    return neighbours.Lists(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def ranking(images: int, meter: Meter) -> float:
    """Some queries against all images."""
    draws = np.random.default_rng(0)
    persons = draws.integers(0, images // PER_PERSON, images)
    gallery = draws.standard_normal((images, QUERY_DIMENSIONS), dtype=np.float32)
    noise = draws.standard_normal((QUERIES, QUERY_DIMENSIONS), dtype=np.float32)
    queries = gallery[:QUERIES] + noise
    blocks = inner_product_blocks(queries, gallery)
    with meter.step("ranking"):
        identities = group_by_identity(persons)
    while True:
        with meter.step("products"):
            block = next(blocks, None)
        if block is None:
            return images
        with meter.step("ranking"):
            score_queries(block[1], persons[block[0]], identities, unique_ids=True)


def sampling(images: int, meter: Meter) -> float:
    """Half of the images are visible, half infrared."""
    draws = np.random.default_rng(0)
    half = images // 2
    labels = np.arange(half) // (PER_PERSON // 2)
    with meter.step("batches of train"):
        cross_modal_batches(labels, draws.permutation(labels), 8, 4, half // 32, draws)
    with meter.step("order of SpCL"):
        camera_aware_order(labels, draws.integers(1, 5, half), 4, draws)
    return images


def store(images: int, meter: Meter) -> float:
    """Open a store and read it."""
    order = np.random.default_rng(0).permutation(images)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        random_store(folder, Size(images, 32, 16))
        with meter.step("opening a store"):
            opened = ImageStore(folder)
        with meter.step("reading it once"):
            for start in range(0, images, 64):
                opened.batch(order[start : start + 64]).float().sum()
    return images


PARTS: dict[str, Callable[[int, Meter], float]] = {
    "transport": transport,
    "search": search,
    "clustering": clustering,
    "ranking": ranking,
    "sampling": sampling,
    "store": store,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each part."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=form
    )
    add = parser.add_argument
    add("--largest", type=int, default=40_000, help="images")
    add("--exact", type=int, default=20_000, help="most images of the exact search")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    add("--memory", type=float, default=24.0, help="GiB that a process may take")
    add("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        part, images = given.measure
        measure(part, int(images))
        return
    for part in given.only:
        limit = min(given.largest, given.exact) if part == "search" else given.largest
        costs: dict[str, list[Cost]] = {}
        for images in sizes(limit):
            found = in_fresh_process(part, images, given.memory)
            if found is None:
                break
            for step, cost in found.items():
                costs.setdefault(step, []).append(cost)
                line = f"{cost.seconds:8.2f} + {cost.kernel:.2f} s {cost.memory:8.2f} GiB"
                print(f"{step:18} {images:>11,} {line}", flush=True)
        for step, series in costs.items():
            print_growth(step, series)


def sizes(largest: int) -> list[int]:
    """Return the numbers of images: doubled from SMALLEST, and `largest` itself.

    >>> sizes(50_000)
    [10000, 20000, 40000, 50000]
    """
    count = SMALLEST
    found = []
    while count < largest:
        found.append(count)
        count *= 2
    return [*found, largest]


def measure(part: str, images: int) -> None:
    """Print the costs of a part, in a process of its own."""
    torch.set_num_threads(1)
    meter = Meter()
    size = PARTS[part](images, meter)
    print(json.dumps({step: [size, *cost] for step, cost in meter.costs.items()}))


def in_fresh_process(part: str, images: int, memory: float) -> dict[str, Cost] | None:
    """Return the costs by step, or None, with a line that says why, if the process failed."""
    limit = int(memory * GIB)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command = [sys.executable, "-m", "benchmarks.scale", "--measure", part, str(images)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", preexec_fn=limited)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{part:18} {images:>11,} failed within {memory:g} GiB: {reason}", flush=True)
        return None
    costs: dict[str, Any] = json.loads(done.stdout)
    return {step: Cost(*cost) for step, cost in costs.items()}


def print_growth(step: str, series: list[Cost]) -> None:
    """Print the exponents of a step, and what they lead to at other sizes."""
    amounts = [cost.size for cost in series]
    powers = {
        "program": exponent(amounts, [cost.seconds for cost in series], LEAST_SECONDS),
        "time": exponent(amounts, [cost.seconds + cost.kernel for cost in series], LEAST_SECONDS),
        "memory": exponent(amounts, [cost.memory for cost in series], LEAST_MEMORY),
    }
    names = {"program": "the program's time", "time": "all time", "memory": "memory"}
    parts = [f"{power:.2f} of {names[key]}" for key, power in powers.items() if power is not None]
    line = f"{step:18} exponent {', '.join(parts) or 'unknown: the costs are too small'}"
    if step != "transport":  # whose size is no number of images
        for count in TO_COME:
            factor = count / amounts[-1]
            seconds = series[-1].seconds + series[-1].kernel
            hours = seconds * factor ** (powers["time"] or 1) / 3600
            gib = series[-1].memory * factor ** (powers["memory"] or 1)
            line += f"; at {count:,}: {hours:,.2g} h, {gib:,.2g} GiB"
    print(line, flush=True)


def exponent(amounts: list[float], costs: list[float], least: float) -> float | None:
    """Return p of costs ~ amounts^p, by least squares of the logarithms.

    Costs below `least` are left out; None if fewer than two are left.

    >>> round(exponent([1, 2, 4, 8], [0.1, 3, 12, 48], least=1), 6)
    2.0
    """
    pairs = [pair for pair in zip(amounts, costs, strict=True) if pair[1] >= least]
    if len(pairs) < 2:
        return None
    logs = np.log(pairs)
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


if __name__ == "__main__":
    main()
