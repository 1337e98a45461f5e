"""What a GPU needs at SYSU-MM01's size: time, memory, waiting calls, and what precision changes.

    python -m benchmarks.gpu [--tiny] [--steps 60]
    python -m tests.gpu.stand_ins benchmarks.gpu    # where faiss or DVCLive is missing

Pictures are random (288 x 144), the network is ResNet-50, a batch has 64 images in training and 128
in SpCL. The network alone is its forward pass, backward pass and Adam on images that are on the GPU
already; the rest of a step is input, losses and waiting. Kernels are deterministic but in the row
that says so. With --tiny everything is small, so that the benchmark can be tried on a CPU. Minutes.
"""

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from benchmarks.jaccard import people
from experiments.plans import variant
from stages.parts.assignment.transport import solve
from stages.parts.clustering.density import cluster
from stages.parts.clustering.neighbours import nearest_lists, similarity_of_lists
from stages.parts.images.pairing import CrossModalBatches
from stages.parts.images.store import ImageStore, create_pixels, seal
from stages.parts.images.table import write_table
from stages.parts.inner_products import Gallery
from stages.parts.network.backbone import Extras
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.run.device import open_device, uses_bfloat16
from stages.parts.run.settings import Device
from stages.pseudo_label import data as visible
from stages.pseudo_label import spcl
from stages.train import loop, prototypes
from stages.train.data import Method, TrainingSet, augmented, clean_batches, training_set
from tests.builders import settings

HAS_GPU = torch.cuda.is_available()
PER_PERSON = 24
GIB = 2**30


@dataclass(frozen=True)
class Size:
    """How large everything is. `problems` are images and labels of the transport.

    `clustered` is the number of images that are clustered, and the length of their embeddings.
    """

    images: int = 12_000
    height: int = 288
    width: int = 144
    architecture: str = "resnet50"
    problems: tuple[tuple[int, int], ...] = ((11_909, 395), (200_000, 2_000))
    clustered: tuple[int, int] = (34_167, 2_048)


TINY = Size(240, 48, 24, "narrow", ((300, 20),), (1_000, 32))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, default=60, help="of each measurement")
    given = parser.parse_args(arguments)
    size = TINY if given.tiny else Size()
    device = opened("float32")
    name = torch.cuda.get_device_name(device) if HAS_GPU else "no GPU: a dry run on the CPU"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    with tempfile.TemporaryDirectory() as place:
        store = random_store(Path(place) / "images", size)
        upload(store, device)
        training(store, Path(place) / "visible.csv", size, given.steps)
        frontier(store, Path(place) / "visible.csv", size, given.steps)
        pseudo_labels(store, size, given.steps)
    clustering(*size.clustered)
    for images, labels in size.problems:
        transport(images, labels, device)


def opened(precision: str) -> torch.device:
    """Return the device as a stage opens it."""
    name = "cuda" if HAS_GPU else "cpu"
    device = open_device(Device(name, precision, threads=2, shards=1, numerics="portable"))
    if HAS_GPU:
        torch.cuda.reset_peak_memory_stats()
    return device


