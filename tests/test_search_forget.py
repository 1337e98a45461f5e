"""`python -m search forget`: folders leave an index, and a moved archive is not embedded again."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from search import build
from search.archive import open_state, pictures_of
from search.embedding import Embedder
from search.lookup import open_lookup
from stages.parts.run.stage import InputError
from tests.search_model import PATTERN, Workplace, write_pictures


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Three folders in one index, a broken picture in the second and in the third."""
    place = Workplace(tmp_path, 12)
    place.update()
    for number, name in enumerate(("second", "third"), start=1):
        folder = write_pictures(tmp_path / name, 6, first=100 * number)
        (folder / "broken.png").write_text("broken")
        place.run("index", folder, "--processes", 1)
    return place


def rows(place: Workplace) -> dict[str, bytes]:
    """The row of each picture by its whole path."""
    opened = open_state(place.index, lambda archive: archive)
    found = {}
    for table, segment in zip(opened.tables, opened.rows, strict=True):
        for each, position in zip(pictures_of(table), table["position"], strict=True):
            folder = opened.manifest.roots[each.root].path
            found[os.path.join(folder, each.path)] = np.array(segment[position]).tobytes()
    return found


def test_a_folder_leaves_with_all_that_is_known_of_it(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(place)
    capsys.readouterr()
    place.run("forget", tmp_path / "second")
    assert capsys.readouterr().out == f"{place.index}: 18 pictures: 6 forgotten\n"
    kept = {path: row for path, row in before.items() if "/second/" not in path}
    assert rows(place) == kept
    opened = open_state(place.index, lambda archive: archive)
    assert [Path(root.path).name for root in opened.manifest.roots] == ["pictures", "third"]
    assert [(each["root"], each["path"]) for each in opened.unreadable()] == [(1, "broken.png")]
    assert set(os.listdir(place.index)) == opened.manifest.files() | {"manifest.json", "lock"}
    place.run("index", place.pictures, tmp_path / "third", "--processes", 1)
    assert "18 pictures: 0 new, 0 changed, 0 gone, 1 unreadable" in capsys.readouterr().out


def test_several_folders_leave_also_those_that_are_gone(place: Workplace, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "third")
    place.run("forget", tmp_path / "third", place.pictures, tmp_path / "third")
    assert {Path(path).parts[-3] for path in rows(place)} == {"second"}
    place.run("forget", tmp_path / "second")
    assert rows(place) == {}
    assert open_lookup(place.index).find(np.eye(12, dtype=np.float32)[:1], 5) == [[]]
    place.update()
    assert len(rows(place)) == 12


def test_a_moved_archive_is_known_by_its_bytes(
    place: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old path may be a link to the new place; it names the old folder none the less."""
    before = rows(place)
    new = tmp_path / "elsewhere"
    shutil.move(place.pictures, new)
    place.pictures.symlink_to(new)
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "embed", None)  # nothing is embedded
        place.run("index", new, "--processes", 1, "--pattern", PATTERN)
    assert "12 new, 0 changed, 0 gone, 12 known by their bytes" in capsys.readouterr().out
    place.run("forget", place.pictures)
    old = f"{place.pictures}/"
    assert rows(place) == {path.replace(old, f"{new}/"): row for path, row in before.items()}


def test_what_is_no_folder_of_the_index_is_refused(place: Workplace, tmp_path: Path) -> None:
    before = rows(place)
    for folder in ("cam1", "."):
        with pytest.raises(InputError, match=r"is no folder of .*index; its folders: ") as error:
            place.run("forget", tmp_path / "second", place.pictures / folder / "..", "nowhere")
        for name in ("pictures", "second", "third"):
            assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
    assert rows(place) == before
    place.index = tmp_path / "none"
    with pytest.raises(InputError, match="holds no index"):
        place.run("forget", tmp_path / "second")
    assert not place.index.exists()


@pytest.mark.parametrize("step", ["replace_tables", "set_unreadable", "merge", "publish"])
def test_an_index_that_is_left_in_the_middle_is_the_one_before(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = rows(place)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"search.writer.Writer.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            place.run("forget", tmp_path / "second")
    assert rows(place) == before
    place.run("forget", tmp_path / "second")
    assert len(rows(place)) == 18


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_forgotten_rows_leave_an_approximate_index(
    place: Workplace, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few rows gone it stays and leaves them out, with many it is made anew."""
    monkeypatch.setattr(build, "FEWEST", 8)
    monkeypatch.setattr("search.lookup.FEW", 2)
    place.update("--kind", kind)
    for name, made in (("second", 24), ("third", 12)):
        place.run("forget", tmp_path / name)
        opened = open_lookup(place.index)
        state = opened.archive.manifest.index
        assert state is not None
        assert state["made"] == made
        found = opened.find(np.eye(12, dtype=np.float32)[:3], 24)
        assert [len(each) for each in found] == [opened.archive.count] * 3
