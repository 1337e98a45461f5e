"""What the protocol of a data set consists of, and the selections that several protocols share."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# Modes of the data sets that are searched in both directions:
# the modality of the queries, the modality of the gallery.
DIRECTIONS = {
    "infrared_to_visible": ("infrared", "visible"),
    "visible_to_infrared": ("visible", "infrared"),
}

Exclusion = Callable[[pd.DataFrame, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """How a data set is evaluated: which images are searched where, and what is counted.

    Attributes:
        name: The data set, as in `params.yaml`.
        modes: The searches that the data set is scored by.
        unique_ids: CMC counts identities (True) or images (False), see `score_ranking`.
        draws: Number of gallery draws. 1: nothing is drawn, the gallery is all candidates.
        queries: (table, mode) → rows (Q,) int64 of the table, ascending.
        candidates: (table, mode) → the images that the gallery is drawn from, a part of the
            table. ValueError if there are none.
        excluded: (table, query rows (Q,), gallery rows (G,)) → (Q, G) bool, the pairs that are
            taken out of the query's list. None: no pair is.
        official: (candidates, mode, trial, shots, path) → rows (G,) int64 of a gallery draw that
            the authors of the data set published. None: they published none.
    """

    name: str
    modes: tuple[str, ...]
    unique_ids: bool
    draws: int
    queries: Callable[[pd.DataFrame, str], np.ndarray]
    candidates: Callable[[pd.DataFrame, str], pd.DataFrame]
    excluded: Exclusion | None
    official: Callable[[pd.DataFrame, str, int, int, Path | None], np.ndarray] | None = None

    def query_rows(self, table: pd.DataFrame, mode: str) -> np.ndarray:
        """Return the rows (Q,) int64 of the queries, ascending. ValueError: unknown mode."""
        self._check_mode(mode)
        return self.queries(table, mode)

    def gallery_rows(
        self,
        table: pd.DataFrame,
        mode: str,
        trial: int,
        shots: int = 1,
        draws: str = "agw",
        permutations: Path | None = None,
    ) -> np.ndarray:
        """Return the rows (G,) int64 of one gallery.

        If the protocol draws nothing, these are all candidates, whatever `trial` and `shots` are.

        Args:
            table: All images.
            mode: One of `modes`.
            trial: Number of the gallery draw, from 0.
            shots: Images that are drawn of each identity and camera.
            draws: `agw` (`seeded_draw`) or `official` (published by the data set's authors).
            permutations: File of the official draws.

        Raises:
            ValueError: Unknown mode or draw, a gallery without images, or official draws that the
                data set does not have or that do not fit the table.
            FileNotFoundError: `permutations` does not exist.
        """
        self._check_mode(mode)
        candidates = self.candidates(table, mode)
        if draws == "official":
            if self.official is None:
                raise ValueError(
                    f"evaluate.draws: {self.name} has no official gallery draws, expected agw"
                )
            return self.official(candidates, mode, trial, shots, permutations)
        if draws != "agw":
            raise ValueError(f"evaluate.draws: {draws!r} is not one of agw, official")
        if self.draws == 1:
            rows: np.ndarray = candidates["row"].to_numpy(dtype=np.int64)
            return rows
        return seeded_draw(candidates, trial, shots)

    def _check_mode(self, mode: str) -> None:
        if mode not in self.modes:
            modes = ", ".join(self.modes)
            raise ValueError(f"evaluate.modes: {self.name} has {modes}; it has no {mode}")


def two_way(name: str, unique_ids: bool, draws: int, excluded: Exclusion | None) -> Protocol:
    """Return the protocol of a data set that is searched in both directions.

    Queries are all test images of one modality. The gallery is drawn from all test images of the
    other one.
    """
    modes = tuple(DIRECTIONS)
    return Protocol(name, modes, unique_ids, draws, _direction_queries, _direction_images, excluded)


def apply_split(dataset: str, table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return `table` with the images of `split` (`test` or `val`) as its test images.

    `val`: infrared validation images become queries, visible ones become gallery images, and all
    other images become training images. The rows and their order stay.

    Raises:
        ValueError: There are no validation images.
    """
    if split == "test":
        return table
    held_out = table["split"] == "val"
    if not held_out.any():
        raise ValueError(
            f"evaluate.split: val: this {dataset} data set has no validation images, expected test"
        )
    roles = table["modality"].map({"infrared": "query", "visible": "gallery"})
    return table.assign(split=roles.where(held_out, "train"))


def evaluated_rows(table: pd.DataFrame, modality: str | None = None) -> np.ndarray:
    """Return the rows (N,) int64, ascending, of the test images of one modality, or of both."""
    rows: np.ndarray = _evaluated_images(table, modality)["row"].to_numpy(dtype=np.int64)
    return rows


def same_person_and_camera(
    table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Return (Q, G) bool for the rows `queries` (Q,) and `gallery` (G,)."""
    person = table["person"].to_numpy()
    camera = table["camera"].to_numpy()
    same_person = person[queries][:, None] == person[gallery]  # (Q, G)
    same_camera = camera[queries][:, None] == camera[gallery]  # (Q, G)
    same_both: np.ndarray = same_person & same_camera
    return same_both


def seeded_draw(candidates: pd.DataFrame, trial: int, shots: int) -> np.ndarray:
    """Draw `shots` images of each identity and camera as the AGW baseline does; return the rows.

    A Mersenne Twister is seeded with `trial`. The draw goes through the identities in ascending
    order, and through the cameras of an identity in ascending order. It draws among the paths in
    ascending order.
    One shot is drawn by `choice`: this is the published draw, image by image. Several shots are
    drawn without replacement by `sample`; an identity that has fewer images in a camera gives all
    of them. No draw of several shots is published that this could agree with.

    Returns:
        Rows (G,) int64, by identity, then camera.
    """
    stream = random.Random(trial)
    rows: list[int] = []
    ordered = candidates.sort_values(["person", "camera", "path"])
    for _, images in ordered.groupby(["person", "camera"], sort=False):
        positions = images["row"].tolist()
        if shots == 1:
            rows.append(stream.choice(positions))
        else:
            rows += stream.sample(positions, min(shots, len(positions)))
    return np.array(rows, dtype=np.int64)


def _evaluated_images(table: pd.DataFrame, modality: str | None) -> pd.DataFrame:
    evaluated = table["split"].isin(("query", "gallery"))
    if modality is not None:
        evaluated &= table["modality"] == modality
    return table[evaluated]


def _direction_queries(table: pd.DataFrame, mode: str) -> np.ndarray:
    modality, _ = DIRECTIONS[mode]
    return evaluated_rows(table, modality)


def _direction_images(table: pd.DataFrame, mode: str) -> pd.DataFrame:
    _, modality = DIRECTIONS[mode]
    images = _evaluated_images(table, modality)
    if images.empty:
        raise ValueError(f"mode {mode}: no {modality} test image")
    return images
