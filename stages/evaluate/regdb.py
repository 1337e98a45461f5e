"""How RegDB is judged: all test images of one modality against all of the other, in both directions.

Nothing is drawn and nothing is removed (each modality has one camera); CMC counts images. The published number is the
mean of ten *trainings*, one for each split of the data set, so there is one draw here and `data.trial` picks the split.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import DIRECTIONS, direction_gallery, direction_queries

MODES: tuple[str, ...] = tuple(DIRECTIONS)
UNIQUE_IDS = False
DRAWS = 1


def query_rows(table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending: all test images of the modality that `mode` starts from."""
    return direction_queries("regdb", table, mode)


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
    return direction_gallery("regdb", table, mode, draws)


def removed(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> None:
    """Nothing: query and gallery are of different cameras in every pair."""
