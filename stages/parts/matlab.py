"""Reading the MATLAB 5 files that come with SYSU-MM01: lists of identities, and gallery draws.

The format is that of "MAT-File Format" (MathWorks), level 5: numbers and cells, compressed or not.
scipy.io.loadmat reads the same, but a damaged file can end its process (a segmentation fault) or
take any memory. Here a file and what it decompresses to are limited to MAX_BYTES. Error messages
begin with `parameter`, the name of the entry in params.yaml that led to the file.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CAMERAS = 6
MAX_BYTES = 2**24  # the published rand_perm_cam.mat has 0.3 MB
HEADER = 128
BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
# Types of elements: how numbers are stored, a matrix of any class, a compressed matrix.
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
MATRIX, COMPRESSED = 14, 15
# Classes of matrices.
CELLS, NUMERIC = 1, range(6, 16)
DAMAGE = (struct.error, zlib.error, ValueError, IndexError, KeyError, RecursionError)


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

    Returns:
        Numbers in the type in which they are stored, or cells as an array of objects. Anything
        else, such as text, is an empty array of bytes.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file cannot be read, or it has no such variable.
    """
    where = f"{parameter}: {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{where} is not here")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{where} has more than {MAX_BYTES:,} bytes")
    others = []
    try:
        for other, value in _variables(path.read_bytes()):
            if other == name:
                return value
            others.append(other)
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where} is not a MATLAB 5 file ({reason})") from None
    raise ValueError(f"{where}: no variable {name} there, only {', '.join(others) or 'nothing'}")


def _variables(raw: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and value of each variable of a file."""
    if len(raw) < HEADER or raw[126:128] not in BYTE_ORDERS:
        raise ValueError("no header of such a file")
    order = BYTE_ORDERS[raw[126:128]]
    left = MAX_BYTES
    for kind, content in _elements(memoryview(raw)[HEADER:], order):
        if kind == COMPRESSED:
            whole = zlib.decompressobj().decompress(content, left + 1)
            left -= len(whole)
            if left < 0:
                raise ValueError(f"more than {MAX_BYTES:,} bytes when decompressed")
            kind, content = _elements(memoryview(whole), order)[0]
        if kind == MATRIX:
            yield _matrix(content, order)


def _elements(data: memoryview, order: str) -> list[tuple[int, memoryview]]:
    """Return type and content of the elements that `data` is a sequence of."""
    elements = []
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        place = start + size
        if kind >> 16:  # four bytes or less, in place of the size
            start -= 4
            place = start + 4
            kind, size = kind & 0xFFFF, min(kind >> 16, 4)
        elif kind != COMPRESSED:
            place += -size % 8
        if start + size > len(data):
            raise ValueError("cut off")
        elements.append((kind, data[start : start + size]))
    return elements


def _matrix(data: memoryview, order: str) -> tuple[str, np.ndarray]:
    """Return name and value of the matrix whose elements are `data`."""
    if not data:
        return "", np.empty((0, 0))
    (_, flags), sizes, (_, name), *parts = _elements(data, order)
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    shape = tuple(_numbers(*sizes, order).tolist())
    if kind == CELLS:
        values = [_matrix(content, order)[1] for part, content in parts if part == MATRIX]
        if len(values) != math.prod(shape):
            raise ValueError(f"{len(values)} cells of {shape}")
        value = np.fromiter(values, dtype=object, count=len(values))
    elif kind in NUMERIC:
        value = _numbers(*parts[0], order)
    else:
        value, shape = np.empty(0, dtype="S1"), (0,)
    return bytes(name).decode("latin-1"), value.reshape(shape, order="F")


def _numbers(kind: int, content: memoryview, order: str) -> np.ndarray:
    """Return the numbers (N,) of an element."""
    stored = np.frombuffer(content, dtype=order + NUMBERS[kind])
    return stored.astype(stored.dtype.newbyteorder("="))


def _is_cell_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.hasobject
