"""Who is seen how often by which camera in a SYSU-MM01: drawn, or exactly as in the real one.

Cameras 1 and 2 are indoors, 3 is 2's place in the dark, 4 to 6 are outdoors; 3 and 6 are infrared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.parts.matlab import permutations, variable
from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import InputError
from stages.synthesize.plan import some

VISIBLE, INFRARED = (1, 2, 4, 5), (3, 6)
NUMBERS = 533  # identities of the real one are numbered from 1 to this, with gaps
PERMUTATIONS, TRAIN, TEST = FILES = ("rand_perm_cam.mat", "train_id.mat", "test_id.mat")
PARAMETER = "synthesize.structure"


@dataclass(frozen=True)
class Structure:
    """A SYSU-MM01 without its pictures.

    splits  train, val and test → identities, ascending
    images  (identity, camera) → image numbers, ascending; only where there are any
    """

    splits: dict[str, list[int]]
    images: dict[tuple[int, int], list[int]]


def draw(settings: Synthesize) -> Structure:
    """A structure of the sizes in `settings`: each identity in 2 to 4 visible cameras, `images_per_camera` in each.

    `settings.infrared_counts` says how many infrared images an identity has; n is `images_per_camera`:
    halves  one infrared camera or both with equal chance, n images in each: n or 2n images
    equal   both cameras, n images in each: 2n images
    skewed  one camera or both as in `halves`, k images in each, k drawn once an identity from 1 to 3n, with chances
            that fall by a factor of e every n images: most have few, some have many, 2 to 6n in all. From n = 4 on
            there are about as many in all as with `halves`
    Nothing else depends on it: identities, splits and visible images are the same for all three.
    Raises ValueError for more identities than the data set has numbers.
    """
    random = numpy_generator(settings.seed, "sysu_mm01", "layout")
    sizes = (settings.train_persons, settings.val_persons, settings.test_persons)
    if sum(sizes) > NUMBERS:
        raise ValueError(
            f"synthesize: train_persons + val_persons + test_persons = {sum(sizes)}; "
            f"the numbers of SYSU-MM01 end at {NUMBERS}"
        )
    numbers = random.permutation(np.arange(1, NUMBERS + 1))[: sum(sizes)]
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    splits = {
        name: sorted(part.tolist())
        for name, part in zip(("train", "val", "test"), parts, strict=True)
    }
    images: dict[tuple[int, int], list[int]] = {}
    for person in sorted(numbers.tolist()):
        visible = some(random, VISIBLE, int(random.choice([2, 3, 4], p=[0.15, 0.25, 0.6])))
        infrared = some(random, INFRARED, int(random.integers(1, 3)))
        counts = dict.fromkeys(visible, settings.images_per_camera) | _infrared_counts(
            settings, person, infrared
        )
        images |= {
            (person, camera): list(range(1, count + 1)) for camera, count in sorted(counts.items())
        }
    return Structure(splits, images)


def _infrared_counts(settings: Synthesize, person: int, cameras: list[int]) -> dict[int, int]:
    """Camera → images of a drawn identity; `cameras` are those that see it in the real proportions."""
    each = settings.images_per_camera
    if settings.infrared_counts == "equal":
        return dict.fromkeys(INFRARED, each)
    if settings.infrared_counts == "skewed":
        random = numpy_generator(settings.seed, "sysu_mm01", "infrared counts", person)
        sizes = np.arange(1, 3 * each + 1)
        chances = np.exp(-sizes / each)
        drawn = int(random.choice(sizes, p=chances / chances.sum()))
        each = max(drawn, 2 if len(cameras) == 1 else 1)
    return dict.fromkeys(cameras, each)


def read(folder: Path) -> Structure:
    """The structure of the real SYSU-MM01, from three files of its owners in `folder`.

    rand_perm_cam.mat  of each camera and identity, permutations of its image numbers
    train_id.mat, test_id.mat  the identities of these splits
    `val` are the identities of neither list that both a visible and an infrared camera has seen: 99 of them, 491 with
    the 296 for training and the 96 of the test.
    InputError names the file that is missing or holds something else.
    """
    for file in FILES:
        if not (folder / file).is_file():
            raise InputError(
                f"{PARAMETER}: {folder / file} is not here; expected {', '.join(FILES)} of SYSU-MM01 there"
            )
    images = _images(folder / PERMUTATIONS)
    seen = {person for person, _ in images}
    splits = {"train": _ids(folder / TRAIN), "val": [], "test": _ids(folder / TEST)}
    for name, file in (("train", TRAIN), ("test", TEST)):
        absent = [person for person in splits[name] if person not in seen]
        if absent:
            raise InputError(
                f"{PARAMETER}: {folder / file}: identity {absent[0]} has no image in {PERMUTATIONS}"
            )
    shared = sorted(set(splits["train"]) & set(splits["test"]))
    if shared:
        raise InputError(f"{PARAMETER}: {folder / TEST}: identity {shared[0]} is in {TRAIN}, too")
    for person in sorted(seen - set(splits["train"]) - set(splits["test"])):
        if all(
            any((person, camera) in images for camera in cameras) for cameras in (VISIBLE, INFRARED)
        ):
            splits["val"].append(person)
    chosen = {person for persons in splits.values() for person in persons}
    return Structure(
        splits, {place: numbers for place, numbers in images.items() if place[0] in chosen}
    )


def _images(path: Path) -> dict[tuple[int, int], list[int]]:
    """(identity, camera) → image numbers, ascending by both."""
    found = {}
    for (person, camera), numbers in sorted(_refused(permutations, path, PARAMETER).items()):
        if not numbers.size:
            continue
        ordered = np.sort(numbers, axis=1)
        distinct = np.unique(ordered).tolist()
        if ordered.shape[1] != len(distinct) or (ordered != ordered[:1]).any() or distinct[0] < 1:
            raise InputError(
                f"{PARAMETER}: {path}: the rows are not permutations of the same image numbers: "
                f"camera {camera}, identity {person}"
            )
        found[person, camera] = distinct
    return found


def _ids(path: Path) -> list[int]:
    ids: np.ndarray = _refused(variable, path, "id", PARAMETER)
    if ids.dtype.kind not in "iu" or not ids.size:
        raise InputError(
            f"{PARAMETER}: {path}: expected id, whole numbers of identities; found {ids.dtype} {ids.shape}"
        )
    return np.unique(ids).tolist()


def _refused(read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` returns; what it cannot read is the user's input."""
    try:
        return read(*arguments)
    except ValueError as error:
        raise InputError(str(error)) from None
