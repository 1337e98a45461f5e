"""Render one image of a person by a camera, from nothing but a seed and their numbers."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from stages.parts.run.seeds import numpy_generator
from stages.synthesize import cameras, figure, people, scenes
from stages.synthesize.paint import paint
from stages.synthesize.plan import NOBODY, PlannedImage
from stages.synthesize.world import STYLES, WORLD, World

# As in the real data set: camera 3 is the infrared one in the room of camera 2.
SHARED_PLACE = {("sysu_mm01", 3): 2}
INDOORS = {("sysu_mm01", 1), ("sysu_mm01", 2)}


@dataclass(frozen=True)
class Studio:
    """What all images of a data set share: its name (a key of STYLES), the seed, the size."""

    dataset: str
    seed: int
    height: int
    width: int
    world: World = WORLD


@lru_cache(maxsize=512)
def person_of(studio: Studio, number: int) -> people.Person:
    """Return the identity `number` of a data set; no identity is in two data sets."""
    random = numpy_generator(studio.seed, studio.dataset, "person", number)
    return people.draw_person(random, STYLES[studio.dataset], studio.world)


@lru_cache(maxsize=64)
def camera_of(studio: Studio, number: int, infrared: bool) -> cameras.Camera:
    """Return the camera `number` of a data set."""
    random = numpy_generator(studio.seed, studio.dataset, "camera", number, int(infrared))
    return cameras.draw_camera(random, infrared, STYLES[studio.dataset], studio.world)


@lru_cache(maxsize=64)
def scene_of(studio: Studio, number: int) -> np.ndarray:
    """Return the place that camera `number` looks at, (H, 3W, 4) float32."""
    place = SHARED_PLACE.get((studio.dataset, number), number)
    random = numpy_generator(studio.seed, studio.dataset, "scene", place)
    indoors = (studio.dataset, place) in INDOORS
    vegetation = 0.0 if indoors else STYLES[studio.dataset].vegetation
    return scenes.draw_scene(random, studio.height, studio.width, vegetation)


def render(studio: Studio, planned: PlannedImage) -> np.ndarray:
    """Return the image, (H, W, 3) uint8; that of an infrared camera has three equal channels.

    All randomness comes from the seed and the numbers in `planned`, so the order does not matter.
    """
    person, number, infrared = planned.person, planned.camera, planned.infrared
    random = numpy_generator(
        studio.seed, studio.dataset, person, number, int(infrared), planned.index
    )
    camera = camera_of(studio, number, infrared)
    scene = scene_of(studio, number)
    left = int(random.integers(scene.shape[1] - studio.width + 1))
    channels = slice(3, 4) if infrared else slice(0, 3)
    image = scene[:, left : left + studio.width, channels] * camera.falloff  # (H, W, C)
    if person != NOBODY:
        pose = figure.draw_pose(random, camera.tilt, studio.world)
        body = figure.Figure(person_of(studio, person), pose, studio.height, studio.width)
        color, cover = paint(body, infrared, random)
        image = image * (1.0 - cover) + color
    if random.random() < studio.world.occluder_chance:
        image = scenes.put_occluder(random, image)
    return cameras.expose(image, camera, random, studio.world)


def write_image(studio: Studio, root: Path, planned: PlannedImage) -> None:
    """Render an image into its file below `root`: a JPEG of the camera's quality, or a BMP."""
    picture = Image.fromarray(render(studio, planned))
    path = root / planned.path
    if path.suffix == ".jpg":
        quality = camera_of(studio, planned.camera, planned.infrared).quality
        picture.save(path, quality=quality)
    else:
        picture.save(path)
