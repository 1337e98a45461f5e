"""The images of stage 1: visible training images of the target and, in UDA mode, of a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from stages.parts.images import augment
from stages.parts.images.sampling import camera_aware_order, epoch_batches
from stages.parts.images.store import ImageStore
from stages.parts.images.table import training_splits
from stages.parts.run import seeds
from stages.parts.run.console import progress
from stages.parts.run.settings import Spcl
from stages.parts.run.stage import InputError

# Names of the two phases of stage 1.
WARM_UP, SPCL = "warmup", "spcl"
# SpCL's random erasing: share of the area, and aspect ratio drawn uniformly.
ERASED_AREA = (0.02, 0.4)


@dataclass(frozen=True)
class VisibleImages:
    """Visible training images of one data set, ordered by path as the rows of SpCL's memory are."""

    store: ImageStore
    rows: np.ndarray  # (N,) int64, rows of the store
    persons: np.ndarray  # (N,) int64, 0..C-1: labels of a source; of a target for logging only
    cameras: np.ndarray  # (N,) int64

    @property
    def classes(self) -> int:
        """Number of different persons."""
        return int(self.persons.max()) + 1

    def resized(self, positions: np.ndarray, settings: Spcl, device: torch.device) -> Tensor:
        """Return images as float (B, 3, H, W), 0 to 255, in the size that stage 1 works on."""
        images = self.store.batch(self.rows[positions], device).float()  # (B, 3, H, W)
        height, width = self.store.pixels.shape[1:3]
        return augment.resize(images, settings.height or height, settings.width or width)

    def augmented(
        self,
        positions: np.ndarray,
        settings: Spcl,
        device: torch.device,
        generator: torch.Generator,
    ) -> Tensor:
        """Return images (B, 3, H, W) with SpCL's augmentation, normalized.

        The augmentation is a mirror image, a shift by padding and cropping, an erased rectangle
        and, beyond SpCL, gray pictures from a mixture of the channels.
        """
        images = self.resized(positions, settings, device)
        images = augment.mixture(images, settings.mixture, generator, settings.gamma)
        images = augment.flip(images, settings.flip, generator)
        images = augment.pad_and_crop(images, settings.pad, generator)
        images = augment.normalize(images.contiguous())  # see stages/train/data.py
        return augment.erase(
            images,
            settings.erase,
            generator,
            ERASED_AREA,
            uniform_ratio=True,
            value=augment.MEAN,
        )

    def clean(self, settings: Spcl, device: torch.device, size: int = 128) -> Iterator[Tensor]:
        """Yield all images in order, normalized, in batches of `size`."""
        starts = range(0, len(self.rows), size)
        for start in progress(starts, "pseudo_label: embedding all images", "batch"):
            positions = np.arange(start, min(start + size, len(self.rows)))
            yield augment.normalize(self.resized(positions, settings, device))


@dataclass(frozen=True)
class TrainingSet:
    """What stage 1 trains on."""

    target: VisibleImages
    source: VisibleImages | None  # None: USL mode

    @property
    def source_classes(self) -> int:
        """Number of classes of the source, which come first in the memory; 0 without a source."""
        return self.source.classes if self.source else 0


@dataclass(frozen=True)
class Method:
    """What is done: the section `spcl` of `params.yaml`, and the seed."""

    spcl: Spcl
    seed: int


def visible_images(store: ImageStore, selection: str = "last") -> VisibleImages:
    """Return the visible training images of a store, persons renumbered 0..C-1 in ascending order.

    Args:
        store: the images of a data set.
        selection: `train.selection`, see `training_splits`.

    Raises:
        InputError: if there are none.
    """
    rows = store.rows(training_splits(selection), "visible")
    if not len(rows):
        raise InputError(f"{store.folder / 'table.csv'}: no visible training images")
    table = store.table.loc[rows].sort_values("path", kind="stable")
    _, persons = np.unique(table["person"].to_numpy(), return_inverse=True)
    return VisibleImages(
        store,
        rows=table["row"].to_numpy(np.int64),
        persons=persons.astype(np.int64),
        cameras=table["camera"].to_numpy(np.int64),
    )


