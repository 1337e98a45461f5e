"""Queries and galleries: laws, the selections of the reference and published ones, bad input."""

import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from stages.evaluate import sysu_mm01
from stages.evaluate.protocol import apply_split, evaluated_rows
from stages.evaluate.protocols import PROTOCOLS
from stages.parts.images.table import check_table
from stages.parts.run import settings

GOLD = Path(os.environ.get("VIREID_GOLD", Path(__file__).parents[2] / "shared" / "gold"))
# The data set's own lists and draws, which are not ours to copy.
OFFICIAL = GOLD.parent / "data" / "sysu_official"
SYSU, REGDB, LLCM = (PROTOCOLS[name] for name in ("sysu_mm01", "regdb", "llcm"))


def make_table(images, seed=None):
    """A table of (path, person, camera, modality, split), shuffled by `seed`."""
    if seed is not None:
        images = random.Random(seed).sample(images, len(images))
    table = pd.DataFrame(images, columns=["path", "person", "camera", "modality", "split"])
    table.insert(0, "row", range(len(table)))
    return check_table(table)


def sysu_image(camera, person, number, split=None):
    path = f"cam{camera}/{person:04d}/{number:04d}.jpg"
    if camera in (3, 6):
        return path, person, camera, "infrared", split or "query"
    return path, person, camera, "visible", split or "gallery"


def small_sysu(seed=None, persons=(3, 12, 40), count=4):
    """Three identities in six cameras; the first has no image in camera 4."""
    images = [
        sysu_image(camera, person, number)
        for person in persons
        for camera in range(1, 7)
        for number in range(1, count + camera)
        if (person, camera) != (persons[0], 4)
    ]
    return make_table([*images, sysu_image(1, 99, 1, "train"), sysu_image(2, 98, 1, "val")], seed)


@pytest.fixture(scope="module")
def official_table():
    """A table of the published test set's exact structure, out of the sizes of its permutations."""
    if not OFFICIAL.is_dir():
        pytest.skip(f"no official draws in {OFFICIAL}")
    cells = scipy.io.loadmat(OFFICIAL / "rand_perm_cam.mat")["rand_perm_cam"].ravel()
    images = []
    for person in scipy.io.loadmat(OFFICIAL / "test_id.mat")["id"].ravel().tolist():
        for camera in range(1, 7):
            count = cells[camera - 1].ravel()[person - 1].shape[1]
            images += [sysu_image(camera, person, number) for number in range(1, count + 1)]
    return make_table(images, seed=5)


def places(table, rows):
    return list(zip(table["person"].iloc[rows], table["camera"].iloc[rows], strict=True))


# ---- the table of protocols


def test_every_data_set_has_a_protocol_and_every_mode_belongs_to_one():
    assert tuple(PROTOCOLS) == settings.DATASETS
    assert [protocol.name for protocol in PROTOCOLS.values()] == list(settings.DATASETS)
    modes = {mode for protocol in PROTOCOLS.values() for mode in protocol.modes}
    assert modes == set(settings.MODES)


# ---- SYSU-MM01


@pytest.mark.parametrize("mode", ["all", "indoor"])
def test_sysu_selections_of_the_reference(gold, mode):
    expected = gold("otla/sysu_gallery.npz")
    tested = {int(person) for person in str(expected["test_id_txt"]).split(",")}
    images = []
    for path in expected["paths"].tolist():
        camera, person, _ = path.split("/")
        split = None if int(person) in tested else "train"
        image = sysu_image(int(camera.removeprefix("cam")), int(person), 0, split)
        images.append((path, *image[1:]))
    table = make_table(images)  # in the shuffled order of the files
    query = table.iloc[sysu_mm01.PROTOCOL.query_rows(table, mode)]
    assert sorted(query["path"]) == sorted(expected[f"query_{mode}"].tolist())
    for trial, selected in enumerate(expected[f"gallery_{mode}"]):
        rows = sysu_mm01.gallery_rows(table, mode, trial)
        assert rows.dtype == np.int64
        assert table["path"].iloc[rows].tolist() == selected.tolist()
        persons = table["person"].iloc[rows].tolist()
        assert persons == expected[f"gallery_id_{mode}"][trial].tolist()
        cameras = table["camera"].iloc[rows].tolist()
        assert cameras == expected[f"gallery_cam_{mode}"][trial].tolist()


