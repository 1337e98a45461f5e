"""What stands around the people: the place behind them, and things in front of them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOMS, STREETS = ("corridor", "hall"), ("corridor", "hall", "street", "plaza")
Size = tuple[int, int]  # height and width of the whole scene in pixels


def draw_scene(
    random: np.random.Generator, height: int, width: int, vegetation: float
) -> np.ndarray:
    """A place, three pictures wide: reflectance (height, 3 · width, 4) float32, 0 to 1; channel 3 is near infrared.

    `vegetation` is the chance of a park; where it is 0, the place is indoors.
    """
    park = random.random() < vegetation
    kind = "park" if park else str(random.choice(STREETS if vegetation else ROOMS))
    image = Image.new("RGBA", (3 * width, height))
    pen = ImageDraw.Draw(image)
    horizon = int(height * random.uniform(0.25, 0.6))
    pen.rectangle((0, 0, 3 * width, horizon), fill=_surface(random, kind, "wall"))
    pen.rectangle((0, horizon, 3 * width, height), fill=_surface(random, kind, "floor"))
    {"corridor": _doors, "hall": _pillars, "street": _windows, "plaza": _pillars, "park": _trees}[
        kind
    ](random, pen, horizon, (height, 3 * width))
    _joints(random, pen, horizon, (height, 3 * width), kind)
    scene = (
        np.asarray(image.filter(ImageFilter.GaussianBlur(0.012 * height)), dtype=np.float32) / 255.0
    )
    grain = random.normal(0.0, 0.035 if kind != "park" else 0.07, (height // 3 + 1, width + 1))
    rough = Image.fromarray(grain.astype(np.float32)).resize(
        (3 * width, height), Image.Resampling.BILINEAR
    )
    first, last = random.uniform(0.85, 1.15, 2)
    light = np.linspace(first, last, 3 * width, dtype=np.float32)[None, :]
    return np.clip(scene * light[:, :, None] + np.asarray(rough)[:, :, None], 0.0, 1.0)


def _surface(random: np.random.Generator, kind: str, place: str) -> tuple[int, int, int, int]:
    """Red, green, blue and near infrared of a wall or a floor, 0 to 255."""
    if kind == "park":
        gray = random.uniform(0.18, 0.45)
        tint = np.array(
            [0.75, 1.0, 0.55] if place == "wall" or random.random() < 0.5 else [1.1, 1.0, 0.8]
        )
        infrared = random.uniform(0.55, 0.85)
    else:
        gray = random.uniform(0.25, 0.8) if place == "wall" else random.uniform(0.2, 0.6)
        tint = 1.0 + 0.06 * random.normal(size=3)
        infrared = 0.5 * gray + 0.5 * random.uniform(0.2, 0.8)
    red, green, blue, near = np.clip([*(gray * tint), infrared], 0.03, 0.97) * 255
    return int(red), int(green), int(blue), int(near)


def _box(
    random: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    corners: tuple[float, float, float, float],
) -> None:
    pen.rectangle([int(value) for value in corners], fill=_surface(random, "object", "wall"))


def _doors(random: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: int, size: Size) -> None:
    height, width = size
    for _ in range(int(random.integers(3, 6))):
        left, breadth = random.uniform(0, width), random.uniform(0.08, 0.16) * width
        _box(random, pen, (left, horizon * random.uniform(0.0, 0.35), left + breadth, horizon))
    _box(random, pen, (0, horizon - 0.02 * height, width, horizon + 0.02 * height))


def _pillars(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: int, size: Size
) -> None:
    height, width = size
    step = width / int(random.integers(4, 12))
    breadth = step * random.uniform(0.1, 0.35)
    fill = _surface(random, "object", "wall")
    for left in np.arange(random.uniform(0, step), width, step):
        pen.rectangle((int(left), 0, int(left + breadth), int(horizon + 0.06 * height)), fill=fill)
    _box(random, pen, (0, horizon * 0.55, width, horizon * 0.62))


def _windows(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: int, size: Size
) -> None:
    height, width = size
    across, down = width / int(random.integers(6, 14)), horizon / int(random.integers(1, 4))
    fill = _surface(random, "object", "floor")
    for left in np.arange(across * 0.2, width, across):
        for top in np.arange(down * 0.2, horizon * 0.9, down):
            pen.rectangle(
                (int(left), int(top), int(left + across * 0.55), int(top + down * 0.6)), fill=fill
            )
    _box(random, pen, (0, horizon, width, horizon + random.uniform(0.03, 0.10) * height))


def _trees(random: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: int, size: Size) -> None:
    height, width = size
    for _ in range(int(random.integers(25, 60))):
        x, y = random.uniform(0, width), random.uniform(-0.1, 0.9) * horizon
        radius = random.uniform(0.04, 0.15) * height
        pen.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=_surface(random, "park", "wall")
        )
    for _ in range(int(random.integers(1, 5))):
        x = random.uniform(0, width)
        _box(random, pen, (x, 0.1 * height, x + 0.03 * height, horizon + 0.05 * height))


def _joints(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: int, size: Size, kind: str
) -> None:
    """Lines between the tiles or slabs of the floor, closer together towards the horizon."""
    height, width = size
    if kind == "park" or random.random() < 0.3:
        return
    fill = _surface(random, kind, "floor")
    for step in np.linspace(0.05, 1.0, int(random.integers(3, 8))) ** 1.6:
        y = int(horizon + step * (height - horizon))
        pen.line((0, y, width, y), fill=fill)
    vanishing, spacing = random.uniform(0.2, 0.8) * width, random.uniform(0.06, 0.16) * width
    for x in np.arange(-width, 2 * width, spacing):
        pen.line((int(vanishing + (x - vanishing) * 0.35), horizon, int(x), height), fill=fill)


def put_occluder(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """`image` (H, W, C) with a bin, a post, a car or a bush in front, reflectances as in the image."""
    height, width, channels = image.shape
    picture = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(picture)
    kind = int(random.integers(4))
    top, left = int(height * random.uniform(0.6, 0.85)), int(width * random.uniform(-0.2, 0.6))
    if kind == 0:
        pen.rectangle((left, top, left + int(width * random.uniform(0.3, 0.7)), height), fill=255)
    elif kind == 1:
        pen.rectangle(
            (left, 0, left + max(2, int(width * random.uniform(0.07, 0.16))), height), fill=255
        )
    elif kind == 2:
        pen.rounded_rectangle((-width, top, 2 * width, height * 2), radius=width // 3, fill=255)
    else:
        for _ in range(12):
            x, y = left + random.uniform(0, 0.6) * width, random.uniform(0.65, 1.0) * height
            radius = random.uniform(0.04, 0.09) * height
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    cover = (
        np.asarray(picture.filter(ImageFilter.GaussianBlur(0.5)), dtype=np.float32)[:, :, None]
        / 255.0
    )
    tone = random.uniform(0.1, 0.6) * (1.0 + 0.15 * random.normal(size=channels))
    rough = random.normal(1.0, 0.06, (height, width, 1))
    return image * (1.0 - cover) + cover * (tone * rough).astype(np.float32)
