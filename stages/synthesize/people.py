"""Identities: a body, hair, clothes and a bag.

Each surface has a reflectance of visible and one of near-infrared light.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from stages.synthesize.world import Style, World

LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, what `convert("L")` computes
# Common colors of clothes: hue, and how saturated it gets (nobody wears a pure green).
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
# How common each of them is.
DYE_SHARES = (0.16, 0.14, 0.10, 0.10, 0.08, 0.16, 0.14, 0.05, 0.07)
NEUTRAL = 0.3  # share of black, gray and white cloth
SUMMER = {"tshirt", "vest", "dress"}  # cuts of summer clothes
SKIN_TONES = (
    (0.93, 0.76, 0.65),
    (0.85, 0.66, 0.53),
    (0.74, 0.54, 0.41),
    (0.56, 0.39, 0.29),
    (0.38, 0.26, 0.20),
)
HAIR_TONES = (0.06, 0.12, 0.22, 0.40, 0.62)
HAIR_TONE_SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)
HAIR_LENGTHS = (0.0, 0.15, 0.5, 1.0)
HAIR_LENGTH_SHARES = (0.3, 0.3, 0.2, 0.2)


@dataclass(frozen=True)
class Material:
    """What a surface reflects, 0 to 1: of red, green and blue, and of near infrared."""

    visible: tuple[float, float, float]
    infrared: float

    @property
    def luminance(self) -> float:
        """Return the brightness that the eye sees, 0 to 1."""
        return float(np.dot(LUMINANCE, self.visible))


@dataclass(frozen=True)
class Garment:
    """A piece of clothing: its cut, and a pattern of two materials."""

    cut: str
    pattern: str
    base: Material
    accent: Material
    period: float  # of the pattern, in body heights
    offset: float  # of the pattern, in periods
    length: float  # 0 to 1: how far down it reaches, among garments of this cut
    fit: float  # 0.85 to 1.25: how wide it is


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
    """Everything about an identity that is the same in all of its images."""

    body: Body
    skin: Material
    hair: Material
    hair_length: float  # 0: cropped, 1: below the shoulders
    upper: Garment
    lower: Garment
    inner: Material  # under an open jacket
    shoes: Material
    bag: str
    bag_material: Material
    bag_side: int  # -1 or 1
    bag_size: float


def draw_person(random: Generator, style: Style, world: World) -> Person:
    """Draw an identity of a data set with `style`."""
    warm = random.random() < style.warm
    upper_cuts = [cut for cut in world.upper_cuts if (cut in SUMMER) == warm]
    lower_cuts = [cut for cut in world.lower_cuts if warm or cut != "shorts"]
    upper_cuts = upper_cuts or list(world.upper_cuts)
    lower_cuts = lower_cuts or list(world.lower_cuts)
    tone = SKIN_TONES[random.integers(len(SKIN_TONES))]
    gray = float(random.choice(HAIR_TONES, p=HAIR_TONE_SHARES))
    hair = (min(gray * 1.25, 1.0), gray, gray * 0.8)
    return Person(
        body=_body(random, world.proportions),
        skin=Material(tone, 0.62 + 0.12 * float(random.random())),
        hair=Material(hair, _infrared(random, gray, world) * 0.6),
        hair_length=float(random.choice(HAIR_LENGTHS, p=HAIR_LENGTH_SHARES)),
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
    random: Generator, style: Style, world: World, luminance: float | None = None
) -> Material:
    """Draw a fabric, of `luminance` if that is given.

    Hue, chroma, luminance and the infrared draw are independent of each other. So the hue says
    nothing about the infrared, and the luminance says what `world.luminance_share` lets through.
    """
    if luminance is None:
        luminance = 0.06 + 0.84 * float(random.random()) ** style.dark
    center, scale = DYES[random.choice(len(DYES), p=DYE_SHARES)]
    if random.random() < style.hue_pull:
        center, scale = style.hue, 1.0
    hue = (center + 0.03 * float(random.normal())) % 1.0
    chroma = 0.03
    if random.random() >= NEUTRAL:
        share = np.clip(random.normal(style.chroma, 0.2), 0.0, 1.0)
        chroma = scale * float(share)
    return Material(_tint(hue, chroma, luminance), _infrared(random, luminance, world))


def _tint(hue: float, chroma: float, luminance: float) -> tuple[float, float, float]:
    """Return a color of exactly that luminance, at most of that chroma: the pure hue and gray."""
    pure = np.array(colorsys.hsv_to_rgb(hue, 1.0, 1.0))
    pure = pure * luminance / float(LUMINANCE @ pure)
    peak = float(pure.max())
    if peak > 1.0:
        # A bright blue does not exist: mix in gray of this luminance until no channel is above 1.
        chroma = min(chroma, (1.0 - luminance) / (peak - luminance))
    red, green, blue = luminance + chroma * (pure - luminance)
    return float(red), float(green), float(blue)


def _infrared(random: Generator, luminance: float, world: World) -> float:
    """Draw the near-infrared reflectance of a surface of this luminance."""
    share = world.luminance_share
    return share * luminance + (1.0 - share) * float(random.uniform(0.04, 0.94))


def _garment(
    random: Generator, cut: str, patterns: tuple[str, ...], style: Style, world: World
) -> Garment:
    base = cloth(random, style, world)
    gap = float(random.uniform(world.pattern_contrast, world.pattern_contrast + 0.25))
    accent = cloth(random, style, world, luminance=_contrasting(base.luminance, gap))
    return Garment(
        cut=cut,
        pattern=str(random.choice(patterns)),
        base=base,
        accent=Material(accent.visible, _contrasting(base.infrared, gap)),
        period=float(random.choice([0.055, 0.08, 0.115])),
        offset=float(random.random()),
        length=float(random.random()),
        fit=float(random.uniform(0.88, 1.22)),
    )


def _contrasting(tone: float, gap: float) -> float:
    """Return the tone `gap` below a bright one or above a dark one, within 0.02 to 0.98."""
    other = tone - gap if tone > 0.5 else tone + gap
    return float(np.clip(other, 0.02, 0.98))


def _body(random: Generator, spread: float) -> Body:
    def around(mean: float, deviation: float) -> float:
        return mean + spread * deviation * float(np.clip(random.normal(), -2.0, 2.0))

    build = around(0.0, 1.0)  # slim to stout; shoulders, hips and limbs share it in part
    return Body(
        head=around(0.135, 0.006),
        shoulder=around(0.235 + 0.014 * build, 0.012),
        hip=around(0.185 + 0.014 * build, 0.011),
        leg=around(0.475, 0.016),
        limb=around(1.0 + 0.09 * build, 0.06),
    )
