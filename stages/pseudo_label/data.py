"""The images of stage 1: visible training images of the target and, in UDA mode, a labeled source."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.parts.images import augment
from stages.parts.images.store import ImageStore
from stages.parts.images.table import training_splits
from stages.parts.run.console import progress
from stages.parts.run.settings import Spcl
from stages.parts.run.stage import InputError


@dataclass(frozen=True)
class Domain:
    """Visible training images of one data set, in the order of their paths: SpCL's order of memory rows."""

    store: ImageStore
    rows: np.ndarray  # (N,) int64, rows of the store
    persons: (
        np.ndarray
    )  # (N,) int64, 0..C-1: labels of a source; for a target they are for logging only
    cameras: np.ndarray  # (N,) int64

    @property
    def classes(self) -> int:
        """Number of different persons."""
        return int(self.persons.max()) + 1 if len(self.persons) else 0

    def pictures(self, indices: np.ndarray, settings: Spcl, device: torch.device) -> Tensor:
        """Images `indices` (B,) as float (B, 3, H, W), 0 to 255, in the size that stage 1 works on."""
        images = self.store.batch(self.rows[indices], device).float()
        height, width = self.store.pixels.shape[1:3]
        return augment.resize(images, settings.height or height, settings.width or width)

    def augmented(
        self, indices: np.ndarray, settings: Spcl, device: torch.device, generator: torch.Generator
    ) -> Tensor:
        """Images `indices` (B,) with SpCL's augmentation, normalized: mirror, shift by a crop, erased patch."""
        images = augment.flip(self.pictures(indices, settings, device), settings.flip, generator)
        images = augment.normalize(augment.pad_and_crop(images, settings.pad, generator))
        return augment.erase(
            images, settings.erase, generator, (0.02, 0.4), uniform_ratio=True, value=augment.MEAN
        )

    def clean(self, settings: Spcl, device: torch.device, size: int = 128) -> Iterator[Tensor]:
        """All images in order, normalized, in batches of `size`."""
        for start in progress(
            range(0, len(self.rows), size), "pseudo_label: embedding all images", "batch"
        ):
            indices = np.arange(start, min(start + size, len(self.rows)))
            yield augment.normalize(self.pictures(indices, settings, device))


def domain(store: ImageStore, selection: str = "last") -> Domain:
    """The visible training images of a store; persons renumbered 0..C-1 in ascending order.

    selection: `train.selection`, see `training_splits`. Raises InputError where there is none.
    """
    rows = store.rows(training_splits(selection), "visible")
    if not len(rows):
        raise InputError(f"{store.folder / 'table.csv'}: no visible training images")
    chosen = store.table.loc[rows].sort_values("path", kind="stable")
    persons = np.unique(chosen["person"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    return Domain(
        store, chosen["row"].to_numpy(np.int64), persons, chosen["camera"].to_numpy(np.int64)
    )


def check(settings: Spcl, target: Domain, source: Domain | None, last: int) -> None:
    """Refuse before the first epoch what would fail after hours: parameters that do not fit the data or each other.

    last: epochs to run, those of the warm-up included. Raises InputError that names the parameter.
    """
    clusters, group = last > settings.warmup_epochs, settings.statistics_group
    low, high = settings.radius - settings.radius_gap, settings.radius + settings.radius_gap
    visible = f"{len(target.rows)} visible training images of {target.store.folder / 'table.csv'}"
    faults = _source_faults(settings, source) if last and source is not None else []
    if last and source is None:
        faults.append(
            (
                settings.batch > len(target.rows),
                f"spcl.batch: {settings.batch} exceeds the {visible}",
            )
        )
    if clusters:
        faults += [
            (
                settings.k1 > len(target.rows),
                f"spcl.k1: {settings.k1} neighbours exceed the {visible}",
            ),
            (settings.k2 > settings.k1, f"spcl.k2: {settings.k2} exceeds spcl.k1, {settings.k1}"),
            (
                not 0 < low <= high < 1,
                f"spcl.radius: {settings.radius} ± {settings.radius_gap} (spcl.radius_gap) is not between 0 and 1",
            ),
            (
                group is not None and settings.batch % group > 0,
                f"spcl.batch: {settings.batch} images do not divide into groups of {group} (spcl.statistics_group)",
            ),
        ]
    for wrong, message in faults:
        if wrong:
            raise InputError(message)


def _source_faults(settings: Spcl, source: Domain) -> list[tuple[bool, str]]:
    """What `check` asks of the source: whether it is wrong, and the message."""
    sizes = np.bincount(source.persons)
    images = int(np.where(sizes > 1, settings.instances, 1).sum())
    table = source.store.folder / "table.csv"
    return [
        (
            len(sizes) < 2,
            f"{table}: all visible training images show one identity, expected 2 or more",
        ),
        (
            settings.batch > images,
            f"spcl.batch: {settings.batch} exceeds the {images} images that {len(sizes)} identities of {table} give, "
            f"{settings.instances} each (spcl.instances)",
        ),
    ]
