"""`python -m search query`: the right pictures in the right order, whatever the kind of index."""

import json
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from search import build, lookup
from search.__main__ import _query_row
from search.archive import open_state, pictures_of
from search.build import recall
from search.embedding import Embedder
from search.facts import Moment, moment
from search.indexes.approximate import Approximate
from search.indexes.flat import Flat
from search.indexes.protocol import Index, Neighbors
from search.lookup import Filter, Lookup, open_lookup
from search.model import open_model
from stages.parts.run.stage import InputError
from tests.search_model import PATTERN, Workplace, picture, write_model, write_pictures

Lance: Any = None
with suppress(InputError):  # the package is optional
    from search.indexes.lance import Lance
needs_lance = pytest.mark.skipif(Lance is None, reason="lancedb is not installed")
DIMENSIONS = 16
KINDS = ("flat", "ivf", "hnsw", pytest.param("lance", marks=needs_lance))


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def expected(queries: np.ndarray, ids: np.ndarray, rows: np.ndarray, count: int) -> list[list[int]]:
    """The ids of the nearest rows, by a full sort."""
    return ids[np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :count]].tolist()


# Indexes


def new_index(kind: str, folder: Path, rows: np.ndarray) -> Index:
    if kind == "flat":
        return Flat()
    if kind == "lance":
        return Lance.new(folder, "000001", DIMENSIONS)
    index = Approximate.new(kind, rows, len(rows))
    index.effort = 512
    return index


@pytest.mark.parametrize("kind", KINDS)
def test_every_index_adds_removes_filters_and_is_read_again(kind: str, tmp_path: Path) -> None:
    """With an effort that leaves nothing out, an approximate index gives the exact answer."""
    rows, queries = unit_rows(3000), unit_rows(5, seed=1)
    ids = np.arange(3000) * 2 + 7
    index = new_index(kind, tmp_path, rows)
    index.add(ids[:1000], rows[:1000])
    index.add(ids[1000:], rows[1000:])
    assert index.search(queries, 9).ids.tolist() == expected(queries, ids, rows, 9)
    found = index.search(queries, 9)
    np.testing.assert_allclose(
        found.similarity, -np.sort(-(queries @ rows.T), axis=1)[:, :9], atol=1e-5
    )

    kept = np.arange(3000) % 5 > 0
    index.remove(ids[~kept])
    assert index.ids().tolist() == ids[kept].tolist()
    assert index.search(queries, 9).ids.tolist() == expected(queries, ids[kept], rows[kept], 9)
    allowed = np.arange(3000) % 3 == 0
    both = kept & allowed
    answer = index.search(queries, 9, ids[allowed]).ids.tolist()
    assert answer == expected(queries, ids[both], rows[both], 9)

    state = index.save(tmp_path, "000002")
    if kind == "flat":
        return  # its rows are the archive's
    opened: Index = (
        Lance.load(tmp_path, state, False)
        if kind == "lance"
        else Approximate.load(kind, tmp_path, state)
    )
    assert opened.ids().tolist() == ids[kept].tolist()
    assert opened.search(queries, 9).ids.tolist() == expected(queries, ids[kept], rows[kept], 9)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_rows_than_asked_for_end_in_nothing(kind: str, tmp_path: Path) -> None:
    rows = unit_rows(500)
    index = new_index(kind, tmp_path, rows)
    index.add(np.arange(500), rows)
    found = index.search(rows[:2], 4, np.array([3, 5]))
    assert found.ids.tolist()[0][2:] == [-1, -1]
    assert sorted(found.ids.tolist()[1][:2]) == [3, 5]
    assert np.isneginf(found.similarity[:, 2:]).all()
    none = index.search(rows[:2], 4, np.empty(0, np.int64))
    assert (none.ids == -1).all()
    assert index.search(rows[:0], 4).ids.shape == (0, 4)


@needs_lance
def test_what_a_killed_process_added_to_lance_is_taken_back(tmp_path: Path) -> None:
    rows = unit_rows(20)
    index = Lance.new(tmp_path, "000001", DIMENSIONS)
    index.add(np.arange(10), rows[:10])
    state = index.save(tmp_path, "")
    index.add(np.arange(10, 20), rows[10:])
    assert Lance.load(tmp_path, state, writes=False).ids().tolist() == list(range(10))
    assert Lance.load(tmp_path, state, writes=True).ids().tolist() == list(range(10))
    assert Lance.load(tmp_path, state, writes=False).ids().tolist() == list(range(10))


