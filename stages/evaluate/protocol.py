"""What the protocols of the data sets have in common, and the seeded gallery draw that two of them use."""

import random
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import pandas as pd


class Protocol(Interface):
    """The questions that `sysu_mm01.py`, `regdb.py` and `llcm.py` answer, each as a module."""

    MODES: tuple[str, ...]
    UNIQUE_IDS: bool  # the CMC rule, see `score_ranking`
    DRAWS: int  # gallery draws that make sense

    def query_rows(self, table: pd.DataFrame, mode: str) -> np.ndarray:
        """Rows (Q,) int64 of the table, ascending."""

    def gallery_rows(
        self,
        table: pd.DataFrame,
        mode: str,
        trial: int,
        shots: int = 1,
        draws: str = "agw",
        permutations: Path | None = None,
    ) -> np.ndarray:
        """Rows (G,) int64 of gallery draw number `trial`, from 0."""

    def removed(self, table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray | None:
        """(Q, G) bool: pairs that the protocol takes out of the query's list; None where it takes out nothing."""


def check_mode(layout: str, mode: str, modes: tuple[str, ...]) -> None:
    """Raises ValueError for a mode that the layout does not have."""
    if mode not in modes:
        raise ValueError(f"evaluate.modes: {layout} has {', '.join(modes)}; it has no {mode}")


def check_draws(layout: str, draws: str) -> None:
    """Raises ValueError for a draw that SYSU-MM01 alone has."""
    if draws != "agw":
        raise ValueError(f"evaluate.draws: {layout} has no {draws} gallery draws, expected agw")


def modality_rows(table: pd.DataFrame, modality: str) -> np.ndarray:
    """Rows (N,) int64, ascending, of all test images (query or gallery) of a modality."""
    chosen = table["split"].isin(("query", "gallery")) & (table["modality"] == modality)
    return table.loc[chosen, "row"].to_numpy(dtype=np.int64)


def same_person_and_camera(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """(Q, G) bool for the rows `queries` (Q,) and `gallery` (G,)."""
    person, camera = table["person"].to_numpy(), table["camera"].to_numpy()
    same = person[queries][:, None] == person[gallery][None]
    return same & (camera[queries][:, None] == camera[gallery][None])


def draw(candidates: pd.DataFrame, trial: int, shots: int) -> np.ndarray:
    """Rows (G,) int64 of `shots` images of each identity and camera, the draw of the AGW baseline.

    A Mersenne Twister seeded with `trial` goes through the identities in ascending order and through each one's
    cameras in ascending order, and draws among the paths in ascending order: by `choice` for one shot, which is the
    published draw to the letter. Several shots are drawn without replacement by `sample`, and an identity that has
    fewer images in a camera gives all of them; there is no published draw to agree with.
    """
    stream = random.Random(trial)
    rows: list[int] = []
    ordered = candidates.sort_values(["person", "camera", "path"])
    for _, group in ordered.groupby(["person", "camera"], sort=False):
        images = group["row"].tolist()
        rows += [stream.choice(images)] if shots == 1 else stream.sample(images, min(shots, len(images)))
    return np.array(rows, dtype=np.int64)
