"""What a training asks of a data set, refused before the first epoch of any stage."""

import pandas as pd

from stages.parts.images.table import MODALITIES, training_splits


def check_training(
    table: pd.DataFrame,
    name: str,
    setting: str,
    selection: str,
    persons: int,
    keep_outliers: bool,
) -> None:
    """Refuse a data set that `train` could not train on, whatever the pseudo labels will be.

    Args:
        table: see `check_table`.
        name: its file, for the messages.
        setting: `train.setting`; but for unsupervised, the visible labels are the identities.
        selection: `train.selection`.
        persons: `train.persons`, the number of labels in a batch.
        keep_outliers: `train.keep_outliers`; if not, a label needs two visible images.

    Raises:
        ValueError: names the file or the parameter, and what was expected.
    """
    training = table[table["split"].isin(training_splits(selection))]
    for modality in MODALITIES:
        if not (training["modality"] == modality).any():
            raise ValueError(f"{name}: no {modality} training images")
    if selection == "validation":
        _check_validation(table[table["split"] == "val"], name)
    visible = training.loc[training["modality"] == "visible", "person"]
    fewest = 1 if keep_outliers else 2
    if setting == "unsupervised":
        labels, what = len(visible) // fewest, f"labels of the {len(visible)} visible images"
    else:
        sizes = visible.value_counts()
        labels = int((sizes >= fewest).sum())
        what = f"identities with {fewest} visible training images or more"
    if labels < persons:
        raise ValueError(
            f"train.persons: a batch takes {persons} labels, but {name} gives at most {labels} "
            f"{what}"
        )
    infrared = int((training["modality"] == "infrared").sum())
    if infrared < persons:
        problem = (
            f"a batch takes {persons} labels, but {name} has {infrared} infrared training images"
        )
        raise ValueError(f"train.persons: {problem}")
    if setting == "supervised":
        _check_infrared(training, sizes.index[sizes >= fewest], name)


def _check_validation(held_out: pd.DataFrame, name: str) -> None:
    """Refuse a data set whose validation images cannot be searched for one another."""
    persons = {}
    for modality in MODALITIES:
        persons[modality] = set(held_out.loc[held_out["modality"] == modality, "person"])
        if not persons[modality]:
            needed = f"train.selection: validation needs {modality} images of split val"
            raise ValueError(f"{needed}, {name} has none")
    if not set.intersection(*persons.values()):
        needed = "train.selection: validation needs an identity of split val in both modalities"
        raise ValueError(f"{needed}, {name} has none")


def _check_infrared(training: pd.DataFrame, persons: pd.Index, name: str) -> None:
    """Refuse a labeled identity without infrared images."""
    infrared = training.loc[training["modality"] == "infrared", "person"]
    without = persons.difference(infrared)
    if len(without):
        raise ValueError(
            f"{name}: person {without.min()} has visible training images only, train.setting "
            "supervised needs both"
        )