def noise(draws: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw pictures (B, H, W, 3) uint8 without any structure."""
    return draws.integers(0, 256, shape, dtype=np.uint8)


def random_store(
    folder: Path,
    size: Size,
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = noise,
) -> ImageStore:
    """Return a store of pictures that `draw` makes, a third of them infrared."""
    folder.mkdir()
    pixels = create_pixels(folder / "pixels.npy", size.images, size.height, size.width)
    draws = np.random.default_rng(0)
    for first in range(0, size.images, 500):
        block = pixels[first : first + 500]
        block[:] = draw(draws, block.shape)
    pixels.flush()
    numbers = np.arange(size.images)
    is_infrared = numbers % 3 == 0
    columns = {
        "row": numbers,
        "path": [f"{number:06d}" for number in numbers],
        "person": numbers // PER_PERSON,
        "camera": np.where(is_infrared, 3, 1),
        "modality": np.where(is_infrared, "infrared", "visible"),
        "split": "train",
    }
    write_table(pd.DataFrame(columns), folder / "table.csv")
    (folder / "files.csv").touch()
    seal(folder)
    return ImageStore(folder)


def upload(store: ImageStore, device: torch.device) -> None:
    """Time a batch of 64 random rows from the disk's cache to the device."""
    orders = [np.random.default_rng(n).permutation(len(store.table))[:64] for n in range(50)]
    with timed() as clock:
        for rows in orders:
            store.batch(rows, device)
    show("64 pictures to the device", {"ms": clock.milliseconds / len(orders)})


def training(store: ImageStore, labels: Path, size: Size, steps: int) -> None:
    """Time a step of cross-modal training in each precision, and look for waiting calls."""
    rows = store.rows("train", "visible")
    table = pd.DataFrame({"row": rows, "label": rows // PER_PERSON})
    table.to_csv(labels, index=False)
    changes = {"scale": "paper", "train.steps": steps, "otla.infrared_from_epoch": 0}
    method = method_of(changes)
    data = training_set(store, labels, method.train)
    store.keep(np.arange(size.images), opened("float32"))
    losses = {}
    for precision in ("float32", "tf32", "bfloat16") if HAS_GPU else ("float32",):
        figures, losses[precision] = train_steps(data, method, size, precision)
        show(f"training step, {precision}", figures)
    figures = {name: loss - losses["float32"] for name, loss in losses.items() if name != "float32"}
    show(f"mean loss {losses['float32']:.4f} in float32, difference", figures)
    if HAS_GPU:
        figures, _ = train_steps(data, method, size, "bfloat16", is_fixed=False)
        show("training step, bfloat16, any kernels", figures)
        waiting_calls(data, method, size)
    input_path(data, method)
    embedding(data, method, size)


def method_of(changes: dict[str, Any]) -> Method:
    """Return the method of params.yaml with some changes."""
    names = ("train", "den", "otla", "pal", "clusters", "prototypes")
    return Method(**{name: settings(name, changes) for name in names}, seed=0)


def new_state(data: TrainingSet, method: Method, size: Size, precision: str) -> loop.State:
    """Return the state before the first epoch on the device."""
    device = opened(precision)
    network = build(IdentityNetwork, 0, size.architecture, data.classes)
    network.half_precision = uses_bfloat16(device, precision)
    return loop.new_state(network, data, method, device)


def train_steps(
    data: TrainingSet, method: Method, size: Size, precision: str, is_fixed: bool = True
) -> tuple[dict[str, Any], float]:
    """Train twice from the same start; return figures of a step, and the mean loss.

    Without `is_fixed`, kernels that are not deterministic are allowed.
    """
    weights = []
    for _ in range(2):
        state = new_state(data, method, size, precision)
        torch.use_deterministic_algorithms(is_fixed and HAS_GPU)
        batches, is_paired = loop.draw_batches(state, data, method)
        losses = loop.train_epoch(state, data, method, batches, is_paired)
        with timed() as clock:
            loop.train_epoch(state, data, method, batches, is_paired)
        weights.append([value.cpu().clone() for value in state.network.state_dict().values()])
    step = clock.milliseconds / len(batches.labels)
    peak = peak_memory()
    figures = {
        "ms": step,
        "network alone, ms": network_alone(state, data),
        "images a second": 2 * batches.visible.shape[1] * 1000 / step,
        "peak, GiB": peak,
        "same bytes twice": all(torch.equal(a, b) for a, b in zip(*weights, strict=True)),
    }
    return figures, float(losses["loss"] or 0)


def network_alone(state: loop.State, data: TrainingSet, count: int = 20) -> float:
    """Return the milliseconds of a forward pass, a backward pass and Adam for 64 images."""
    device = state.network.classifier.weight.device
    shape = (64, 3, *data.store.pixels.shape[1:3])
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        state.network.outputs(images).logits.square().mean().backward()
        state.optimizer.step()

    return each(step, count)


def waiting_calls(data: TrainingSet, method: Method, size: Size) -> None:
    """Count the calls of a training step that make the host wait for the GPU, by place."""
    state = new_state(data, method, size, "bfloat16")
    batches, is_paired = loop.draw_batches(state, data, method)
    few = CrossModalBatches(*(part[:4] for part in batches))
    steps = partial(loop.train_epoch, state, data, method, few, is_paired)
    steps()
    count_waiting("four training steps", steps)


def count_waiting(what: str, call: Callable[[], Any]) -> None:
    """Print the places in `call` at which the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{Path(each.filename).name}:{each.lineno}"
        for each in caught
        if "synchroniz" in str(each.message)
    )
    show(f"waiting calls in {what}", {"all": sum(places.values())} | dict(places))


def input_path(data: TrainingSet, method: Method) -> None:
    """Time what the host does for the images of a step, while the GPU has nothing to do."""
    device = opened("auto")
    generator = torch.Generator().manual_seed(0)
    halves = (data.visible_rows[:32], True), (data.infrared_rows[:32], False)

    def images() -> None:
        for rows, gray in halves:
            augmented(data.store, rows, device, method.train, generator, gray)

    images()
    spent = []
    for _ in range(20):
        finish()
        started = time.perf_counter()
        images()
        spent.append(time.perf_counter() - started)
    show("images of a training step", {"ms of the host": 1000 * median(spent)})


def frontier(store: ImageStore, labels: Path, size: Size, steps: int) -> None:
    """Time a step of the set `frontier` in its second stage, without its clustering.

    Each person is a class of each modality, and prototypes are random.
    """
    recipe = dict(change.split("=", 1) for change in variant("frontier", "paper"))
    changes = {name: yaml.safe_load(value) for name, value in recipe.items()}
    changes |= {"scale": "paper", "train.steps": steps, "prototypes.own_epochs": 0}
    method = method_of(changes)
    data = training_set(store, labels, method.train)
    device = opened("auto")
    chosen = settings("network", changes)
    extras = Extras(chosen.pooling, chosen.two_stream, chosen.non_local)
    network = build(IdentityNetwork, 0, size.architecture, data.classes, extras)
    network.half_precision = uses_bfloat16(device, "auto")
    state = loop.new_state(network, data, method, device)
    classes = data.infrared_rows // PER_PERSON
    count = data.classes + int(classes.max()) + 1
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(count, network.backbone.sizes[-1], generator=draws)
    numbers = torch.arange(count)
    epoch = prototypes.Epoch(
        centroids=torch.nn.functional.normalize(rows),
        modality=numbers.ge(data.classes).long(),
        identities=numbers % data.classes,
        infrared=classes,
    )
    prototypes.train_epoch(state, data, method, epoch)
    with timed() as clock:
        _, images = prototypes.train_epoch(state, data, method, epoch)
    figures = {
        "ms": clock.milliseconds / steps,
        "images a step": images // steps,
        "images a second": 1000 * images / clock.milliseconds,
        "peak, GiB": peak_memory(),
    }
    show("step of the set `frontier`", figures)


def clustering(images: int, dimensions: int) -> None:
    """Time the neighbors of all images, where faiss searches, and all of a clustering."""
    device = opened("auto")
    rows = people(images, dimensions)
    modality = (np.arange(images) % 3 == 0).astype(np.int64)
    for name, parts in (("", None), (" balanced over two modalities", modality)):
        nearest_lists(rows[:1000], 30, 6, None if parts is None else parts[:1000], device)
        with timed() as searching:
            lists = nearest_lists(rows, 30, 6, parts, device)
        with timed() as others:
            similarity = similarity_of_lists(rows, lists, 0.4)
            found = cluster(similarity, 0.6, 4)
        figures = {
            "neighbors, s": searching.milliseconds / 1000,
            "Jaccard and DBSCAN, s": others.milliseconds / 1000,
            "clusters": int(found.max()) + 1,
        }
        where = "GPU" if Gallery(rows[:1], device).is_on_gpu else "CPU"
        show(f"clustering of {images:,} x {dimensions:,}{name}, faiss on the {where}", figures)


def embedding(data: TrainingSet, method: Method, size: Size) -> None:
    """Time the embedding of all infrared images."""
    state = new_state(data, method, size, "auto")
    device = state.network.classifier.weight.device
    rows = data.infrared_rows
    embed(state.network, clean_batches(data.store, rows[:256], device))
    with timed() as clock:
        embed(state.network, clean_batches(data.store, rows, device))
    show("embedding", {"images a second": 1000 * len(rows) / clock.milliseconds})


def pseudo_labels(store: ImageStore, size: Size, steps: int) -> None:
    """Time SpCL's steps, with statistics over groups of 16 images and over all 64."""
    images = visible.visible_images(store)
    data = visible.TrainingSet(target=images, source=images)
    for group in (16, None):
        changes = {"scale": "paper", "spcl.steps": steps, "spcl.statistics_group": group}
        if size is TINY:
            changes |= {"spcl.height": size.height, "spcl.width": size.width}
        settings_of_all = replace(settings("spcl", changes), statistics_group=group)
        method = visible.Method(settings_of_all, seed=0)
        device = opened("auto")
        start = build(Embedder, 0, size.architecture).to(device)
        start.half_precision = uses_bfloat16(device, "auto")
        with timed() as filling:
            state = spcl.open_state(start, data, method)
        classes = images.classes
        rows = np.concatenate([np.arange(classes), classes + images.persons])
        state.memory.labels = torch.from_numpy(rows)
        spcl.train_epoch(state, data, method)
        with timed() as clock:
            spcl.train_epoch(state, data, method)
        if HAS_GPU:
            few = replace(method, spcl=replace(settings_of_all, steps=4))
            count_waiting("four steps of SpCL", partial(spcl.train_epoch, state, data, few))
        figures = {
            "ms": clock.milliseconds / steps,
            "memory filled in, s": filling.milliseconds / 1000,
            "peak, GiB": peak_memory(),
        }
        show(f"SpCL step, statistics over {group or 'all'}", figures)


def transport(images: int, labels: int, device: torch.device) -> None:
    """Time labels by transport, with memory beyond log P."""
    draws = torch.Generator(device).manual_seed(0)
    log_p = torch.randn(images, labels, device=device, generator=draws)
    likely = torch.randint(labels, (images, 1), device=device, generator=draws)
    log_p = log_p.scatter_add(1, likely, torch.full_like(log_p[:, :1], 8.0)).log_softmax(1)
    solve(log_p[:1000], 25.0)
    opened("float32")
    before = torch.cuda.memory_allocated() if HAS_GPU else 0
    with timed() as clock:
        result = solve(log_p, 25.0)
    figures = {
        "s": clock.milliseconds / 1000,
        "steps": result.iterations,
        "error": result.error,
        "GiB beyond log P": peak_memory() - before / GIB,
    }
    show(f"transport of {images:,} images to {labels:,} labels", figures)


class Clock:
    """The milliseconds that `timed` measured."""

    milliseconds = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Time the body until the GPU has done it."""
    clock = Clock()
    finish()
    started = time.perf_counter()
    yield clock
    finish()
    clock.milliseconds = 1000 * (time.perf_counter() - started)


def each(call: Callable[[], None], count: int) -> float:
    """Return the milliseconds of one of `count` calls, after five others."""
    for _ in range(5):
        call()
    with timed() as clock:
        for _ in range(count):
            call()
    return clock.milliseconds / count


def finish() -> None:
    """Wait for the GPU."""
    if HAS_GPU:
        torch.cuda.synchronize()


def peak_memory() -> float:
    """Return the most GiB of the GPU that tensors held since the device was opened."""
    return torch.cuda.max_memory_allocated() / GIB if HAS_GPU else float("nan")


def show(what: str, figures: dict[str, Any]) -> None:
    """Print a line."""
    parts = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    ]
    print(f"{what}: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
