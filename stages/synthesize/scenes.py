"""What is around the people: the place behind them, and objects in front of them."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

ROOMS = ("corridor", "hall")
STREETS = ("corridor", "hall", "street", "plaza")
Color = tuple[int, int, int, int]  # red, green, blue and near infrared, 0 to 255


@dataclass(frozen=True)
class _Canvas:
    """The picture of a scene that is being drawn; the floor begins at `horizon`."""

    pen: ImageDraw.ImageDraw
    height: int
    width: int
    horizon: int

    def box(self, left: float, top: float, right: float, bottom: float, fill: Color) -> None:
        self.pen.rectangle((int(left), int(top), int(right), int(bottom)), fill=fill)


def draw_scene(random: Generator, height: int, width: int, vegetation: float) -> np.ndarray:
    """Return a place, three images wide: reflectances (height, 3 · width, 4) float32, 0 to 1.

    The channels are red, green, blue and near infrared. `vegetation` is the chance of a park; if
    it is 0, the place is indoors.
    """
    park = random.random() < vegetation
    kinds = STREETS if vegetation else ROOMS
    kind = "park" if park else str(random.choice(kinds))
    image = Image.new("RGBA", (3 * width, height))
    horizon = int(height * random.uniform(0.25, 0.6))
    canvas = _Canvas(ImageDraw.Draw(image), height, 3 * width, horizon)
    canvas.box(0, 0, 3 * width, horizon, _surface(random, kind, "wall"))
    canvas.box(0, horizon, 3 * width, height, _surface(random, kind, "floor"))
    match kind:
        case "corridor":
            _doors(random, canvas)
        case "street":
            _windows(random, canvas)
        case "park":
            _trees(random, canvas)
        case _:
            _pillars(random, canvas)
    if not park:
        _joints(random, canvas, kind)
    soft = image.filter(ImageFilter.GaussianBlur(0.012 * height))
    scene = np.asarray(soft, dtype=np.float32) / 255.0
    grain = random.normal(0.0, 0.07 if park else 0.035, (height // 3 + 1, width + 1))
    coarse = Image.fromarray(grain.astype(np.float32))
    rough = np.asarray(coarse.resize(image.size, Image.Resampling.BILINEAR))  # (H, 3W)
    first, last = random.uniform(0.85, 1.15, 2)
    light = np.linspace(first, last, 3 * width, dtype=np.float32)[None, :]  # (1, 3W)
    lit: np.ndarray = np.clip(scene * light[:, :, None] + rough[:, :, None], 0.0, 1.0)
    return lit


def _surface(random: Generator, kind: str, place: str) -> Color:
    """Draw the color of a wall or a floor."""
    wall = place == "wall"
    if kind == "park":
        gray = random.uniform(0.18, 0.45)
        green = wall or random.random() < 0.5
        tint = np.array([0.75, 1.0, 0.55] if green else [1.1, 1.0, 0.8])
        infrared = random.uniform(0.55, 0.85)
    else:
        gray = random.uniform(0.25, 0.8) if wall else random.uniform(0.2, 0.6)
        tint = 1.0 + 0.06 * random.normal(size=3)
        infrared = 0.5 * gray + 0.5 * random.uniform(0.2, 0.8)
    channels = np.clip([*(gray * tint), infrared], 0.03, 0.97) * 255
    red, green, blue, near_infrared = channels.astype(int).tolist()
    return red, green, blue, near_infrared


def _object(random: Generator) -> Color:
    return _surface(random, "object", "wall")


def _doors(random: Generator, canvas: _Canvas) -> None:
    horizon, width = canvas.horizon, canvas.width
    for _ in range(random.integers(3, 6)):
        left = random.uniform(0, width)
        right = left + random.uniform(0.08, 0.16) * width
        top = horizon * random.uniform(0.0, 0.35)
        canvas.box(left, top, right, horizon, _object(random))
    half = 0.02 * canvas.height
    canvas.box(0, horizon - half, width, horizon + half, _object(random))


def _pillars(random: Generator, canvas: _Canvas) -> None:
    horizon, width = canvas.horizon, canvas.width
    step = width / int(random.integers(4, 12))
    breadth = step * random.uniform(0.1, 0.35)
    fill = _object(random)
    for left in np.arange(random.uniform(0, step), width, step):
        canvas.box(left, 0, left + breadth, horizon + 0.06 * canvas.height, fill)
    canvas.box(0, horizon * 0.55, width, horizon * 0.62, _object(random))


def _windows(random: Generator, canvas: _Canvas) -> None:
    horizon, width = canvas.horizon, canvas.width
    across = width / int(random.integers(6, 14))
    down = horizon / int(random.integers(1, 4))
    fill = _surface(random, "object", "floor")
    for left in np.arange(across * 0.2, width, across):
        for top in np.arange(down * 0.2, horizon * 0.9, down):
            canvas.box(left, top, left + across * 0.55, top + down * 0.6, fill)
    bottom = horizon + random.uniform(0.03, 0.10) * canvas.height
    canvas.box(0, horizon, width, bottom, _object(random))


def _trees(random: Generator, canvas: _Canvas) -> None:
    horizon, height, width = canvas.horizon, canvas.height, canvas.width
    for _ in range(random.integers(25, 60)):
        x = random.uniform(0, width)
        y = random.uniform(-0.1, 0.9) * horizon
        radius = random.uniform(0.04, 0.15) * height
        canvas.pen.circle((x, y), radius, fill=_surface(random, "park", "wall"))
    for _ in range(random.integers(1, 5)):
        x = random.uniform(0, width)
        bottom = horizon + 0.05 * height
        canvas.box(x, 0.1 * height, x + 0.03 * height, bottom, _object(random))


def _joints(random: Generator, canvas: _Canvas, kind: str) -> None:
    """Draw lines between the tiles of the floor, closer together towards the horizon."""
    horizon, height, width = canvas.horizon, canvas.height, canvas.width
    if random.random() < 0.3:
        return
    fill = _surface(random, kind, "floor")
    for step in np.linspace(0.05, 1.0, random.integers(3, 8)) ** 1.6:
        y = int(horizon + step * (height - horizon))
        canvas.pen.line((0, y, width, y), fill=fill)
    vanishing = random.uniform(0.2, 0.8) * width
    spacing = random.uniform(0.06, 0.16) * width
    for x in np.arange(-width, 2 * width, spacing):
        far_x = int(vanishing + (x - vanishing) * 0.35)
        canvas.pen.line((far_x, horizon, int(x), height), fill=fill)


def put_occluder(random: Generator, image: np.ndarray) -> np.ndarray:
    """Return `image` (H, W, C) with a bin, a post, a car or a bush in front; reflectances."""
    height, width, channels = image.shape
    shape = _occluder(random, height, width).filter(ImageFilter.GaussianBlur(0.5))
    cover = np.asarray(shape, dtype=np.float32)[:, :, None] / 255.0  # (H, W, 1)
    tone = random.uniform(0.1, 0.6) * (1.0 + 0.15 * random.normal(size=channels))
    rough = random.normal(1.0, 0.06, (height, width, 1))
    covered: np.ndarray = image * (1.0 - cover) + cover * (tone * rough).astype(np.float32)
    return covered


def _occluder(random: Generator, height: int, width: int) -> Image.Image:
    """Draw the shape of an object: 255 inside, 0 outside."""
    shape = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(shape)
    kind = ("bin", "post", "car", "bush")[random.integers(4)]
    top = int(height * random.uniform(0.6, 0.85))
    left = int(width * random.uniform(-0.2, 0.6))
    match kind:
        case "bin":
            right = left + int(width * random.uniform(0.3, 0.7))
            pen.rectangle((left, top, right, height), fill=255)
        case "post":
            right = left + max(2, int(width * random.uniform(0.07, 0.16)))
            pen.rectangle((left, 0, right, height), fill=255)
        case "car":
            pen.rounded_rectangle((-width, top, 2 * width, height * 2), width // 3, fill=255)
        case "bush":
            for _ in range(12):
                x = left + random.uniform(0, 0.6) * width
                y = random.uniform(0.65, 1.0) * height
                pen.circle((x, y), random.uniform(0.04, 0.09) * height, fill=255)
    return shape
