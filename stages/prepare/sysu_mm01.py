"""SYSU-MM01: images `cam<1..6>/<identity, 4 digits>/<file>`, splits `exp/*_id.txt`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import TEST, TRAINING, Count
from stages.prepare.disk import image_names
from stages.prepare.tree import ImageFile, no_image_error, read_ids, table_of

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
    """Return the table of the tree `root`. A person's number is the data set's.

    The id files give the splits `train` and `val`; the customary 395 training identities are both
    together. All infrared images of the test identities are `query`, their visible ones `gallery`.

    Returns:
        Rows visible training, infrared training, query, gallery; in each, identities ascending
        (`train` and `val` merged), cameras ascending, names ascending.

    Raises:
        InputError: if an id file is missing or empty (`val_id.txt` may be empty) or holds
            something else than identities, or if an identity is in two of them or has no image.
    """
    splits = _read_splits(root / "exp")
    training = {person: split for person, split in splits.items() if split != "test"}
    test = [person for person, split in splits.items() if split == "test"]
    files = [
        *_files(root, "visible", training),
        *_files(root, "infrared", training),
        *_files(root, "infrared", dict.fromkeys(test, "query")),
        *_files(root, "visible", dict.fromkeys(test, "gallery")),
    ]
    absent = sorted(set(splits) - {file.person for file in files})
    if absent:
        ids = root / "exp" / f"{splits[absent[0]]}_id.txt"
        raise no_image_error(ids, absent, "cam1 to cam6")
    return table_of(root, files)


def _read_splits(folder: Path) -> dict[int, str]:
    """Return the split (`train`, `val`, `test`) of each identity."""
    splits: dict[int, str] = {}
    for split in ("train", "val", "test"):
        for person in read_ids(folder / f"{split}_id.txt", may_be_empty=split == "val"):
            if person in splits:
                files = f"{splits[person]}_id.txt and {split}_id.txt"
                raise InputError(f"{folder}: {files} both list {person}")
            splits[person] = split
    return splits


def _files(root: Path, modality: str, splits: Mapping[int, str]) -> Iterator[ImageFile]:
    """Yield the images of one modality of the identities in `splits`, identities ascending."""
    for person in sorted(splits):
        for camera in CAMERAS[modality]:
            folder = f"cam{camera}/{person:04d}"
            for name in image_names(root / folder):
                yield ImageFile(f"{folder}/{name}", person, camera, modality, splits[person])
