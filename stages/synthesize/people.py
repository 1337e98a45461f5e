"""Identities: a body, hair, clothes and a bag, each with what it reflects of visible and of near-infrared light."""

import colorsys
from dataclasses import dataclass

import numpy as np

from stages.synthesize.world import Style, World

LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, what `convert("L")` computes
# Common colors of clothes: hue and how strong it gets (nobody wears a pure green); then how common each is.
DYES = (
    (0.0, 0.9),
    (0.07, 0.8),
    (0.13, 0.7),
    (0.33, 0.4),
    (0.48, 0.45),
    (0.58, 0.8),
    (0.64, 0.9),
    (0.75, 0.5),
    (0.92, 0.6),
)
DYE_SHARES = (0.16, 0.14, 0.10, 0.10, 0.08, 0.16, 0.14, 0.05, 0.07)
NEUTRAL = 0.3  # share of black, gray and white cloth
SUMMER = {"tshirt", "vest", "dress"}
SKIN_TONES = (
    (0.93, 0.76, 0.65),
    (0.85, 0.66, 0.53),
    (0.74, 0.54, 0.41),
    (0.56, 0.39, 0.29),
    (0.38, 0.26, 0.20),
)


@dataclass(frozen=True)
class Material:
    """What a surface reflects, 0 to 1: red, green and blue, and near infrared."""

    visible: tuple[float, float, float]
    infrared: float

    @property
    def luminance(self) -> float:
        """The brightness the eye sees, 0 to 1."""
        return float(np.dot(LUMINANCE, self.visible))


@dataclass(frozen=True)
class Garment:
    """A piece of clothing: its cut, and a pattern of two materials with `period` (in body heights) and `offset`."""

    cut: str
    pattern: str
    base: Material
    accent: Material
    period: float
    offset: float
    length: float  # 0 to 1: how far down the cut reaches within its kind
    fit: float  # 0.85 to 1.25: how wide it hangs


@dataclass(frozen=True)
class Body:
    """Proportions in body heights."""

    head: float  # height of the head
    shoulder: float
    hip: float
    leg: float  # from the sole to the hip joint
    limb: float  # thickness of arms and legs, 1 = usual


@dataclass(frozen=True)
class Person:
    """Everything that stays the same about an identity, whatever camera sees it."""

    body: Body
    skin: Material
    hair: Material
    hair_length: float  # 0 cropped, 1 to below the shoulders
    upper: Garment
    lower: Garment
    inner: Material  # seen where a jacket stands open
    shoes: Material
    bag: str
    bag_material: Material
    bag_side: int  # -1 or 1
    bag_size: float

    def vector(self) -> np.ndarray:
        """All numbers of the identity as one vector (D,) float64, to compare identities."""
        materials = [self.skin, self.hair, self.inner, self.shoes, self.bag_material]
        numbers = [self.hair_length, self.bag_side, self.bag_size, *vars(self.body).values()]
        for garment in (self.upper, self.lower):
            materials += [garment.base, garment.accent]
            numbers += [garment.period, garment.offset, garment.length, garment.fit]
        for material in materials:
            numbers += [*material.visible, material.infrared]
        return np.array(numbers, dtype=np.float64)


def draw_person(random: np.random.Generator, style: Style, world: World) -> Person:
    """An identity of a data set with `style`."""
    warm = random.random() < style.warm
    upper_cuts = [cut for cut in world.upper_cuts if (cut in SUMMER) == warm] or list(
        world.upper_cuts
    )
    lower_cuts = [cut for cut in world.lower_cuts if warm or cut != "shorts"] or list(
        world.lower_cuts
    )
    tone = SKIN_TONES[random.integers(len(SKIN_TONES))]
    gray = float(random.choice([0.06, 0.12, 0.22, 0.40, 0.62], p=[0.4, 0.25, 0.15, 0.12, 0.08]))
    return Person(
        body=_body(random, world.proportions),
        skin=Material(tone, 0.62 + 0.12 * float(random.random())),
        hair=Material(
            (min(gray * 1.25, 1.0), gray, gray * 0.8), _infrared(random, gray, world) * 0.6
        ),
        hair_length=float(random.choice([0.0, 0.15, 0.5, 1.0], p=[0.3, 0.3, 0.2, 0.2])),
        upper=_garment(random, str(random.choice(upper_cuts)), world.upper_patterns, style, world),
        lower=_garment(random, str(random.choice(lower_cuts)), world.lower_patterns, style, world),
        inner=cloth(random, style, world),
        shoes=cloth(random, style, world),
        bag=str(random.choice(world.bags)),
        bag_material=cloth(random, style, world),
        bag_side=int(random.choice([-1, 1])),
        bag_size=float(random.uniform(0.8, 1.25)),
    )