def test_equal_similarities_are_listed_by_id() -> None:
    index = Flat()
    index.add(np.array([4, 9]), unit_rows(1).repeat(2, axis=0))
    index.add(np.array([2, -1, 3]), unit_rows(1).repeat(3, axis=0))
    assert index.search(unit_rows(1), 3).ids.tolist() == [[2, 3, 4]]


def test_recall_counts_rows_that_are_as_similar_as_the_last_true_one() -> None:
    def row(ids: list[int], similarity: list[float]) -> Neighbors:
        return Neighbors(np.array([ids]), np.array([similarity], np.float32))

    exact = row([7, 1, 2], [1, 0.9, 0.8])
    own = np.array([7])
    assert recall(exact, exact, own, 2) == 1
    assert recall(row([7, 1, 5], [1, 0.9, 0.8]), exact, own, 2) == 1
    assert recall(row([7, 1, 5], [1, 0.9, 0.7]), exact, own, 2) == 0.5
    assert recall(row([7, -1, -1], [1, -np.inf, -np.inf]), exact, own, 2) == 0


# Archives


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr(build, "FEWEST", 100)
    monkeypatch.setattr(lookup, "FEW", 20)
    return Workplace(tmp_path, 300)


def everything(opened: Lookup) -> dict[str, np.ndarray]:
    """The row of each picture, by its path."""
    rows = {}
    for table, segment in zip(opened.archive.tables, opened.archive.rows, strict=True):
        for each, position in zip(pictures_of(table), table["position"], strict=True):
            rows[each.path] = np.array(segment[position])
    return rows


FILTERS = {
    "all": Filter(),
    "two cameras": Filter(cameras=("1", "3")),
    "not one": Filter(not_cameras=("1",)),
    "times": Filter(start=Moment(40, False), end=Moment(220, False)),
    "few": Filter(cameras=("2",), start=Moment(290, False)),
    "nothing": Filter(start=Moment(500, False)),
}


def passes(path: str, chosen: Filter) -> bool:
    camera, time = path[3], float(path[5:11])
    start = chosen.start.value if chosen.start else -np.inf
    end = chosen.end.value if chosen.end else np.inf
    of_cameras = not chosen.cameras or camera in chosen.cameras
    return of_cameras and camera not in chosen.not_cameras and start <= time <= end


