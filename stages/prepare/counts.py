"""Counts of a table: metrics, published numbers, and identities in training and test set."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.parts.images.table import MODALITIES, SPLITS
from stages.parts.run.stage import InputError

TRAINING = ("train", "val")
TEST = ("query", "gallery")


@dataclass(frozen=True)
class Count:
    """A published number of images (or identities) of some splits and of one modality or both."""

    what: str
    expected: int
    splits: tuple[str, ...]
    modality: str | None = None
    persons: bool = False  # count identities

    def of(self, table: pd.DataFrame) -> int:
        """Return the same number of `table`."""
        chosen = table["split"].isin(self.splits)
        if self.modality is not None:
            chosen &= table["modality"] == self.modality
        rows = table.loc[chosen]
        return rows["person"].nunique() if self.persons else len(rows)


def compare(table: pd.DataFrame, published: Iterable[Count], name: str) -> list[str]:
    """Return one line that lists the published numbers that `table` misses, or no line."""
    missed = []
    for count in published:
        number = count.of(table)
        if number != count.expected:
            missed.append(f"{number:,} {count.what} (published: {count.expected:,})")
    if not missed:
        return []
    return [f"WARNING: {name} is not the published data set: found {'; '.join(missed)}"]


def one_sided(table: pd.DataFrame) -> list[int]:
    """Return the training identities with images of one modality only, ascending."""
    training = table.loc[table["split"].isin(TRAINING)]
    modalities = training.groupby("person")["modality"].nunique()
    return sorted(int(person) for person in modalities.index[modalities < len(MODALITIES)])


def warn_one_sided(table: pd.DataFrame, name: str) -> list[str]:
    """Return one line on the training identities that lack a modality, or no line."""
    persons = one_sided(table)
    if not persons:
        return []
    number = f"{len(persons)} training identities lack a modality"
    return [f"WARNING: {name}: {number}, the first is {persons[0]}"]


def warn_no_test(table: pd.DataFrame, name: str) -> list[str]:
    """Return one line if a source lacks query or gallery images, or no line."""
    absent = [split for split in TEST if split not in set(table["split"])]
    if not absent:
        return []
    return [f"WARNING: {name} holds no {' and no '.join(absent)} images; no stage needs them"]


def refuse_missing_part(table: pd.DataFrame, name: Path) -> None:
    """Refuse a target without visible or without infrared images for training or for the test."""
    for splits, what in ((TRAINING, "training"), (TEST, "test")):
        for modality in MODALITIES:
            rows = table["split"].isin(splits) & (table["modality"] == modality)
            if not rows.any():
                expected = "expected both modalities for training and for the test"
                raise InputError(f"{name} holds no {modality} {what} image; {expected}")


def refuse_shared_persons(table: pd.DataFrame, name: Path) -> None:
    """Refuse a table whose training and test set share an identity: scores would mean nothing."""
    training = set(table.loc[table["split"].isin(TRAINING), "person"])
    test = set(table.loc[table["split"].isin(TEST), "person"])
    shared = sorted(training & test)
    if shared:
        where = "in the training and in the test set"
        raise InputError(f"{name}: identity {shared[0]} is {where} ({len(shared)} such)")


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Return the numbers of images, identities and cameras, in all and of every split."""
    splits = {}
    for split in SPLITS:
        rows = table.loc[table["split"] == split]
        sizes = {modality: int((rows["modality"] == modality).sum()) for modality in MODALITIES}
        splits[split] = {**sizes, "persons": int(rows["person"].nunique())}
    return {
        "images": len(table),
        "persons": int(table["person"].nunique()),
        "cameras": int(table["camera"].nunique()),
        **splits,
    }


def sentence(table: pd.DataFrame, name: str) -> str:
    """Return the line that a user reads when the stage has finished."""
    training = table.loc[table["split"].isin(TRAINING)]
    visible, infrared = ((training["modality"] == modality).sum() for modality in MODALITIES)
    query, gallery = ((table["split"] == split).sum() for split in TEST)
    return (
        f"{name}: {training['person'].nunique():,} training identities with "
        f"{visible:,} visible and {infrared:,} infrared images; "
        f"{query:,} query and {gallery:,} gallery images"
    )
