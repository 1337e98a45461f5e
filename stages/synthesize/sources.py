"""The trees of the labeled visible data sets: Market-1501, DukeMTMC-reID, MSMT17.

Half of each is for training (`synthesize.source_persons`), the other half has its query and its gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.synthesize.plan import NOBODY, Layout, Shot, some

TEST_PERSONS = 20


@dataclass(frozen=True)
class _Sighting:
    """A shot of a source to be: of whom, in which half and role (train, query, gallery or val)."""

    person: int
    camera: int
    index: int
    role: str


def market1501(settings: Synthesize) -> Layout:
    """Market-1501: `<id>_c<c>s<sequence>_<frame>_<box>.jpg`.

    Its gallery also has people without a number (`-1`) and false detections (`0000`).
    """
    random = numpy_generator(settings.seed, "market1501", "layout")
    numbers = _numbers(random, settings, 1501)
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    layout = Layout("Market-1501-v15.09.15")

    def add(label: str, role: str, person: int, camera: int, index: int) -> None:
        sequence, frame = int(random.integers(1, 7)), int(random.integers(1, 120000))
        name = f"{label}_c{camera}s{sequence}_{frame:06d}_{index + 1:02d}.jpg"
        layout.shots.append(Shot(f"{folders[role]}/{name}", person, camera, index))

    for sighting in _sightings(random, settings, range(1, 7)):
        add(
            f"{numbers[sighting.person]:04d}",
            sighting.role,
            sighting.person,
            sighting.camera,
            sighting.index,
        )
    extra = max(2, _test_persons(settings) // 2)
    for index in range(extra):
        add("-1", "gallery", len(numbers) + index, int(random.integers(1, 7)), index)
        add("0000", "gallery", NOBODY, int(random.integers(1, 7)), index)
    return layout


def dukemtmc(settings: Synthesize) -> Layout:
    """DukeMTMC-reID: `<id>_c<c>_f<frame>.jpg`, eight cameras."""
    random = numpy_generator(settings.seed, "dukemtmc", "layout")
    numbers = _numbers(random, settings, 7140)
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    layout = Layout("DukeMTMC-reID")
    for sighting in _sightings(random, settings, range(1, 9)):
        frame = 40000 + 97 * len(layout.shots) + int(random.integers(97))  # no frame twice
        name = f"{numbers[sighting.person]:04d}_c{sighting.camera}_f{frame:07d}.jpg"
        layout.shots.append(
            Shot(
                f"{folders[sighting.role]}/{name}", sighting.person, sighting.camera, sighting.index
            )
        )
    return layout


def msmt17(settings: Synthesize) -> Layout:
    """MSMT17_V1: `train/` and `test/` number their people from 0; four lists; the val list shares the train people."""
    random = numpy_generator(settings.seed, "msmt17", "layout")
    times = ["0113morning", "0113noon", "0303morning", "0303noon", "0302afternoon"]
    layout = Layout("MSMT17_V1")
    lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
    sightings = _sightings(random, settings, range(1, 16))
    for position, sighting in enumerate(sightings):
        training = sighting.role == "train"
        label = sighting.person if training else sighting.person - settings.source_persons
        last = position + 1 == len(sightings) or sightings[position + 1].person != sighting.person
        role = (
            "val"
            if training and last and label % 2 and settings.source_images > 2
            else sighting.role
        )
        taken = times[int(random.integers(len(times)))]
        name = f"{label:04d}_{sighting.index:03d}_{sighting.camera:02d}_{taken}_{position % 3000:04d}_{position % 4}.jpg"
        path = f"{label:04d}/{name}"
        lists[role].append(f"{path} {label}")
        folder = "train" if training else "test"
        layout.shots.append(
            Shot(f"{folder}/{path}", sighting.person, sighting.camera, sighting.index)
        )
    layout.texts = {
        f"list_{role}.txt": "".join(line + "\n" for line in lines) for role, lines in lists.items()
    }
    return layout


def _test_persons(settings: Synthesize) -> int:
    """People of a source's test half; no more than of its training half, so that small trees stay small."""
    return min(TEST_PERSONS, settings.source_persons)


def _numbers(random: np.random.Generator, settings: Synthesize, highest: int) -> list[int]:
    """Each person's number in the data set, ascending in neither half."""
    count = settings.source_persons + _test_persons(settings)
    return random.permutation(np.arange(1, max(highest, count) + 1))[:count].tolist()


def _sightings(
    random: np.random.Generator, settings: Synthesize, cameras: Sequence[int]
) -> list[_Sighting]:
    """Each person of a source in 2 to 6 cameras, in turn; in the test half some images are queries.

    A query is the first image of a camera that has another one; where none has, the person's first image.
    """
    found = []
    for person in range(settings.source_persons + _test_persons(settings)):
        most = min(6, len(cameras), settings.source_images)
        seen = some(random, cameras, int(random.integers(2, most + 1)))
        where = sorted(seen[index % len(seen)] for index in range(settings.source_images))
        for index, camera in enumerate(where):
            first = index == 0 or where[index - 1] != camera
            query = (first and where.count(camera) > 1) or (
                index == 0 and len(set(where)) == len(where)
            )
            role = "train" if person < settings.source_persons else "query" if query else "gallery"
            found.append(_Sighting(person, camera, index, role))
    return found
