"""The table of a data set: one line for each image, in the order of the image store."""

from pathlib import Path

import pandas as pd

from stages.parts.run.files import write_csv

KINDS = {
    "row": "int64",
    "path": "str",
    "person": "int64",
    "camera": "int64",
    "modality": "str",
    "split": "str",
}
COLUMNS = tuple(KINDS)
MODALITIES = ("visible", "infrared")
SPLITS = ("train", "val", "query", "gallery")


def training_splits(selection: str = "last") -> tuple[str, ...]:
    """Return the splits to train on.

    They are `train` and `val`, as is customary (395 identities of SYSU-MM01). If `selection`
    (`train.selection`) is `validation`, the identities of `val` are held out to choose the network.
    """
    return ("train",) if selection == "validation" else ("train", "val")


def check_table(table: pd.DataFrame, name: str = "table") -> pd.DataFrame:
    """Return `table` with the columns of COLUMNS, in that order and with their types.

    row       int64, 0 to N - 1: the image's row in `pixels.npy`
    path      text, relative to the folder of the data set, unique
    person    int64, the number of the identity in the data set
    camera    int64, the number of the camera in the data set
    modality  `visible` or `infrared`
    split     `train`, `val` (identities held out of the customary training set), `query` or
              `gallery`

    Raises:
        ValueError: names `name`, the column and the first value that does not fit.
    """
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{name}: column {missing[0]} is missing; expected {', '.join(COLUMNS)}")
    table = table.loc[:, list(COLUMNS)]
    for column, kind in KINDS.items():
        try:
            table[column] = table[column].astype(kind)
        except (ValueError, TypeError, OverflowError):
            problem = f"column {column} holds something that is not {kind}"
            raise ValueError(f"{name}: {problem}") from None
    for column, allowed in (("modality", MODALITIES), ("split", SPLITS)):
        wrong = table.loc[~table[column].isin(allowed), column]
        if len(wrong):
            expected = ", ".join(allowed)
            raise ValueError(f"{name}: {column} {wrong.iloc[0]!r} is not one of {expected}")
    repeated = table.loc[table["path"].duplicated(), "path"]
    if len(repeated):
        raise ValueError(f"{name}: path {repeated.iloc[0]!r} occurs twice")
    if (table["row"].to_numpy() != range(len(table))).any():
        raise ValueError(f"{name}: rows are not numbered 0 to {len(table) - 1}")
    return table


def read_table(path: Path) -> pd.DataFrame:
    """Read and check the table of a CSV file; a ValueError names the file and what is wrong."""
    text = {name: kind for name, kind in KINDS.items() if kind == "str"}
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
    except ValueError as error:  # pandas' own message names no file
        raise ValueError(f"{path}: {error}") from None
    return check_table(table, str(path))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Check a table and write it as CSV; an error leaves the file as it was."""
    write_csv(path, check_table(table, str(path)))
