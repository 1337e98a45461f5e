"""Color a figure's map of parts: materials, patterns, folds, and light from a side."""

import numpy as np
from numpy.random import Generator
from PIL import Image

from stages.synthesize.figure import OVERSAMPLING, Figure, Part
from stages.synthesize.people import Garment, Person

# Rows of the table of materials; the accent of a garment follows its base.
SKIN, HAIR, UPPER, UPPER_ACCENT, LOWER, LOWER_ACCENT, INNER, SHOES, BAG = range(9)
# What each part is made of, and how bright it is. Limbs differ in brightness from the body, and
# far limbs from near ones, so that each can be told from what is behind it.
LOOKS = {
    Part.NOTHING: (SKIN, 0.0),
    Part.SKIN: (SKIN, 1.0),
    Part.SKIN_FAR: (SKIN, 0.78),
    Part.HAIR: (HAIR, 1.0),
    Part.UPPER: (UPPER, 1.0),
    Part.SLEEVE: (UPPER, 0.88),
    Part.SLEEVE_FAR: (UPPER, 0.72),
    Part.LOWER: (LOWER, 1.0),
    Part.LOWER_FAR: (LOWER, 0.76),
    Part.INNER: (INNER, 0.92),
    Part.SHOE: (SHOES, 1.0),
    Part.SHOE_FAR: (SHOES, 0.78),
    Part.BAG: (BAG, 1.0),
    Part.STRAP: (BAG, 0.8),
}
MATERIAL = np.array([LOOKS[part][0] for part in Part], dtype=np.uint8)
SHADE = np.array([LOOKS[part][1] for part in Part], dtype=np.float32)


def reflectance(person: Person, infrared: bool) -> np.ndarray:
    """Return the materials in the order of the rows above, (9, C) float32.

    C is 1 in the infrared and 3 in the visible.
    """
    upper, lower = person.upper, person.lower
    materials = [person.skin, person.hair, upper.base, upper.accent]
    materials += [lower.base, lower.accent, person.inner, person.shoes, person.bag_material]
    if infrared:
        return np.array([[material.infrared] for material in materials], dtype=np.float32)
    return np.array([material.visible for material in materials], dtype=np.float32)


def pattern(
    garment: Garment, x: np.ndarray, y: np.ndarray, front: float, edge: float
) -> np.ndarray:
    """Return where a garment shows its accent, (H, W) bool.

    `x` (1, W) and `y` (H, 1) are body coordinates. `front` is the cosine of the facing, because a
    logo is on the chest only. The pattern `block` shows the accent below the y `edge`.
    """
    period, offset = garment.period, garment.offset
    across, down = x / period, y / period
    match garment.pattern:
        case "hstripes":
            accent = _first_half(down + offset)
        case "vstripes":
            accent = _first_half(across + offset)
        case "checks":
            accent = _first_half(down + offset) ^ _first_half(across + offset)
        case "dots":
            accent = (across % 1.0 - 0.5) ** 2 + (down % 1.0 - 0.5) ** 2 < 0.09
        case "block":
            accent = y > edge
        case "logo":
            ellipse = (x / 0.055) ** 2 + ((y - 0.27) / 0.045) ** 2
            accent = (ellipse < 1.0) & (front > 0.25)
        case "plain":
            accent = np.zeros((1, 1), dtype=bool)
        case unknown:
            raise ValueError(f"{unknown!r} is not a pattern")
    return np.broadcast_to(accent, np.broadcast_shapes(x.shape, y.shape))


def paint(figure: Figure, infrared: bool, random: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the finished figure: color × cover (H, W, C), and cover (H, W, 1); float32, 0 to 1.

    C is 1 in the infrared and 3 in the visible. `random` draws the folds of the clothes.
    """
    person = figure.person
    parts = figure.draw()  # (3H, 3W)
    columns = np.arange(figure.columns, dtype=np.float32)[None, :]
    rows = np.arange(figure.rows, dtype=np.float32)[:, None]
    x = (columns - figure.middle) / figure.scale  # (1, 3W)
    y = (rows - figure.top) / figure.scale  # (3H, 1)

    materials = MATERIAL[parts]  # (3H, 3W), rows of the table of materials
    upper_edge = 0.22 + 0.16 * person.upper.offset
    lower_edge = 0.62 + 0.16 * person.lower.offset
    upper = (materials == UPPER) & pattern(person.upper, x, y, figure.front, upper_edge)
    lower = (materials == LOWER) & pattern(person.lower, x, y, figure.front, lower_edge)
    materials = materials + upper + lower

    folds = random.normal(1.0, 0.10, (14, 7)).astype(np.float32)
    size = (figure.columns, figure.rows)
    smooth = Image.fromarray(folds).resize(size, Image.Resampling.BILINEAR)
    shade = SHADE[parts] * np.asarray(smooth)  # (3H, 3W)
    shade *= 1.0 + 0.9 * figure.pose.light * x

    color = np.take(reflectance(person, infrared), materials, axis=0)  # (3H, 3W, C)
    cover = (parts > 0).astype(np.float32)
    return _shrink(color * shade[:, :, None]), _shrink(cover[:, :, None])


def _first_half(phase: np.ndarray) -> np.ndarray:
    """Return where `phase` is in the first half of its period of 1."""
    return phase % 1.0 < 0.5


def _shrink(fine: np.ndarray) -> np.ndarray:
    """Return the mean of every OVERSAMPLING × OVERSAMPLING block: (3H, 3W, C) → (H, W, C).

    Strided sums are much faster than a mean over two axes.
    """
    rows = fine[::OVERSAMPLING].copy()  # (H, 3W, C)
    for first in range(1, OVERSAMPLING):
        rows += fine[first::OVERSAMPLING]
    blocks = rows[:, ::OVERSAMPLING].copy()  # (H, W, C)
    for first in range(1, OVERSAMPLING):
        blocks += rows[:, first::OVERSAMPLING]
    return blocks / np.float32(OVERSAMPLING**2)
