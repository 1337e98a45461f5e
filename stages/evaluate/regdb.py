"""How RegDB is judged: all test images of one modality against all of the other, in both directions.

Nothing is drawn and nothing is removed (each modality has one camera); CMC counts images. The published number is the
mean of ten *trainings*, one for each split of the data set, so there is one draw here and `data.trial` picks the split.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import check_draws, check_mode, modality_rows

MODALITIES = {"infrared_to_visible": ("infrared", "visible"), "visible_to_infrared": ("visible", "infrared")}
MODES: tuple[str, ...] = tuple(MODALITIES)
UNIQUE_IDS = False
DRAWS = 1


def query_rows(table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending: all test images of the modality that `mode` starts from."""
    check_mode("regdb", mode, MODES)
    return modality_rows(table, MODALITIES[mode][0])


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
    check_mode("regdb", mode, MODES)
    check_draws("regdb", draws)
    rows = modality_rows(table, MODALITIES[mode][1])
    if not len(rows):
        raise ValueError(f"mode {mode}: no {MODALITIES[mode][1]} test image")
    return rows


def removed(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> None:
    """Nothing: query and gallery are of different cameras in every pair."""
