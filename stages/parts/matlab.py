"""Reading the MATLAB 5 files that come with SYSU-MM01: lists of identities, and gallery draws.

Error messages begin with `parameter`, the name of the entry in params.yaml that led to the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

CAMERAS = 6


def permutations(path: Path, parameter: str) -> dict[tuple[int, int], np.ndarray]:
    """Return the permutations of image numbers in the file `rand_perm_cam.mat`.

    Returns:
        (identity, camera), both counted from 1 → (P, n) int64, P permutations of the n image
        numbers of this pair. In the published file, P is 10 for all pairs that have images; for the
        others, n or P is 0.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file holds something else.
    """
    cameras = variable(path, "rand_perm_cam", parameter).ravel()
    expected = (
        f"{parameter}: {path}: expected rand_perm_cam, {CAMERAS} cells (cameras) of cells "
        "(identities) of integer matrices"
    )
    if len(cameras) != CAMERAS or not all(_is_cell_array(camera) for camera in cameras):
        raise ValueError(f"{expected}; found {cameras.dtype} of {len(cameras)}")
    result = {}
    for camera, persons in enumerate(cameras, start=1):
        for person, numbers in enumerate(persons.ravel(), start=1):
            if numbers.ndim != 2 or numbers.dtype.kind not in "iu":
                kind = f"{numbers.dtype} {numbers.shape}"
                raise ValueError(f"{expected}; found {kind}: camera {camera}, identity {person}")
            result[person, camera] = numbers.astype(np.int64)
    return result


def variable(path: Path, name: str, parameter: str) -> np.ndarray:
    """Return the variable `name` of a MATLAB 5 file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file cannot be read, or it has no such variable.
    """
    where = f"{parameter}: {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where} is not here")
    try:
        variables: Mapping[str, Any] = scipy.io.loadmat(path)
    except Exception as error:  # each kind of damage makes the parser raise another kind of error
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where} is not a MATLAB 5 file ({reason})") from None
    if name not in variables:
        raise ValueError(f"{where}: no variable {name} there, only {', '.join(sorted(variables))}")
    return np.asarray(variables[name])


def _is_cell_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.hasobject