@pytest.mark.parametrize(("mode", "count"), [("all", 301), ("indoor", 112)])
def test_sysu_published_counts(official_table, mode, count):
    path = OFFICIAL / "rand_perm_cam.mat"
    assert len(sysu_mm01.PROTOCOL.query_rows(official_table, mode)) == 3803
    assert len(sysu_mm01.gallery_rows(official_table, mode, 0)) == count
    for trial in (0, 9):
        rows = sysu_mm01.gallery_rows(official_table, mode, trial, 1, "official", path)
        assert len(rows) == len(set(rows.tolist())) == count
    assert len(official_table[official_table["split"] == "gallery"]) == 6775


def test_sysu_official_draws_are_the_first_of_the_permutation(official_table):
    cells = scipy.io.loadmat(OFFICIAL / "rand_perm_cam.mat")["rand_perm_cam"].ravel()
    path = OFFICIAL / "rand_perm_cam.mat"
    for trial, shots in ((0, 1), (7, 10)):
        rows = sysu_mm01.gallery_rows(official_table, "all", trial, shots, "official", path)
        chosen = official_table.iloc[rows]
        expected = [
            f"cam{camera}/{person:04d}/{number:04d}.jpg"
            for person in sorted(official_table["person"].unique())
            for camera in (1, 2, 4, 5)
            for number in cells[camera - 1].ravel()[person - 1][trial, :shots]
        ]
        assert chosen["path"].tolist() == expected


@pytest.mark.parametrize("shots", [1, 3, 10])
def test_sysu_draws_so_many_of_each_identity_and_camera(shots):
    table = small_sysu()
    sizes = table[table["split"] == "gallery"].groupby(["person", "camera"]).size()
    rows = sysu_mm01.gallery_rows(table, "all", 4, shots)
    assert len(set(rows.tolist())) == len(rows)
    drawn = pd.Series(places(table, rows)).value_counts(sort=False)
    assert drawn.to_dict() == sizes.clip(upper=shots).to_dict()
    assert list(drawn.index) == sorted(drawn.index)
    assert (3, 4) not in drawn  # "if the folder exists"


def test_sysu_draws_depend_on_the_trial_alone():
    state = random.getstate()

    def ten_draws(table):
        rows = [sysu_mm01.gallery_rows(table, "all", trial) for trial in range(10)]
        return [table["path"].iloc[draw].tolist() for draw in rows]

    draws = ten_draws(small_sysu())
    assert draws == ten_draws(small_sysu(seed=8))
    assert len({tuple(draw) for draw in draws}) > 1
    assert random.getstate() == state


def test_sysu_camera_3_never_meets_camera_2():
    queries, gallery = np.array([3, 6, 3]), np.array([1, 2, 4, 5])
    expected = [[False, True, False, False], [False] * 4, [False, True, False, False]]
    assert sysu_mm01.excluded_pairs(queries, gallery).tolist() == expected
    table = small_sysu()
    query, rows = (
        sysu_mm01.PROTOCOL.query_rows(table, "all"),
        sysu_mm01.gallery_rows(table, "all", 0),
    )
    cameras = table["camera"].to_numpy()
    expected = (cameras[query][:, None] == 3) & (cameras[rows] == 2)
    np.testing.assert_array_equal(SYSU.excluded(table, query, rows), expected)


