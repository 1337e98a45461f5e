"""Market-1501, a labeled source: names like `0002_c1s1_000451_03.jpg`."""

import re
from pathlib import Path

import pandas as pd

from stages.prepare import bounding_boxes
from stages.prepare.counts import Count

FOLDER = "Market-1501-v15.09.15"
MARKER = bounding_boxes.MARKER
PATTERN = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})s[0-9]+_")
EXAMPLE = "0002_c1s1_000451_03.jpg"
PUBLISHED = (
    Count("training identities", 751, ("train",), persons=True),
    Count("training images", 12_936, ("train",)),
    Count("queries", 3_368, ("query",)),
    Count("gallery images", 15_913, ("gallery",)),  # of the 19,732 files; the others are junk
)


def read(root: Path) -> pd.DataFrame:
    """Return the table of the tree `root`; see `bounding_boxes.read_boxes`."""
    return bounding_boxes.read_boxes(root, PATTERN, EXAMPLE)
