"""One image of a person by a camera, from nothing but a seed and their numbers."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from stages.parts.run.seeds import numpy_generator
from stages.synthesize import cameras, figure, people, scenes
from stages.synthesize.paint import paint
from stages.synthesize.plan import NOBODY, Shot
from stages.synthesize.world import STYLES, WORLD, World

# As in the real data set: camera 3 is the infrared one in the room of camera 2.
SHARED_PLACE = {("sysu_mm01", 3): 2}
INDOORS = {("sysu_mm01", 1), ("sysu_mm01", 2)}


@dataclass(frozen=True)
class Studio:
    """Where a data set is rendered: its name (a key of STYLES), the seed and the size of its pictures."""

    dataset: str
    seed: int
    height: int
    width: int
    world: World = WORLD


@lru_cache(maxsize=512)
def person_of(studio: Studio, number: int) -> people.Person:
    """The identity `number` of a data set; numbers are per data set, so no identity is in two of them."""
    random = numpy_generator(studio.seed, studio.dataset, "person", number)
    return people.draw_person(random, STYLES[studio.dataset], studio.world)


@lru_cache(maxsize=64)
def camera_of(studio: Studio, number: int, infrared: bool) -> cameras.Camera:
    """The camera `number` of a data set."""
    random = numpy_generator(studio.seed, studio.dataset, "camera", number, int(infrared))
    return cameras.draw_camera(random, infrared, STYLES[studio.dataset], studio.world)


@lru_cache(maxsize=64)
def scene_of(studio: Studio, number: int) -> np.ndarray:
    """The place camera `number` looks at: (H, 3W, 4) float32."""
    place = SHARED_PLACE.get((studio.dataset, number), number)
    random = numpy_generator(studio.seed, studio.dataset, "scene", place)
    vegetation = 0.0 if (studio.dataset, place) in INDOORS else STYLES[studio.dataset].vegetation
    return scenes.draw_scene(random, studio.height, studio.width, vegetation)


def render(studio: Studio, shot: Shot) -> np.ndarray:
    """The image as uint8 (H, W, 3); of an infrared camera, three equal channels.

    All randomness comes from the seed and the shot's numbers: the order of rendering does not matter.
    """
    world = studio.world
    random = numpy_generator(
        studio.seed, studio.dataset, shot.person, shot.camera, int(shot.infrared), shot.index
    )
    camera = camera_of(studio, shot.camera, shot.infrared)
    scene = scene_of(studio, shot.camera)
    left = int(random.integers(scene.shape[1] - studio.width + 1))
    channels = slice(3, 4) if shot.infrared else slice(0, 3)
    image = scene[:, left : left + studio.width, channels] * camera.falloff
    if shot.person != NOBODY:
        pose = figure.draw_pose(random, camera.tilt, world)
        drawing = figure.Figure(person_of(studio, shot.person), pose, studio.height, studio.width)
        color, cover = paint(drawing, shot.infrared, random)
        image = image * (1.0 - cover) + color
    if random.random() < world.occluder_chance:
        image = scenes.put_occluder(random, image)
    return cameras.expose(image, camera, random, world)


def write_shot(studio: Studio, root: Path, shot: Shot) -> None:
    """Render a shot into its file below `root`; JPEG of the camera's quality, or BMP, by the path's ending."""
    picture = Image.fromarray(render(studio, shot))
    path = root / shot.path
    if path.suffix == ".jpg":
        picture.save(path, quality=camera_of(studio, shot.camera, shot.infrared).quality)
    else:
        picture.save(path)