def cloth(
    random: np.random.Generator, style: Style, world: World, luminance: float | None = None
) -> Material:
    """A fabric. Hue, chroma, luminance and the infrared draw are independent of each other.

    So the color says nothing about the infrared, and luminance only what `world.luminance_share` lets through.
    """
    if luminance is None:
        luminance = 0.06 + 0.84 * float(random.random()) ** style.dark
    center, scale = DYES[random.choice(len(DYES), p=DYE_SHARES)]
    if random.random() < style.hue_pull:
        center, scale = style.hue, 1.0
    hue = (center + 0.03 * float(random.normal())) % 1.0
    chroma = (
        0.03
        if random.random() < NEUTRAL
        else scale * float(np.clip(random.normal(style.chroma, 0.2), 0.0, 1.0))
    )
    return Material(_tint(hue, chroma, luminance), _infrared(random, luminance, world))


def _tint(hue: float, chroma: float, luminance: float) -> tuple[float, float, float]:
    """A color of exactly that luminance: the pure hue, mixed with gray as far as red, green and blue allow."""
    pure = np.array(colorsys.hsv_to_rgb(hue, 1.0, 1.0))
    pure = pure * luminance / float(LUMINANCE @ pure)
    peak = float(pure.max())
    if (
        peak > 1.0
    ):  # a bright blue does not exist: mix with gray of the same luminance until it does
        chroma = min(chroma, (1.0 - luminance) / (peak - luminance))
    red, green, blue = luminance + chroma * (pure - luminance)
    return float(red), float(green), float(blue)


def _infrared(random: np.random.Generator, luminance: float, world: World) -> float:
    share = world.luminance_share
    return share * luminance + (1.0 - share) * float(random.uniform(0.04, 0.94))


def _garment(
    random: np.random.Generator, cut: str, patterns: tuple[str, ...], style: Style, world: World
) -> Garment:
    base = cloth(random, style, world)
    gap = float(random.uniform(world.pattern_contrast, world.pattern_contrast + 0.25))
    other = base.luminance - gap if base.luminance > 0.5 else base.luminance + gap
    accent = cloth(random, style, world, luminance=float(np.clip(other, 0.02, 0.98)))
    infrared = base.infrared - gap if base.infrared > 0.5 else base.infrared + gap
    return Garment(
        cut=cut,
        pattern=str(random.choice(patterns)),
        base=base,
        accent=Material(accent.visible, float(np.clip(infrared, 0.02, 0.98))),
        period=float(random.choice([0.055, 0.08, 0.115])),
        offset=float(random.random()),
        length=float(random.random()),
        fit=float(random.uniform(0.88, 1.22)),
    )


def _body(random: np.random.Generator, spread: float) -> Body:
    def around(mean: float, deviation: float) -> float:
        return mean + spread * deviation * float(np.clip(random.normal(), -2.0, 2.0))

    build = around(0.0, 1.0)  # slim to stout: shoulders, hips and limbs go together in part
    return Body(
        head=around(0.135, 0.006),
        shoulder=around(0.235 + 0.014 * build, 0.012),
        hip=around(0.185 + 0.014 * build, 0.011),
        leg=around(0.475, 0.016),
        limb=around(1.0 + 0.09 * build, 0.06),
    )
