"""An epoch of cross-modal training against a plain PyTorch loop, and where a step's time goes.

    python -m benchmarks.training                # the default's size, on a CPU
    python -m benchmarks.training --paper        # the paper's size; needs a GPU to be quick

Both train the same network from the same start on the same batches, with the same losses and Adam.
The plain loop is what a single file has: a DataLoader with workers that decode JPEG files of the
final size, PIL transforms, the default memory layout, a look at the loss in every step. Pictures
are smooth random ones. Each runs in a process of its own, one after the other. Memory is the most
that the process held above its start, plus for each worker what one of them held at most.

Then our epoch runs once more with every call of a step measured. On a CPU with one thread these are
CPU seconds, which other programs on the machine change little.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.gpu import (
    GIB,
    HAS_GPU,
    PER_PERSON,
    Size,
    finish,
    method_of,
    new_state,
    random_store,
)
from benchmarks.jaccard import memory
from stages.parts.images import augment
from stages.parts.images.pairing import CrossModalBatches
from stages.parts.images.store import ImageStore
from stages.parts.network.head import IdentityNetwork, build
from stages.parts.run import seeds
from stages.parts.run.shards import Shards
from stages.parts.run.training import Means
from stages.train import loop
from stages.train.data import Method, TrainingSet, training_set
from stages.train.objective import loss_terms, weighted_sum, weights

SIZES = {"small": Size(2400, 96, 48, "narrow"), "paper": Size(2400)}
WARM_UP = 3  # steps before anything is timed
# The calls of a step: where they are looked up, and what they are counted as.
CALLS: tuple[tuple[Any, str, str], ...] = (
    (Shards, "forward", "network, forward"),
    (IdentityNetwork, "behind", "network, forward"),
    (Shards, "backward", "backward"),
    (Tensor, "backward", "backward"),
    (torch.optim.Adam, "step", "optimizer"),
    (torch.optim.Adam, "zero_grad", "optimizer"),
    (loop, "discriminate", "discriminator and losses, forward"),
    (loop, "loss_terms", "discriminator and losses, forward"),
    (loop, "weighted_sum", "discriminator and losses, forward"),
    (loop, "augmented", "images and augmentation"),
    (Means, "add", "looking at the loss"),
)
OF_THE_NETWORK = ("network, forward", "backward", "optimizer")
Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both, their ratios, and the parts of our step."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=form
    )
    add = parser.add_argument
    add("--paper", action="store_true", help="ResNet-50, 288 x 144 pixels")
    add("--steps", type=int, default=60, help="of an epoch")
    add("--workers", type=int, default=2, help="of the plain loop")
    add("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    scale = "paper" if given.paper else "small"
    if given.measure:
        which, folder = given.measure
        print(json.dumps(measure(which, Path(folder), scale, given.steps, given.workers)))
        return
    name = torch.cuda.get_device_name() if HAS_GPU else "CPU, one thread"
    print(f"{name}, torch {torch.__version__}, {given.steps} steps, {given.workers} workers")
    with tempfile.TemporaryDirectory() as place:
        write_images(Path(place), SIZES[scale])
        options = sys.argv[1:] if arguments is None else list(arguments)
        found = {}
        for which in ("ours", "plain"):
            found[which] = in_fresh_process(which, Path(place), options)
            show(which, found[which])
        ours, plain = found["ours"], found["plain"]
        print_ratios(ours, plain)
        show_parts(in_fresh_process("parts", Path(place), options))


def write_images(folder: Path, size: Size) -> None:
    """Write a store, its pictures as JPEG files, and the visible labels."""
    store = random_store(folder / "images", size, smooth_pictures)
    (folder / "files").mkdir()
    for row, pixels in enumerate(store.pixels):
        Image.fromarray(pixels).save(folder / "files" / f"{row}.jpg", quality=95)
    rows = store.rows("train", "visible")
    table = pd.DataFrame({"row": rows, "label": rows // PER_PERSON})
    table.to_csv(folder / "visible.csv", index=False)


def smooth_pictures(draws: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw pictures (B, H, W, 3) uint8 that compress as photographs do."""
    count, height, width, _ = shape
    coarse = draws.integers(0, 256, (count, height // 12, width // 12, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((width, height), Image.Resampling.BICUBIC)
                for each in coarse]  # fmt: skip
    return np.stack([np.asarray(each) for each in pictures])


def in_fresh_process(which: str, folder: Path, options: list[str]) -> Figures:
    """Return what `measure` returns."""
    command = [sys.executable, "-m", "benchmarks.training", "--measure", which, str(folder)]
    output = subprocess.run(
        [*command, *options], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def measure(which: str, folder: Path, scale: str, steps: int, workers: int) -> Figures:
    """Return the figures of an epoch of `ours` or `plain`, or the `parts` of ours."""
    changes = {"scale": scale, "train.steps": steps, "otla.infrared_from_epoch": 0}
    method = method_of(changes)
    data = training_set(ImageStore(folder / "images"), folder / "visible.csv", method.train)
    state = new_state(data, method, SIZES[scale], "auto")
    torch.set_num_threads(1)
    data.store.keep(np.arange(len(data.store.table)), state.network.classifier.weight.device)
    batches, is_paired = loop.draw_batches(state, data, method)
    assert is_paired
    first = CrossModalBatches(*(part[:WARM_UP] for part in batches))
    before = memory("VmRSS")

    if which == "plain":
        make_plain(state, method, SIZES[scale], data)

    def epoch(chosen: CrossModalBatches) -> float:
        if which == "plain":
            return plain_epoch(state, data, method, chosen, folder / "files", workers)
        return float(loop.train_epoch(state, data, method, chosen, True)["loss"] or 0)

    epoch(first)
    if which == "parts":
        return measured_parts(lambda: epoch(batches), steps)
    finish()
    started, cpu = time.perf_counter(), time.process_time()
    loss = epoch(batches)
    finish()
    seconds = time.perf_counter() - started
    of_workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB
    of_process = (memory("VmHWM") - before) / 1024
    images = batches.visible.size + batches.infrared.size
    return {
        "images a second": images / seconds,
        "ms a step": 1000 * seconds / steps,
        "CPU ms a step": 1000 * (time.process_time() - cpu) / steps,
        "GiB": of_process + workers * of_workers * (which == "plain"),
        "loss": loss,
    }


class Files(Dataset[Tensor]):
    """JPEG files, decoded and augmented by PIL when they are asked for."""

    def __init__(self, folder: Path, gray: float, flip: float, erase: float) -> None:
        color = [transforms.RandomGrayscale(gray)]
        common = [
            transforms.RandomHorizontalFlip(flip),
            transforms.ToTensor(),
            transforms.Normalize(augment.MEAN, augment.DEVIATION),
            transforms.RandomErasing(erase),
        ]
        self.folder = folder
        self.visible = transforms.Compose(color + common)
        self.infrared = transforms.Compose(common)

    def __getitem__(self, place: tuple[int, bool]) -> Tensor:
        """Return the picture of a row (3, H, W); the second entry says whether it is visible."""
        row, is_visible = place
        picture = Image.open(self.folder / f"{row}.jpg").convert("RGB")
        images: Tensor = self.visible(picture) if is_visible else self.infrared(picture)
        return images


def make_plain(state: loop.State, method: Method, size: Size, data: TrainingSet) -> None:
    """Give `state` the same network in the default memory layout, and Adam as it is by default."""
    device = state.network.classifier.weight.device
    half_precision = state.network.half_precision
    state.network = build(IdentityNetwork, 0, size.architecture, data.classes).to(device)
    state.network.half_precision = half_precision
    backbone = list(state.network.backbone.parameters())
    new = [p for name, p in state.network.named_parameters() if not name.startswith("backbone.")]
    new += state.discriminator.parameters()
    groups = [
        {"params": backbone, "share": method.train.backbone_rate},
        {"params": [each for each in new if each.requires_grad], "share": 1.0},
    ]
    state.optimizer = torch.optim.Adam(groups, weight_decay=method.train.weight_decay)


def plain_epoch(
    state: loop.State,
    data: TrainingSet,
    method: Method,
    batches: CrossModalBatches,
    folder: Path,
    workers: int,
) -> float:
    """Train one pass over the batches; return the mean loss."""
    train = method.train
    device = state.network.classifier.weight.device
    places = [
        [(row, True) for row in visible] + [(row, False) for row in infrared]
        for visible, infrared in zip(
            data.visible_rows[batches.visible].tolist(),
            data.infrared_rows[batches.infrared].tolist(),
            strict=True,
        )
    ]
    files = Files(folder, train.grayscale, train.flip, train.erase)
    loader = DataLoader(files, batch_sampler=places, num_workers=workers, pin_memory=HAS_GPU)
    generator = seeds.generator(0, "plain")
    loop.set_rate(state, train, state.epoch)
    state.network.train()
    weight = weights(method)
    total = 0.0
    for images, numbers in zip(loader, batches.labels, strict=True):
        labels = torch.from_numpy(numbers).to(device)
        outputs = state.network.outputs(images.to(device), visible=len(labels))
        modality = loop.discriminate(state, outputs.levels, method.den, generator)
        terms = loss_terms(outputs, modality, labels, labels, train, method.pal)
        loss = weighted_sum(terms, weight)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        total += loss.item()
    return total / len(batches.labels)


def measured_parts(epoch: Callable[[], float], steps: int) -> Figures:
    """Return the milliseconds of each part of a step."""
    clock = time.perf_counter if HAS_GPU else time.process_time
    spent: Counter[str] = Counter()

    @contextmanager
    def counted(part: str) -> Iterator[None]:
        finish()
        started = clock()
        yield
        finish()
        spent[part] += clock() - started  # type: ignore[assignment]  # seconds

    with ExitStack() as patches:
        for owner, name, part in CALLS:
            wrapped = counted(part)(getattr(owner, name))
            patches.enter_context(mock.patch.object(owner, name, wrapped))
        with counted("whole step"):
            epoch()
    return {part: 1000 * seconds / steps for part, seconds in spent.items()}


def show(which: str, figures: Figures) -> None:
    """Print a line."""
    print(f"{which:6} " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


def print_ratios(ours: Figures, plain: Figures) -> None:
    """Print how many times as fast ours is, and how much memory it takes."""
    speed = ours["images a second"] / plain["images a second"]
    print(f"ours / plain: {speed:.2f} of the images a second, "
          f"{ours['GiB'] / plain['GiB']:.2f} of the memory")  # fmt: skip


def show_parts(parts: Figures) -> None:
    """Print what a step consists of."""
    whole = parts.pop("whole step")
    parts["the rest"] = whole - sum(parts.values())
    print(f"our step, every call measured: {whole:.2f} ms")
    for part, milliseconds in sorted(parts.items(), key=lambda entry: -entry[1]):
        print(f"  {part:34} {milliseconds:8.2f} ms {milliseconds / whole:7.1%}")
    outside = 1 - sum(parts[part] for part in OF_THE_NETWORK) / whole
    print(f"  not forward, backward or optimizer: {outside:.1%}")


if __name__ == "__main__":
    main()
