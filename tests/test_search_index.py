"""`python -m search index`: what a run embeds, and what is in the index behind it."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import search
from search import embedding
from search import update as updating
from search.archive import Archive, open_state, pictures_of
from search.embedding import Embedder, File
from search.model import open_model
from stages.parts.run.stage import InputError
from tests.search_model import PATTERN, Workplace, picture, write_model, write_pictures


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def archive(place: Workplace) -> Archive:
    return open_state(place.index, lambda opened: opened)


def rows_by_path(place: Workplace) -> dict[str, np.ndarray]:
    """The row of each picture of the index."""
    opened = archive(place)
    rows = {}
    for table, segment in zip(opened.tables, opened.rows, strict=True):
        for picture_, position in zip(pictures_of(table), table["position"], strict=True):
            rows[picture_.path] = np.array(segment[position])
    return rows


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that go through the network."""
    paths: list[str] = []
    original = Embedder.embed

    def embed(self: Embedder, files: list[File], positions: list[int]) -> object:
        paths.extend(file.path for file in files)
        return original(self, files, positions)

    monkeypatch.setattr(Embedder, "embed", embed)
    return paths


def test_rows_are_what_the_network_gives(place: Workplace) -> None:
    place.update()
    embedder = Embedder(open_model(place.model), "onnx")
    rows = rows_by_path(place)
    assert len(rows) == 30
    for path, row in rows.items():
        image = np.asarray(picture(int(Path(path).stem)))
        expected = embedder.rows(image[None], infrared=False)[0]
        np.testing.assert_allclose(row, expected, atol=1e-6)
        assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)


