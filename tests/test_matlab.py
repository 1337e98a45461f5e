"""The reader of MATLAB files beside scipy's, and files that somebody damaged."""

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from stages.parts import matlab
from stages.parts.matlab import permutations, variable
from tests.conftest import GOLD

OFFICIAL = GOLD.parent / "data" / "sysu_official"


def cells() -> np.ndarray:
    """Six cameras of three identities; the last one has no images."""
    draw = np.random.default_rng(0)
    cameras = np.empty((1, 6), dtype=object)
    for camera in range(6):
        cameras[0, camera] = np.empty((3, 1), dtype=object)
        for person in range(2):
            rows = [draw.permutation(4) + 1 for _ in range(10)]
            cameras[0, camera][person, 0] = np.array(rows, dtype=np.uint8)
        cameras[0, camera][2, 0] = np.empty((0, 0), dtype=np.uint8)
    return cameras


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if not found.dtype.hasobject:
        np.testing.assert_array_equal(found, expected)
        return
    for one, other in zip(found.ravel(), expected.ravel(), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.arange(24.0).reshape(2, 3, 4),
        np.array([[7]], dtype=np.uint64),
        np.array([[-70000]], dtype=np.int32),  # whose type and size share four bytes
        np.empty((0, 3), dtype=np.float32),
        cells(),
    ],
    ids=["int16", "float64", "uint64", "int32", "empty", "cells"],
)
def test_values_are_those_of_scipy(tmp_path: Path, value: np.ndarray, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"text": "before", "a": value, "z": 1}, do_compression=compressed)
    assert_equal(variable(path, "a", "p"), scipy.io.loadmat(path)["a"])


@pytest.mark.parametrize(
    ("file", "name"),
    [("rand_perm_cam", "rand_perm_cam"), ("train_id", "id"), ("test_id", "id")],
)
def test_the_published_files_are_read_as_scipy_reads_them(file: str, name: str) -> None:
    path = OFFICIAL / f"{file}.mat"
    if not path.exists():
        pytest.skip(f"no {path}")
    assert_equal(variable(path, name, "p"), scipy.io.loadmat(path)[name])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_is_one_line(tmp_path: Path, compressed: bool) -> None:
    """Some of these files end the process if scipy reads them."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"rand_perm_cam": cells()}, do_compression=compressed)
    whole = path.read_bytes()
    for number in range(300):
        draw = random.Random(number)
        data = bytearray(whole)
        if number % 3:
            for _ in range(draw.choice((1, 2, 5, 20))):
                data[draw.randrange(len(data))] = draw.randrange(256)
        else:
            data = data[: draw.randrange(len(data))]
        path.write_bytes(data)
        message = message_on(path)
        assert message.startswith(f"p: {path}") or not message
        assert "\n" not in message


def message_on(path: Path) -> str:
    """What is wrong with a file; nothing if it is read, since a number may have changed only."""
    try:
        permutations(path, "p")
    except ValueError as error:
        return str(error)
    return ""


def test_what_claims_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.zeros(3)})
    header = path.read_bytes()[:128]
    bomb = zlib.compress(bytes(2**25))
    path.write_bytes(header + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(ValueError, match="more than 16,777,216 bytes when decompressed"):
        variable(path, "a", "p")
    # a matrix of 2^31 - 1 cells, none of which is there
    parts = struct.pack("<IIII", 6, 8, matlab.CELLS, 0)
    parts += struct.pack("<IIii", 5, 8, 2**31 - 1, 1) + struct.pack("<HHI", 1, 1, ord("a"))
    path.write_bytes(header + struct.pack("<II", 14, len(parts)) + parts)
    with pytest.raises(ValueError, match=r"0 cells of \(2147483647, 1\)"):
        variable(path, "a", "p")
    monkeypatch.setattr(matlab, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="has more than 100 bytes"):
        variable(path, "a", "p")


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(tmp_path: Path, order: str) -> None:
    """The numbers 1 and 258 as int32; the name in four bytes, in place of its size."""
    parts = struct.pack(f"{order}IIII", 6, 8, 12, 0)  # flags: the class of int32
    parts += struct.pack(f"{order}IIii", 5, 8, 1, 2)  # a row of two
    parts += struct.pack(f"{order}I", 1 << 16 | 1) + b"a\0\0\0"
    parts += struct.pack(f"{order}IIii", 5, 8, 1, 258)
    mark = b"IM" if order == "<" else b"MI"
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(126) + mark + struct.pack(f"{order}II", 14, len(parts)) + parts)
    found = variable(path, "a", "p")
    assert found.tolist() == [[1, 258]]
    assert found.dtype.isnative
    path.write_bytes(bytes(126) + b"XX" + path.read_bytes()[128:])
    with pytest.raises(ValueError, match="no header of such a file"):
        variable(path, "a", "p")


def test_a_variable_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"b": np.zeros(3), "c": np.zeros(2)})
    with pytest.raises(ValueError, match=r"^p: .*a\.mat: no variable a there, only b, c$"):
        variable(path, "a", "p")
    scipy.io.savemat(path, {})
    with pytest.raises(ValueError, match="only nothing"):
        variable(path, "a", "p")
    with pytest.raises(FileNotFoundError, match=r"^p: .*b\.mat is not here"):
        variable(tmp_path / "b.mat", "a", "p")


@pytest.mark.parametrize("damage", ["five cameras", "numbers", "a cube", "fractions"])
def test_permutations_of_another_shape_are_refused(tmp_path: Path, damage: str) -> None:
    cameras = cells()
    if damage == "five cameras":
        cameras = cameras[:, :5]
    elif damage == "numbers":
        cameras = np.zeros((1, 6))
    else:
        content = np.ones((2, 2, 2), np.uint8) if damage == "a cube" else np.ones((2, 2))
        cameras[0, 3][1, 0] = content
    scipy.io.savemat(tmp_path / "a.mat", {"rand_perm_cam": cameras})
    place = ": camera 4, identity 2" if damage in ("a cube", "fractions") else ""
    with pytest.raises(ValueError, match=f"expected rand_perm_cam, 6 cells.*; found .*{place}$"):
        permutations(tmp_path / "a.mat", "p")
