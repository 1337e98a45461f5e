"""RegDB: `Visible/<number>/…`, `Thermal/<number>/…`, ten splits `idx/{train,test}_{visible,thermal}_<1..10>.txt`."""

from pathlib import Path

import pandas as pd

from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.tree import Shot, identities, read_list, table_of

FOLDER = "RegDB"
MARKER = ("idx", "Visible", "Thermal")
CAMERAS = {"visible": 1, "infrared": 2}
PUBLISHED = (
    Count("training identities", 206, TRAINING, persons=True),
    Count("visible training images", 2_060, TRAINING, "visible"),
    Count("infrared training images", 2_060, TRAINING, "infrared"),
    Count("test identities", 206, TEST, persons=True),
    Count("visible test images", 2_060, TEST, "visible"),
    Count("infrared test images", 2_060, TEST, "infrared"),
)


def read(root: Path, trial: int = 1) -> pd.DataFrame:
    """The table of split `trial` of the tree `root`.

    A person's number is that of the folder (the lists count the people of either split from 0, so 0 of the test is
    somebody else than 0 of the training set); see `tree.identities` for trees whose folders do not tell people apart.
    The visible camera is 1, the infrared one 2. Infrared test images are `query` and visible ones `gallery`; the other
    direction swaps them. Rows: visible training, infrared training, query, gallery, each in the order of its list.
    """
    lists = [
        ("train", "visible", read_list(root, f"idx/train_visible_{trial}.txt")),
        ("train", "infrared", read_list(root, f"idx/train_thermal_{trial}.txt")),
        ("query", "infrared", read_list(root, f"idx/test_thermal_{trial}.txt")),
        ("gallery", "visible", read_list(root, f"idx/test_visible_{trial}.txt")),
    ]
    train = [entry for split, _, entries in lists if split == "train" for entry in entries]
    test = [entry for split, _, entries in lists if split != "train" for entry in entries]
    persons = identities(train, test)
    return table_of(
        root,
        [
            Shot(entry.path, persons[entry], CAMERAS[modality], modality, split)
            for split, modality, entries in lists
            for entry in entries
        ],
    )
