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
from stages.parts.images.table import training_splits
from stages.parts.run.console import progress
from stages.parts.run.settings import Train
from stages.parts.run.stage import InputError


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
    (`keep_outliers`). Labels are renumbered 0..classes-1 in ascending order. In the supervised setting infrared images
    of an identity without a visible label are dropped too.
    Raises InputError where the file does not fit the table, where labels are too few for a batch, and where an identity
    of the supervised setting has two labels or no infrared images.
    """
    splits = training_splits(settings.selection)
    visible, infrared = store.rows(splits, "visible"), store.rows(splits, "infrared")
    for modality, rows in (("visible", visible), ("infrared", infrared)):
        if not len(rows):
            raise InputError(f"{store.folder / 'table.csv'}: no {modality} training images")
    label = _read_labels(labels, visible, store.folder)
    values, counts = np.unique(label, return_counts=True)
    outlier = (label == -1) | np.isin(label, values[counts == 1])
    if settings.keep_outliers:
        label = np.where(outlier, label.max() + 1 + np.cumsum(outlier), label)
        outlier = np.zeros_like(outlier)
    visible, label = visible[~outlier], label[~outlier]
    classes, compact = np.unique(label, return_inverse=True)
    if len(classes) < settings.persons:
        enough = "" if settings.keep_outliers else " with two images or more"
        raise InputError(
            f"{labels}: {len(classes)} labels{enough}, but a batch takes train.persons = {settings.persons} of them"
        )
    person = store.table["person"].to_numpy()
    truth = None
    if settings.setting == "supervised":
        infrared = infrared[np.isin(person[infrared], person[visible])]
        truth = _true_labels(person[visible], compact, person[infrared], labels)
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


def _read_labels(path: Path, rows: np.ndarray, folder: Path) -> np.ndarray:
    """The labels (N,) int64 of a CSV whose rows must be `rows`; -1 or more each."""
    try:
        given = pd.read_csv(path)
    except ValueError as error:  # pandas' own name no file
        raise InputError(f"{path}: {error}") from None
    if list(given.columns) != ["row", "label"] or not np.array_equal(given["row"], rows):
        raise InputError(
            f"{path}: its rows are not the {len(rows)} visible training images of {folder}"
        )
    if given["label"].dtype != np.int64 or given["label"].min() < -1:
        raise InputError(f"{path}: column label holds something that is not a whole number from -1")
    return given["label"].to_numpy()


def _true_labels(
    visible: np.ndarray, labels: np.ndarray, infrared: np.ndarray, path: Path
) -> np.ndarray:
    """The labels (R,) of the persons `infrared` (R,), from the persons (V,) and labels (V,) of visible images."""
    number: dict[int, int] = {}
    for person, label in zip(visible.tolist(), labels.tolist(), strict=True):
        if number.setdefault(person, label) != label:
            raise InputError(
                f"{path}: person {person} has two labels, train.setting supervised needs one a person"
            )
    alone = np.setdiff1d(visible, infrared)
    if len(alone):
        raise InputError(
            f"person {alone[0]} has visible training images only, train.setting supervised needs both"
        )
    return np.array([number[person] for person in infrared.tolist()], dtype=np.int64)


def pictures(
    store: ImageStore,
    rows: np.ndarray,
    device: torch.device,
    settings: Train,
    generator: torch.Generator,
    gray: bool,
) -> Tensor:
    """Augmented images `rows` (B,) as float (B, 3, H, W) on `device`: grayscale (visible), mirror, erased patch."""
    images = store.batch(rows, device).float()
    if gray:
        images = augment.grayscale(images, settings.grayscale, generator)
    images = augment.normalize(augment.flip(images, settings.flip, generator))
    return augment.erase(images, settings.erase, generator)


def clean_batches(
    store: ImageStore, rows: np.ndarray, device: torch.device, size: int = 128
) -> Iterator[Tensor]:
    """Images `rows` without augmentation, in batches of `size`."""
    for start in progress(range(0, len(rows), size), "train: images through the network", "batch"):
        yield augment.normalize(store.batch(rows[start : start + size], device))
