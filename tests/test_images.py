"""The image store and its table: what goes in comes out; what does not fit is one clear line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stages.parts.images.store import HASHED, HASHES, ImageStore, create_pixels, seal
from stages.parts.images.table import COLUMNS, check_table, read_table, write_table

ROOT = Path(__file__).parents[1]


def table(count: int = 6) -> pd.DataFrame:
    """Visible and infrared in turn; train, train, val, val, query, gallery."""
    return pd.DataFrame(
        {
            "row": range(count),
            "path": [f"cam{row % 2 + 1}/{row:04d}.jpg" for row in range(count)],
            "person": [row // 2 for row in range(count)],
            "camera": [row % 2 + 1 for row in range(count)],
            "modality": [("visible", "infrared")[row % 2] for row in range(count)],
            "split": ["train", "train", "val", "val", "query", "gallery"][:count],
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of six pictures of 4 × 3; picture n is made of numbers from 36 n on."""
    pixels = create_pixels(tmp_path / "pixels.npy", 6, 4, 3)
    pixels[:] = np.arange(216, dtype=np.uint8).reshape(6, 4, 3, 3)
    pixels.flush()
    write_table(table(), tmp_path / "table.csv")
    (tmp_path / "files.csv").touch()
    seal(tmp_path)
    return tmp_path


def test_pixels_come_back_channels_first(folder):
    store = ImageStore(folder)
    batch = store.batch(np.array([4, 0, 4]))
    expected = np.arange(216, dtype=np.uint8).reshape(6, 4, 3, 3)[[4, 0, 4]].transpose(0, 3, 1, 2)
    assert (batch.shape, batch.dtype) == ((3, 3, 4, 3), torch.uint8)
    np.testing.assert_array_equal(batch, expected)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_a_copy(folder):
    """Whoever changes a batch changes neither the store nor the file."""
    store = ImageStore(folder)
    store.batch(np.array([1]))[:] = 0
    store.batch(np.array([0, 1, 2, 3, 4, 5]))[:] = 0
    assert int(ImageStore(folder).batch(np.arange(6)).max()) == 215
    with pytest.raises(ValueError, match="read-only"):
        store.pixels[0] = 0


def test_pixels_are_mapped_and_not_read(folder):
    assert isinstance(ImageStore(folder).pixels, np.memmap)


def test_the_store_alone_imports_no_torch():
    """Its import takes 2 s, and `prepare`, `source` and `report` make no batch."""
    code = "import sys, stages.parts.images.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_rows_make_an_empty_batch(folder):
    assert ImageStore(folder).batch(np.array([], dtype=np.int64)).shape == (0, 3, 4, 3)


def test_rows_are_chosen_by_split_and_modality_in_order(folder):
    store = ImageStore(folder)
    assert store.rows("train").tolist() == [0, 1]
    assert store.rows(("val", "train")).tolist() == [0, 1, 2, 3]
    assert store.rows(("train", "val"), "visible").tolist() == [0, 2]
    assert store.rows("query", "infrared").tolist() == []
    assert store.rows("gallery", "infrared").tolist() == [5]
    assert store.rows("query", "infrared").dtype == np.int64


