"""How SYSU-MM01 is evaluated: infrared queries (cameras 3, 6) against a drawn visible gallery.

- `all`: gallery cameras 1, 2, 4, 5; `indoor`: 1, 2. The queries are the same in both.
- Of each test identity and gallery camera, 1 (single-shot) to 10 (multi-shot) images are drawn.
  The score is the mean over ten draws. Two incompatible families of draws are in use: `agw`,
  seeded draws over sorted file names (AGW, OTLA, ADCA, PGM and most of the unsupervised
  literature), and `official`, the data set's own `rand_perm_cam.mat`.
- Cameras 2 and 3 look at the same room: queries of camera 3 never meet gallery images of camera 2,
  whatever identity they show.
- CMC counts identities, not images.

The published set has 3,803 queries, and galleries of 301 (all) and 112 (indoor) images.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import Protocol
from stages.parts.matlab import permutations as read_permutations

CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}


def gallery_rows(
    table: pd.DataFrame,
    mode: str,
    trial: int,
    shots: int = 1,
    draws: str = "agw",
    permutations: Path | None = None,
) -> np.ndarray:
    """Return the rows (G,) int64 of gallery draw `trial` (0 to 9), by identity, then camera.

    An identity without an image in a camera has no image of that camera in the gallery.

    Args:
        table: All images.
        mode: `all` or `indoor`.
        trial: Number of the draw, from 0.
        shots: Images of each identity and camera, 1 to 10.
        draws: `agw` (`seeded_draw` of `protocol.py`) or `official`: the first `shots` image
            numbers of permutation `trial`; image number n of an identity and camera is the file
            of that number.
        permutations: Path of `rand_perm_cam.mat`, for official draws.

    Raises:
        ValueError: Unknown mode or draw, a gallery without images, or official draws that do not
            fit the table.
        FileNotFoundError: The file of the official draws does not exist.
    """
    return PROTOCOL.gallery_rows(table, mode, trial, shots, draws, permutations)


def excluded_pairs(query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
    """Return (Q, G) bool: a query of camera 3 and a gallery image of camera 2."""
    from_camera_3 = np.asarray(query_cameras) == 3
    from_camera_2 = np.asarray(gallery_cameras) == 2
    excluded: np.ndarray = from_camera_3[:, None] & from_camera_2
    return excluded


def _queries(table: pd.DataFrame, mode: str) -> np.ndarray:
    rows: np.ndarray = table.loc[table["split"] == "query", "row"].to_numpy(dtype=np.int64)
    return rows


def _candidates(table: pd.DataFrame, mode: str) -> pd.DataFrame:
    in_gallery = table["split"] == "gallery"
    images = table[in_gallery & table["camera"].isin(CAMERAS[mode])]
    if images.empty:
        cameras = ", ".join(map(str, CAMERAS[mode]))
        raise ValueError(f"mode {mode}: no gallery image from cameras {cameras}")
    return images


def _excluded(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    camera = table["camera"].to_numpy()
    return excluded_pairs(camera[queries], camera[gallery])


def _official_draw(
    candidates: pd.DataFrame, mode: str, trial: int, shots: int, path: Path | None
) -> np.ndarray:
    """Return the rows (G,) of the first `shots` images of each permutation number `trial`."""
    if path is None:
        raise ValueError(
            "evaluate.official_draws is empty; "
            "evaluate.draws: official needs the path of rand_perm_cam.mat"
        )
    cells = read_permutations(Path(path), "evaluate.official_draws")
    groups = dict(iter(candidates.groupby(["person", "camera"])))
    persons = sorted(candidates["person"].unique())
    rows: list[int] = []
    for person, camera in itertools.product(persons, CAMERAS[mode]):
        images = groups.get((person, camera), candidates.iloc[:0])
        no_images = np.empty((trial + 1, 0), dtype=np.int64)
        numbers = cells.get((person, camera), no_images)  # (permutations, images)
        place = f"{path}: identity {person}, camera {camera}"
        if numbers.shape[1] != len(images):
            raise ValueError(
                f"{place}: {numbers.shape[1]} images there, {len(images)} in the data set"
            )
        if trial >= len(numbers):
            raise ValueError(
                f"{place}: {len(numbers)} permutations, draw {trial} (counted from 0) asked for"
            )
        rows += _rows_of_numbers(images, numbers[trial, :shots], place)
    return np.array(rows, dtype=np.int64)


def _rows_of_numbers(images: pd.DataFrame, numbers: np.ndarray, place: str) -> list[int]:
    """Return the rows of the files `0007.jpg`, … whose numbers are `numbers`, in their order."""
    file_numbers = [Path(path).stem.lstrip("0") for path in images["path"]]
    row_of_number = dict(zip(file_numbers, images["row"], strict=True))
    for number in numbers:
        if str(number) not in row_of_number:
            raise ValueError(f"{place}: the data set has no image number {number}")
    return [row_of_number[str(number)] for number in numbers]


PROTOCOL = Protocol(
    name="sysu_mm01",
    modes=tuple(CAMERAS),
    unique_ids=True,
    draws=10,
    queries=_queries,
    candidates=_candidates,
    excluded=_excluded,
    official=_official_draw,
)
