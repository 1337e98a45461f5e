"""SYSU-MM01: `cam<1..6>/<identity, 4 digits>/<file>` and the identities of each split in `exp/*_id.txt`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.tree import Shot, image_names, read_ids, table_of

FOLDER = "SYSU-MM01"
MARKER = ("exp", "cam1")
CAMERAS = {"visible": (1, 2, 4, 5), "infrared": (3, 6)}
PUBLISHED = (
    Count("training identities", 395, TRAINING, persons=True),
    Count("visible training images", 22_258, TRAINING, "visible"),
    Count("infrared training images", 11_909, TRAINING, "infrared"),
    Count("test identities", 96, TEST, persons=True),
    Count("queries", 3_803, ("query",)),
    Count("visible test images", 6_775, ("gallery",)),
)


def read(root: Path) -> pd.DataFrame:
    """The table of the tree `root`; a person's number is the data set's.

    Splits: `train` and `val` by the id files (the customary 395 training identities are both together), `query` all
    infrared and `gallery` all visible images of the test identities. Rows: visible training images, infrared training
    images, query, gallery; in each, identities ascending (train and val merged), cameras ascending, names ascending.
    InputError where an id file is missing, empty or holds something else than identities, an identity is in two of
    them, or has no image.
    """
    splits: dict[int, str] = {}
    for split in ("train", "val", "test"):
        for person in read_ids(root / "exp" / f"{split}_id.txt", may_be_empty=split == "val"):
            if person in splits:
                raise InputError(
                    f"{root / 'exp'}: {splits[person]}_id.txt and {split}_id.txt both list {person}"
                )
            splits[person] = split
    training = sorted(person for person, split in splits.items() if split != "test")
    test = sorted(person for person, split in splits.items() if split == "test")
    shots = [
        *_shots(root, training, "visible", splits),
        *_shots(root, training, "infrared", splits),
        *_shots(root, test, "infrared", dict.fromkeys(test, "query")),
        *_shots(root, test, "visible", dict.fromkeys(test, "gallery")),
    ]
    absent = sorted(set(splits) - {shot.person for shot in shots})
    if absent:
        raise InputError(
            f"{root / 'exp' / splits[absent[0]]}_id.txt lists identity {absent[0]}, of which cam1 to cam6 hold no image"
            f" ({len(absent)} such identities)"
        )
    return table_of(root, shots)


def _shots(
    root: Path, persons: Iterable[int], modality: str, splits: dict[int, str]
) -> Iterator[Shot]:
    for person in persons:
        for camera in CAMERAS[modality]:
            folder = f"cam{camera}/{person:04d}"
            for name in image_names(root / folder):
                yield Shot(f"{folder}/{name}", person, camera, modality, splits[person])
