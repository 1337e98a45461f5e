"""The plan of a tree: which image goes into which file, and which other files there are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from numpy.random import Generator

NOBODY = -1  # the person of a false detection


@dataclass(frozen=True)
class PlannedImage:
    """One image to render: the `index`-th image of `person` by `camera`."""

    path: str  # relative to the folder of the tree
    person: int
    camera: int
    index: int
    infrared: bool = False


@dataclass
class Layout:
    """A tree to write below `folder`. All paths are relative to it.

    images  the images to render
    texts   path → content of the text files
    copies  (from, to) of the files that are copied
    """

    folder: str
    images: list[PlannedImage] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[str, str]] = field(default_factory=list)


def draw_cameras(random: Generator, cameras: Sequence[int], count: int) -> list[int]:
    """Draw `count` different cameras out of `cameras`, ascending."""
    return sorted(random.permutation(list(cameras))[:count].tolist())
