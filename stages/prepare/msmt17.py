"""MSMT17, a labeled source: `list_{train,val,query,gallery}.txt` of lines `<folder>/<file> <number>`."""

import re
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import Count
from stages.prepare.tree import TEST_OFFSET, Shot, read_list, table_of

FOLDER = "MSMT17_V1"
MARKER = ("train", "test", "list_train.txt")
LISTS = (  # list, split, folder that its paths start in
    ("list_train.txt", "train", "train"),
    ("list_val.txt", "train", "train"),
    ("list_query.txt", "query", "test"),
    ("list_gallery.txt", "gallery", "test"),
)
NAME = re.compile(r"\d+_\d+_(\d+)_")
PUBLISHED = (
    Count("training identities", 1_041, ("train",), persons=True),
    Count("training images", 32_621, ("train",)),  # of list_train.txt and list_val.txt
    Count("queries", 11_659, ("query",)),
    Count("gallery images", 82_161, ("gallery",)),
)


def read(root: Path) -> pd.DataFrame:
    """The table of the tree `root`: rows in the order of LISTS and, in each, of its lines; all images visible.

    The lists count training people and test people both from 0: the latter get TEST_OFFSET on top. The camera is the
    third number of a file's name. InputError where a list is missing or none, lists nothing (but
    for list_val.txt), or a name has no camera.
    """
    shots = []
    for name, split, folder in LISTS:
        for entry in read_list(root, name, may_be_empty=name == "list_val.txt"):
            path = f"{folder}/{entry.path}"
            found = NAME.match(path.rsplit("/", 1)[-1])
            if found is None:
                raise InputError(
                    f"{root / path}: expected a name like 0000_000_01_0303morning_0008_0.jpg"
                )
            person = entry.label if split == "train" else entry.label + TEST_OFFSET
            shots.append(Shot(path, person, int(found[1]), "visible", split))
    return table_of(root, shots)
