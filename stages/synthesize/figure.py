"""A person in a pose as a map of part numbers, drawn with polygons; materials are looked up afterwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image, ImageDraw

from stages.synthesize.people import Person
from stages.synthesize.world import World

OVERSAMPLING = 3


class Part(IntEnum):
    """What a pixel of the map shows. FAR parts are those on the side turned away."""

    NOTHING = 0
    SKIN = 1
    SKIN_FAR = 2
    HAIR = 3
    UPPER = 4
    SLEEVE = 5
    SLEEVE_FAR = 6
    LOWER = 7
    LOWER_FAR = 8
    INNER = 9
    SHOE = 10
    SHOE_FAR = 11
    BAG = 12
    STRAP = 13


@dataclass(frozen=True)
class Pose:
    """How a person stands in an image.

    facing: 0 to the camera, π away from it, ±π/2 to a side; phase: of the gait, in radians;
    height: body height as a share of the image's; right, down: shift, as shares of the image's width and height;
    tilt: how far a camera from above shortens the legs; light: -1 to 1, from where light comes.
    """

    facing: float
    phase: float
    height: float
    right: float
    down: float
    tilt: float
    light: float


def draw_pose(random: np.random.Generator, tilt: float, world: World) -> Pose:
    """A pose for one image; a quarter of the images each from the front, the back and the two sides."""
    quarter = int(random.integers(4))
    return Pose(
        facing=quarter * math.pi / 2 + world.pose * float(random.normal(0.0, 0.22)),
        phase=float(random.uniform(0.0, 2 * math.pi)),
        height=0.89 + world.pose * float(random.uniform(-0.05, 0.04)),
        right=world.pose * float(random.uniform(-0.06, 0.06)),
        down=world.pose * float(random.uniform(-0.02, 0.02)),
        tilt=tilt,
        light=float(random.uniform(-1.0, 1.0)),
    )


class Figure:
    """Draws one person; coordinates are body heights, x from the middle of the body, y down from the crown."""

    def __init__(self, person: Person, pose: Pose, height: int, width: int) -> None:
        """`height` and `width` are the pixels of the finished image; the map is OVERSAMPLING times as fine."""
        self.person, self.pose = person, pose
        self.rows, self.columns = height * OVERSAMPLING, width * OVERSAMPLING
        self.scale = pose.height * self.rows
        self.middle = self.columns * (0.5 + pose.right)
        self.top = self.rows * ((1.0 - pose.height) / 2 + pose.down)
        self.across = abs(math.cos(pose.facing))  # 1 from the front or the back, 0 from a side
        self.along = math.sin(pose.facing)  # ±1 from a side, positive: walks to the right
        self.front = math.cos(pose.facing)
        body = person.body
        self.shoulder = body.shoulder / 2 * (0.52 + 0.48 * self.across)
        self.hip = body.hip / 2 * (0.72 + 0.28 * self.across)
        self.neck_y = body.head + 0.012
        self.shoulder_y = body.head + 0.045
        self.hip_y = 1.0 - body.leg
        self.image = Image.new("L", (self.columns, self.rows), 0)
        self.pen = ImageDraw.Draw(self.image)

    def draw(self) -> np.ndarray:
        """The map of parts (height · 3, width · 3) uint8."""
        near = 1 if self.along <= 0 else -1
        self._bag_behind()
        for side in (-near, near):
            self._leg(side, far=side != near)
        if self.across < 0.6:
            self._arm(-near, far=True)
        self._hips()
        self._torso()
        self._head()
        for side in (-near, near) if self.across >= 0.6 else (near,):
            self._arm(side, far=False)
        self._bag_before()
        return np.asarray(self.image)

    # The pen.

    def _place(self, x: float, y: float) -> tuple[float, float]:
        y += self.pose.tilt * math.sin(math.pi * min(max(y, 0.0), 1.0))
        return self.middle + x * self.scale, self.top + y * self.scale

    def _polygon(self, points: Sequence[tuple[float, float]], part: Part) -> None:
        self.pen.polygon([self._place(x, y) for x, y in points], fill=int(part))

    def _ellipse(
        self, x: float, y: float, half_width: float, half_height: float, part: Part
    ) -> None:
        left, top = self._place(x - half_width, y - half_height)
        right, bottom = self._place(x + half_width, y + half_height)
        self.pen.ellipse((left, top, max(right, left + 1), max(bottom, top + 1)), fill=int(part))

    def _limb(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        widths: tuple[float, float],
        part: Part,
    ) -> None:
        """A tapered limb with round ends; `widths` at its start and end."""
        length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1e-6
        normal = ((start[1] - end[1]) / length, (end[0] - start[0]) / length)
        corners = []
        for (x, y), half in ((start, widths[0] / 2), (end, -widths[1] / 2)):
            corners += [
                (x + normal[0] * half, y + normal[1] * half),
                (x - normal[0] * half, y - normal[1] * half),
            ]
        self._polygon(corners, part)
        for (x, y), breadth in ((start, widths[0]), (end, widths[1])):
            self._ellipse(x, y, breadth / 2, breadth / 2, part)

    # The body, from the ground up.

    def _leg(self, side: int, far: bool) -> None:
        body, lower = self.person.body, self.person.lower
        swing = side * math.sin(self.pose.phase)
        heading = math.copysign(1.0, self.along)
        hip = (side * self.hip * 0.5 * self.across, self.hip_y)
        stride = 0.13 * abs(self.along) * swing * heading
        lift = 0.025 * max(-swing, 0.0) + 0.012 * self.across * max(swing, 0.0)
        ankle = (hip[0] * 0.9 + stride, 0.965 - lift)
        bend = heading * abs(self.along) * (0.018 + 0.03 * max(-swing, 0.0))
        knee = ((hip[0] + ankle[0]) / 2 + bend, (hip[1] + ankle[1]) / 2)
        skin, cloth, shoe = (
            (Part.SKIN_FAR, Part.LOWER_FAR, Part.SHOE_FAR)
            if far
            else (Part.SKIN, Part.LOWER, Part.SHOE)
        )
        thick = body.limb
        self._limb(hip, knee, (0.085 * thick, 0.058 * thick), skin)
        self._limb(knee, ankle, (0.054 * thick, 0.034 * thick), skin)
        toe = 0.012 * side * self.across + 0.045 * heading * abs(self.along)
        self._ellipse(ankle[0] + toe * 0.6, ankle[1] + 0.016, 0.022 + abs(toe) * 0.5, 0.019, shoe)
        wide = lower.fit * thick * (1.45 if lower.cut == "wide" else 1.1)
        if lower.cut in ("trousers", "wide"):
            self._limb(hip, knee, (0.092 * lower.fit * thick, 0.066 * wide), cloth)
            self._limb(knee, ankle, (0.066 * wide, 0.048 * wide), cloth)
        elif lower.cut == "shorts":
            hem = 0.62 + 0.36 * lower.length
            end = (hip[0] + (knee[0] - hip[0]) * hem, hip[1] + (knee[1] - hip[1]) * hem)
            self._limb(hip, end, (0.094 * lower.fit * thick, 0.080 * lower.fit * thick), cloth)

    def _hips(self) -> None:
        lower = self.person.lower
        waist = self.hip_y - 0.09
        half = self.hip * lower.fit**0.5
        self._polygon(
            [
                (-half * 0.85, waist),
                (half * 0.85, waist),
                (half, self.hip_y + 0.03),
                (-half, self.hip_y + 0.03),
            ],
            Part.LOWER,
        )
        if lower.cut in ("skirt", "longskirt"):
            reach = (
                (0.16 + 0.10 * lower.length)
                if lower.cut == "skirt"
                else (0.32 + 0.09 * lower.length)
            )
            flare = half * (1.1 + 0.35 * lower.fit * (0.7 + reach)) + 0.035 * abs(self.along)
            sway = 0.02 * math.sin(self.pose.phase) * self.along
            self._polygon(
                [
                    (-half * 0.9, waist), (half * 0.9, waist),
                    (flare + sway, self.hip_y + reach), (-flare + sway, self.hip_y + reach),
                ],
                Part.LOWER,
            )  # fmt: skip

    def _torso(self) -> None:
        upper = self.person.upper
        chest = self.shoulder * (0.94 if upper.cut == "vest" else 1.0)
        waist = self.hip * (0.9 + 0.12 * upper.fit)
        loose = self.hip * (0.95 + 0.16 * upper.fit)
        reach = {"coat": 0.13 + 0.13 * upper.length, "dress": 0.16 + 0.14 * upper.length}.get(
            upper.cut, 0.0 + 0.05 * upper.length
        )
        hem = loose * {"coat": 1.12, "dress": 1.35 + 0.3 * upper.length}.get(upper.cut, 1.0)
        middle = (self.shoulder_y + self.hip_y) / 2 + 0.03
        right = [
            (chest * 0.38, self.neck_y + 0.008), (chest * 0.9, self.shoulder_y - 0.004),
            (chest, self.shoulder_y + 0.03), (max(waist, chest * 0.86), middle),
            (loose, self.hip_y), (hem, self.hip_y + reach),
        ]  # fmt: skip
        self._polygon([*right, *[(-x, y) for x, y in reversed(right)]], Part.UPPER)
        if upper.cut in ("jacket", "coat") and self.front > 0.35 and upper.offset < 0.6:
            half = (0.018 + 0.03 * upper.offset) * self.across
            bottom = self.hip_y + min(reach, 0.05)
            self._polygon(
                [
                    (-half * 0.5, self.neck_y + 0.01),
                    (half * 0.5, self.neck_y + 0.01),
                    (half, bottom),
                    (-half, bottom),
                ],
                Part.INNER,
            )

    def _head(self) -> None:
        head, length = self.person.body.head, self.person.hair_length
        half = head * 0.37
        heading = math.copysign(1.0, self.along) * abs(self.along)
        self._limb((0.0, head * 0.8), (0.0, self.neck_y + 0.014), (0.05, 0.056), Part.SKIN)
        hair_end = head * (0.62 + 0.95 * length)
        if length > 0.3:
            back = -heading * half * 0.45
            wide = half * (1.08 if self.across > 0.5 else 0.8)
            self._polygon(
                [
                    (back - wide, head * 0.4), (back + wide, head * 0.4),
                    (back + wide * 0.9, hair_end), (back - wide * 0.9, hair_end),
                ],
                Part.HAIR,
            )  # fmt: skip
        self._ellipse(0.0, head * 0.48, half * 1.06, head * 0.50, Part.HAIR)
        if self.front < -0.45:
            if length < 0.3:
                self._ellipse(0.0, head * 0.82, half * 0.72, head * 0.16, Part.SKIN)
            return
        self._ellipse(
            heading * half * 0.42,
            head * 0.60,
            half * (0.72 + 0.14 * self.across),
            head * 0.38,
            Part.SKIN,
        )

    def _arm(self, side: int, far: bool) -> None:
        body, upper = self.person.body, self.person.upper
        swing = -side * math.sin(self.pose.phase) * math.copysign(1.0, self.along)
        shoulder = (side * (self.shoulder - 0.018) * self.across, self.shoulder_y + 0.018)
        reach = 0.20 * abs(self.along) * swing * 0.75
        elbow = (shoulder[0] + side * 0.022 * self.across + reach * 0.45, shoulder[1] + 0.155)
        forward = 0.035 * math.copysign(1.0, self.along) * abs(self.along)
        hand = (
            shoulder[0] + side * 0.030 * self.across + reach + forward,
            shoulder[1] + 0.285 - abs(reach) * 0.25,
        )
        skin, cloth = (Part.SKIN_FAR, Part.SLEEVE_FAR) if far else (Part.SKIN, Part.SLEEVE)
        thick = body.limb
        self._limb(shoulder, elbow, (0.052 * thick, 0.042 * thick), skin)
        self._limb(elbow, hand, (0.040 * thick, 0.034 * thick), skin)
        sleeve = thick * upper.fit
        if upper.cut in ("longsleeve", "jacket", "coat"):
            bulk = 1.2 if upper.cut != "longsleeve" else 1.0
            wrist = (elbow[0] + (hand[0] - elbow[0]) * 0.85, elbow[1] + (hand[1] - elbow[1]) * 0.85)
            self._limb(shoulder, elbow, (0.064 * sleeve * bulk, 0.052 * sleeve * bulk), cloth)
            self._limb(elbow, wrist, (0.052 * sleeve * bulk, 0.044 * sleeve * bulk), cloth)
        elif upper.cut in ("tshirt", "dress"):
            end = (
                shoulder[0] + (elbow[0] - shoulder[0]) * 0.6,
                shoulder[1] + (elbow[1] - shoulder[1]) * 0.6,
            )
            self._limb(shoulder, end, (0.066 * sleeve, 0.062 * sleeve), cloth)

    # What it carries.

    def _bag_behind(self) -> None:
        if self.person.bag == "backpack" and self.front > -0.45:
            size = self.person.bag_size
            back = (
                -math.copysign(1.0, self.along) * abs(self.along) * (self.shoulder + 0.045 * size)
            )
            half = 0.075 * size * self.across + 0.06 * size * abs(self.along)
            self._limb(
                (back, self.shoulder_y + 0.05),
                (back, self.hip_y - 0.10),
                (2 * half, 2 * half),
                Part.BAG,
            )

    def _bag_before(self) -> None:
        bag, side, size = self.person.bag, self.person.bag_side, self.person.bag_size
        beside = side * self.front  # on which side of the picture the bag hangs
        if bag == "backpack":
            if self.front <= -0.45:
                half = 0.082 * size
                self._limb(
                    (0.0, self.shoulder_y + 0.07),
                    (0.0, self.hip_y - 0.10),
                    (2 * half, 2 * half),
                    Part.BAG,
                )
                self._limb(
                    (0.0, self.hip_y - 0.09), (0.0, self.hip_y - 0.08), (half, half), Part.STRAP
                )
            elif self.front > 0.45:
                for x in (-self.shoulder * 0.55, self.shoulder * 0.55):
                    self._limb(
                        (x, self.shoulder_y - 0.01),
                        (x * 1.1, self.hip_y - 0.14),
                        (0.020, 0.020),
                        Part.STRAP,
                    )
        elif bag == "shoulder":
            x = beside * (self.hip + 0.02)
            self._limb(
                (-beside * self.shoulder * 0.6, self.shoulder_y),
                (x, self.hip_y - 0.02),
                (0.015, 0.015),
                Part.STRAP,
            )
            half = 0.055 * size
            self._polygon(
                [(x - half, self.hip_y - 0.04), (x + half, self.hip_y - 0.04),
                 (x + half * 1.1, self.hip_y + 0.06 * size), (x - half * 1.1, self.hip_y + 0.06 * size)],
                Part.BAG,
            )  # fmt: skip
        elif bag == "hand":
            x, y = beside * (self.shoulder + 0.015), self.shoulder_y + 0.32
            half = 0.06 * size
            self._limb((x, y - 0.02), (x, y + 0.02), (0.02, 0.02), Part.STRAP)
            self._polygon(
                [(x - half * 0.8, y + 0.015), (x + half * 0.8, y + 0.015),
                 (x + half, y + 0.125 * size), (x - half, y + 0.125 * size)],
                Part.BAG,
            )  # fmt: skip
