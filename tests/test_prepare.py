"""From the data sets' trees to the image store: order, splits, what is refused and written."""

import hashlib
import io
import random
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import ExifTags, Image, ImageOps

from stages.parts.images.store import ImageStore
from stages.parts.images.table import read_table
from stages.parts.run import files, settings
from stages.parts.run.files import read_json
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import InputError
from stages.prepare import (
    __main__,
    bounding_boxes,
    build,
    counts,
    dukemtmc,
    llcm,
    market1501,
    msmt17,
    regdb,
    source,
    sysu_mm01,
)
from stages.prepare.decode import Decoded, read_image
from stages.prepare.readers import SOURCES, TARGETS, read_checked, tree_reader
from stages.prepare.tree import TEST_OFFSET, ImageFile, find_tree, table_of

Gold = Callable[[str], Any]
PARAMS = Path(__file__).parents[1] / "params.yaml"


def write_image(
    path: Path, value: int = 100, size: tuple[int, int] = (10, 20), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, value if mode != "RGB" else (value, value // 2, 7))
    image.save(path, format="PNG" if path.suffix == ".jpg" else None)


def write_images(root: Path, paths: Iterable[str]) -> None:
    for number, path in enumerate(paths):
        write_image(root / path, value=number % 250)


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def sysu(tmp_path: Path) -> Path:
    """Six identities: 30, 4, 12 for training, 9 for validation, 7, 500 for the test.

    Not every camera sees everyone.
    """
    root = tmp_path / "raw" / "SYSU-MM01"
    write_lines(root / "exp/train_id.txt", "30,4,12")
    write_lines(root / "exp/val_id.txt", "9")
    write_lines(root / "exp/test_id.txt", "500,7")
    cameras = {4: (1, 2, 3), 9: (5, 6), 12: (1, 4, 3, 6), 30: (2, 6), 7: (1, 3, 6), 500: (2, 4, 6)}
    names = ("0002.jpg", "0001.jpg")
    write_images(
        root, (f"cam{c}/{p:04d}/{n}" for p, seen in cameras.items() for c in seen for n in names)
    )
    return root


@pytest.fixture
def regdb_tree(tmp_path: Path) -> Path:
    """Split 2: identities 8, 3 for training and 5, 11 for the test, labels from 0.

    Each has two images in each modality.
    """
    root = tmp_path / "raw" / "RegDB"
    for split, persons in (("train", (8, 3)), ("test", (5, 11))):
        for kind in ("visible", "thermal"):
            paths = [
                (f"{kind.title()}/{p}/male_front_{kind[0]}_0{i}_{p}.bmp", label)
                for label, p in enumerate(persons)
                for i in (2, 1)
            ]
            write_images(root, (path for path, _ in paths))
            write_lines(
                root / f"idx/{split}_{kind}_2.txt", *(f"{path} {label}" for path, label in paths)
            )
    return root


@pytest.fixture
def llcm_tree(tmp_path: Path) -> Path:
    root = tmp_path / "raw" / "LLCM"
    for kind, cameras in (("vis", (3, 9)), ("nir", (4, 6))):
        paths = [
            (f"{kind}/{p:04d}/{p:04d}_c{c:02d}_s1000_f{c}_{kind}.jpg", label)
            for label, p in enumerate((351, 20))
            for c in cameras
        ]
        write_images(root, (path for path, _ in paths))
        write_lines(root / f"idx/train_{kind}.txt", *(f"{path} {label}" for path, label in paths))
        write_images(
            root,
            (
                f"test_{kind}/cam{c}/{p:04d}/{p:04d}_c{c:02d}_{kind}.jpg"
                for p in (1, 2)
                for c in cameras
            ),
        )
    (root / "test_nir/cam3/0001").mkdir(parents=True)  # the real tree has such an empty folder
    write_lines(root / "idx/test_id.txt", "2,1")
    return root


@pytest.fixture
def market(tmp_path: Path) -> Path:
    root = tmp_path / "raw" / "Market-1501-v15.09.15"
    train = (
        "0007_c2s1_000002_01.jpg",
        "0007_c1s1_000001_01.jpg",
        "0002_c6s3_000003_01.jpg",
        "-1_c1s1_000009_00.jpg",
    )
    test = ("-1_c1s1_000401_03.jpg", "0000_c3s2_000010_02.jpg", "0005_c2s1_000020_01.jpg")
    write_images(root / "bounding_box_train", [*train, "0000_c1s1_000008_00.jpg"])
    write_images(root / "bounding_box_test", test)
    write_images(root / "query", ["0005_c1s1_000030_00.jpg"])
    (root / "bounding_box_test" / "Thumbs.db").write_text("no image")
    return root


def columns(table: pd.DataFrame, split: str, modality: str) -> list[tuple[int, int, str]]:
    rows = table[(table["split"] == split) & (table["modality"] == modality)]
    return list(zip(rows["person"], rows["camera"], rows["path"], strict=True))


# --- readers: order, splits, identities -----------------------------------------------------------


def test_sysu_lists_identities_then_cameras_then_names(sysu: Path) -> None:
    table = sysu_mm01.read(sysu)
    training = table[table["split"].isin(["train", "val"])]
    training = training.assign(infrared=training["modality"] == "infrared")
    keys = training[["infrared", "person", "camera", "path"]].to_numpy().tolist()
    assert keys == sorted(keys)
    assert sorted(training["person"].unique()) == [4, 9, 12, 30]
    assert set(training.loc[training["split"] == "val", "person"]) == {9}
    assert columns(table, "query", "infrared") == [
        (p, c, f"cam{c}/{p:04d}/{n}.jpg")
        for p, c in ((7, 3), (7, 6), (500, 6))
        for n in ("0001", "0002")
    ]
    assert columns(table, "gallery", "visible") == [
        (p, c, f"cam{c}/{p:04d}/{n}.jpg")
        for p, c in ((7, 1), (500, 2), (500, 4))
        for n in ("0001", "0002")
    ]
    assert len(table) == 34
    assert (table.loc[table["modality"] == "infrared", "camera"].isin([3, 6])).all()


def test_sysu_takes_image_files_only(sysu: Path) -> None:
    before = sysu_mm01.read(sysu)
    for name in ("._0001.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (sysu / "cam1/0004" / name).write_text("not an image")
    (sysu / "cam1/0004/folder.jpg").mkdir()
    pd.testing.assert_frame_equal(sysu_mm01.read(sysu), before)
    write_image(sysu / "cam1/0004/0003.PNG")
    assert "cam1/0004/0003.PNG" in set(sysu_mm01.read(sysu)["path"])


def test_sysu_validation_may_be_empty_and_identities_need_not_be_in_order(sysu: Path) -> None:
    write_lines(sysu / "exp/val_id.txt", "")
    write_lines(sysu / "exp/train_id.txt", " 12, 30,4,30,")
    assert sorted(sysu_mm01.read(sysu).query("split == 'train'")["person"].unique()) == [4, 12, 30]


def test_regdb_keeps_people_of_both_splits_apart(regdb_tree: Path) -> None:
    table = regdb.read(regdb_tree, trial=2)
    assert columns(table, "train", "visible") == [
        (p, 1, f"Visible/{p}/male_front_v_0{i}_{p}.bmp") for p in (8, 3) for i in (2, 1)
    ]
    assert set(table.query("split == 'train' and modality == 'infrared'")["person"]) == {8, 3}
    assert {(p, c) for p, c, _ in columns(table, "query", "infrared")} == {(5, 2), (11, 2)}
    assert {(p, c) for p, c, _ in columns(table, "gallery", "visible")} == {(5, 1), (11, 1)}
    assert len(table) == 16
    assert table["split"].drop_duplicates().tolist() == ["train", "query", "gallery"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("{kind}", "{kind}", id="folders without number"),
        pytest.param("{kind}/7", "{kind}/7", id="two people in a folder"),
        pytest.param("{kind}/{length}", "{kind}/1", id="modalities disagree"),
    ],
)
def test_regdb_falls_back_on_labels_where_folders_do_not_tell_people_apart(
    tmp_path: Path, first: str, second: str
) -> None:
    for split in ("train", "test"):
        for kind in ("visible", "infra"):
            folders = [folder.format(kind=kind, length=len(kind)) for folder in (first, second)]
            lines = [
                f"{folder}/{split}_{label}.bmp {label}" for label, folder in enumerate(folders)
            ]
            write_lines(tmp_path / f"idx/{split}_{kind.replace('infra', 'thermal')}_1.txt", *lines)
    table = regdb.read(tmp_path, trial=1)
    assert set(table.query("split == 'train'")["person"]) == {0, 1}
    assert set(table.query("split != 'train'")["person"]) == {TEST_OFFSET, TEST_OFFSET + 1}


def test_llcm_finds_identity_and_camera_in_the_path(llcm_tree: Path) -> None:
    table = llcm.read(llcm_tree)
    for split, modality, expected in (
        ("train", "visible", [(351, 3), (351, 9), (20, 3), (20, 9)]),
        ("train", "infrared", [(351, 4), (351, 6), (20, 4), (20, 6)]),
        ("query", "infrared", [(1, 4), (1, 6), (2, 4), (2, 6)]),
        ("gallery", "visible", [(1, 3), (1, 9), (2, 3), (2, 9)]),
    ):
        assert [(p, c) for p, c, _ in columns(table, split, modality)] == expected


def test_market_leaves_out_junk_and_keeps_distractors_in_the_gallery(market: Path) -> None:
    table = market1501.read(market)
    assert columns(table, "train", "visible") == [
        (2, 6, "bounding_box_train/0002_c6s3_000003_01.jpg"),
        (7, 1, "bounding_box_train/0007_c1s1_000001_01.jpg"),
        (7, 2, "bounding_box_train/0007_c2s1_000002_01.jpg"),
    ]
    assert [p for p, _, _ in columns(table, "gallery", "visible")] == [0, 5]
    assert [p for p, _, _ in columns(table, "query", "visible")] == [5]


def test_duke_and_market_are_not_taken_for_each_other(market: Path, tmp_path: Path) -> None:
    root = tmp_path / "DukeMTMC-reID"
    for folder, person in (("bounding_box_train", 1), ("query", 2), ("bounding_box_test", 2)):
        write_images(root / folder, [f"{person:04d}_c2_f0046182.jpg"])
    assert dukemtmc.read(root)[["person", "camera", "split"]].to_numpy().tolist() == [
        [1, 2, "train"],
        [2, 2, "query"],
        [2, 2, "gallery"],
    ]
    with pytest.raises(InputError, match=r"0001_c2_f0046182\.jpg: expected a name like 0002_c1s1"):
        market1501.read(root)
    with pytest.raises(InputError, match="expected a name like 0001_c2_f0046182"):
        dukemtmc.read(market)


def test_msmt17_joins_train_and_val_and_renumbers_the_test(tmp_path: Path) -> None:
    files = {
        "train": [
            "0001/0001_000_14_0303morning_0008_0.jpg 1",
            "0000/0000_000_01_0303morning_0008_0.jpg 0",
        ],
        "val": ["0000/0000_001_03_0303noon_0008_0.jpg 0"],
        "query": ["0000/0000_000_02_0302noon_0001_0.jpg 0"],
        "gallery": ["0000/0000_001_05_0302noon_0001_0.jpg 0"],
    }
    for name, lines in files.items():
        write_lines(tmp_path / f"list_{name}.txt", *lines)
    table = msmt17.read(tmp_path)
    assert table["split"].tolist() == ["train", "train", "train", "query", "gallery"]
    assert table["person"].tolist() == [1, 0, 0, TEST_OFFSET, TEST_OFFSET]
    assert table["camera"].tolist() == [14, 1, 3, 2, 5]
    assert table["path"].iloc[0] == "train/0001/0001_000_14_0303morning_0008_0.jpg"
    assert table["path"].iloc[3].startswith("test/0000/")


# --- golden: the released code's loader -----------------------------------------------------------


def test_sysu_agrees_with_the_released_loader(gold: Gold, tmp_path: Path) -> None:
    golden = gold("otla/data_prep_sysu.npz")
    root = tmp_path / "SYSU-MM01"
    for path, pixels in zip(golden["paths"], golden["images"], strict=True):
        (root / str(path)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / str(path), format="PNG")
    write_images(root, ["cam1/0533/0001.jpg", "cam6/0533/0001.jpg"])
    write_lines(root / "exp/test_id.txt", "533")
    for name in ("train", "val"):
        write_lines(root / f"exp/{name}_id.txt", str(golden[f"{name}_id_txt"]))
    table = sysu_mm01.read(root)
    build.build(root, table, tmp_path / "store", int(golden["img_h"]), int(golden["img_w"]))
    store = ImageStore(tmp_path / "store")
    for modality, short in (("visible", "rgb"), ("infrared", "ir")):
        rows = store.rows(("train", "val"), modality)
        persons = table["person"].to_numpy()[rows]
        assert table["path"].to_numpy()[rows].tolist() == golden[f"{short}_paths"].tolist()
        np.testing.assert_array_equal(persons, golden[f"{short}_pid"])
        np.testing.assert_array_equal(store.pixels[rows], golden[f"{short}_image"])
        # The released label of a person is the place in a set's order; ours ascends.
        # Both are the same on the real data.
        ascending = np.unique(persons, return_inverse=True)[1]
        theirs = np.argsort(np.argsort(golden["pid_in_label_order"]))[golden[f"{short}_label"]]
        np.testing.assert_array_equal(ascending, theirs)


def test_sysu_test_rows_agree_with_the_released_query_and_gallery(
    gold: Gold, tmp_path: Path
) -> None:
    golden = gold("otla/sysu_gallery.npz")
    for path in golden["paths"]:
        (tmp_path / str(path)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / str(path)).touch()
    test = {int(word) for word in str(golden["test_id_txt"]).split(",")}
    others = sorted({int(str(path)[5:9]) for path in golden["paths"]} - test)
    write_lines(tmp_path / "exp/test_id.txt", str(golden["test_id_txt"]).strip())
    write_lines(tmp_path / "exp/train_id.txt", ",".join(map(str, others)))
    write_lines(tmp_path / "exp/val_id.txt", "")
    table = sysu_mm01.read(tmp_path)
    query = table[table["split"] == "query"]
    assert query["path"].tolist() == golden["query_all"].tolist()
    np.testing.assert_array_equal(query["person"], golden["query_id_all"])
    np.testing.assert_array_equal(query["camera"], golden["query_cam_all"])
    gallery = table[table["split"] == "gallery"]
    for trial, expected in enumerate(golden["gallery_all"]):
        draw = random.Random(trial)
        groups = gallery.groupby(["person", "camera"], sort=False)["path"]
        assert [draw.choice(paths.tolist()) for _, paths in groups] == expected.tolist()


# --- readers: what they refuse --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("train", [""], r"train_id\.txt lists no identity"),
        ("train", [], r"train_id\.txt lists no identity"),
        ("test", [""], r"test_id\.txt lists no identity"),
        ("train", ["4,x12"], r"train_id\.txt: 'x12' is not an identity; expected whole numbers"),
        ("train", ["4,-12"], r"train_id\.txt: '-12' is not an identity"),
        ("train", ["4.5"], r"train_id\.txt: '4\.5' is not an identity"),
        ("train", ["4", "12", "30"], r"train_id\.txt: expected all identities on line 1"),
        ("val", ["30,9"], r"exp: train_id\.txt and val_id\.txt both list 30"),
        ("test", ["500,9"], r"exp: val_id\.txt and test_id\.txt both list 9"),
        (
            "train",
            ["4,12,30,77,78"],
            r"train_id\.txt lists identity 77, of which .* no image \(2 such identities\)",
        ),
        ("test", ["7,500,533"], r"test_id\.txt lists identity 533, of which .* no image \(1 such"),
    ],
)
def test_sysu_refuses_bad_id_files(sysu: Path, name: str, lines: list[str], message: str) -> None:
    write_lines(sysu / f"exp/{name}_id.txt", *lines)
    with pytest.raises(InputError, match=message) as raised:
        sysu_mm01.read(sysu)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_sysu_refuses_a_missing_id_file(sysu: Path, name: str) -> None:
    (sysu / f"exp/{name}_id.txt").unlink()
    with pytest.raises(InputError, match=rf"exp/{name}_id\.txt is not here"):
        sysu_mm01.read(sysu)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Visible/8/a.bmp"], r"train_visible_2\.txt line 1: expected a path and a whole number"),
        (
            ["Visible/8/a.bmp 0", "", "Visible/8/b.bmp one"],
            r"train_visible_2\.txt line 3: expected a path",
        ),
        (["Visible/8/a.bmp 0", "Visible/8//a.bmp 0"], r"line 2: Visible/8/a\.bmp is listed twice"),
        ([""], r"train_visible_2\.txt lists no image"),
    ],
)
def test_regdb_refuses_bad_lists(regdb_tree: Path, lines: list[str], message: str) -> None:
    write_lines(regdb_tree / "idx/train_visible_2.txt", *lines)
    with pytest.raises(InputError, match=message):
        regdb.read(regdb_tree, trial=2)


