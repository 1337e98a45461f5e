"""The MATLAB files that come with SYSU-MM01: who was seen by which camera, and its owners' gallery draws.

`parameter` is the leaf of params.yaml that led to the file; messages begin with it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

CAMERAS = 6


def permutations(path: Path, parameter: str) -> dict[tuple[int, int], np.ndarray]:
    """(identity, camera), both from 1 → permutations of its image numbers, (P, n) int64, of `rand_perm_cam.mat`.

    The published file has P = 10 for every pair that has images; for the others n or P is 0.
    Raises ValueError where the file holds something else, FileNotFoundError where it is missing.
    """
    cameras = variable(path, "rand_perm_cam", parameter).ravel()
    expected = (
        f"{parameter}: {path}: expected rand_perm_cam, {CAMERAS} cells (cameras) of cells (identities) of integer "
        "matrices"
    )
    if len(cameras) != CAMERAS or not all(
        isinstance(cell, np.ndarray) and cell.dtype.hasobject for cell in cameras
    ):
        raise ValueError(f"{expected}; found {cameras.dtype} of {len(cameras)}")
    found = {}
    for camera, cell in enumerate(cameras, start=1):
        for person, numbers in enumerate(cell.ravel(), start=1):
            if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
                kind = f"{numbers.dtype} {numbers.shape}"
                raise ValueError(f"{expected}; found {kind}: camera {camera}, identity {person}")
            found[person, camera] = numbers.astype(np.int64)
    return found


def variable(path: Path, name: str, parameter: str) -> np.ndarray:
    """The variable `name` of a MATLAB 5 file.

    Raises ValueError where the file cannot be read or has no such variable, FileNotFoundError where it is missing.
    """
    where = f"{parameter}: {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where} is not here")
    try:
        variables: Mapping[str, Any] = scipy.io.loadmat(path)
    except (
        Exception
    ) as error:  # the parser has a kind of its own for every way a file can be broken
        raise ValueError(
            f"{where} is not a MATLAB 5 file ({type(error).__name__}: {error})"
        ) from None
    if name not in variables:
        raise ValueError(f"{where}: no variable {name} there, only {', '.join(sorted(variables))}")
    return np.asarray(variables[name])
