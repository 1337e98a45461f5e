"""MSMT17, a labeled source: lists `list_<split>.txt` of lines `<folder>/<file> <number>`."""

import re
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import Count
from stages.prepare.tree import TEST_OFFSET, ImageFile, read_list, table_of

FOLDER = "MSMT17_V1"
MARKER = ("train", "list_train.txt")
LISTS = (  # list, split, folder in which its paths start
    ("list_train.txt", "train", "train"),
    ("list_val.txt", "train", "train"),
    ("list_query.txt", "query", "test"),
    ("list_gallery.txt", "gallery", "test"),
)
PATTERN = re.compile(r"[0-9]+_[0-9]+_([0-9]{1,9})_")
EXAMPLE = "0000_000_01_0303morning_0008_0.jpg"
PUBLISHED = (
    Count("training identities", 1_041, ("train",), persons=True),
    Count("training images", 32_621, ("train",)),  # of list_train.txt and list_val.txt
    Count("queries", 11_659, ("query",)),
    Count("gallery images", 82_161, ("gallery",)),
)


def read(root: Path) -> pd.DataFrame:
    """Return the table of the tree `root`. All its images are visible.

    The lists number training and test people both from 0, so TEST_OFFSET is added to the latter.
    The camera is the third number of a file's name.

    Returns:
        Rows in the order of LISTS; in each, in the order of its lines.

    Raises:
        InputError: if a list of training images is missing, or `list_train.txt` lists none, if a
            list cannot be read, or a name has no camera. The lists of the test may be missing.
    """
    files = []
    for name, split, folder in LISTS:
        if split != "train" and not (root / name).exists():
            continue
        for entry in read_list(root, name, may_be_empty=name != "list_train.txt"):
            path = f"{folder}/{entry.path}"
            match = PATTERN.match(path.rsplit("/", 1)[-1])
            if match is None:
                raise InputError(f"{root / path}: expected a name like {EXAMPLE}")
            offset = 0 if split == "train" else TEST_OFFSET
            files.append(ImageFile(path, entry.label + offset, int(match[1]), "visible", split))
    return table_of(root, files)
