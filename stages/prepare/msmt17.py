"""MSMT17, a labeled source: lists `list_<split>.txt` of lines `<folder>/<file> <number>`."""

import re
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import Count
from stages.prepare.tree import TEST_OFFSET, ImageFile, read_list, table_of

FOLDER = "MSMT17_V1"
MARKER = ("train", "test", "list_train.txt")
LISTS = (  # list, split, folder in which its paths start
    ("list_train.txt", "train", "train"),
    ("list_val.txt", "train", "train"),
    ("list_query.txt", "query", "test"),
    ("list_gallery.txt", "gallery", "test"),
)
PATTERN = re.compile(r"\d+_\d+_(\d+)_")
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
        InputError: if a list is missing, cannot be read or is empty (`list_val.txt` may be empty),
            or a name has no camera.
    """
    files = []
    for name, split, folder in LISTS:
        for entry in read_list(root, name, may_be_empty=name == "list_val.txt"):
            path = f"{folder}/{entry.path}"
            match = PATTERN.match(path.rsplit("/", 1)[-1])
            if match is None:
                raise InputError(f"{root / path}: expected a name like {EXAMPLE}")
            offset = 0 if split == "train" else TEST_OFFSET
            files.append(ImageFile(path, entry.label + offset, int(match[1]), "visible", split))
    return table_of(root, files)
