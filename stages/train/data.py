"""What cross-modal training may see: training images of both modalities and the visible labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.parts.images import augment
from stages.parts.images.store import ImageStore
from stages.parts.run.records import InputError
from stages.parts.run.settings import Train

TRAINING = ("train", "val")  # the customary 395 identities of SYSU-MM01 are both


@dataclass(frozen=True)
class TrainingSet:
    """Rows of the store and their labels. The persons are for logging only; nothing else reads them."""

    store: ImageStore
    visible_rows: np.ndarray  # (V,) int64
    visible_labels: np.ndarray  # (V,) int64, 0..classes-1
    infrared_rows: np.ndarray  # (R,) int64
    infrared_truth: np.ndarray | None  # (R,) int64 true labels, in the supervised setting only
    visible_persons: np.ndarray  # (V,) for logging
    infrared_persons: np.ndarray  # (R,) for logging
    classes: int


def training_set(store: ImageStore, labels: Path, settings: Train) -> TrainingSet:
    """The training images of `store` with the visible labels of the CSV `labels` (columns row, label).

    Images of label -1, and of a label that occurs once, are dropped (paper), or made a class of their own
    (`keep_outliers`). Labels are renumbered 0..classes-1 in ascending order.
    Raises InputError where the file does not fit the table, or an identity of the supervised setting has no label.
    """
    visible = store.rows(TRAINING, "visible")
    infrared = store.rows(TRAINING, "infrared")
    if not len(infrared):
        raise InputError(f"{store.folder / 'table.csv'}: no infrared training images")
    given = pd.read_csv(labels)
    if list(given.columns) != ["row", "label"] or not np.array_equal(given["row"], visible):
        raise InputError(f"{labels}: its rows are not the {len(visible)} visible training images of {store.folder}")
    label = given["label"].to_numpy(np.int64)
    values, counts = np.unique(label, return_counts=True)
    outlier = (label == -1) | np.isin(label, values[counts == 1])
    if settings.keep_outliers:
        label = np.where(outlier, label.max() + 1 + np.cumsum(outlier), label)
        outlier = np.zeros_like(outlier)
    visible, label = visible[~outlier], label[~outlier]
    classes, compact = np.unique(label, return_inverse=True)
    if len(classes) < settings.persons:
        raise InputError(f"{labels}: {len(classes)} labels with two images or more, train.persons: {settings.persons}")
    person = store.table["person"].to_numpy()
    truth = None
    if settings.setting == "supervised":
        number = {int(person[row]): int(entry) for row, entry in zip(visible, compact, strict=True)}
        infrared = infrared[np.isin(person[infrared], list(number))]
        truth = np.array([number[int(p)] for p in person[infrared]], dtype=np.int64)
    return TrainingSet(
        store,
        visible,
        compact.astype(np.int64),
        infrared,
        truth,
        person[visible],
        person[infrared],
        len(classes),
    )


def pictures(
    store: ImageStore, rows: np.ndarray, device: torch.device, settings: Train, generator: torch.Generator, grey: bool
) -> Tensor:
    """Augmented images `rows` (B,) as float (B, 3, H, W) on `device`: grayscale (visible), mirror, erased patch."""
    images = store.batch(rows, device).float()
    if grey:
        images = augment.grayscale(images, settings.grayscale, generator)
    images = augment.normalise(augment.flip(images, settings.flip, generator))
    return augment.erase(images, settings.erase, generator)


def clean_batches(store: ImageStore, rows: np.ndarray, device: torch.device, size: int = 128) -> Iterator[Tensor]:
    """Images `rows` without augmentation, in batches of `size`."""
    for start in range(0, len(rows), size):
        yield augment.normalise(store.batch(rows[start : start + size], device))