def joint_batches(
    data: TrainingSet,
    method: Method,
    labels: np.ndarray | None,
    draw: tuple[str, int, int],
    device: torch.device,
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Yield batches of augmented images: the source's half first, then the target's.

    Args:
        data: source (if there is one) and target.
        method: sizes of a batch, augmentation, seed.
        labels: (N,) int64 labels of the target's images; None leaves the target out (warm-up on a
            source).
        draw: purpose of the batches and the epoch, which select the random stream, and the number
            of batches.
        device: where the images go.

    Yields:
        Images (B · domains, 3, H, W), and for each domain the rows (B,) of the memory that its
        images belong to: their class for the source, classes + position for the target.
    """
    purpose, epoch, steps = draw
    settings = method.spcl
    domains: list[tuple[VisibleImages, np.ndarray, np.ndarray]] = []  # images, labels, memory rows
    if data.source is not None:
        domains.append((data.source, data.source.persons, data.source.persons))
    if labels is not None:
        memory_rows = data.source_classes + np.arange(len(data.target.rows))
        domains.append((data.target, labels, memory_rows))
    streams = []
    for number, (images, image_labels, _) in enumerate(domains):
        draws = seeds.numpy_generator(method.seed, "pseudo_label", purpose, number, epoch)
        order = partial(camera_aware_order, image_labels, images.cameras, settings.instances, draws)
        streams.append(epoch_batches(order, settings.batch, steps))
    generator = seeds.generator(method.seed, "pseudo_label", purpose, "augment", epoch)
    for positions_by_domain in zip(*streams, strict=True):
        batch, indices = [], []
        for positions, (images, _, memory_rows) in zip(positions_by_domain, domains, strict=True):
            batch.append(images.augmented(positions, settings, device, generator))  # (B, 3, H, W)
            indices.append(torch.from_numpy(memory_rows[positions]))  # (B,)
        yield torch.cat(batch).contiguous(memory_format=torch.channels_last), indices


def check(settings: Spcl, data: TrainingSet, epochs: int) -> None:
    """Refuse parameters that do not fit the data, before the first epoch.

    Args:
        settings: the section `spcl`.
        data: source and target.
        epochs: number of epochs to run, those of the warm-up included.

    Raises:
        InputError: names the parameter.
    """
    faults = []
    if epochs and data.source is not None:
        faults += _source_faults(settings, data.source)
    if epochs and data.source is None:
        faults.append(
            (
                settings.batch > len(data.target.rows),
                f"spcl.batch: {settings.batch} exceeds the {_visible(data.target)}",
            )
        )
    if epochs > settings.warmup_epochs:
        for name in ("k1", "min_samples"):
            value = getattr(settings, name)
            problem = f"spcl.{name}: {value} exceeds the {_visible(data.target)}"
            faults.append((value > len(data.target.rows), problem))
    for is_wrong, message in faults:
        if is_wrong:
            raise InputError(message)


def _visible(target: VisibleImages) -> str:
    table = target.store.folder / "table.csv"
    return f"{len(target.rows)} visible training images of {table}"


def _source_faults(settings: Spcl, source: VisibleImages) -> list[tuple[bool, str]]:
    """Return what `check` asks of the source: whether it is wrong, and the message."""
    sizes = np.bincount(source.persons)  # (C,)
    images = int(np.where(sizes > 1, settings.instances, 1).sum())
    table = source.store.folder / "table.csv"
    return [
        (
            len(sizes) < 2,
            f"{table}: all visible training images show one identity, expected 2 or more",
        ),
        (
            settings.batch > images,
            f"spcl.batch: {settings.batch} exceeds the {images} images that {len(sizes)} "
            f"identities of {table} give, {settings.instances} each (spcl.instances)",
        ),
    ]
