"""Draw a person in a pose as a map of part numbers, with polygons and ellipses.

The colors of the parts are looked up afterwards, in `paint.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from stages.synthesize.people import Person
from stages.synthesize.world import World

OVERSAMPLING = 3

Point = tuple[float, float]  # x and y
Edge = tuple[float, float, float]  # a level edge: x of its middle, its y, half of its length


class Part(IntEnum):
    """What a pixel of the map shows. FAR parts are on the side that is turned away."""

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

    facing       0 towards the camera, π away from it, ±π/2 to a side
    phase        phase of the gait, in radians
    height       height of the body, as a fraction of the image's height
    right, down  shift, as fractions of the image's width and height
    tilt         how far a camera that looks down shortens the legs
    light        -1 to 1, the side that the light comes from
    """

    facing: float
    phase: float
    height: float
    right: float
    down: float
    tilt: float
    light: float


def draw_pose(random: Generator, tilt: float, world: World) -> Pose:
    """Draw the pose of one image: front, back and the two sides have a chance of 1/4 each."""
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
    """Draws one person, in body heights: x from the middle of the body, y down from the crown."""

    def __init__(self, person: Person, pose: Pose, height: int, width: int) -> None:
        """`height` and `width` are those of the image; the map is OVERSAMPLING times as fine."""
        self.person = person
        self.pose = pose
        self.rows = height * OVERSAMPLING
        self.columns = width * OVERSAMPLING
        self.scale = pose.height * self.rows
        self.middle = self.columns * (0.5 + pose.right)
        self.top = self.rows * ((1.0 - pose.height) / 2 + pose.down)
        self.front = math.cos(pose.facing)  # 1 from the front, -1 from the back
        self.across = abs(self.front)  # 1 from the front or the back, 0 from a side
        self.along = math.sin(pose.facing)  # ±1 from a side; positive: the person walks right
        body = person.body
        self.thick = body.limb
        self.shoulder = body.shoulder / 2 * (0.52 + 0.48 * self.across)
        self.hip = body.hip / 2 * (0.72 + 0.28 * self.across)
        self.neck_y = body.head + 0.012
        self.shoulder_y = body.head + 0.045
        self.hip_y = 1.0 - body.leg
        self.image = Image.new("L", (self.columns, self.rows), 0)
        self.pen = ImageDraw.Draw(self.image)

    def draw(self) -> np.ndarray:
        """Return the parts, (height · 3, width · 3) uint8; later parts cover earlier ones."""
        near = 1 if self.along <= 0 else -1
        from_side = self.across < 0.6
        self._bag_behind()
        self._leg(-near, far=True)
        self._leg(near, far=False)
        if from_side:
            self._arm(-near, far=True)
        self._hips()
        self._torso()
        self._head()
        if not from_side:
            self._arm(-near, far=False)
        self._arm(near, far=False)
        self._bag_in_front()
        return np.asarray(self.image)

    # The pen.

    def _place(self, point: Point) -> Point:
        """Body coordinates → pixels of the map."""
        x, y = point
        inside = min(max(y, 0.0), 1.0)
        y += self.pose.tilt * math.sin(math.pi * inside)
        return self.middle + x * self.scale, self.top + y * self.scale

    def _polygon(self, points: Sequence[Point], part: Part) -> None:
        placed = [self._place(point) for point in points]
        self.pen.polygon(placed, fill=int(part))

    def _trapezoid(self, top: Edge, bottom: Edge, part: Part) -> None:
        x, y, half = top
        low_x, low_y, low_half = bottom
        upper = [(x - half, y), (x + half, y)]
        lower = [(low_x + low_half, low_y), (low_x - low_half, low_y)]
        self._polygon(upper + lower, part)

    def _ellipse(self, center: Point, half_width: float, half_height: float, part: Part) -> None:
        x, y = center
        left, top = self._place((x - half_width, y - half_height))
        right, bottom = self._place((x + half_width, y + half_height))
        box = (left, top, max(right, left + 1), max(bottom, top + 1))
        self.pen.ellipse(box, fill=int(part))

    def _limb(self, start: Point, end: Point, width: float, end_width: float, part: Part) -> None:
        """Draw a tapered limb with round ends."""
        rise, run = start[1] - end[1], end[0] - start[0]
        length = math.hypot(run, rise) or 1e-6
        across, down = rise / length, run / length  # a unit vector at right angles to the limb
        corners = []
        for (x, y), half in ((start, width / 2), (end, -end_width / 2)):
            corners.append((x + across * half, y + down * half))
            corners.append((x - across * half, y - down * half))
        self._polygon(corners, part)
        self._ellipse(start, width / 2, width / 2, part)
        self._ellipse(end, end_width / 2, end_width / 2, part)

    # The body, from the ground up.

    def _leg(self, side: int, far: bool) -> None:
        thick = self.thick
        skin = Part.SKIN_FAR if far else Part.SKIN
        shoe = Part.SHOE_FAR if far else Part.SHOE
        swing = side * math.sin(self.pose.phase)
        lift = 0.025 * max(-swing, 0.0) + 0.012 * self.across * max(swing, 0.0)
        hip = (side * self.hip * 0.5 * self.across, self.hip_y)
        ankle = (hip[0] * 0.9 + 0.13 * self.along * swing, 0.965 - lift)
        bend = self.along * (0.018 + 0.03 * max(-swing, 0.0))
        knee_x = (hip[0] + ankle[0]) / 2 + bend
        knee = (knee_x, (hip[1] + ankle[1]) / 2)
        self._limb(hip, knee, 0.085 * thick, 0.058 * thick, skin)
        self._limb(knee, ankle, 0.054 * thick, 0.034 * thick, skin)
        toe = 0.012 * side * self.across + 0.045 * self.along
        sole = (ankle[0] + toe * 0.6, ankle[1] + 0.016)
        self._ellipse(sole, 0.022 + abs(toe) * 0.5, 0.019, shoe)
        self._trouser_leg(hip, knee, ankle, Part.LOWER_FAR if far else Part.LOWER)

    def _trouser_leg(self, hip: Point, knee: Point, ankle: Point, cloth: Part) -> None:
        lower = self.person.lower
        fit, thick = lower.fit, self.thick
        if lower.cut in ("trousers", "wide"):
            wide = fit * thick * (1.45 if lower.cut == "wide" else 1.1)
            self._limb(hip, knee, 0.092 * fit * thick, 0.066 * wide, cloth)
            self._limb(knee, ankle, 0.066 * wide, 0.048 * wide, cloth)
        elif lower.cut == "shorts":
            hem = _between(hip, knee, 0.62 + 0.36 * lower.length)
            self._limb(hip, hem, 0.094 * fit * thick, 0.080 * fit * thick, cloth)

    def _hips(self) -> None:
        lower = self.person.lower
        waist = self.hip_y - 0.09
        half = self.hip * lower.fit**0.5
        bottom = (0.0, self.hip_y + 0.03, half)
        self._trapezoid((0.0, waist, half * 0.85), bottom, Part.LOWER)
        if lower.cut == "skirt":
            reach = 0.16 + 0.10 * lower.length
        elif lower.cut == "longskirt":
            reach = 0.32 + 0.09 * lower.length
        else:
            return
        flare = half * (1.1 + 0.35 * lower.fit * (0.7 + reach))
        flare += 0.035 * abs(self.along)
        sway = 0.02 * math.sin(self.pose.phase) * self.along
        hem = (sway, self.hip_y + reach, flare)
        self._trapezoid((0.0, waist, half * 0.9), hem, Part.LOWER)

    def _torso(self) -> None:
        upper = self.person.upper
        chest = self.shoulder * (0.94 if upper.cut == "vest" else 1.0)
        waist = self.hip * (0.9 + 0.12 * upper.fit)
        loose = self.hip * (0.95 + 0.16 * upper.fit)
        match upper.cut:
            case "coat":
                reach, hem = 0.13 + 0.13 * upper.length, loose * 1.12
            case "dress":
                reach, hem = 0.16 + 0.14 * upper.length, loose * (1.35 + 0.3 * upper.length)
            case _:
                reach, hem = 0.05 * upper.length, loose
        right_side = [
            (chest * 0.38, self.neck_y + 0.008),
            (chest * 0.9, self.shoulder_y - 0.004),
            (chest, self.shoulder_y + 0.03),
            (max(waist, chest * 0.86), (self.shoulder_y + self.hip_y) / 2 + 0.03),
            (loose, self.hip_y),
            (hem, self.hip_y + reach),
        ]
        left_side = [(-x, y) for x, y in reversed(right_side)]
        self._polygon(right_side + left_side, Part.UPPER)
        if upper.cut in ("jacket", "coat") and self.front > 0.35 and upper.offset < 0.6:
            half = (0.018 + 0.03 * upper.offset) * self.across
            hem_edge = (0.0, self.hip_y + min(reach, 0.05), half)
            self._trapezoid((0.0, self.neck_y + 0.01, half * 0.5), hem_edge, Part.INNER)

    def _head(self) -> None:
        head = self.person.body.head
        half = head * 0.37
        hair = self.person.hair_length
        neck = (0.0, self.neck_y + 0.014)
        self._limb((0.0, head * 0.8), neck, 0.05, 0.056, Part.SKIN)
        if hair > 0.3:
            back = -self.along * half * 0.45
            wide = half * (1.08 if self.across > 0.5 else 0.8)
            ends = (back, head * (0.62 + 0.95 * hair), wide * 0.9)
            self._trapezoid((back, head * 0.4, wide), ends, Part.HAIR)
        self._ellipse((0.0, head * 0.48), half * 1.06, head * 0.50, Part.HAIR)
        if self.front >= -0.45:
            face = (self.along * half * 0.42, head * 0.60)
            breadth = half * (0.72 + 0.14 * self.across)
            self._ellipse(face, breadth, head * 0.38, Part.SKIN)
        elif hair < 0.3:
            self._ellipse((0.0, head * 0.82), half * 0.72, head * 0.16, Part.SKIN)

    def _arm(self, side: int, far: bool) -> None:
        thick = self.thick
        skin = Part.SKIN_FAR if far else Part.SKIN
        x = side * (self.shoulder - 0.018) * self.across
        y = self.shoulder_y + 0.018
        reach = 0.20 * self.along * -side * math.sin(self.pose.phase) * 0.75
        elbow = (x + side * 0.022 * self.across + reach * 0.45, y + 0.155)
        hand_x = x + side * 0.030 * self.across + reach + 0.035 * self.along
        hand = (hand_x, y + 0.285 - abs(reach) * 0.25)
        self._limb((x, y), elbow, 0.052 * thick, 0.042 * thick, skin)
        self._limb(elbow, hand, 0.040 * thick, 0.034 * thick, skin)
        self._sleeve((x, y), elbow, hand, Part.SLEEVE_FAR if far else Part.SLEEVE)

    def _sleeve(self, shoulder: Point, elbow: Point, hand: Point, cloth: Part) -> None:
        upper = self.person.upper
        wide = self.thick * upper.fit
        if upper.cut in ("longsleeve", "jacket", "coat"):
            bulk = 1.2 if upper.cut != "longsleeve" else 1.0
            wrist = _between(elbow, hand, 0.85)
            self._limb(shoulder, elbow, 0.064 * wide * bulk, 0.052 * wide * bulk, cloth)
            self._limb(elbow, wrist, 0.052 * wide * bulk, 0.044 * wide * bulk, cloth)
        elif upper.cut in ("tshirt", "dress"):
            hem = _between(shoulder, elbow, 0.6)
            self._limb(shoulder, hem, 0.066 * wide, 0.062 * wide, cloth)

    # The bag.

    def _bag_behind(self) -> None:
        """Draw the bag as far as the body covers it: a backpack, unless it is seen from behind."""
        if self.person.bag != "backpack" or self.front <= -0.45:
            return
        size = self.person.bag_size
        x = -self.along * (self.shoulder + 0.045 * size)
        width = 2 * (0.075 * size * self.across + 0.06 * size * abs(self.along))
        self._upright(x, self.shoulder_y + 0.05, self.hip_y - 0.10, width, Part.BAG)

    def _bag_in_front(self) -> None:
        """Draw the bag as far as it covers the body."""
        match self.person.bag:
            case "backpack" if self.front <= -0.45:
                self._backpack_from_behind()
            case "backpack" if self.front > 0.45:
                self._backpack_straps()
            case "shoulder":
                self._shoulder_bag()
            case "hand":
                self._hand_bag()

    def _backpack_from_behind(self) -> None:
        half = 0.082 * self.person.bag_size
        self._upright(0.0, self.shoulder_y + 0.07, self.hip_y - 0.10, 2 * half, Part.BAG)
        self._upright(0.0, self.hip_y - 0.09, self.hip_y - 0.08, half, Part.STRAP)

    def _backpack_straps(self) -> None:
        for x in (-self.shoulder * 0.55, self.shoulder * 0.55):
            start, end = (x, self.shoulder_y - 0.01), (x * 1.1, self.hip_y - 0.14)
            self._limb(start, end, 0.020, 0.020, Part.STRAP)

    def _shoulder_bag(self) -> None:
        size = self.person.bag_size
        side = self.person.bag_side * self.front  # side of the image on which the bag hangs
        x = side * (self.hip + 0.02)
        half = 0.055 * size
        shoulder = (-side * self.shoulder * 0.6, self.shoulder_y)
        self._limb(shoulder, (x, self.hip_y - 0.02), 0.015, 0.015, Part.STRAP)
        bottom = (x, self.hip_y + 0.06 * size, half * 1.1)
        self._trapezoid((x, self.hip_y - 0.04, half), bottom, Part.BAG)

    def _hand_bag(self) -> None:
        size = self.person.bag_size
        x = self.person.bag_side * self.front * (self.shoulder + 0.015)
        y = self.shoulder_y + 0.32
        half = 0.06 * size
        self._upright(x, y - 0.02, y + 0.02, 0.02, Part.STRAP)
        bottom = (x, y + 0.125 * size, half)
        self._trapezoid((x, y + 0.015, half * 0.8), bottom, Part.BAG)

    def _upright(self, x: float, top: float, bottom: float, width: float, part: Part) -> None:
        """Draw an upright limb of one width."""
        self._limb((x, top), (x, bottom), width, width, part)


def _between(start: Point, end: Point, share: float) -> Point:
    """Return the point at `share` of the way from `start` to `end`."""
    x, y = start
    return x + (end[0] - x) * share, y + (end[1] - y) * share