def test_regdb_names_the_missing_list_of_a_trial(regdb_tree: Path) -> None:
    with pytest.raises(InputError, match=r"idx/train_visible_3\.txt is not here"):
        regdb.read(regdb_tree, trial=3)


def test_the_same_image_in_training_and_test_lists_is_refused(regdb_tree: Path) -> None:
    lines = (regdb_tree / "idx/test_visible_2.txt").read_text()
    (regdb_tree / "idx/test_visible_2.txt").write_text(
        lines + "Visible/8/male_front_v_01_8.bmp 2\n"
    )
    with pytest.raises(ValueError, match=r"path 'Visible/8/male_front_v_01_8\.bmp' occurs twice"):
        regdb.read(regdb_tree, trial=2)


def test_somebody_in_training_and_test_is_refused(regdb_tree: Path) -> None:
    for kind in ("visible", "thermal"):
        file = regdb_tree / f"idx/test_{kind}_2.txt"
        file.write_text(file.read_text() + f"{kind.title()}/8/another.bmp 2\n")
    with pytest.raises(
        InputError, match=r"RegDB: identity 8 is in the training and in the test set \(1 such\)"
    ):
        counts.refuse_shared_persons(regdb.read(regdb_tree, trial=2), regdb_tree)


def test_llcm_refuses_names_without_camera_and_identities_without_images(llcm_tree: Path) -> None:
    write_lines(llcm_tree / "idx/test_id.txt", "1,2,3")
    with pytest.raises(
        InputError, match=r"test_id\.txt lists identity 3, of which test_vis and test_nir hold no"
    ):
        llcm.read(llcm_tree)
    write_lines(llcm_tree / "idx/test_id.txt", "1,2")
    write_lines(llcm_tree / "idx/train_vis.txt", "vis/0351/0351.jpg 0")
    with pytest.raises(InputError, match=r"vis/0351/0351\.jpg: no camera in the name"):
        llcm.read(llcm_tree)


