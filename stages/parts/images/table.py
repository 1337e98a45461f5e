"""The table of a data set: one line an image, in the order of the image store."""

import os
from pathlib import Path

import pandas as pd

COLUMNS = ("row", "path", "person", "camera", "modality", "split")
MODALITIES = ("visible", "infrared")
SPLITS = ("train", "val", "query", "gallery")
KINDS = {
    "row": "int64",
    "path": "str",
    "person": "int64",
    "camera": "int64",
    "modality": "str",
    "split": "str",
}


def training_splits(selection: str = "last") -> tuple[str, ...]:
    """The splits to train on: both, as is customary (395 identities of SYSU-MM01), unless validation chooses.

    selection: `train.selection`; `validation` holds the identities of `val` out, for choosing the network.
    """
    return ("train",) if selection == "validation" else ("train", "val")


def check_table(table: pd.DataFrame, name: str = "table") -> pd.DataFrame:
    """`table` with the columns of COLUMNS in that order and their types.

    row      int64, 0..N-1: the image's place in `pixels.npy`
    path     text, relative to the data set's folder, unique
    person   int64, the identity's number in the data set
    camera   int64, the camera's number in the data set
    modality `visible` or `infrared`
    split    `train`, `val` (identities held out of the customary training set), `query` or `gallery`
    Raises ValueError that names `name`, the column and the first value that does not fit.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{name}: column {missing[0]} is missing; expected {', '.join(COLUMNS)}")
    table = table.loc[:, list(COLUMNS)]
    for column, kind in KINDS.items():
        try:
            table[column] = table[column].astype(kind)
        except (ValueError, TypeError):
            raise ValueError(
                f"{name}: column {column} holds something that is not {kind}"
            ) from None
    for column, allowed in (("modality", MODALITIES), ("split", SPLITS)):
        wrong = table.loc[~table[column].isin(allowed), column]
        if len(wrong):
            raise ValueError(
                f"{name}: {column} {wrong.iloc[0]!r} is not one of {', '.join(allowed)}"
            )
    if table["path"].duplicated().any():
        raise ValueError(
            f"{name}: path {table.loc[table['path'].duplicated(), 'path'].iloc[0]!r} occurs twice"
        )
    if (table["row"].to_numpy() != range(len(table))).any():
        raise ValueError(f"{name}: rows are not numbered 0 to {len(table) - 1}")
    return table


def read_table(path: Path) -> pd.DataFrame:
    """The checked table of a CSV file. ValueError names the file, FileNotFoundError where there is none."""
    return check_table(
        pd.read_csv(path, dtype={"path": "str", "modality": "str", "split": "str"}), str(path)
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a checked table as CSV, whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    check_table(table, str(path)).to_csv(beside, index=False, lineterminator="\n")
    os.replace(beside, path)
