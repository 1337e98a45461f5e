"""Counting a table: metrics, what the publications say, and people who should not be where they are."""

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
    """A published number: images, or with `persons` identities, of some splits and of one modality or both."""

    what: str
    expected: int
    splits: tuple[str, ...]
    modality: str | None = None
    persons: bool = False

    def found(self, table: pd.DataFrame) -> int:
        """The same number in `table`."""
        chosen = table["split"].isin(self.splits)
        if self.modality is not None:
            chosen &= table["modality"] == self.modality
        return int(table.loc[chosen, "person"].nunique()) if self.persons else int(chosen.sum())


def compare(table: pd.DataFrame, published: Iterable[Count], name: str) -> list[str]:
    """One line that lists each published number that `table` misses, or no line."""
    missed = [
        f"{count.found(table):,} {count.what} (published: {count.expected:,})"
        for count in published
        if count.found(table) != count.expected
    ]
    return (
        [f"WARNING: {name} is not the published data set: found " + "; ".join(missed)]
        if missed
        else []
    )


def one_sided(table: pd.DataFrame) -> list[int]:
    """Training identities with images of one modality only, ascending."""
    kinds = table.loc[table["split"].isin(TRAINING)].groupby("person")["modality"].nunique()
    return sorted(int(person) for person in kinds.index[kinds < len(MODALITIES)])


def warn_one_sided(table: pd.DataFrame, name: str) -> list[str]:
    """One line that says how many training identities lack a modality, or no line."""
    persons = one_sided(table)
    if not persons:
        return []
    return [
        f"WARNING: {name}: {len(persons)} training identities lack a modality, the first is {persons[0]}"
    ]


def refuse_shared_persons(table: pd.DataFrame, name: Path) -> None:
    """InputError where somebody is in the training set and in the test set: scores would mean nothing."""
    groups = [set(table.loc[table["split"].isin(splits), "person"]) for splits in (TRAINING, TEST)]
    shared = sorted(groups[0] & groups[1])
    if shared:
        raise InputError(
            f"{name}: identity {shared[0]} is in the training and in the test set ({len(shared)} such)"
        )


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Images, identities and cameras of a table, numbers only, every split present."""
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
    """The line a user reads when the stage has finished."""
    training = table.loc[table["split"].isin(TRAINING)]
    sizes = [
        f"{int((training['modality'] == modality).sum()):,} {modality}" for modality in MODALITIES
    ]
    query, gallery = (int((table["split"] == split).sum()) for split in TEST)
    return (
        f"{name}: {training['person'].nunique():,} training identities with {' and '.join(sizes)} images; "
        f"{query:,} query and {gallery:,} gallery images"
    )