def test_sources_refuse_odd_names_and_trees_without_training_images(
    market: Path, tmp_path: Path
) -> None:
    write_image(market / "query" / "person7.jpg")
    with pytest.raises(InputError, match=r"query/person7\.jpg: expected a name like"):
        market1501.read(market)
    (market / "query" / "person7.jpg").unlink()
    for file in (market / "bounding_box_train").glob("0*"):  # what is left is junk
        file.unlink()
    with pytest.raises(InputError, match="bounding_box_train holds no images of people; expected"):
        market1501.read(market)
    shutil.rmtree(market / "bounding_box_train")
    with pytest.raises(InputError, match="bounding_box_train holds no images of people; expected"):
        market1501.read(market)
    write_lines(tmp_path / "list_train.txt", "0000/photo.jpg 0")
    with pytest.raises(
        InputError, match=r"train/0000/photo\.jpg: expected a name like 0000_000_01"
    ):
        msmt17.read(tmp_path)


# --- the tables of readers ------------------------------------------------------------------------


def test_every_data_set_that_a_parameter_may_name_has_a_reader() -> None:
    assert tuple(TARGETS) == settings.DATASETS
    assert (*SOURCES, "none") == settings.SOURCES


def test_a_source_of_market_1501s_kin_is_one_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = tree_reader(
        folder="CUHK03",
        marker=bounding_boxes.MARKER,
        published=(counts.Count("training images", 1, ("train",)),),
        read=partial(
            bounding_boxes.read_boxes,
            pattern=re.compile(r"(\d+)_cam(\d+)"),
            example="0001_cam2.png",
        ),
    )
    for split in bounding_boxes.FOLDERS.values():
        person = 1 if split == "bounding_box_train" else 2
        write_image(tmp_path / "CUHK03" / split / f"{person}_cam2.png")
    root, table = read_checked(reader, {"data.root": tmp_path})
    assert root == tmp_path / "CUHK03"
    assert table["person"].tolist() == [1, 2, 2]
    assert table["camera"].tolist() == [2, 2, 2]
    assert capsys.readouterr().out == ""