def test_a_store_may_have_no_images(tmp_path):
    """The source of `spcl.source: none`."""
    create_pixels(tmp_path / "pixels.npy", 0, 4, 3)
    write_table(table().iloc[:0], tmp_path / "table.csv")
    (tmp_path / "files.csv").touch()
    seal(tmp_path)
    store = ImageStore(tmp_path)
    assert (len(store.table), store.rows("train").tolist()) == (0, [])


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((5, 4, 3, 3), np.uint8), "5 images in pixels.npy, 6 in table.csv"),
        (
            np.zeros((6, 4, 3, 3), np.float32),
            r"pixels.npy: float32 \(6, 4, 3, 3\), expected uint8 \(N, H, W, 3\)",
        ),
        (np.zeros((6, 3, 4, 4), np.uint8), r"pixels.npy: uint8 \(6, 3, 4, 4\), expected uint8"),
        (np.zeros((6, 4, 3, 1), np.uint8), r"pixels.npy: uint8 \(6, 4, 3, 1\), expected uint8"),
        (np.zeros((6, 4, 3), np.uint8), r"pixels.npy: uint8 \(6, 4, 3\), expected uint8"),
    ],
)
def test_array_and_table_must_fit(folder, pixels, words):
    np.save(folder / "pixels.npy", pixels)
    seal(folder)
    with pytest.raises(ValueError, match=words):
        ImageStore(folder)


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("at", [0, 1, 9, 100, -1])
def test_a_file_that_was_cut_or_changed_is_named(folder, name, at):
    """At any place: in the header of the array, in the table's first line, in the last byte."""
    path = folder / name
    before = path.read_bytes() or b"row,bytes,sha256\n" * 8
    path.write_bytes(before)
    seal(folder)
    for damaged in (before[:at], before[:at] + bytes([before[at] ^ 1]) + before[at:][1:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name} has changed since it was written") as error:
            ImageStore(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[1]", "{", "3", '{"pixels.npy": 5}'])
def test_hashes_that_are_damaged_are_one_line(folder, content):
    (folder / HASHES).write_text(content)
    with pytest.raises(ValueError, match=r"is not a JSON file of hashes|has changed since"):
        ImageStore(folder)


def test_equal_stores_have_the_same_identity_and_others_another(folder):
    first = ImageStore(folder).identity
    seal(folder)
    assert ImageStore(folder).identity == first
    write_table(table().assign(camera=1), folder / "table.csv")
    seal(folder)
    assert ImageStore(folder).identity != first


@pytest.mark.parametrize("name", [*HASHED, HASHES])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        ImageStore(folder)


def test_a_table_survives_the_file(tmp_path):
    write_table(table(), tmp_path / "table.csv")
    back = read_table(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(back, check_table(table()))
    first = (tmp_path / "table.csv").read_bytes()
    write_table(back, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_names_that_look_like_numbers_stay_text(tmp_path):
    numbered = table().assign(path=["0001", "0002", "1e5", "nan.jpg", "5.0", "06"])
    write_table(numbered, tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv")["path"].tolist() == numbered["path"].tolist()


def test_columns_get_their_order_and_types_and_others_go():
    mixed = table()[["split", "row", "modality", "path", "person", "camera"]].astype(
        {"person": "int16", "row": "float"}
    )
    checked = check_table(mixed.assign(weather="rain"))
    assert tuple(checked) == COLUMNS
    assert checked["row"].dtype == checked["person"].dtype == np.int64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.drop(columns="camera"),
            "column camera is missing; expected row, path, person, camera",
        ),
        (lambda t: t.assign(person=["one"] * 6), "column person holds something that is not int64"),
        (
            lambda t: t.assign(camera=[1, None] * 3),
            "column camera holds something that is not int64",
        ),
        (
            lambda t: t.assign(modality=["thermal"] * 6),
            "modality 'thermal' is not one of visible, infrared",
        ),
        (
            lambda t: t.assign(split=["train"] * 5 + ["test"]),
            "split 'test' is not one of train, val, query, gallery",
        ),
        (lambda t: t.assign(path=["a", "b", "c", "d", "b", "e"]), "path 'b' occurs twice"),
        (lambda t: t.assign(row=[0, 1, 2, 3, 5, 4]), "rows are not numbered 0 to 5"),
        (lambda t: t.assign(row=range(1, 7)), "rows are not numbered 0 to 5"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line_and_not_written(tmp_path, change, words):
    path = tmp_path / "table.csv"
    write_table(table(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words) as raised:
        write_table(change(table()), path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before
    change(table()).to_csv(path, index=False)
    with pytest.raises(ValueError, match=words):
        read_table(path)
