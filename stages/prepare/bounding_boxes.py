"""The layout of Market-1501 and DukeMTMC-reID: files `<identity>_c<camera>…` in three folders."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.disk import image_names
from stages.prepare.tree import ImageFile, table_of

MARKER = ("bounding_box_train",)
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
JUNK = -1  # parts of people; no score counts them
DISTRACTOR = 0  # people that no query looks for


def read_boxes(root: Path, pattern: re.Pattern[str], example: str) -> pd.DataFrame:
    """Return the table of a tree in this layout. All its images are visible.

    Junk images are left out. Distractors stay in the gallery only. The folders of the test may be
    missing or empty.

    Args:
        root: the folder of the tree.
        pattern: matches the start of a file's name; its two groups are identity and camera.
        example: a name that `pattern` matches, for messages.

    Returns:
        Rows `train`, `query`, `gallery`; in each, names ascending.

    Raises:
        InputError: if there are no training images, or a name does not match.
    """
    files: list[ImageFile] = []
    for split in FOLDERS:
        files += _files(root, split, pattern, example)
    if all(file.split != "train" for file in files):
        folder = root / FOLDERS["train"]
        raise InputError(f"{folder} holds no images of people; expected files like {example}")
    return table_of(root, files)


def _files(root: Path, split: str, pattern: re.Pattern[str], example: str) -> Iterator[ImageFile]:
    """Yield the images of one split."""
    folder = FOLDERS[split]
    for name in image_names(root / folder):
        match = pattern.match(name)
        if match is None:
            raise InputError(f"{root / folder / name}: expected a name like {example}")
        person = int(match[1])
        camera = int(match[2])
        if person == JUNK or (person == DISTRACTOR and split != "gallery"):
            continue
        yield ImageFile(f"{folder}/{name}", person, camera, "visible", split)
