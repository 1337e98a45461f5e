"""Which camera sees whom how often in a SYSU-MM01: drawn, or exactly as in the real one.

Cameras 1 and 2 are indoors, 3 is in the room of 2 in the dark, 4 to 6 are outdoors; 3 and 6 are
infrared.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.parts.matlab import permutations, variable
from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import InputError
from stages.synthesize.plan import draw_cameras

VISIBLE = (1, 2, 4, 5)
INFRARED = (3, 6)
NUMBERS = 533  # identities of the real one are numbered from 1 to this, with gaps
FILES = ("rand_perm_cam.mat", "train_id.mat", "test_id.mat")
PERMUTATIONS, TRAIN, TEST = FILES
PARAMETER = "synthesize.structure"

ImageNumbers = dict[tuple[int, int], list[int]]  # (identity, camera) → image numbers, ascending


@dataclass(frozen=True)
class Structure:
    """A SYSU-MM01 without its pictures.

    splits         train, val and test → identities, ascending
    image_numbers  (identity, camera) → image numbers, ascending; only pairs that have images
    """

    splits: dict[str, list[int]]
    image_numbers: ImageNumbers


def draw(settings: Synthesize) -> Structure:
    """Draw a structure of the sizes in `settings`.

    Each identity is in 2 to 4 visible cameras, with n = `images_per_camera` images in each.
    `settings.infrared_counts` says how many infrared images an identity has:
    halves  one infrared camera or both, with equal chance, n images in each: n or 2n images
    equal   both infrared cameras, n images in each: 2n images
    skewed  one infrared camera or both as in `halves`, k images in each. k is drawn once for each
            identity from 1 to 3n; its chance falls by a factor of e every n images. Most
            identities have few images, some have many, 2 to 6n in all. From n = 4 on the sum
            over all identities is about that of `halves`
    Identities, splits and visible images are the same for all three. The share
    `settings.unpaired` of the training identities has no infrared images at all.

    Raises:
        ValueError: for more identities than the data set has numbers.
    """
    random = numpy_generator(settings.seed, "sysu_mm01", "layout")
    sizes = (settings.train_persons, settings.val_persons, settings.test_persons)
    if sum(sizes) > NUMBERS:
        raise ValueError(
            f"synthesize: train_persons + val_persons + test_persons = {sum(sizes)}; "
            f"the numbers of SYSU-MM01 end at {NUMBERS}"
        )
    persons = random.permutation(np.arange(1, NUMBERS + 1))[: sum(sizes)]
    train, val, test = np.split(persons, np.cumsum(sizes)[:-1])
    splits = {
        "train": sorted(train.tolist()),
        "val": sorted(val.tolist()),
        "test": sorted(test.tolist()),
    }
    image_numbers: ImageNumbers = {}
    for person in sorted(persons.tolist()):
        visible_cameras = int(random.choice([2, 3, 4], p=[0.15, 0.25, 0.6]))
        visible = draw_cameras(random, VISIBLE, visible_cameras)
        infrared = draw_cameras(random, INFRARED, int(random.integers(1, 3)))
        counts = dict.fromkeys(visible, settings.images_per_camera)
        counts |= _infrared_counts(settings, person, infrared)
        for camera, count in sorted(counts.items()):
            image_numbers[person, camera] = list(range(1, count + 1))
    for pair in _unpaired(settings, splits["train"]):
        image_numbers.pop(pair, None)
    return Structure(splits, image_numbers)


def _unpaired(settings: Synthesize, train: list[int]) -> list[tuple[int, int]]:
    """Return the (identity, infrared camera) pairs that are to have no images."""
    random = numpy_generator(settings.seed, "sysu_mm01", "unpaired")
    count = round(settings.unpaired * len(train))
    chosen = random.permutation(train)[:count].tolist()
    return [(person, camera) for person in chosen for camera in INFRARED]


def _infrared_counts(settings: Synthesize, person: int, cameras: list[int]) -> dict[int, int]:
    """Return camera → number of images of a drawn identity.

    `cameras` are the infrared cameras that see the identity, except with `equal`.
    """
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
    """Read the structure of the real SYSU-MM01 from three files of its owners.

    rand_perm_cam.mat          permutations of the image numbers, for each camera and identity
    train_id.mat, test_id.mat  the identities of these splits
    `val` holds the identities of neither list that both a visible and an infrared camera has
    seen: 99 of them, which makes 491 with the 296 for training and the 96 of the test.

    Raises:
        InputError: names the file that is missing or holds something else.
    """
    for file in FILES:
        if not (folder / file).is_file():
            expected = f"expected {', '.join(FILES)} of SYSU-MM01 there"
            raise InputError(f"{PARAMETER}: {folder / file} is not here; {expected}")
    image_numbers = _read_image_numbers(folder / PERMUTATIONS)
    splits = _read_splits(folder, image_numbers)
    listed = {person for persons in splits.values() for person in persons}
    kept = {pair: numbers for pair, numbers in image_numbers.items() if pair[0] in listed}
    return Structure(splits, kept)


def _read_splits(folder: Path, image_numbers: ImageNumbers) -> dict[str, list[int]]:
    """Return train, val and test → identities, ascending."""
    seen = {person for person, _ in image_numbers}
    train = _read_identities(folder / TRAIN, seen)
    test = _read_identities(folder / TEST, seen)
    shared = sorted(set(train) & set(test))
    if shared:
        raise InputError(f"{PARAMETER}: {folder / TEST}: identity {shared[0]} is in {TRAIN}, too")
    seen_visible = {person for person, camera in image_numbers if camera in VISIBLE}
    seen_infrared = {person for person, camera in image_numbers if camera in INFRARED}
    val = (seen_visible & seen_infrared) - set(train) - set(test)
    return {"train": train, "val": sorted(val), "test": test}


def _read_image_numbers(path: Path) -> ImageNumbers:
    """Return (identity, camera) → image numbers, ascending by both."""
    with _input_errors():
        permuted = permutations(path, PARAMETER)
    image_numbers = {}
    for (person, camera), rows in sorted(permuted.items()):
        if not rows.size:
            continue
        ordered = np.sort(rows, axis=1)  # (permutations, images)
        distinct = np.unique(ordered).tolist()
        repeated = ordered.shape[1] != len(distinct)
        if repeated or (ordered != ordered[:1]).any() or distinct[0] < 1:
            raise InputError(
                f"{PARAMETER}: {path}: the rows are not permutations of the same image numbers: "
                f"camera {camera}, identity {person}"
            )
        image_numbers[person, camera] = distinct
    return image_numbers


def _read_identities(path: Path, seen: set[int]) -> list[int]:
    """Return the identities on the list `path`, ascending; each must be among those `seen`."""
    with _input_errors():
        ids = variable(path, "id", PARAMETER)
    if ids.dtype.kind not in "iu" or not ids.size:
        found = f"found {ids.dtype} {ids.shape}"
        raise InputError(f"{PARAMETER}: {path}: expected id, whole numbers of identities; {found}")
    persons: list[int] = np.unique(ids).tolist()
    for person in persons:
        if person not in seen:
            raise InputError(
                f"{PARAMETER}: {path}: identity {person} has no image in {PERMUTATIONS}"
            )
    return persons


@contextmanager
def _input_errors() -> Iterator[None]:
    """Raise a ValueError of the body as InputError, since the user gave the file."""
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from None
