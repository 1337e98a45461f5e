"""DukeMTMC-reID, a labeled source: names like `0001_c2_f0046182.jpg`."""

import re
from pathlib import Path

import pandas as pd

from stages.prepare import bounding_boxes
from stages.prepare.counts import Count

FOLDER = "DukeMTMC-reID"
MARKER = bounding_boxes.MARKER
PATTERN = re.compile(r"(-1|[0-9]{1,9})_c([0-9]{1,9})_f[0-9]+")
EXAMPLE = "0001_c2_f0046182.jpg"
PUBLISHED = (
    Count("training identities", 702, ("train",), persons=True),
    Count("training images", 16_522, ("train",)),
    Count("queries", 2_228, ("query",)),
    Count("gallery images", 17_661, ("gallery",)),
)


def read(root: Path) -> pd.DataFrame:
    """Return the table of the tree `root`; see `bounding_boxes.read_boxes`."""
    return bounding_boxes.read_boxes(root, PATTERN, EXAMPLE)
