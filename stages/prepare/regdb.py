"""RegDB: images `{Visible,Thermal}/<number>/…`, ten splits `idx/<list>_<1..10>.txt`."""

from pathlib import Path

import pandas as pd

from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.tree import ImageFile, identities, read_list, table_of

FOLDER = "RegDB"
MARKER = ("idx", "Visible", "Thermal")
LISTS = (  # list, split, modality
    ("train_visible", "train", "visible"),
    ("train_thermal", "train", "infrared"),
    ("test_thermal", "query", "infrared"),
    ("test_visible", "gallery", "visible"),
)
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
    """Return the table of split `trial` of the tree `root`.

    A person's number is that of the folder: the lists number training and test people both from 0.
    See `tree.identities` for trees whose folders do not distinguish people. Infrared test images
    are `query`, visible ones `gallery`; the other search direction swaps them.

    Returns:
        Rows in the order of LISTS; in each, in the order of its lines.

    Raises:
        InputError: if a list is missing, cannot be read or is empty.
    """
    entries = {name: read_list(root, f"idx/{name}_{trial}.txt") for name, _, _ in LISTS}
    train = entries["train_visible"] + entries["train_thermal"]
    test = entries["test_thermal"] + entries["test_visible"]
    persons = identities(train, test)

    files = []
    for name, split, modality in LISTS:
        camera = CAMERAS[modality]
        for entry in entries[name]:
            files.append(ImageFile(entry.path, persons[entry], camera, modality, split))
    return table_of(root, files)
