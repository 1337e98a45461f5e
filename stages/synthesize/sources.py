"""The trees of the labeled visible data sets: Market-1501, DukeMTMC-reID, MSMT17.

Half of each is for training (`synthesize.source_persons`), the other half is query and gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.synthesize.plan import NOBODY, Layout, PlannedImage, draw_cameras

TEST_PERSONS = 20
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
TIMES = ("0113morning", "0113noon", "0303morning", "0303noon", "0302afternoon")


@dataclass(frozen=True)
class _Sighting:
    """An image of a source that has no path yet: of whom, by which camera, for which role."""

    person: int
    camera: int
    index: int
    role: str  # train, query or gallery

    def at(self, path: str) -> PlannedImage:
        """Return this image with its path."""
        return PlannedImage(path, self.person, self.camera, self.index)


def market1501(settings: Synthesize) -> Layout:
    """Plan Market-1501: `<id>_c<c>s<sequence>_<frame>_<box>.jpg`.

    Its gallery also has people without a number (`-1`) and false detections (`0000`).
    """
    random = numpy_generator(settings.seed, "market1501", "layout")
    numbers = _numbers(random, settings, 1501)
    layout = Layout("Market-1501-v15.09.15")

    def add(label: str, image: _Sighting) -> None:
        sequence = random.integers(1, 7)
        frame = random.integers(1, 120000)
        name = f"{label}_c{image.camera}s{sequence}_{frame:06d}_{image.index + 1:02d}.jpg"
        layout.images.append(image.at(f"{FOLDERS[image.role]}/{name}"))

    for sighting in _sightings(random, settings, range(1, 7)):
        add(f"{numbers[sighting.person]:04d}", sighting)
    for index in range(max(2, _test_persons(settings) // 2)):
        unnumbered = len(numbers) + index
        add("-1", _Sighting(unnumbered, int(random.integers(1, 7)), index, "gallery"))
        add("0000", _Sighting(NOBODY, int(random.integers(1, 7)), index, "gallery"))
    return layout


def dukemtmc(settings: Synthesize) -> Layout:
    """Plan DukeMTMC-reID: `<id>_c<c>_f<frame>.jpg`, eight cameras."""
    random = numpy_generator(settings.seed, "dukemtmc", "layout")
    numbers = _numbers(random, settings, 7140)
    layout = Layout("DukeMTMC-reID")
    for position, sighting in enumerate(_sightings(random, settings, range(1, 9))):
        frame = 40000 + 97 * position + int(random.integers(97))  # no frame twice
        name = f"{numbers[sighting.person]:04d}_c{sighting.camera}_f{frame:07d}.jpg"
        layout.images.append(sighting.at(f"{FOLDERS[sighting.role]}/{name}"))
    return layout


def msmt17(settings: Synthesize) -> Layout:
    """Plan MSMT17_V1: four lists, of which train and val share their people.

    The folders `train/` and `test/` number their people from 0 each.
    """
    random = numpy_generator(settings.seed, "msmt17", "layout")
    layout = Layout("MSMT17_V1")
    lists = {"train": "", "val": "", "query": "", "gallery": ""}
    sightings = _sightings(random, settings, range(1, 16))
    last_index = settings.source_images - 1
    for position, sighting in enumerate(sightings):
        label, folder, role = sighting.person, "train", sighting.role
        if role != "train":
            label, folder = label - settings.source_persons, "test"
        elif sighting.index == last_index and label % 2 and settings.source_images > 2:
            role = "val"
        time = TIMES[int(random.integers(len(TIMES)))]
        numbers = f"{label:04d}_{sighting.index:03d}_{sighting.camera:02d}"
        name = f"{numbers}_{time}_{position % 3000:04d}_{position % 4}.jpg"
        lists[role] += f"{label:04d}/{name} {label}\n"
        layout.images.append(sighting.at(f"{folder}/{label:04d}/{name}"))
    layout.texts = {f"list_{role}.txt": lines for role, lines in lists.items()}
    return layout


def _test_persons(settings: Synthesize) -> int:
    """Return the size of the test half: at most the training half's, so small trees stay small."""
    return min(TEST_PERSONS, settings.source_persons)


def _numbers(random: Generator, settings: Synthesize, highest: int) -> list[int]:
    """Draw each person's number in the data set, in random order."""
    count = settings.source_persons + _test_persons(settings)
    numbers = np.arange(1, max(highest, count) + 1)
    drawn: list[int] = random.permutation(numbers)[:count].tolist()
    return drawn


def _sightings(random: Generator, settings: Synthesize, cameras: Sequence[int]) -> list[_Sighting]:
    """Draw 2 to 6 cameras for each person of a source and share the person's images among them.

    In the test half some images are queries.
    """
    sightings = []
    most = min(6, len(cameras), settings.source_images)
    for person in range(settings.source_persons + _test_persons(settings)):
        seen_by = draw_cameras(random, cameras, int(random.integers(2, most + 1)))
        in_turn = [seen_by[index % len(seen_by)] for index in range(settings.source_images)]
        camera_of_image = sorted(in_turn)
        training = person < settings.source_persons
        queries = set() if training else _queries(camera_of_image)
        for index, camera in enumerate(camera_of_image):
            role = "train" if training else "gallery"
            if index in queries:
                role = "query"
            sightings.append(_Sighting(person, camera, index, role))
    return sightings


def _queries(cameras: list[int]) -> set[int]:
    """Return the positions of a person's queries, given the camera of each image, ascending.

    A query is the first image of a camera that has another one. If no camera has two images, the
    person's first image is the query.
    """
    queries = {cameras.index(camera) for camera in cameras if cameras.count(camera) > 1}
    return queries or {0}
