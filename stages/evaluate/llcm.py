"""How LLCM is judged: all test images of one modality against a drawn gallery of the other, in both directions.

Of each identity and camera one gallery image is drawn, as by AGW for SYSU-MM01; the score is the mean over ten draws.
Gallery images of the query's identity *and* camera (both modalities share the cameras' numbers) are removed; CMC counts
identities. The authors revised the data set after publication: compare with the table in their README, not the paper's.
Their released test script exchanges the roles for `visible_to_infrared` and ranks all visible images for the drawn
infrared ones; here both directions follow the rule above.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import (
    DIRECTIONS,
    direction_gallery,
    direction_queries,
    draw,
    same_person_and_camera,
)

MODES: tuple[str, ...] = tuple(DIRECTIONS)
UNIQUE_IDS = True
DRAWS = 10


def query_rows(table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending: all test images of the modality that `mode` starts from."""
    return direction_queries("llcm", table, mode)


def gallery_rows(
    table: pd.DataFrame,
    mode: str,
    trial: int,
    shots: int = 1,
    draws: str = "agw",
    permutations: Path | None = None,
) -> np.ndarray:
    """Rows (G,) int64 of gallery draw `trial`, by identity, then camera (`draw` of `protocol.py`).

    Raises ValueError for an unknown mode, official draws, and a gallery without images.
    """
    return draw(table.iloc[direction_gallery("llcm", table, mode, draws)], trial, shots)


def removed(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, G) bool: same identity and same camera."""
    return same_person_and_camera(table, queries, gallery)
