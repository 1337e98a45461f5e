"""The images of stage 1: visible training images of the target and, in UDA mode, a labelled source."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.parts.images import augment
from stages.parts.images.store import ImageStore
from stages.parts.run.records import InputError
from stages.parts.run.settings import Spcl

TRAINING = ("train", "val")  # the customary 395 identities of SYSU-MM01 are both


@dataclass(frozen=True)
class Domain:
    """Visible training images of one data set, in the order of their paths: SpCL's order of memory rows."""

    store: ImageStore
    rows: np.ndarray  # (N,) int64, rows of the store
    persons: np.ndarray  # (N,) int64, 0..C-1: labels of a source; for a target they are for logging only
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
        """Images `indices` (B,) with SpCL's augmentation, normalised: mirror, shift by a crop, erased patch."""
        images = augment.flip(self.pictures(indices, settings, device), settings.flip, generator)
        images = augment.normalise(augment.pad_and_crop(images, settings.pad, generator))
        return augment.erase(images, settings.erase, generator, (0.02, 0.4), uniform_ratio=True, value=augment.MEAN)

    def clean(self, settings: Spcl, device: torch.device, size: int = 128) -> Iterator[Tensor]:
        """All images in order, normalised, in batches of `size`."""
        for start in range(0, len(self.rows), size):
            indices = np.arange(start, min(start + size, len(self.rows)))
            yield augment.normalise(self.pictures(indices, settings, device))


def domain(store: ImageStore) -> Domain:
    """The visible training images of a store; persons renumbered 0..C-1 in ascending order.

    Raises InputError where there is none.
    """
    rows = store.rows(TRAINING, "visible")
    if not len(rows):
        raise InputError(f"{store.folder / 'table.csv'}: no visible training images")
    chosen = store.table.loc[rows].sort_values("path", kind="stable")
    persons = np.unique(chosen["person"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    return Domain(store, chosen["row"].to_numpy(np.int64), persons, chosen["camera"].to_numpy(np.int64))
