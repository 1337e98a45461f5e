"""The user's own images and a CSV: `images.csv` for the target, `source.csv` for a source."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from stages.parts.images.table import MODALITIES
from stages.parts.run.stage import InputError
from stages.prepare.csv_lines import EXPECTED_CSV, Line, read_csv
from stages.prepare.disk import INFRARED_NAMES, VISIBLE_NAMES
from stages.prepare.tree import WHOLE_NUMBER, ImageFile, table_of

IMAGES = "images.csv"
SOURCE = "source.csv"
MODALITY_NAMES = VISIBLE_NAMES + INFRARED_NAMES
DEFAULT_CAMERAS = {"visible": 1, "infrared": 2}  # if the CSV names none
TEST_SPLITS = {"infrared": "query", "visible": "gallery"}  # what `test` means
SPLIT_NAMES = ("train", "val", "test", "query", "gallery")
SHOWN = 6  # people that a remark lists


def find_csv(name: str, roots: Mapping[str, Path]) -> Path:
    """Return the first of `roots` (parameter name → folder) that holds the CSV `name`.

    InputError names the parameters, the folders and what was expected.
    """
    for root in roots.values():
        if (root / name).is_file():
            return root
    problems = [f"{parameter}: {root} holds no {name}" for parameter, root in roots.items()]
    raise InputError(f"{'; '.join(problems)}; {EXPECTED_CSV}")


def read(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of `root/images.csv`, and remarks for the user, one line each.

    The columns path (relative to `root`) and person are required. These are optional: they may be
    missing, or empty in every line.

    camera    any name or number; default 1 for visible and 2 for infrared images
    modality  one of MODALITY_NAMES; default the first folder of the path
    split     one of SPLIT_NAMES, where `test` is `query` for infrared and `gallery` for visible
              images; default train for the first half of the identities, rounded up, else test

    Names of people and cameras become numbers (see `numbers`).

    Returns:
        Rows visible training, infrared training, query, gallery, whatever the order of the lines;
        in each, identities ascending, cameras ascending, paths ascending.

    Raises:
        InputError: names the CSV, the line, the value and what was expected.
    """
    csv_file = root / IMAGES
    lines, remarks = read_csv(root, IMAGES, ("camera", "modality", "split"))
    modalities = [_modality(line) for line in lines]
    persons = numbers([line.person for line in lines])
    remarks += _remark_on_numbers(csv_file, persons)
    if any(line.split for line in lines):
        names = [_split_name(line) for line in lines]
    else:
        names, remark = _halves(csv_file, lines, persons)
        remarks.append(remark)
    cameras = _cameras(lines, modalities)

    files = []
    for line, camera, modality, name in zip(lines, cameras, modalities, names, strict=True):
        split = TEST_SPLITS[modality] if name == "test" else name
        files.append(ImageFile(line.path, persons[line.person], camera, modality, split))
    _refuse_two_splits(lines, files)
    _refuse_missing_modality(csv_file, files)
    _refuse_one_training_identity(csv_file, files)
    _refuse_unmatched_test(csv_file, files)
    return table_of(root, sorted(files, key=_sort_key)), remarks