# --- finding a tree -------------------------------------------------------------------------------


def test_a_tree_is_found_by_name_or_is_the_root_itself(sysu: Path, tmp_path: Path) -> None:
    name, marker = sysu_mm01.FOLDER, sysu_mm01.MARKER
    assert find_tree(name, marker, {"data.root": sysu.parent}) == sysu
    assert find_tree(name, marker, {"data.root": sysu}) == sysu
    roots = {"data.root": tmp_path / "gone", "data.source_root": sysu.parent}
    assert find_tree(name, marker, roots) == sysu
    renamed = sysu.rename(tmp_path / "my-sysu")
    assert find_tree(name, marker, {"data.root": renamed}) == renamed


def test_a_named_tree_goes_before_one_that_looks_like_it(market: Path, tmp_path: Path) -> None:
    roots = {"data.root": market, "data.source_root": tmp_path}
    (tmp_path / dukemtmc.FOLDER).mkdir()
    assert find_tree(dukemtmc.FOLDER, dukemtmc.MARKER, roots) == tmp_path / dukemtmc.FOLDER


def test_a_tree_that_is_not_there_is_one_line_with_parameter_and_folder(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    roots = {"data.root": tmp_path, "data.source_root": gone}
    with pytest.raises(InputError) as raised:
        find_tree("MSMT17_V1", msmt17.MARKER, roots)
    assert str(raised.value) == (
        f"data.root: {tmp_path} holds no MSMT17_V1; data.source_root: {gone} is not a folder; "
        "expected a folder that holds MSMT17_V1 or is such a tree (train, list_train.txt)"
    )


# --- counting -------------------------------------------------------------------------------------


def test_published_counts_are_compared_in_one_line(sysu: Path) -> None:
    table = sysu_mm01.read(sysu)
    (line,) = counts.compare(table, sysu_mm01.PUBLISHED, "SYSU-MM01")
    assert line.startswith(
        "WARNING: SYSU-MM01 is not the published data set: "
        "found 4 training identities (published: 395)"
    )
    assert "12 visible training images (published: 22,258)" in line
    assert "6 queries (published: 3,803)" in line
    assert counts.compare(table, (counts.Count("queries", 6, ("query",)),), "SYSU-MM01") == []
    assert counts.compare(table, (), "SYSU-MM01") == []


def test_a_target_without_a_modality_is_refused(sysu: Path) -> None:
    counts.refuse_missing_part(sysu_mm01.read(sysu), sysu)
    for camera in (3, 6):
        shutil.rmtree(sysu / f"cam{camera}")
    with pytest.raises(InputError, match="SYSU-MM01 holds no infrared training image; expected"):
        counts.refuse_missing_part(sysu_mm01.read(sysu), sysu)


def test_people_of_one_modality_are_counted_and_warned_about(sysu: Path) -> None:
    assert counts.warn_one_sided(sysu_mm01.read(sysu), "tree") == []
    for file in (sysu / "cam3/0004").iterdir():
        file.unlink()
    assert counts.one_sided(sysu_mm01.read(sysu)) == [4]
    assert counts.warn_one_sided(sysu_mm01.read(sysu), "tree") == [
        "WARNING: tree: 1 training identities lack a modality, the first is 4"
    ]


# --- the image store ------------------------------------------------------------------------------


def test_store_holds_lanczos_pixels_sizes_and_hashes(sysu: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 17, 3), dtype=np.uint8)
    Image.fromarray(noise).save(sysu / "cam1/0004/0001.jpg", format="JPEG")
    table = sysu_mm01.read(sysu)
    build.build(sysu, table, tmp_path / "store", 24, 12)
    store = ImageStore(tmp_path / "store")
    files = pd.read_csv(tmp_path / "store/files.csv")
    assert store.pixels.shape == (len(table), 24, 12, 3)
    assert files.columns.tolist() == ["row", "bytes", "sha256"]
    assert files["row"].tolist() == list(range(len(table)))
    pd.testing.assert_frame_equal(store.table, table)
    for row, path in enumerate(table["path"]):
        raw = (sysu / path).read_bytes()
        with Image.open(io.BytesIO(raw)) as image:
            expected = np.asarray(image.convert("RGB").resize((12, 24), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(store.pixels[row], expected)
        assert files.loc[row, "bytes"] == len(raw)
        assert files.loc[row, "sha256"] == hashlib.sha256(raw).hexdigest()


def test_equal_trees_give_equal_bytes(sysu: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        build.build(sysu, sysu_mm01.read(sysu), tmp_path / name, 24, 12)
    for name in ("pixels.npy", "table.csv", "files.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_pixel_kinds_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (10, 20), (90, 90, 90)).convert(mode)
    image.save(tmp_path / "image.png")
    pixels = read_image(tmp_path / "image.png", 20, 10).pixels
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def write_turned(path: Path, orientation: int) -> np.ndarray:
    """Write an image of four colored corners with an EXIF orientation; return it upright."""
    upright = np.zeros((20, 10, 3), dtype=np.uint8)
    upright[:10, :5], upright[:10, 5:], upright[10:, :5] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    store = {  # from the upright image to what a camera stores that is held so
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(store[orientation])).save(path, format="PNG", exif=exif)
    return upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_as_viewers_show_them(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "image.png"
    upright = write_turned(path, orientation)
    image = read_image(path, 20, 10, upright=True)
    np.testing.assert_array_equal(image.pixels, upright)
    assert image.has_turn == (orientation != 1)
    with Image.open(path) as stored:
        np.testing.assert_array_equal(ImageOps.exif_transpose(stored).convert("RGB"), upright)
        released = np.asarray(stored.convert("RGB").resize((10, 20), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(read_image(path, 20, 10).pixels, released)


def test_published_images_stay_as_stored_with_one_warning(
    project: Callable[..., Path], sysu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("cam1/0004/0001.jpg", "cam2/0004/0002.jpg"):
        write_turned(sysu / path, 6)
    root = project()
    __main__.main()
    warning, sentence = capsys.readouterr().out.splitlines()
    assert warning == (
        "WARNING: raw/SYSU-MM01: 2 images have an EXIF orientation, the first is "
        "cam1/0004/0001.jpg; they are not turned, as in the released code"
    )
    assert "WARNING" not in sentence
    store = ImageStore(root / "data/images/target")
    row = store.table["path"].tolist().index("cam1/0004/0001.jpg")
    with Image.open(sysu / "cam1/0004/0001.jpg") as stored:
        np.testing.assert_array_equal(
            store.pixels[row], stored.convert("RGB").resize((12, 24), Image.Resampling.LANCZOS)
        )


def test_damaged_exif_is_no_reason_to_refuse_an_image(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    Image.new("RGB", (10, 20), (90, 90, 90)).save(
        path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\1\x12\0\3"
    )
    image = read_image(path, 20, 10, upright=True)
    assert (image.pixels == 90).all()
    assert not image.has_turn


def damage(path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 30, 3), dtype=np.uint8)
    if kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>404</html>")
    elif kind == "missing":
        path.unlink()
    elif kind == "16 bits":
        Image.fromarray(np.full((20, 10), 40_000, dtype=np.uint16)).save(path, format="PNG")
    else:
        Image.fromarray(noise).save(path, format=kind.split()[-1])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("zero bytes", r"is empty \(0 bytes\)"),
        ("text", "is not an image; expected JPEG, PNG, BMP"),
        ("missing", "is not here"),
        ("16 bits", "has I;16 pixels; expected 8 bits"),
        ("truncated JPEG", "is not a readable image: .*truncated"),
        ("truncated PNG", "is not a readable image: "),
        ("truncated BMP", "is not a readable image: "),
    ],
)
def test_a_bad_image_is_named_and_nothing_is_written(
    sysu: Path, tmp_path: Path, kind: str, message: str
) -> None:
    table = sysu_mm01.read(sysu)
    damage(sysu / "cam4/0012/0001.jpg", kind)
    with pytest.raises(InputError, match=r"cam4/0012/0001\.jpg " + message) as raised:
        build.build(sysu, table, tmp_path / "store", 24, 12)
    assert "more images" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "0x" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_bad_images_are_counted_together(sysu: Path, tmp_path: Path) -> None:
    table = sysu_mm01.read(sysu)
    for path in table["path"].iloc[[3, 5, 30]]:
        damage(sysu / path, "zero bytes")
    with pytest.raises(InputError) as raised:
        build.build(sysu, table, tmp_path / "store", 24, 12)
    first = sysu / table["path"].iloc[3]
    assert str(raised.value) == f"{first} is empty (0 bytes) (2 more images are bad)"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_run_leaves_the_old_store(
    sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    table = sysu_mm01.read(sysu)
    build.build(sysu, table, tmp_path / "store", 24, 12)
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    read = build.read_image

    def interrupted(path: Path, *how: int) -> Decoded:
        if path == sysu / table["path"].iloc[20]:
            raise error
        return read(path, *how)

    monkeypatch.setattr(build, "read_image", interrupted)
    with pytest.raises(error):
        build.build(sysu, table, tmp_path / "store", 16, 8)
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "store"]


def test_a_full_disk_is_said_before_the_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        build.shutil, "disk_usage", lambda path: build.shutil._ntuple_diskusage(9, 9, 0)
    )
    table = table_of(tmp_path, [ImageFile("a.jpg", 1, 1, "visible", "train")])
    with pytest.raises(InputError, match=r"store needs 0\.0 GB, 0\.0 GB are free"):
        build.build(tmp_path, table, tmp_path / "store", 24, 12)
    assert list(tmp_path.iterdir()) == []


# --- the stages -----------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder to run a stage in; `project(dataset, spcl={"source": "none"})` writes its params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "ROOT", Path("."))

    def write(dataset: str = "sysu_mm01", scale: str = "small", **sections: dict[str, Any]) -> Path:
        tree = yaml.safe_load(PARAMS.read_text())
        tree |= {"dataset": dataset, "scale": scale}
        small = {"images": {"height": 24, "width": 12}, "data": {"root": "raw"}}
        for name, leaves in (small | sections).items():
            tree[name] |= leaves
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return tmp_path

    return write


def test_prepare_writes_store_metrics_and_one_line(
    project: Callable[..., Path], sysu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project()
    __main__.main()
    store = ImageStore(root / "data/images/target")
    assert store.pixels.shape == (34, 24, 12, 3)
    pd.testing.assert_frame_equal(store.table, sysu_mm01.read(sysu))
    assert read_json(root / "metrics/prepare.json") == {
        "images": 34,
        "persons": 6,
        "cameras": 6,
        "train": {"visible": 10, "infrared": 8, "persons": 3},
        "val": {"visible": 2, "infrared": 2, "persons": 1},
        "query": {"visible": 0, "infrared": 6, "persons": 2},
        "gallery": {"visible": 6, "infrared": 0, "persons": 2},
        "one_modality_persons": 0,
    }
    assert capsys.readouterr().out == (
        "SYSU-MM01: 4 training identities with 12 visible and 10 infrared images; "
        "6 query and 6 gallery images\n"
    )
    assert (root / "logs/prepare.json").exists()


def test_only_the_scale_of_the_paper_expects_the_published_counts(
    project: Callable[..., Path], sysu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project(scale="paper")
    __main__.main()
    assert "WARNING: raw/SYSU-MM01 is not the published data set" in capsys.readouterr().out


def test_prepare_expects_nothing_of_rendered_trees(
    project: Callable[..., Path], sysu: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(scale="paper", data={"root": "data/synthetic"})
    (root / "data").mkdir()
    sysu.parent.rename(root / "data/synthetic")
    __main__.main()
    assert "WARNING" not in capsys.readouterr().out


def test_prepare_reads_the_trial_of_regdb(project: Callable[..., Path], regdb_tree: Path) -> None:
    root = project("regdb", data={"root": "raw", "trial": 2})
    __main__.main()
    pd.testing.assert_frame_equal(
        read_table(root / "data/images/target/table.csv"), regdb.read(regdb_tree, 2)
    )


def test_prepare_takes_unpaired_people_from_a_labeled_source(
    project: Callable[..., Path], sysu: Path, market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"root": "raw", "unpaired": 0.5, "unpaired_from": "market1501"}
    root = project(data=chosen, spcl={"source": "none"})
    __main__.main()
    store = ImageStore(root / "data/images/target")
    taken = store.table[store.table["path"].str.startswith(market.name)]
    assert sorted(taken["path"].str.split("/").str[-1]) == [
        "0002_c6s3_000003_01.jpg",
        "0007_c1s1_000001_01.jpg",
        "0007_c2s1_000002_01.jpg",
    ]
    for row, path in zip(taken["row"], taken["path"], strict=True):
        expected = read_image(market.parent / path, 24, 12).pixels
        assert np.array_equal(store.pixels[row], expected)
    test = store.table[store.table["split"].isin(counts.TEST)]
    assert len(test) == 12
    assert not set(test["path"]) & set(taken["path"])
    assert "4 training identities lack a modality" in capsys.readouterr().out


def test_prepare_ends_in_one_line_on_bad_input(project: Callable[..., Path], sysu: Path) -> None:
    root = project()
    damage(sysu / "cam1/0004/0001.jpg", "truncated JPEG")
    with pytest.raises(
        SystemExit, match=r"error in prepare: raw/SYSU-MM01/cam1/0004/0001\.jpg is not a readable"
    ):
        __main__.main()
    assert not (root / "data/images/target").exists()
    assert not (root / "metrics").exists()
    project(data={"root": "elsewhere"})
    with pytest.raises(
        SystemExit, match=r"error in prepare: data\.root: elsewhere is not a folder"
    ):
        __main__.main()


def test_source_looks_in_the_second_root_too(
    project: Callable[..., Path], market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(data={"root": "elsewhere", "source_root": "raw"})
    source.main()
    assert len(ImageStore(root / "data/images/source").rows("train", "visible")) == 3
    metrics = read_json(root / "metrics/source.json")
    assert metrics["train"] == {"visible": 3, "infrared": 0, "persons": 2}
    # training images only
    assert metrics["images"] == len(ImageStore(root / "data/images/source").table) == 3
    out = capsys.readouterr().out
    assert "WARNING: raw/Market-1501-v15.09.15 is not the published data set" in out
    assert "lack a modality" not in out


def test_source_expects_nothing_of_rendered_trees(
    project: Callable[..., Path], market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(data={"root": "data/synthetic"})
    (root / "data").mkdir()
    market.parent.rename(root / "data/synthetic")
    source.main()
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["market1501", "dukemtmc", "msmt17"])
@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_source_needs_its_training_half_only(
    project: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    kind: str,
) -> None:
    root = tmp_path / "raw" / str(SOURCES[layout].folder)
    names = {"market1501": "0002_c1s1_000451_03.jpg", "dukemtmc": "0002_c2_f0046182.jpg"}
    if layout not in names:
        write_image(root / "train/0000/0000_000_01_0303noon_0008_0.jpg")
        write_lines(root / "list_train.txt", "0000/0000_000_01_0303noon_0008_0.jpg 0")
        write_lines(root / "list_val.txt")
    else:
        write_image(root / "bounding_box_train" / names[layout])
    if kind == "empty":
        for folder in ("query", "bounding_box_test", "test"):
            (root / folder).mkdir()
        write_lines(root / "list_query.txt")
        write_lines(root / "list_gallery.txt", "")
    place = project(spcl={"source": layout})
    source.main()
    assert f"WARNING: {root.relative_to(place)} holds no query and no gallery images; " in (
        capsys.readouterr().out
    )
    assert read_json(place / "metrics/source.json")["images"] == 1
    root.rename(tmp_path / "mine")  # found by what it holds
    project(data={"root": "mine"}, spcl={"source": layout})
    source.main()


def test_source_none_is_an_empty_store(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(data={"root": "elsewhere"}, spcl={"source": "none"})
    source.main()
    store = ImageStore(root / "data/images/source")
    assert store.pixels.shape == (0, 24, 12, 3)
    assert store.rows("train").shape == (0,)
    assert store.batch(store.rows("train")).shape == (0, 3, 24, 12)
    assert (root / "data/images/source/files.csv").read_text() == "row,bytes,sha256\n"
    assert read_json(root / "metrics/source.json")["images"] == 0
    assert capsys.readouterr().out == "source: none\n"


# --- together with the rendered trees -------------------------------------------------------------


@pytest.mark.parametrize(
    "layout", ["sysu_mm01", "regdb", "llcm", "market1501", "dukemtmc", "msmt17"]
)
def test_readers_read_what_synthesize_writes(layout: str, tmp_path: Path) -> None:
    trees = pytest.importorskip("stages.synthesize.trees")
    sizes = Synthesize(
        layout="none",
        structure=None,
        infrared_counts="halves",
        unpaired=0.0,
        seed=0,
        train_persons=4,
        val_persons=0,
        test_persons=2,
        images_per_camera=2,
        source_persons=4,
        source_images=4,
        height=32,
        width=16,
    )
    root = trees.write_tree(layout, tmp_path, sizes, workers=1)
    reader = (TARGETS | SOURCES)[layout]
    assert root.name == reader.folder
    assert all((root / entry).exists() for entry in reader.marker)
    table, remarks = reader.read(root, 1)
    assert remarks == []
    counts.refuse_shared_persons(table, root)
    build.build(root, table, tmp_path / "store", 24, 12)
    assert len(ImageStore(tmp_path / "store").pixels) == len(table)
    if layout in TARGETS:
        training, test = (3, 3) if layout == "regdb" else (4, 2)
        assert counts.one_sided(table) == []
        assert set(table["split"]) == {"train", "query", "gallery"}
    else:
        training, test = 4, 4
        assert table.query("split == 'train'")["camera"].nunique() > 1
    assert table.loc[table["split"] == "train", "person"].nunique() == training
    assert table.loc[table["split"] == "query", "person"].nunique() == test
