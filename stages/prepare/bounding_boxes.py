"""The layout that Market-1501 and DukeMTMC-reID share: three folders of files named `<identity>_c<camera>…`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.tree import Shot, image_names, table_of

MARKER = ("bounding_box_train", "bounding_box_test", "query")
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
JUNK, DISTRACTOR = -1, 0


def read_boxes(root: Path, name: re.Pattern[str], example: str) -> pd.DataFrame:
    """The table of the tree `root`: rows train, query, gallery, in each names ascending; all images visible.

    `name` matches the start of a file's name and captures identity and camera.
    Junk (identity -1, parts of people that no score counts) is left out; distractors (identity 0, people that no
    query looks for) stay in the gallery only. InputError where a folder is missing or empty, or a name is not like
    `example`.
    """
    return table_of(
        root, [shot for split in FOLDERS for shot in _shots(root, split, name, example)]
    )


def _shots(root: Path, split: str, name: re.Pattern[str], example: str) -> Iterator[Shot]:
    folder = FOLDERS[split]
    names = image_names(root / folder)
    if not names:
        raise InputError(f"{root / folder} holds no images; expected files like {example}")
    for file in names:
        found = name.match(file)
        if found is None:
            raise InputError(f"{root / folder / file}: expected a name like {example}")
        person, camera = int(found[1]), int(found[2])
        if person != JUNK and (person != DISTRACTOR or split == "gallery"):
            yield Shot(f"{folder}/{file}", person, camera, "visible", split)