@pytest.mark.parametrize("kind", KINDS)
def test_filters_choose_among_all_pictures(kind: str, place: Workplace) -> None:
    place.update("--pattern", PATTERN, "--kind", kind)
    for path in sorted(place.pictures.rglob("*.png"))[::7]:
        path.unlink()
    write_pictures(place.pictures, 40, first=300)
    place.update()
    opened = open_lookup(place.index)
    assert (opened.archive.manifest.index is None) == (kind == "flat")
    rows = everything(opened)
    queries = np.stack([rows["cam1/000003.png"], rows["cam2/000301.png"]])
    for name, chosen in FILTERS.items():
        paths = sorted(path for path in rows if passes(path, chosen))
        for query, found in zip(queries, opened.find(queries, 12, chosen), strict=True):
            best = sorted(-float(query @ rows[path]) for path in paths)[:12]
            assert [each.rank for each in found] == list(range(1, len(best) + 1)), name
            assert {each.picture.path for each in found} <= set(paths), name
            similarity = [-each.similarity for each in found]
            np.testing.assert_allclose(similarity, best, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_is_measured_and_printed(
    kind: str, place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    place.update("--kind", kind)
    assert f"{kind}: recall@10 " in capsys.readouterr().out
    state = open_state(place.index, lambda opened: opened.manifest.index)
    assert state is not None
    assert state["recall"] >= build.ENOUGH
    place.update()  # nothing has changed: the index stays, and its recall
    assert open_state(place.index, lambda opened: opened.manifest.index) == state
    place.update("--kind", "flat")
    assert open_state(place.index, lambda opened: opened.manifest.index) is None


def test_an_index_is_made_anew_when_much_has_left_or_come(place: Workplace) -> None:
    place.update("--kind", "ivf")

    def made() -> int:
        state = open_state(place.index, lambda opened: opened.manifest.index)
        assert state is not None
        return int(state["made"])

    assert made() == 300
    write_pictures(place.pictures, 10, first=300)
    place.update()
    assert made() == 300
    for path in sorted(place.pictures.rglob("*.png"))[:150]:
        path.unlink()
    place.update()
    assert made() == 160


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("name", ["*.faiss", "*.ids.npy"])
def test_a_damaged_approximate_index_costs_no_row(kind: str, name: str, place: Workplace) -> None:
    place.update("--kind", kind)
    path = next(place.index.glob(name))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"index with --kind flat, then with --kind {kind}"):
        place.run("query", place.pictures / "cam1/000000.png")
    place.update("--kind", "flat")
    place.update("--kind", kind)
    assert open_lookup(place.index).archive.count == 300


@pytest.mark.parametrize("kind", ["hnsw", pytest.param("lance", marks=needs_lance)])
def test_a_full_disk_ends_in_one_line_when_an_index_is_written(
    kind: str, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Error in f at f.cpp:1: Error: 'r' failed: No space left on device")

    of_lance = "lancedb.table.LanceTable.add"
    monkeypatch.setattr(of_lance if kind == "lance" else "faiss.write_index", fail)
    with pytest.raises((OSError, InputError), match="No space left on device"):
        place.update("--kind", kind)
    assert open_lookup(place.index).archive.count == 300


def test_few_pictures_are_searched_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workplace(tmp_path)
    place.update("--kind", "hnsw")
    assert "hnsw: fewer than 1,024 pictures are searched exactly" in capsys.readouterr().out
    assert len(open_lookup(place.index).find(unit_rows(1)[:, :12], 40)[0]) == 30


def test_a_checkpoint_is_searched_whole(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The approximate index lacks what a run that was killed has published, and holds what left."""
    place.update("--kind", "hnsw")
    for path in sorted(place.pictures.rglob("*.png"))[:50]:
        path.unlink()
    write_pictures(place.pictures, 60, first=300)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.writer.Writer.merge", stop)
    with pytest.raises(KeyboardInterrupt):
        place.update()
    opened = open_lookup(place.index)
    rows = everything(opened)
    assert len(rows) == 310
    for path in ("cam1/000303.png", "cam2/000298.png"):
        found = opened.find(rows[path][None], 20)[0]
        assert found[0].picture.path == path
        best = sorted(-float(rows[path] @ row) for row in rows.values())[:20]
        np.testing.assert_allclose([-each.similarity for each in found], best, atol=1e-5)


# The command


def test_the_table_names_what_was_found(
    place: Workplace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.update("--pattern", PATTERN)
    monkeypatch.chdir(place.pictures.parent)
    capsys.readouterr()
    place.run("query", "pictures/cam2/000007.png", "--top", 3, "--camera", "2,3")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pictures/cam2/000007.png: 3 of 300 pictures"
    assert lines[1].split() == ["rank", "similarity", "camera", "time", "path"]
    assert lines[2].split() == ["1", "1.0000", "2", "000007", "pictures/cam2/000007.png"]
    assert len(lines) == 5

    place.run("query", "pictures/cam2/000007.png", "pictures/cam1/000000.png", "--json")
    first, second = json.loads(capsys.readouterr().out)
    assert (first["query"], second["query"]) == (
        "pictures/cam2/000007.png",
        "pictures/cam1/000000.png",
    )
    assert len(second["results"]) == 20
    top = dict(second["results"][0])
    assert top.pop("similarity") == pytest.approx(1, abs=1e-5)
    assert top == {
        "rank": 1,
        "camera": "1",
        "time": "000000",
        "modality": "visible",
        "path": "pictures/cam1/000000.png",
    }


def test_a_query_is_infrared_unless_it_is_said_to_be_visible(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(place.model, two_stream=True)
    place.update("--infrared", "cam3")
    image = place.pictures / "cam3/000002.png"

    def first(*words: str) -> float:
        capsys.readouterr()
        place.run("query", image, "--json", "--top", 300, *words)
        results = json.loads(capsys.readouterr().out)[0]["results"]
        return max(each["similarity"] for each in results if each["path"] == str(image))

    assert first() == pytest.approx(1, abs=1e-5)
    assert first("--visible") < 0.99


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--camera", "9"], "no picture is of camera '9'; cameras: 1, 2, 3"),
        (["--not-camera", "1,x"], "no picture is of camera 'x'"),
        (["--from", "2026-01-31"], "no picture has a date as its time"),
    ],
)
def test_a_filter_that_no_picture_can_pass_is_refused(
    place: Workplace, words: list[str], line: str
) -> None:
    place.update("--pattern", PATTERN)
    with pytest.raises(InputError, match=line):
        place.run("query", place.pictures / "cam1/000000.png", *words)


def test_a_camera_may_have_a_comma_in_its_name(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "facts.csv"
    names = {"cam1/000000.png": "yard, north", "cam2/000001.png": '"x"', "cam3/000002.png": "gate"}
    cells = {name: name for name in names.values()} | {'"x"': '"""x"""'}
    lines = [f"{path};{cells[name]}" for path, name in names.items()]
    table.write_text("\n".join(["path;camera", *lines]))
    place.update("--table", table)
    query = place.pictures / "cam1/000003.png"

    def cameras(*words: str) -> set[str]:
        capsys.readouterr()
        place.run("query", query, "--json", *words)
        return {each["camera"] for each in json.loads(capsys.readouterr().out)[0]["results"]}

    assert cameras("--camera", 'gate,"yard, north"') == {"gate", "yard, north"}
    assert cameras("--camera", '"yard, north"', "--camera", '"""x""", gate') == set(names.values())
    with pytest.raises(InputError, match=r'cameras: """x""", gate, "yard, north"$'):
        place.run("query", query, "--camera", "yard, north")
    for wrong in ('"gate', " , ", ""):
        with pytest.raises(SystemExit):
            place.run("query", query, "--camera", wrong)


def test_what_cannot_be_searched_ends_in_one_line(place: Workplace, tmp_path: Path) -> None:
    query = place.pictures / "cam1/000000.png"
    with pytest.raises(InputError, match="holds no index; python -m search index FOLDER"):
        place.run("query", query)
    place.update()
    with pytest.raises(InputError, match=r"missing.png is not here"):
        place.run("query", tmp_path / "missing.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(query.read_bytes()[:50])
    with pytest.raises(InputError, match=r"broken.png is not a readable image"):
        place.run("query", broken)


def test_another_model_is_refused(place: Workplace) -> None:
    place.update()
    write_model(place.model, seed=5)
    for words in (["query", place.pictures / "cam1/000000.png"], ["index", place.pictures]):
        with pytest.raises(InputError, match="was made with another model: files") as error:
            place.run(*words)
        assert "\n" not in str(error.value)
    with (place.model / "network.onnx").open("ab") as opened:
        opened.write(b"\0")
    with pytest.raises(InputError, match=r"network.onnx has changed since it was written"):
        place.update()


def test_times_are_numbers_or_dates() -> None:
    assert moment("") is None
    assert moment("2026-01-31T18:00+02:00") == moment("2026-01-31 16:00")
    for text in ("noon", "9" * 400, "1e3"):
        with pytest.raises(ValueError, match="time"):
            moment(text)


def test_queries_and_pictures_are_the_same_picture(place: Workplace, tmp_path: Path) -> None:
    """A query of another size and format than the network's input is resized as pictures are."""
    place.update()
    picture(42, side=3).save(tmp_path / "large.bmp")
    opened = open_lookup(place.index)
    row = everything(opened)["cam1/000042.png"]
    large = _query_row(Embedder(open_model(place.model), "onnx"), tmp_path / "large.bmp", True)[0]
    assert float(large @ row) > 0.99


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_process_that_lets_faiss_take_tensors_searches_too(kind: str, tmp_path: Path) -> None:
    """faiss.contrib.torch_utils puts a search without parameters in the place of faiss's own."""
    import_module("faiss.contrib.torch_utils")  # for the rest of this process: the last test
    rows, ids = unit_rows(3000), np.arange(3000)
    index = new_index(kind, tmp_path, rows)
    index.add(ids, rows)
    even = ids[::2]
    found = index.search(rows[:5], 9, allowed=even)
    assert found.ids.tolist() == expected(rows[:5], even, rows[::2], 9)
