"""The plan of a tree: which shot goes to which file, and what lies beside the images."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

NOBODY = -1  # the person of a false detection


@dataclass(frozen=True)
class Shot:
    """One image to render: the `index`-th of `person` by `camera`, to the file `path` below the tree's folder."""

    path: str
    person: int
    camera: int
    index: int
    infrared: bool = False


@dataclass
class Layout:
    """A tree to write below `folder`: shots, text files (path to content) and copies (from, to); relative paths."""

    folder: str
    shots: list[Shot] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[str, str]] = field(default_factory=list)


def some(random: np.random.Generator, cameras: Sequence[int], count: int) -> list[int]:
    """`count` different cameras out of `cameras`, ascending."""
    return sorted(random.permutation(list(cameras))[:count].tolist())