def test_only_new_and_changed_pictures_are_embedded(
    place: Workplace, embedded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.update()
    assert len(embedded) == 30
    before = rows_by_path(place)
    embedded.clear()
    place.update()
    assert embedded == []
    assert "30 pictures: 0 new, 0 changed, 0 gone" in capsys.readouterr().out

    write_pictures(place.pictures, 2, first=30)
    picture(99).save(place.pictures / "cam1/000000.png")
    (place.pictures / "cam2/000001.png").unlink()
    place.update()
    assert sorted(embedded) == ["cam1/000000.png", "cam1/000030.png", "cam2/000031.png"]
    assert "31 pictures: 2 new, 1 changed, 1 gone" in capsys.readouterr().out
    after = rows_by_path(place)
    assert set(after) == set(before) - {"cam2/000001.png"} | {"cam1/000030.png", "cam2/000031.png"}
    for path in set(before) & set(after) - {"cam1/000000.png"}:
        assert after[path].tobytes() == before[path].tobytes()
    assert not np.allclose(after["cam1/000000.png"], before["cam1/000000.png"])


def test_moved_and_touched_pictures_keep_their_rows(
    place: Workplace, embedded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.update()
    before = rows_by_path(place)
    embedded.clear()
    os.rename(place.pictures / "cam3", place.pictures / "cam9")
    os.utime(place.pictures / "cam1/000000.png", ns=(1, 1))
    place.update()
    assert embedded == []
    assert "10 new, 1 changed, 10 gone, 11 known by their bytes" in capsys.readouterr().out
    after = rows_by_path(place)
    assert after["cam9/000002.png"].tobytes() == before["cam3/000002.png"].tobytes()


def test_a_vanished_folder_is_no_empty_one(place: Workplace) -> None:
    place.update()
    shutil.move(place.pictures, place.pictures.with_name("elsewhere"))
    with pytest.raises(ValueError, match="is not a folder"):
        place.update()
    place.pictures.mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        place.update()
    assert archive(place).count == 30


def test_other_folders_stay(place: Workplace, tmp_path: Path) -> None:
    place.update()
    more = write_pictures(tmp_path / "more", 3, first=50)
    place.run("index", more, "--processes", 1)
    assert archive(place).count == 33
    shutil.rmtree(more / "cam3")
    place.update()
    assert archive(place).count == 33
    place.run("index", place.pictures, more, "--processes", 1)
    assert archive(place).count == 32
    with pytest.raises(ValueError, match="lies in"):
        place.run("index", place.pictures / "cam1")


def test_the_rules_of_a_folder_are_remembered(place: Workplace, embedded: list[str]) -> None:
    place.update("--pattern", PATTERN)
    embedded.clear()
    place.update()
    table = archive(place).tables[0]
    assert set(table["camera"].tolist()) == {b"1", b"2", b"3"}
    assert table["moment"].tolist() == [float(each) for each in table["time"].tolist()]
    place.update("--pattern", "")
    assert set(archive(place).tables[0]["camera"].tolist()) == {b""}
    assert embedded == []


def test_a_csv_goes_before_the_pattern(place: Workplace, tmp_path: Path) -> None:
    table = tmp_path / "facts.csv"
    table.write_text("path;camera;time\ncam1/000000.png;gate;2026-01-31T18:00\ncam2/000001.png;;\n")
    place.update("--pattern", PATTERN, "--table", table)
    facts = {each.path: each.facts for each in pictures_of(archive(place).tables[0])}
    assert facts["cam1/000000.png"][:2] == ("gate", "2026-01-31T18:00")
    assert facts["cam2/000001.png"][:2] == ("2", "000001")


def test_rules_that_fit_no_picture_are_listed(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "facts.csv"
    table.write_text("path,camera\ncam1/000000.png,gate\ncam1/0.png,gate\nCam2/000001.png,x\n")
    rules = ["--pattern", r"camera(?P<camera>\d)", "--infrared", "night", "--table", table]
    lines = [
        r"--pattern 'camera(?P<camera>\\d)' is found in none of 30 paths, e.g. cam1/000000.png",
        "--infrared 'night' is found in none of 30 paths, e.g. cam1/000000.png",
        f"{table}: 2 of 3 lines name no picture, e.g. cam1/0.png",
    ]
    for run in (
        lambda: place.update(*rules),
        lambda: place.run("embed", place.pictures, "--out", tmp_path / "rows.npy", *rules),
    ):
        run()
        said = capsys.readouterr().out.splitlines()
        assert said[:3] == [f"{place.pictures}: {line}" for line in lines]
    place.update("--pattern", PATTERN, "--infrared", "cam3", "--table", "")
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--pattern", "cam("], "is not a regular expression"),
        (["--pattern", "(?P<camera>a{99999999999})"], "is not a regular expression"),
        (["--infrared", f"{'(' * 3000}a{')' * 3000}"], "is not a regular expression"),
        (["--pattern", "cam"], "no group camera or time"),
        (["--pattern", r"(?P<time>cam)"], r"cam1/000000.png: time 'cam'; expected a number"),
        (["--infrared", "["], "--infrared '\\[' is not a regular expression"),
        (["--table", "missing.csv"], "missing.csv is not here"),
    ],
)
def test_wrong_rules_end_in_one_line(place: Workplace, words: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=line) as error:
        place.update(*words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is empty"),
        ("path\na.png\n", "line 1: columns path; expected path and one or more of camera"),
        ("path,camera\n../a.png,1\n", "is not below"),
        ("path,camera\na.png,1\na.png,2\n", "line 3: a.png is listed twice"),
        ("path,time\na.png,noon\n", "line 2: time 'noon'; expected a number, or a date"),
        ("path,modality\na.png,xray\n", "modality 'xray'; expected visible or infrared"),
        ("path,camera\na.png,1,2\n", "line 2: 3 cells; expected 2"),
        ("path,camera\n,1\n", "line 2: path is empty"),
        ('path,camera\na.png,"1\n', "expected a CSV"),
        (f"path,camera\na.png,{'x' * 1000}\n", "line 2: 'x{20}'… is longer than 255 characters"),
        ("path,camera\na.png,\x1b[31m\n", "holds a control character"),
    ],
)
def test_a_wrong_csv_ends_in_one_line(
    place: Workplace, tmp_path: Path, text: str, line: str
) -> None:
    table = tmp_path / "facts.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=line) as error:
        place.update("--table", table)
    assert "\n" not in str(error.value)


def test_a_kind_whose_package_is_missing_is_refused_before_anything_is_embedded(
    place: Workplace, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    monkeypatch.delitem(sys.modules, "search.indexes.lance", raising=False)
    with pytest.raises(InputError, match="lancedb is not installed"):
        place.update("--kind", "lance")
    place.update()
    embedded.clear()

    manifest = place.index / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"flat"', '"lance"'))
    write_pictures(place.pictures, 1, first=30)
    with pytest.raises(InputError, match="lancedb is not installed"):
        place.update()
    assert embedded == []
    place.update("--kind", "flat")
    assert embedded == ["cam1/000030.png"]


@pytest.mark.parametrize(
    ("runtime", "package", "line"),
    [("onnx", "onnxruntime", "onnxruntime is not installed"), ("torch", "torch", "needs PyTorch")],
)
def test_a_missing_runtime_ends_in_one_line(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, runtime: str, package: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    # as if no other test had imported it
    monkeypatch.delitem(sys.modules, "search.torch_runtime", raising=False)
    monkeypatch.delattr(search, "torch_runtime", raising=False)
    with pytest.raises(InputError, match=line):
        place.update("--runtime", runtime)
    assert not place.index.exists()


def test_two_streams_embed_infrared_pictures_by_their_own_network(
    place: Workplace, embedded: list[str]
) -> None:
    write_model(place.model, two_stream=True)
    place.update()
    before = rows_by_path(place)
    embedded.clear()
    place.update("--infrared", "cam3")
    assert sorted(embedded) == [path for path in sorted(before) if path.startswith("cam3")]
    after = rows_by_path(place)
    model = open_model(place.model)
    assert model.two_stream
    for path, row in after.items():
        is_infrared = path.startswith("cam3")
        assert (row.tobytes() != before[path].tobytes()) == is_infrared
        image = np.asarray(picture(int(Path(path).stem)))[None]
        expected = Embedder(model, "onnx").rows(image, is_infrared)[0]
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_a_mirror_image_counts_where_the_model_says_so(place: Workplace) -> None:
    place.update()
    plain = rows_by_path(place)
    shutil.rmtree(place.index)
    write_model(place.model, flip=True)
    place.update()
    embedder = Embedder(open_model(write_model(place.model)), "onnx")
    for path, row in rows_by_path(place).items():
        image = np.asarray(picture(int(Path(path).stem)))[None]
        mirrored = embedder.rows(np.ascontiguousarray(image[:, :, ::-1]), False)[0]
        mean = plain[path] + mirrored
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_number_of_processes_does_not_change_a_byte(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "WORTH", 1)
    place = Workplace(tmp_path / str(processes), 150)
    place.run("index", place.pictures, "--processes", processes)
    place.run("embed", place.pictures, "--out", tmp_path / "a.npy", "--processes", processes)
    place.run("embed", place.pictures, "--out", tmp_path / "b.npy", "--processes", 1)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    stored = np.load(tmp_path / "b.npy")
    rows = rows_by_path(place)
    assert np.stack([rows[path] for path in sorted(rows)]).tobytes() == stored.tobytes()


def test_segments_are_merged_and_ids_stay(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "CHECKPOINT", 1)
    monkeypatch.setattr("search.embedding.BATCH", 2)
    place.update()
    before = rows_by_path(place)
    assert len(before) == 30
    opened = archive(place)
    assert len(opened.tables) == 1
    assert opened.ids().tolist() == list(range(30))
    for name in sorted(before)[:20]:
        (place.pictures / name).unlink()
    place.update()
    opened = archive(place)
    assert [len(rows) for rows in opened.rows] == [10]
    after = rows_by_path(place)
    assert {path: row.tobytes() for path, row in after.items()} == {
        path: before[path].tobytes() for path in after
    }


def test_no_file_is_left_that_no_manifest_names(place: Workplace) -> None:
    for kept in (30, 20, 10):
        for name in sorted(place.pictures.rglob("*.png"))[kept:]:
            name.unlink()
        place.update()
    named = archive(place).manifest.files() | {"manifest.json", "lock"}
    assert set(os.listdir(place.index)) == named


def test_embed_leaves_the_csv_of_its_facts_alone(place: Workplace, tmp_path: Path) -> None:
    table = tmp_path / "facts.csv"
    table.write_text("path,camera\ncam1/000000.png,gate\n")
    with pytest.raises(ValueError, match="the CSV of --table; give another name"):
        place.run("embed", place.pictures, "--table", table, "--out", tmp_path / "facts.npy")
    assert table.read_text() == "path,camera\ncam1/000000.png,gate\n"


def test_a_loop_of_links_is_no_folder(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="loop cannot be read"):
        place.run("embed", tmp_path / "loop", "--out", tmp_path / "rows.npy")
    with pytest.raises(ValueError, match="loop is not a folder"):
        place.run("index", tmp_path / "loop")


def test_what_could_not_be_read_is_tried_again(
    place: Workplace, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be allowed to read a file does not change its size or time."""
    original = embedding.read_image

    def refuse(path: Path, *size: int, upright: bool) -> object:
        if path.name == "000000.png":
            raise ValueError("cannot be read: Permission denied")
        return original(path, *size, upright=upright)

    with monkeypatch.context() as patch:
        patch.setattr(embedding, "read_image", refuse)
        place.update()
    assert archive(place).count == 29
    embedded.clear()
    place.update()
    assert embedded == ["cam1/000000.png"]
    assert archive(place).count == 30
