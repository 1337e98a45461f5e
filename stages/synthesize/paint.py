"""A figure's map of parts in the colors of its materials: patterns, folds, light from a side."""

import numpy as np
from PIL import Image

from stages.synthesize.figure import OVERSAMPLING, Figure, Part
from stages.synthesize.people import Garment, Person

# Rows of the table of materials; the accent of a garment follows its base.
SKIN, HAIR, UPPER, UPPER_ACCENT, LOWER, LOWER_ACCENT, INNER, SHOES, BAG = range(9)
# What each part is made of, and how bright it is: limbs stand out from the body, and the far ones from the near ones.
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
    """The table of materials (9, C) float32 in the order of the rows above; C = 1 infrared, 3 visible."""
    rows = [person.skin, person.hair, person.upper.base, person.upper.accent]
    rows += [
        person.lower.base,
        person.lower.accent,
        person.inner,
        person.shoes,
        person.bag_material,
    ]
    return np.array(
        [(row.infrared,) if infrared else row.visible for row in rows], dtype=np.float32
    )


def pattern(
    garment: Garment, x: np.ndarray, y: np.ndarray, front: float, edge: float
) -> np.ndarray:
    """Where a garment shows its accent: bool (H, W) for body coordinates `x` (1, W) and `y` (H, 1).

    `front` is the cosine of the facing: a logo is on the chest only; `edge`: below it a `block` changes its tone.
    """
    period, offset = garment.period, garment.offset
    match garment.pattern:
        case "hstripes":
            accent = (y / period + offset) % 1.0 < 0.5
        case "vstripes":
            accent = (x / period + offset) % 1.0 < 0.5
        case "checks":
            accent = ((y / period + offset) % 1.0 < 0.5) ^ ((x / period + offset) % 1.0 < 0.5)
        case "dots":
            accent = ((x / period) % 1.0 - 0.5) ** 2 + ((y / period) % 1.0 - 0.5) ** 2 < 0.09
        case "block":
            accent = y > edge
        case "logo":
            accent = ((x / 0.055) ** 2 + ((y - 0.27) / 0.045) ** 2 < 1.0) & (front > 0.25)
        case "plain":
            accent = np.zeros((1, 1), dtype=bool)
        case unknown:
            raise ValueError(f"{unknown!r} is not a pattern")
    return np.broadcast_to(accent, np.broadcast_shapes(x.shape, y.shape))


def paint(
    figure: Figure, infrared: bool, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The finished figure: color × cover (H, W, C) and cover (H, W, 1), both float32, 0 to 1.

    C = 1 in the infrared, 3 in the visible. `random` draws the folds of the clothes.
    """
    parts, person = figure.draw(), figure.person
    x = ((np.arange(figure.columns, dtype=np.float32) - figure.middle) / figure.scale)[None, :]
    y = ((np.arange(figure.rows, dtype=np.float32) - figure.top) / figure.scale)[:, None]
    materials = MATERIAL[parts]
    upper = (materials == UPPER) & pattern(
        person.upper, x, y, figure.front, 0.22 + 0.16 * person.upper.offset
    )
    lower = (materials == LOWER) & pattern(
        person.lower, x, y, figure.front, 0.62 + 0.16 * person.lower.offset
    )
    materials = materials + upper + lower
    folds = Image.fromarray(random.normal(1.0, 0.10, (14, 7)).astype(np.float32))
    shade = SHADE[parts] * np.asarray(
        folds.resize((figure.columns, figure.rows), Image.Resampling.BILINEAR)
    )
    shade *= 1.0 + 0.9 * figure.pose.light * x
    color = np.take(reflectance(person, infrared), materials, axis=0) * shade[:, :, None]
    return _shrink(color), _shrink((parts > 0).astype(np.float32)[:, :, None])


def _shrink(fine: np.ndarray) -> np.ndarray:
    """Mean of every OVERSAMPLING × OVERSAMPLING block; strided sums are much faster than a mean over two axes."""
    rows = fine[::OVERSAMPLING].copy()
    for first in range(1, OVERSAMPLING):
        rows += fine[first::OVERSAMPLING]
    blocks = rows[:, ::OVERSAMPLING].copy()
    for first in range(1, OVERSAMPLING):
        blocks += rows[:, first::OVERSAMPLING]
    return blocks / np.float32(OVERSAMPLING**2)
