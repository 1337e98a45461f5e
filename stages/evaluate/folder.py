"""How pictures of your own are judged: all test images of one modality against all of the other, in both directions.

Nothing is drawn. Gallery images of the query's identity *and* camera are removed (a camera that sees in both modalities
would find the same moment again); CMC counts images.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import (
    DIRECTIONS,
    direction_gallery,
    direction_queries,
    same_person_and_camera,
)

MODES: tuple[str, ...] = tuple(DIRECTIONS)
UNIQUE_IDS = False
DRAWS = 1


def query_rows(table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending: all test images of the modality that `mode` starts from."""
    return direction_queries("folder", table, mode)


def gallery_rows(
    table: pd.DataFrame,
    mode: str,
    trial: int,
    shots: int = 1,
    draws: str = "agw",
    permutations: Path | None = None,
) -> np.ndarray:
    """Rows (G,) int64, ascending: all test images of the modality that `mode` leads to, whatever `trial` and `shots`.

    Raises ValueError for an unknown mode, official draws, and a gallery without images.
    """
    return direction_gallery("folder", table, mode, draws)


def removed(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, G) bool: same identity and same camera."""
    return same_person_and_camera(table, queries, gallery)
