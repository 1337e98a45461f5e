"""How SYSU-MM01 is judged: infrared queries (cameras 3, 6) against a drawn visible gallery.

- `all`: gallery cameras 1, 2, 4, 5; `indoor`: 1, 2. Queries are the same in both.
- Of each test identity and gallery camera, 1 (single-shot) to 10 (multi-shot) images are drawn; the score is the mean
  over ten draws. Two incompatible families of draws are in use: `agw`, seeded draws over sorted file names (AGW, OTLA,
  ADCA, PGM and most of the unsupervised literature), and `official`, the data set's own `rand_perm_cam.mat`.
- Cameras 2 and 3 look at the same room: queries of camera 3 never meet gallery images of camera 2, whoever they show.
- CMC counts identities, not images.

The published set has 3,803 queries, and galleries of 301 (all) and 112 (indoor) images.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import check_mode, draw
from stages.parts.matlab import permutations as read_permutations

CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
MODES: tuple[str, ...] = tuple(CAMERAS)
UNIQUE_IDS = True
DRAWS = 10


def query_rows(table: pd.DataFrame, mode: str) -> np.ndarray:
    """Rows (Q,) int64, ascending, of all queries; the same in both modes."""
    check_mode("sysu_mm01", mode, MODES)
    return table.loc[table["split"] == "query", "row"].to_numpy(dtype=np.int64)


def gallery_rows(
    table: pd.DataFrame,
    mode: str,
    trial: int,
    shots: int = 1,
    draws: str = "agw",
    permutations: Path | None = None,
) -> np.ndarray:
    """Rows (G,) int64 of gallery draw `trial` (0 to 9), by identity, then camera.

    draws         `agw`: `draw` of `protocol.py`; `official`: the first `shots` image numbers of permutation `trial`
                  in `permutations`, the path of `rand_perm_cam.mat`; image number n of an identity and camera is the
                  file of that number
    An identity without an image in a camera has none from there in the gallery.
    Raises ValueError for an unknown mode or draw, a gallery without images, and official draws that do not fit the
    table; FileNotFoundError where their file is not there.
    """
    check_mode("sysu_mm01", mode, MODES)
    candidates = table[(table["split"] == "gallery") & table["camera"].isin(CAMERAS[mode])]
    if candidates.empty:
        raise ValueError(
            f"mode {mode}: no gallery image from cameras {', '.join(map(str, CAMERAS[mode]))}"
        )
    if draws == "agw":
        return draw(candidates, trial, shots)
    if draws != "official":
        raise ValueError(f"evaluate.draws: {draws!r} is not one of agw, official")
    if permutations is None:
        raise ValueError(
            "evaluate.official_draws is empty; evaluate.draws: official needs the path of rand_perm_cam.mat"
        )
    return _official(candidates, CAMERAS[mode], trial, shots, Path(permutations))


def excluded_pairs(query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
    """(Q, G) bool: a query of camera 3 and a gallery image of camera 2."""
    return (np.asarray(query_cameras)[:, None] == 3) & (np.asarray(gallery_cameras)[None] == 2)


def removed(table: pd.DataFrame, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """`excluded_pairs` of the rows `queries` (Q,) and `gallery` (G,)."""
    camera = table["camera"].to_numpy()
    return excluded_pairs(camera[queries], camera[gallery])


def _official(
    candidates: pd.DataFrame, cameras: tuple[int, ...], trial: int, shots: int, path: Path
) -> np.ndarray:
    cells = read_permutations(path, "evaluate.official_draws")
    images = dict(iter(candidates.groupby(["person", "camera"])))
    rows: list[int] = []
    for person, camera in itertools.product(sorted(candidates["person"].unique()), cameras):
        group = images.get((person, camera), candidates.iloc[:0])
        numbers = cells.get((person, camera), np.empty((trial + 1, 0), dtype=np.int64))
        place = f"{path}: identity {person}, camera {camera}"
        if numbers.shape[1] != len(group):
            raise ValueError(
                f"{place}: {numbers.shape[1]} images there, {len(group)} in the data set"
            )
        if trial >= len(numbers):
            raise ValueError(
                f"{place}: {len(numbers)} permutations, draw {trial} (counted from 0) asked for"
            )
        by_number = {
            Path(name).stem.lstrip("0"): row
            for name, row in zip(group["path"], group["row"], strict=True)
        }
        for number in numbers[trial, :shots]:
            if str(number) not in by_number:
                raise ValueError(f"{place}: the data set has no image number {number}")
            rows.append(by_number[str(number)])
    return np.array(rows, dtype=np.int64)
