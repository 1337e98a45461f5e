"""LLCM: training lists `idx/train_{vis,nir}.txt`, test images in `test_{vis,nir}/cam<1..9>/`."""

import re
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.disk import image_names
from stages.prepare.tree import (
    ImageFile,
    ListEntry,
    identities,
    no_image_error,
    read_ids,
    read_list,
    table_of,
)

FOLDER = "LLCM"
MARKER = ("idx", "test_vis", "test_nir")
# There is no near-infrared camera 3.
CAMERAS = {"visible": (1, 2, 3, 4, 5, 6, 7, 8, 9), "infrared": (1, 2, 4, 5, 6, 7, 8, 9)}
CAMERA_PATTERN = re.compile(r"(?:^|/)cam([0-9]{1,9})/|_c([0-9]{1,9})(?=[_.])")
# Of the paper. The authors changed the data set after its publication and gave no new counts.
PUBLISHED = (
    Count("training identities", 713, TRAINING, persons=True),
    Count("visible training images", 16_946, TRAINING, "visible"),
    Count("infrared training images", 13_975, TRAINING, "infrared"),
    Count("test identities", 351, TEST, persons=True),
    Count("test images", 46_767 - 16_946 - 13_975, TEST),  # all images less the training images
)


def read(root: Path) -> pd.DataFrame:
    """Return the table of the tree `root`.

    Assumed are training lists of lines `vis/0351/0351_c06_s200656_f4830_vis.jpg 42`, whose folder
    is the identity and whose `c06` (or a folder `cam6`) is the camera; `idx/test_id.txt` as in
    SYSU-MM01; test images in `test_vis/cam6/0351/`. Infrared test images are `query`, visible ones
    `gallery`; the other search direction swaps them.

    Returns:
        Rows visible training, infrared training (both in the order of the lists), query, gallery
        (in both: identities ascending, cameras ascending, names ascending).

    Raises:
        InputError: if a list is missing, cannot be read or is empty, a test identity has no image,
            or a path has no camera.
    """
    train_visible = read_list(root, "idx/train_vis.txt")
    train_infrared = read_list(root, "idx/train_nir.txt")
    ids = root / "idx/test_id.txt"
    test_persons = read_ids(ids)
    query = _test_entries(root, "test_nir", CAMERAS["infrared"], test_persons)
    gallery = _test_entries(root, "test_vis", CAMERAS["visible"], test_persons)
    absent = sorted(set(test_persons) - {entry.label for entry in query + gallery})
    if absent:
        raise no_image_error(ids, absent, "test_vis and test_nir")

    persons = identities(train_visible + train_infrared, query + gallery)
    files = []
    parts = (
        (train_visible, "visible", "train"),
        (train_infrared, "infrared", "train"),
        (query, "infrared", "query"),
        (gallery, "visible", "gallery"),
    )
    for entries, modality, split in parts:
        for entry in entries:
            camera = _camera(root, entry.path)
            files.append(ImageFile(entry.path, persons[entry], camera, modality, split))
    return table_of(root, files)


def _test_entries(
    root: Path, top: str, cameras: tuple[int, ...], persons: list[int]
) -> list[ListEntry]:
    """Return the test images below the folder `top`, as if a list named them."""
    entries = []
    for person in persons:
        for camera in cameras:
            folder = f"{top}/cam{camera}/{person:04d}"
            for name in image_names(root / folder):
                entries.append(ListEntry(f"{folder}/{name}", person))
    return entries


def _camera(root: Path, path: str) -> int:
    match = CAMERA_PATTERN.search(path)
    if match is None:
        example = "0351_c06_s200656_f4830_vis.jpg"
        raise InputError(f"{root / path}: no camera in the name; expected one like {example}")
    return int(match[1] or match[2])
