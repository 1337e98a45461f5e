"""LLCM: training images by the lists `idx/train_{vis,nir}.txt`, test images below `test_{vis,nir}/cam<1..9>/`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.tree import Entry, Shot, identities, image_names, read_ids, read_list, table_of

FOLDER = "LLCM"
MARKER = ("idx", "test_vis", "test_nir")
# There is no near-infrared camera 3.
CAMERAS = {"visible": (1, 2, 3, 4, 5, 6, 7, 8, 9), "infrared": (1, 2, 4, 5, 6, 7, 8, 9)}
# Of the paper; the authors changed the data set after its publication and gave no new numbers.
PUBLISHED = (
    Count("training identities", 713, TRAINING, persons=True),
    Count("visible training images", 16_946, TRAINING, "visible"),
    Count("infrared training images", 13_975, TRAINING, "infrared"),
    Count("test identities", 351, TEST, persons=True),
    Count("test images", 46_767 - 16_946 - 13_975, TEST),  # all less the training images
)


def read(root: Path) -> pd.DataFrame:
    """The table of the tree `root`.

    Assumed: training lists of lines `vis/0351/0351_c06_s200656_f4830_vis.jpg 42`, whose folder is the identity and
    whose `c06` (or a folder `cam6`) is the camera; `idx/test_id.txt` as in SYSU-MM01; test images in
    `test_vis/cam6/0351/`. Infrared test images are `query` and visible ones `gallery`; the other direction swaps them.
    Rows: visible training and infrared training images in the order of the lists, then query and gallery, in each
    identities ascending, cameras ascending, names ascending. InputError as in the other readers.
    """
    train = {
        "visible": read_list(root, "idx/train_vis.txt"),
        "infrared": read_list(root, "idx/train_nir.txt"),
    }
    listed = read_ids(root / "idx/test_id.txt")
    query = list(_test_entries(root, "test_nir", "infrared", listed))
    gallery = list(_test_entries(root, "test_vis", "visible", listed))
    absent = sorted(set(listed) - {entry.label for entry in [*query, *gallery]})
    if absent:
        raise InputError(
            f"{root / 'idx/test_id.txt'} lists identity {absent[0]}, of which test_vis and test_nir hold no image"
            f" ({len(absent)} such identities)"
        )
    persons = identities([*train["visible"], *train["infrared"]], [*query, *gallery])
    return table_of(
        root,
        [
            Shot(entry.path, persons[entry], _camera(root, entry.path), modality, split)
            for entries, modality, split in (
                (train["visible"], "visible", "train"),
                (train["infrared"], "infrared", "train"),
                (query, "infrared", "query"),
                (gallery, "visible", "gallery"),
            )
            for entry in entries
        ],
    )


def _test_entries(root: Path, top: str, modality: str, persons: list[int]) -> Iterator[Entry]:
    for person in persons:
        for camera in CAMERAS[modality]:
            folder = f"{top}/cam{camera}/{person:04d}"
            for name in image_names(root / folder):
                yield Entry(f"{folder}/{name}", person)


def _camera(root: Path, path: str) -> int:
    found = re.search(r"(?:^|/)cam(\d+)/|_c(\d+)(?=[_.])", path)
    if found is None:
        raise InputError(
            f"{root / path}: no camera in the name; expected one like 0351_c06_s200656_f4830_vis.jpg"
        )
    return int(found[1] or found[2])