def read_source(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of `root/source.csv`, and remarks for the user, one line each.

    The columns path and person are required, camera is optional. All images are visible and for
    training.

    Returns:
        Rows with identities ascending, cameras ascending, paths ascending.

    Raises:
        InputError: as in `read`, and if all images show the same person.
    """
    lines, remarks = read_csv(root, SOURCE, ("camera",))
    persons = numbers([line.person for line in lines])
    if len(set(persons.values())) < 2:
        problem = f"all images show person {lines[0].person!r}"
        raise InputError(f"{root / SOURCE}: {problem}, expected 2 people or more")
    cameras = _cameras(lines, ["visible"] * len(lines))
    files = []
    for line, camera in zip(lines, cameras, strict=True):
        files.append(ImageFile(line.path, persons[line.person], camera, "visible", "train"))
    return table_of(root, sorted(files, key=_sort_key)), remarks


def numbers(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each name.

    If all names are whole numbers, these are taken. Otherwise the sorted names are numbered from 1.

    >>> numbers(["12", "7", "12"])
    {'12': 12, '7': 7}
    >>> numbers(["eve", "adam", "7"])
    {'7': 1, 'adam': 2, 'eve': 3}
    """
    if _all_whole_numbers(names):
        return {name: int(name) for name in names}
    return {name: number for number, name in enumerate(sorted(set(names)), start=1)}


def _all_whole_numbers(names: Sequence[str]) -> bool:
    return all(WHOLE_NUMBER.fullmatch(name) for name in names)


def _remark_on_numbers(csv_file: Path, persons: dict[str, int]) -> list[str]:
    """Return a remark on the people's numbers if the CSV does not hold them itself."""
    names = sorted(persons)
    if _all_whole_numbers(names):
        return []
    pairs = [f"{name} = {persons[name]}" for name in names]
    if len(pairs) > SHOWN:
        pairs = [*pairs[: SHOWN - 1], "…", pairs[-1]]
    return [f"{csv_file}: people are numbered in the order of their names: {', '.join(pairs)}"]


def _modality(line: Line) -> str:
    name = line.modality
    problem = f"modality {name!r}"
    if not name:
        name = line.path.split("/")[0] if "/" in line.path else ""
        problem = f"no modality, and {line.path} is in no folder visible or infrared"
    if name.lower() not in MODALITY_NAMES:
        expected = f"expected one of {', '.join(MODALITY_NAMES)}"
        raise InputError(f"{line.where}: {problem}; {expected}")
    return "visible" if name.lower() in VISIBLE_NAMES else "infrared"


def _cameras(lines: list[Line], modalities: list[str]) -> list[int]:
    names = [line.camera for line in lines]
    if not any(names):
        return [DEFAULT_CAMERAS[modality] for modality in modalities]
    if not all(names):
        where = lines[names.index("")].where
        raise InputError(f"{where}: camera is empty; expected one in every line, or in none")
    cameras = numbers(names)
    return [cameras[name] for name in names]


def _split_name(line: Line) -> str:
    name = line.split.lower()
    if name not in SPLIT_NAMES:
        expected = f"expected one of {', '.join(SPLIT_NAMES)}"
        raise InputError(f"{line.where}: split {line.split!r}; {expected}")
    return name


def _halves(csv_file: Path, lines: list[Line], persons: dict[str, int]) -> tuple[list[str], str]:
    """Return each line's split, train for the first half of the identities, and a remark on it."""
    people = sorted(set(persons.values()))
    half = (len(people) + 1) // 2
    training = set(people[:half])
    names = ["train" if persons[line.person] in training else "test" for line in lines]
    remark = (
        f"{csv_file} has no column split: the first {half} of {len(people)} identities "
        "are for training, the others for the test"
    )
    return names, remark


def _part(file: ImageFile) -> str:
    """Return `train`, `val` or `test`."""
    return "test" if file.split in TEST_SPLITS.values() else file.split


def _refuse_two_splits(lines: list[Line], files: list[ImageFile]) -> None:
    first: dict[int, tuple[str, int]] = {}
    for line, file in zip(lines, files, strict=True):
        part = _part(file)
        before, number = first.setdefault(file.person, (part, line.number))
        if before != part:
            problem = f"is in {part}, and in {before} on line {number}"
            raise InputError(f"{line.where}: person {line.person!r} {problem}; expected one")


def _refuse_missing_modality(csv_file: Path, files: list[ImageFile]) -> None:
    present = {(file.modality, _part(file)) for file in files}
    for modality in MODALITIES:
        for part, name in (("train", "training"), ("test", "test")):
            if (modality, part) not in present:
                expected = "expected visible and infrared ones in both parts"
                raise InputError(f"{csv_file}: no {modality} {name} image; {expected}")


def _refuse_one_training_identity(csv_file: Path, files: list[ImageFile]) -> None:
    training = [file for file in files if file.split == "train"]
    persons = {file.person for file in training if file.modality == "visible"}
    if len(persons) < 2:
        problem = f"{len(persons)} training identity with visible images"
        raise InputError(f"{csv_file}: {problem}; expected 2 or more")


def _refuse_unmatched_test(csv_file: Path, files: list[ImageFile]) -> None:
    """Refuse a test set in which no query has a match in the gallery."""
    visible = _test_cameras(files, "visible")
    infrared = _test_cameras(files, "infrared")
    both = visible.keys() & infrared.keys()
    if not both:
        problem = "no test identity has visible and infrared images"
        raise InputError(f"{csv_file}: {problem}; expected at least one")
    if all(len(visible[person] | infrared[person]) == 1 for person in both):
        problem = "visible and infrared test images of a person come from the same camera"
        expected = "expected other names for the infrared cameras"
        raise InputError(
            f"{csv_file}: {problem}, and images of one camera are no matches; {expected}"
        )


def _test_cameras(files: list[ImageFile], modality: str) -> dict[int, set[int]]:
    """Return the cameras that see each test identity in `modality`."""
    cameras: dict[int, set[int]] = {}
    for file in files:
        if _part(file) == "test" and file.modality == modality:
            cameras.setdefault(file.person, set()).add(file.camera)
    return cameras


def _sort_key(file: ImageFile) -> tuple[int, int, int, str]:
    places = {"query": 2, "gallery": 3}
    place = places.get(file.split, MODALITIES.index(file.modality))
    return place, file.person, file.camera, file.path