def test_sysu_a_camera_without_images_gives_none():
    def without_camera(table, camera):
        kept = table[table["camera"] != camera].reset_index(drop=True)
        return kept.assign(row=range(len(kept)))

    less = without_camera(small_sysu(), 1)
    assert {camera for _, camera in places(less, sysu_mm01.gallery_rows(less, "indoor", 0))} == {2}
    none = without_camera(less, 2)
    with pytest.raises(ValueError, match="mode indoor: no gallery image from cameras 1, 2"):
        sysu_mm01.gallery_rows(none, "indoor", 0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_unknown_modes(name):
    protocol = PROTOCOLS[name]
    wrong = "outdoor" if name == "sysu_mm01" else "all"
    message = f"evaluate.modes: {name} has {', '.join(protocol.modes)}; it has no {wrong}"
    with pytest.raises(ValueError, match=message):
        protocol.query_rows(small_sysu(), wrong)
    with pytest.raises(ValueError, match=message):
        protocol.gallery_rows(small_sysu(), wrong, 0)


def permutation_file(path, change=None):
    """`rand_perm_cam.mat` that fits `small_sysu`."""
    table = small_sysu()
    sizes = table.groupby(["camera", "person"]).size().to_dict()
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        cells[camera, 0] = np.empty((40, 1), dtype=object)
        for person in range(40):
            numbers = np.arange(1, sizes.get((camera + 1, person + 1), 0) + 1, dtype=np.uint8)
            cells[camera, 0][person, 0] = np.tile(numbers[::-1], (10, 1)).reshape(10, -1)
    scipy.io.savemat(path, {"rand_perm_cam": cells if change is None else change(cells)})
    return path


def test_official_draws_in_a_small_table(tmp_path):
    table, path = small_sysu(seed=3), permutation_file(tmp_path / "draws.mat")
    rows = sysu_mm01.gallery_rows(table, "indoor", 9, 2, "official", path)
    assert table["path"].iloc[rows].tolist()[:4] == [
        "cam1/0003/0004.jpg",
        "cam1/0003/0003.jpg",
        "cam2/0003/0005.jpg",
        "cam2/0003/0004.jpg",
    ]


def cut(cells):
    cells[0, 0][11, 0] = cells[0, 0][11, 0][:, 1:]
    return cells


def renumbered(cells):
    cells[0, 0][11, 0] = cells[0, 0][11, 0] + 1
    return cells


def floats(cells):
    cells[5, 0][0, 0] = np.ones((10, 2)) / 2
    return cells


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "identity 12, camera 1: 3 images there, 4 in the data set"),
        (renumbered, "identity 12, camera 1: the data set has no image number 5"),
        (floats, "expected rand_perm_cam, 6 cells .* found float64 .10, 2.: camera 6, identity 1"),
        (lambda cells: cells[:5], "expected rand_perm_cam, 6 cells .* found object of 5"),
        (lambda cells: np.eye(3), "expected rand_perm_cam, 6 cells .* found float64 of 9"),
        (lambda cells: np.arange(6), "expected rand_perm_cam, 6 cells .* found int64 of 6"),
    ],
)
def test_official_draws_that_do_not_fit(tmp_path, change, message):
    path = permutation_file(tmp_path / "draws.mat", change)
    with pytest.raises(ValueError, match=message) as caught:
        sysu_mm01.gallery_rows(small_sysu(), "all", 0, draws="official", permutations=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_official_draws_that_cannot_be_read(tmp_path):
    table, path = small_sysu(), tmp_path / "draws.mat"
    message = r"evaluate.official_draws: .*draws.mat is not here"
    with pytest.raises(FileNotFoundError, match=message):
        sysu_mm01.gallery_rows(table, "all", 0, draws="official", permutations=path)
    path.write_text("no matrix\n" * 40)
    with pytest.raises(ValueError, match=r"draws.mat is not a MATLAB 5 file"):
        sysu_mm01.gallery_rows(table, "all", 0, draws="official", permutations=path)
    scipy.io.savemat(path, {"test_id": np.eye(3)})
    message = r"official_draws: .*draws.mat: no variable rand_perm_cam there, only .*test_id"
    with pytest.raises(ValueError, match=message):
        sysu_mm01.gallery_rows(table, "all", 0, draws="official", permutations=path)
    with pytest.raises(ValueError, match=r"evaluate.official_draws is empty"):
        sysu_mm01.gallery_rows(table, "all", 0, draws="official")
    with pytest.raises(ValueError, match=r"evaluate.draws: 'mine' is not one of agw, official"):
        sysu_mm01.gallery_rows(table, "all", 0, draws="mine")
    permutation_file(path)
    with pytest.raises(ValueError, match="10 permutations, draw 10"):
        sysu_mm01.gallery_rows(table, "all", 10, draws="official", permutations=path)


# ---- the validation identities in place of the test identities


def with_validation(persons=(5, 7)):
    """Three test identities, two validation identities in the same six cameras."""
    test = small_sysu().query("split != 'val'").drop(columns="row").to_numpy().tolist()
    held_out = [
        sysu_image(camera, person, number, "val")
        for person in persons
        for camera in range(1, 7)
        for number in (1, 2)
    ]
    return make_table([*test, *held_out], seed=2)


def test_the_test_split_is_the_table_itself():
    table = small_sysu()
    assert apply_split("sysu_mm01", table, "test") is table


def test_validation_identities_by_the_same_protocol():
    table = with_validation()
    view = apply_split("sysu_mm01", table, "val")
    assert view["row"].tolist() == table["row"].tolist()
    query, gallery = (
        sysu_mm01.PROTOCOL.query_rows(view, "all"),
        sysu_mm01.gallery_rows(view, "all", 0),
    )
    assert set(table["split"].iloc[[*query, *gallery]]) == {"val"}
    expected = [(person, camera) for person in (5, 7) for camera in (3, 3, 6, 6)]
    assert sorted(places(table, query)) == expected
    assert places(table, gallery)[:4] == [(5, 1), (5, 2), (5, 4), (5, 5)]
    assert len(evaluated_rows(view)) == 2 * 6 * 2
    # the table that was passed in has not changed
    assert set(table["split"]) == {"query", "gallery", "train", "val"}


@pytest.mark.parametrize(
    ("dataset", "cameras"), [("regdb", {"visible": [1], "infrared": [2]}), ("llcm", {})]
)
def test_data_sets_without_validation_identities(dataset, cameras):
    table = two_way(cameras or {"visible": [1, 2, 3], "infrared": [1, 2]})
    table = table[table["split"] != "val"].reset_index(drop=True)
    message = f"evaluate.split: val: this {dataset} data set has no validation images"
    with pytest.raises(ValueError, match=message) as bad:
        apply_split(dataset, table, "val")
    assert "\n" not in str(bad.value)


# ---- RegDB and LLCM


def two_way(cameras, count=3):
    """Identities 0 to 4 in both modalities, with one image each to train and to validate on.

    Infrared images are `query`, visible ones `gallery`.
    """
    images = [
        (f"{modality}/{person}/{camera}/{number}.bmp", person, camera, modality, split)
        for person in range(5)
        for modality, split in (("visible", "gallery"), ("infrared", "query"))
        for camera in cameras[modality]
        for number in range(count)
    ]
    images.append(("train/0.bmp", 77, 1, "visible", "train"))
    images.append(("val/0.bmp", 78, 1, "infrared", "val"))
    return make_table(images, 6)


DIRECTIONS = [
    ("infrared_to_visible", "infrared", "visible"),
    ("visible_to_infrared", "visible", "infrared"),
]


@pytest.mark.parametrize(("mode", "start", "end"), DIRECTIONS)
def test_regdb_all_against_all(mode, start, end):
    table = two_way({"visible": [1], "infrared": [2]})
    query, gallery = REGDB.query_rows(table, mode), REGDB.gallery_rows(table, mode, 0)
    assert len(query) == len(gallery) == 15
    assert set(table["modality"].iloc[query]) == {start}
    assert set(table["modality"].iloc[gallery]) == {end}
    assert not set(table["person"].iloc[np.concatenate([query, gallery])]) & {77, 78}
    np.testing.assert_array_equal(gallery, REGDB.gallery_rows(table, mode, 3, shots=5))
    assert REGDB.excluded is None
    assert not REGDB.unique_ids


@pytest.mark.parametrize(("mode", "start", "end"), DIRECTIONS)
def test_llcm_draws_one_image_of_each_identity_and_camera(mode, start, end):
    cameras = {"visible": [1, 2, 3], "infrared": [1, 2]}
    table = two_way(cameras)
    query = LLCM.query_rows(table, mode)
    assert len(query) == 5 * 3 * len(cameras[start])
    assert set(table["modality"].iloc[query]) == {start}
    seen = set()
    for trial in range(LLCM.draws):
        gallery = LLCM.gallery_rows(table, mode, trial)
        assert set(table["modality"].iloc[gallery]) == {end}
        expected = [(person, camera) for person in range(5) for camera in cameras[end]]
        assert places(table, gallery) == expected
        seen.add(tuple(gallery))
    assert len(seen) > 1
    assert len(LLCM.gallery_rows(table, mode, 0, shots=2)) == 2 * len(gallery)


def test_llcm_excludes_the_same_identity_in_the_same_camera():
    table = two_way({"visible": [1, 2, 3], "infrared": [1, 2]})
    query = LLCM.query_rows(table, "infrared_to_visible")
    gallery = LLCM.gallery_rows(table, "infrared_to_visible", 0)
    excluded = LLCM.excluded(table, query, gallery)
    gallery_places = places(table, gallery)
    expected = [[here == there for there in gallery_places] for here in places(table, query)]
    assert excluded.tolist() == expected
    assert excluded.sum() == len(query)


@pytest.mark.parametrize("protocol", [REGDB, LLCM], ids=["regdb", "llcm"])
def test_two_way_bad_input(protocol):
    table = two_way({"visible": [1], "infrared": []})
    with pytest.raises(ValueError, match="mode visible_to_infrared: no infrared test image"):
        protocol.gallery_rows(table, "visible_to_infrared", 0)
    with pytest.raises(ValueError, match=r"evaluate.draws: \w+ has no official gallery draws"):
        protocol.gallery_rows(table, "infrared_to_visible", 0, 1, "official", Path("x.mat"))
