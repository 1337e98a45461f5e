"""What the protocols of the data sets have in common, and the seeded gallery draw that two of them use."""

import random
from pathlib import Path
from typing import Protocol as Interface

import numpy as np
import pandas as pd

# Modes of the data sets whose modalities change roles: the modality of the queries, that of the gallery
DIRECTIONS = {
    "infrared_to_visible": ("infrared", "visible"),
    "visible_to_infrared": ("visible", "infrared"),
}


class Protocol(Interface):
    """The questions that `sysu_mm01.py`, `regdb.py`, `llcm.py` and `folder.py` answer, each as a module."""

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

    def removed(
        self, table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray
    ) -> np.ndarray | None:
        """(Q, G) bool: pairs that the protocol takes out of the query's list; None where it takes out nothing."""


def judged(layout: str, table: pd.DataFrame, split: str) -> pd.DataFrame:
    """`table` with the images of `split` (`test` or `val`) as its test images, the rows as they are.

    `val`: infrared validation images become queries, visible ones the gallery; all others count as training images.
    Raises ValueError where there are no validation images.
    """
    if split == "test":
        return table
    held_out = table["split"] == "val"
    if not held_out.any():
        raise ValueError(
            f"evaluate.split: val: this {layout} data set has no validation images, expected test"
        )
    roles = table["modality"].map({"infrared": "query", "visible": "gallery"})
    return table.assign(split=roles.where(held_out, "train"))


def check_mode(layout: str, mode: str, modes: tuple[str, ...]) -> None:
    """Raises ValueError for a mode that the layout does not have."""
    if mode not in modes:
        raise ValueError(f"evaluate.modes: {layout} has {', '.join(modes)}; it has no {mode}")


def check_draws(layout: str, draws: str) -> None:
    """Raises ValueError for a draw that SYSU-MM01 alone has."""
    if draws != "agw":
        raise ValueError(f"evaluate.draws: {layout} has no {draws} gallery draws, expected agw")


def modality_rows(table: pd.DataFrame, modality: str | None = None) -> np.ndarray:
    """Rows (N,) int64, ascending, of all test images (query or gallery) of a modality, or of both."""
    chosen = table["split"].isin(("query", "gallery"))
    if modality is not None:
        chosen &= table["modality"] == modality
    return table.loc[chosen, "row"].to_numpy(dtype=np.int64)


def direction_queries(layout: str, table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending: all test images of the modality that `mode`, one of DIRECTIONS, starts from."""
    check_mode(layout, mode, tuple(DIRECTIONS))
    return modality_rows(table, DIRECTIONS[mode][0])


def direction_gallery(layout: str, table: pd.DataFrame, mode: str, draws: str) -> np.ndarray:
    """Rows (N,) int64, ascending: all test images of the modality that `mode`, one of DIRECTIONS, leads to.

    Raises ValueError for an unknown mode, official draws, and a gallery without images.
    """
    check_mode(layout, mode, tuple(DIRECTIONS))
    check_draws(layout, draws)
    rows = modality_rows(table, DIRECTIONS[mode][1])
    if not len(rows):
        raise ValueError(f"mode {mode}: no {DIRECTIONS[mode][1]} test image")
    return rows


def same_person_and_camera(
    table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
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
        rows += (
            [stream.choice(images)]
            if shots == 1
            else stream.sample(images, min(shots, len(images)))
        )
    return np.array(rows, dtype=np.int64)
