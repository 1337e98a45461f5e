"""What cross-modal training may see: training images of both modalities and visible labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.parts.images import augment
from stages.parts.images.checks import check_training
from stages.parts.images.store import ImageStore
from stages.parts.images.table import training_splits
from stages.parts.run.console import progress
from stages.parts.run.settings import Clusters, Den, Otla, Pal, Prototypes, Train
from stages.parts.run.stage import InputError


@dataclass(frozen=True)
class Method:
    """What is done: the sections of `params.yaml` that training reads, and the seed."""

    train: Train
    den: Den
    otla: Otla
    pal: Pal
    clusters: Clusters
    prototypes: Prototypes
    seed: int


@dataclass(frozen=True)
class TrainingSet:
    """Rows of the store and their labels. The persons are for logging only."""

    store: ImageStore
    visible_rows: np.ndarray  # (V,) int64
    visible_labels: np.ndarray  # (V,) int64, 0..classes-1
    infrared_rows: np.ndarray  # (R,) int64
    infrared_truth: np.ndarray | None  # (R,) int64 true labels, in the supervised setting only
    visible_persons: np.ndarray  # (V,) for logging
    infrared_persons: np.ndarray  # (R,) for logging
    classes: int


def training_set(store: ImageStore, labels_file: Path, settings: Train) -> TrainingSet:
    """Return the training images of `store` with the visible labels of a CSV file.

    Images of label -1, and of a label that occurs once, are dropped (paper), or become classes of
    their own (`train.keep_outliers`). Labels are renumbered 0..classes-1 in ascending order. In
    the supervised setting, infrared images of an identity without a visible label are dropped too.

    Args:
        store: the target's images.
        labels_file: columns row, label; the rows are all visible training images in order.
        settings: the section `train`.

    Raises:
        ValueError: if nothing can be trained on the table (`check_training`).
        InputError: if the file does not fit the table, if there are too few labels for a batch,
            or if an identity of the supervised setting has two labels.
    """
    check_training(
        store.table,
        str(store.folder / "table.csv"),
        settings.setting,
        settings.selection,
        settings.persons,
        settings.keep_outliers,
    )
    splits = training_splits(settings.selection)
    visible, infrared = store.rows(splits, "visible"), store.rows(splits, "infrared")
    labels = _read_labels(labels_file, visible, store.folder)
    labels, is_outlier = _outliers(labels, settings.keep_outliers)
    visible = visible[~is_outlier]
    values, compact_labels = np.unique(labels[~is_outlier], return_inverse=True)
    if len(values) < settings.persons:
        enough = "" if settings.keep_outliers else " with two images or more"
        raise InputError(
            f"{labels_file}: {len(values)} labels{enough}, but a batch takes train.persons = "
            f"{settings.persons} of them"
        )
    person = store.table["person"].to_numpy()
    truth = None
    if settings.setting == "supervised":
        infrared = infrared[np.isin(person[infrared], person[visible])]
        truth = _true_labels(person[visible], compact_labels, person[infrared], labels_file)
    return TrainingSet(
        store,
        visible_rows=visible,
        visible_labels=compact_labels.astype(np.int64),
        infrared_rows=infrared,
        infrared_truth=truth,
        visible_persons=person[visible],
        infrared_persons=person[infrared],
        classes=len(values),
    )


def _outliers(labels: np.ndarray, keep: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) and a mask (N,) of the images to drop.

    An outlier has label -1 or a label that no other image has. With `keep` each outlier gets a
    label of its own, and none is dropped.
    """
    values, counts = np.unique(labels, return_counts=True)
    is_outlier = (labels == -1) | np.isin(labels, values[counts == 1])
    if not keep:
        return labels, is_outlier
    own_labels = labels.max() + 1 + np.cumsum(is_outlier)
    return np.where(is_outlier, own_labels, labels), np.zeros_like(is_outlier)


def _read_labels(path: Path, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Return the labels (N,) int64, from -1, of a CSV file whose rows must be `rows`."""
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' own message names no file
        raise InputError(f"{path}: {error}") from None
    if list(table.columns) != ["row", "label"] or not np.array_equal(table["row"], rows):
        raise InputError(
            f"{path}: its rows are not the {len(rows)} visible training images of {folder}"
        )
    if table["label"].dtype != np.int64 or table["label"].min() < -1:
        raise InputError(f"{path}: column label holds something that is not a whole number from -1")
    labels: np.ndarray = table["label"].to_numpy()
    return labels


def _true_labels(
    visible_persons: np.ndarray,
    visible_labels: np.ndarray,
    infrared_persons: np.ndarray,
    path: Path,
) -> np.ndarray:
    """Return the label (R,) of each infrared image's person; `path` is for the messages."""
    label_of: dict[int, int] = {}
    for person, label in zip(visible_persons.tolist(), visible_labels.tolist(), strict=True):
        if label_of.setdefault(person, label) != label:
            raise InputError(
                f"{path}: person {person} has two labels, train.setting supervised needs one a "
                "person"
            )
    return np.array([label_of[person] for person in infrared_persons.tolist()], dtype=np.int64)


def augmented(
    store: ImageStore,
    rows: np.ndarray,
    device: torch.device,
    settings: Train,
    generator: torch.Generator,
    gray: bool,
) -> Tensor:
    """Return augmented images (B, 3, H, W) float32: colors, mirror image, erased rectangle.

    Args:
        store: the images.
        rows: (B,) rows of the store.
        device: where the images go.
        settings: the probabilities.
        generator: where all draws come from.
        gray: the images are visible ones, some of which turn gray in one of three ways. Infrared
            ones may change their brightness.
    """
    images = store.batch(rows, device).float()  # (B, 3, H, W)
    # contiguous: channel by channel in memory a CPU needs half the time. Only the powers of
    # `brightness` have other last bits then.
    if gray:
        images = augment.grayscale(images.contiguous(), settings.grayscale, generator)
        images = augment.exchange(images, settings.exchange, generator)
        images = augment.mixture(images, settings.mixture, generator, settings.gamma)
    else:
        images = augment.brightness(images, settings.infrared_gamma, generator).contiguous()
    images = augment.normalize(augment.flip(images, settings.flip, generator))
    images = augment.erase(images, settings.erase, generator)
    if gray and settings.erase_channel:
        images = augment.erase(images, settings.erase_channel, generator, one_channel=True)
    return images


def clean_batches(
    store: ImageStore, rows: np.ndarray, device: torch.device, size: int = 128
) -> Iterator[Tensor]:
    """Yield the images `rows` without augmentation, in batches (size, 3, H, W)."""
    starts = range(0, len(rows), size)
    for start in progress(starts, "train: images through the network", "batch"):
        yield augment.normalize(store.batch(rows[start : start + size], device))
