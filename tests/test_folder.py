"""The user's own images: what a CSV may hold, what is refused, and from 30 images to scores."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import ExifTags, Image

from stages.evaluate import __main__ as evaluate
from stages.evaluate.protocols import PROTOCOLS
from stages.parts.images.store import ImageStore
from stages.parts.run import files
from stages.parts.run.files import read_json
from stages.parts.run.stage import InputError, run_stage
from stages.prepare import __main__ as prepare
from stages.prepare import counts, folder, source
from stages.prepare.readers import SOURCES
from stages.pseudo_label import __main__ as pseudo_label
from stages.train import __main__ as train

protocol, regdb = PROTOCOLS["folder"], PROTOCOLS["regdb"]

ROOT = Path(__file__).parents[1]
SHIRTS = ((220, 30, 30), (30, 60, 220), (40, 190, 60), (230, 210, 40))


def picture(path: Path, person: int, number: int, infrared: bool = False) -> None:
    """Write somebody in a shirt of their color before a gray wall; infrared is gray."""
    noise = np.random.default_rng([person, number, infrared]).normal(0, 8, (48, 24, 3))
    pixels = np.full((48, 24, 3), 120.0)
    left = 6 + number % 3
    pixels[14:30, left : left + 12] = SHIRTS[person % len(SHIRTS)]
    pixels[30:46, left + 2 : left + 10] = 40 + 20 * person
    if infrared:
        pixels[:] = pixels.mean(axis=2, keepdims=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(path)


def write(root: Path, rows: list[str], name: str = folder.IMAGES) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(row + "\n" for row in rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 visible and 10 infrared images of people 3, 5, 8, 12, and a CSV of two columns."""
    root = tmp_path / "raw" / "folder"
    rows = ["path,person"]
    for index, person in enumerate((3, 5, 8, 12)):
        for number in range(5):
            rows.append(f"visible/{person}_{number}.png,{person}")
            picture(root / rows[-1].split(",")[0], index, number)
        for number in range(3 if index % 2 else 2):
            rows.append(f"infrared/{person}_{number}.png,{person}")
            picture(root / rows[-1].split(",")[0], index, number, infrared=True)
    write(root, rows)
    return root


def rows_of(root: Path) -> list[str]:
    return (root / folder.IMAGES).read_text().splitlines()


def people(table: pd.DataFrame, *splits: str) -> list[int]:
    return sorted(set(table.loc[table["split"].isin(splits), "person"]))


# --- the reader -----------------------------------------------------------------------------------


def test_two_columns_are_enough(root: Path) -> None:
    table, remarks = folder.read(root)
    assert len(table) == 30
    assert people(table, "train") == [3, 5]
    assert people(table, "query", "gallery") == [8, 12]
    assert set(zip(table["modality"], table["camera"], strict=True)) == {
        ("visible", 1),
        ("infrared", 2),
    }
    assert set(zip(table["split"], table["modality"], strict=True)) == {
        ("train", "visible"),
        ("train", "infrared"),
        ("query", "infrared"),
        ("gallery", "visible"),
    }
    assert remarks == [
        f"{root}/images.csv has no column split: the first 2 of 4 identities are for training, "
        "the others for the test"
    ]


def test_the_order_of_the_lines_says_nothing(root: Path) -> None:
    head, *rows = rows_of(root)
    expected, _ = folder.read(root)
    random.Random(0).shuffle(rows)
    write(root, [head, *rows])
    pd.testing.assert_frame_equal(folder.read(root)[0], expected)
    columns = ["split", "modality", "person", "path"]
    order = list(expected[columns].itertuples(index=False, name=None))
    parts = [
        ("train", "visible"),
        ("train", "infrared"),
        ("query", "infrared"),
        ("gallery", "visible"),
    ]
    assert order == sorted(order, key=lambda row: (parts.index(row[:2]), row[2:]))


@pytest.mark.parametrize(
    "dress",
    ["semicolons", "mark", "windows", "quotes", "blank lines", "more cells", "capitals", "dots"],
)
def test_a_csv_as_spreadsheets_write_it_is_the_same_csv(root: Path, dress: str) -> None:
    expected, _ = folder.read(root)
    rows = rows_of(root)
    text = "".join(row + "\n" for row in rows)
    changed = {
        "semicolons": text.replace(",", ";"),
        "mark": "\ufeff" + text,
        "windows": text.replace("/", "\\").replace("\n", "\r\n"),
        "quotes": "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in rows),
        "blank lines": text.replace("\n", "\n\n") + ",\n",
        "more cells": text.replace("\n", ",,\n").replace("person,,", "person"),
        "capitals": text.replace("path,person", " Path , PERSON"),
        "dots": text.replace("visible/", "./infrared/../visible/"),
    }[dress]
    (root / folder.IMAGES).write_text(changed, encoding="utf-8", newline="")
    assert (root / folder.IMAGES).read_bytes() != text.encode()
    pd.testing.assert_frame_equal(folder.read(root)[0], expected)


@pytest.mark.parametrize(("count", "half"), [(3, 2), (4, 2), (5, 3), (7, 4)])
def test_the_first_half_rounded_up_is_for_training(tmp_path: Path, count: int, half: int) -> None:
    numbers = [10 * number for number in range(count)]
    rows = [
        f"{kind}/{number}.png,{number}" for number in numbers for kind in ("visible", "infrared")
    ]
    for row in rows:
        picture(tmp_path / row.split(",")[0], 0, 0)
    write(tmp_path, ["path,person", *reversed(rows)])
    table, _ = folder.read(tmp_path)
    assert people(table, "train") == numbers[:half]
    assert people(table, "query", "gallery") == numbers[half:]


def test_names_of_people_and_cameras_become_numbers(root: Path) -> None:
    names = {"3": "dora", "5": "carl", "8": "7", "12": "Ben"}
    rows = []
    for path, person in pairs(root):
        camera = "door" if "visible" in path else "yard"
        rows.append(f"{path},{names[person]},{camera}")
    write(root, ["path,person,camera", *rows])
    table, remarks = folder.read(root)
    assert people(table, "train") == [1, 2]
    names_of_ben = table.loc[table["person"] == 2, "path"].str.split("/").str[1]
    assert set(names_of_ben.str[0]) == {"1"}  # 12_0.png, …
    assert set(zip(table["modality"], table["camera"], strict=True)) == {
        ("visible", 1),
        ("infrared", 2),
    }
    assert remarks[0] == (
        f"{root}/images.csv: people are numbered in the order of their names: "
        "7 = 1, Ben = 2, carl = 3, dora = 4"
    )
    assert folder.numbers(["7", "12", "007"]) == {"7": 7, "12": 12, "007": 7}
    assert folder.numbers(["b", "a", "b", "10"]) == {"10": 1, "a": 2, "b": 3}


def pairs(root: Path) -> list[tuple[str, str]]:
    return [tuple(row.split(",")[:2]) for row in rows_of(root)[1:]]  # type: ignore[misc]


def test_columns_go_before_folders_and_the_split_is_as_written(root: Path) -> None:
    moved = root / "all"
    moved.mkdir()
    rows = []
    for path, person in pairs(root):
        kind, name = path.split("/")
        (root / path).rename(moved / f"{kind}_{name}")
        split = {"3": "Train", "5": "test", "8": "train", "12": "val"}[person]
        word = {"visible": "RGB", "infrared": "thermal"}[kind]
        camera = {"visible": 4, "infrared": 9}[kind]
        rows.append(f"all/{kind}_{name},{person},{split},{word},{camera},seen on Monday")
    write(root, ["path,person,split,modality,camera,note", *rows])
    table, remarks = folder.read(root)
    assert people(table, "train") == [3, 8]
    assert people(table, "val") == [12]
    assert set(zip(table["split"], table["modality"], strict=True)) >= {
        ("query", "infrared"),
        ("gallery", "visible"),
    }
    assert people(table, "query", "gallery") == [5]
    assert set(table.loc[table["modality"] == "infrared", "camera"]) == {9}
    in_path = table["path"].str.contains("infrared")
    assert (table["modality"] == "infrared").tolist() == in_path.tolist()
    assert remarks == [f"{root}/images.csv: not read: note"]
    counts.refuse_shared_persons(table, root)


def test_empty_columns_are_no_columns(root: Path) -> None:
    expected, remarks = folder.read(root)
    rows = [f"{path},{person},,," for path, person in pairs(root)]
    write(root, ["path,person,camera,modality,split", *rows])
    table, again = folder.read(root)
    pd.testing.assert_frame_equal(table, expected)
    assert again == remarks


# --- what is refused ------------------------------------------------------------------------------


def changed(root: Path, change: Callable[[list[str]], list[str]]) -> str:
    """What `read` says about the fixture's CSV after a change."""
    write(root, change(rows_of(root)))
    with pytest.raises(InputError) as raised:
        folder.read(root)
    message = str(raised.value)
    assert message.startswith(f"{root / folder.IMAGES}")
    assert "\n" not in message
    return message.removeprefix(f"{root / folder.IMAGES}").replace(str(root), "ROOT")


def line_2(path: str = "visible/3_0.png", person: str = "3") -> Callable[[list[str]], list[str]]:
    return lambda rows: [rows[0], f"{path},{person}", *rows[2:]]


def with_column(name: str, cell: Callable[[str, str], str]) -> Callable[[list[str]], list[str]]:
    """A column more, its cells from path and person."""
    return lambda rows: [
        rows[0] + f",{name}",
        *(row + "," + cell(*row.split(",")[:2]) for row in rows[1:]),
    ]


def splits(**names: str) -> Callable[[str, str], str]:
    """The cells of the column split, `test` but for `names`.

    These are by person (`_3="train"`), or by modality and person (`visible_3="train"`).
    """

    def cell(path: str, person: str) -> str:
        modality = path.split("/")[0]
        return names.get(f"{modality}_{person}", names.get(f"_{person}", "test"))

    return cell


OUT = " is not below ROOT; expected one that starts there, like rgb/1.jpg"
MODALITY = "expected one of visible, rgb, infrared, ir, nir, thermal"
BOTH = "expected visible and infrared ones in both parts"
CASES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "empty file": (
        lambda rows: [],
        " line 1: no column path, found nothing; expected path and person, and optionally",
    ),
    "no person": (
        lambda rows: ["path,who,camera", *rows[1:]],
        " line 1: no column person, found path, who, camera; "
        "expected path and person, and optionally camera, modality, split",
    ),
    "two columns": (
        lambda rows: ["path,person,person"],
        " line 1: column person is there 2 times, expected once",
    ),
    "no lines": (
        lambda rows: rows[:1],
        " lists no image; expected a line for each, below the line of the columns",
    ),
    "open quote": (lambda rows: [*rows[:4], '"visible/3_3.png,3', *rows[5:]], "; expected a CSV"),
    "no such picture": (
        line_2("visible/1.png"),
        " line 2: ROOT/visible/1.png is not here; expected an image",
    ),
    "a folder": (line_2("visible"), " line 2: ROOT/visible is not here; expected an image"),
    "no such pictures": (
        lambda rows: [row.replace("visible/", "rgb/") for row in rows],
        " line 2: ROOT/rgb/3_0.png is not here (19 more images are not); expected an image",
    ),
    "twice": (
        lambda rows: [*rows, "./visible/3_1.png,3"],
        " line 32: visible/3_1.png is listed twice, first on line 3",
    ),
    "absolute": (line_2("/etc/1.png"), " line 2: path '/etc/1.png'" + OUT),
    "drive": (line_2("C:\\me\\1.png"), " line 2: path 'C:\\\\me\\\\1.png'" + OUT),
    "outside": (line_2("visible/../../1.png"), " line 2: path 'visible/../../1.png'" + OUT),
    "no name": (line_2(person=" "), " line 2: person is empty"),
    "no path": (line_2(path=""), " line 2: path is empty"),
    "cells": (line_2(person="3,4"), " line 2: 3 cells; expected 2, as line 1 has"),
    "odd modality": (
        with_column("modality", lambda *_: "uv"),
        f" line 2: modality 'uv'; {MODALITY}",
    ),
    "odd split": (
        with_column("split", splits(_3="training")),
        " line 2: split 'training'; expected one of train, val, test, query, gallery",
    ),
    "no split": (
        with_column("split", splits(visible_5="")),
        " line 9: split ''; expected one of train, val, test, query, gallery",
    ),
    "no camera": (
        with_column("camera", lambda path, person: "" if person == "5" else "1"),
        " line 9: camera is empty; expected one in every line, or in none",
    ),
    "two splits": (
        with_column("split", splits(_3="train", visible_5="train")),
        " line 14: person '5' is in test, and in train on line 9; expected one",
    ),
    "held out and not": (
        with_column("split", splits(_3="train", visible_5="val", infrared_5="train")),
        " line 14: person '5' is in train, and in val on line 9; expected one",
    ),
    "no infrared training": (
        lambda rows: [row for row in rows if not row.startswith(("infrared/3", "infrared/5"))],
        f": no infrared training image; {BOTH}",
    ),
    "no visible test": (
        lambda rows: [row for row in rows if not row.startswith(("visible/8", "visible/12"))],
        f": no visible test image; {BOTH}",
    ),
    "no test": (
        with_column("split", splits(_3="train", _5="train", _8="train", _12="val")),
        ": no visible test",
    ),
    "one to train": (
        with_column("split", splits(_3="train")),
        ": 1 training identity with visible images; expected 2 or more",
    ),
    "strangers": (
        lambda rows: [row for row in rows if not row.startswith(("visible/8", "infrared/12"))],
        ": no test identity has visible and infrared images; expected at least one",
    ),
    "one camera": (
        with_column("camera", lambda *_: "1"),
        ": visible and infrared test images of a person come from the same camera, "
        "and images of one camera are no matches; expected other names for the infrared cameras",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_one_line_with_file_line_value_and_what_was_expected(
    root: Path, case: str
) -> None:
    change, expected = CASES[case]
    message = changed(root, change)
    assert message.endswith(expected) if expected.startswith(";") else message.startswith(expected)


def test_a_picture_in_no_folder_needs_a_modality(root: Path) -> None:
    (root / "visible/3_0.png").rename(root / "3_0.png")
    expected = " line 2: no modality, and 3_0.png is in no folder visible or infrared; " + MODALITY
    assert changed(root, line_2("3_0.png")) == expected


def test_no_csv_is_one_line(root: Path, tmp_path: Path) -> None:
    (root / folder.IMAGES).unlink()
    for place in (root, tmp_path / "elsewhere"):
        with pytest.raises(InputError) as raised:
            folder.read(place)
        assert str(raised.value) == (
            f"{place}/images.csv is not here; expected a CSV with the columns path and person"
        )


# --- a source of one's own ------------------------------------------------------------------------


@pytest.fixture
def source_root(root: Path) -> Path:
    rows = [
        f"shop/{person}_{number}.png,{person},{number % 2 + 1}"
        for person in ("eve", "adam")
        for number in (1, 0)
    ]
    for row in rows:
        picture(root.parent / row.split(",")[0], 0, 0)
    write(root.parent, ["path,person,camera", *rows], folder.SOURCE)
    return root.parent


def test_a_source_is_visible_training_pictures(source_root: Path) -> None:
    table, remarks = folder.read_source(source_root)
    assert table["path"].tolist() == [
        f"shop/{name}_{number}.png" for name in ("adam", "eve") for number in (0, 1)
    ]
    assert table["person"].tolist() == [1, 1, 2, 2]
    assert table["camera"].tolist() == [1, 2, 1, 2]
    assert set(zip(table["modality"], table["split"], strict=True)) == {("visible", "train")}
    assert remarks == []
    write(
        source_root,
        ["path,person,split", "shop/eve_1.png,1,test", "shop/adam_1.png,2,test"],
        folder.SOURCE,
    )
    table, remarks = folder.read_source(source_root)
    assert set(table["split"]) == {"train"}
    assert remarks == [f"{source_root}/source.csv: not read: split"]
    write(source_root, ["path,person", "shop/eve_1.png,eve"], folder.SOURCE)
    with pytest.raises(
        InputError, match=r"source\.csv: all images show person 'eve', expected 2 people or more"
    ):
        folder.read_source(source_root)


def test_a_source_is_looked_for_in_both_roots(source_root: Path, root: Path) -> None:
    roots = {"data.root": root, "data.source_root": source_root}
    reader = SOURCES["folder"]
    assert reader.find(roots) == source_root
    (root / folder.SOURCE).touch()
    assert reader.find(roots) == root
    with pytest.raises(InputError) as raised:
        reader.find({"data.root": root / "visible", "data.source_root": root / "gone"})
    assert str(raised.value) == (
        f"data.root: {root}/visible holds no source.csv; "
        f"data.source_root: {root}/gone holds no source.csv; "
        "expected a CSV with the columns path and person"
    )


# --- how it is judged -----------------------------------------------------------------------------


def test_all_pictures_of_a_modality_meet_all_of_the_other(root: Path) -> None:
    table, _ = folder.read(root)
    for mode in protocol.modes:
        queries, gallery = (
            protocol.query_rows(table, mode),
            protocol.gallery_rows(table, mode, trial=0),
        )
        np.testing.assert_array_equal(queries, regdb.query_rows(table, mode))
        np.testing.assert_array_equal(gallery, regdb.gallery_rows(table, mode, trial=0))
        assert not protocol.excluded(table, queries, gallery).any()  # cameras 1 and 2


def test_pictures_of_the_same_person_and_camera_are_removed_and_no_others(root: Path) -> None:
    table, _ = folder.read(root)
    table = table.assign(camera=np.arange(len(table)) % 2)
    queries, gallery = (protocol.query_rows(table, mode) for mode in protocol.modes)
    removed = protocol.excluded(table, queries, gallery)
    assert removed.any()
    for (i, j), gone in np.ndenumerate(removed):
        query, image = table.loc[queries[i]], table.loc[gallery[j]]
        assert gone == (query["person"] == image["person"] and query["camera"] == image["camera"])


def test_modes_and_draws_of_other_data_sets_are_refused(root: Path) -> None:
    table, _ = folder.read(root)
    with pytest.raises(
        ValueError, match=r"evaluate\.modes: folder has infrared_to_visible, .* it has no indoor"
    ):
        protocol.query_rows(table, "indoor")
    with pytest.raises(ValueError, match="folder has no official gallery draws"):
        protocol.gallery_rows(table, protocol.modes[0], 0, draws="official")
    with pytest.raises(ValueError, match="no visible test image"):
        protocol.gallery_rows(
            table[table["modality"] == "infrared"].reset_index(drop=True), protocol.modes[0], 0
        )


# --- the stages -----------------------------------------------------------------------------------

SMALL = {
    "images": {"height": 48, "width": 24},
    "device": {"name": "cpu", "threads": 1},
    "spcl": {
        "source": "folder",
        "epochs": 1,
        "steps": 3,
        "warmup_epochs": 0,
        "batch": 4,
        "min_samples": 2,
        "pad": 2,
    },
    "train": {"epochs": 2, "epoch_multiplier": 1, "warmup_epochs": 1, "keep_outliers": True},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A folder with `params.yaml` to run stages in: dataset `folder` with everything small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "ROOT", Path("."))

    def write_params(**sections: dict[str, Any]) -> Path:
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["dataset"] = "folder"
        tree["data"] |= {"root": "raw/folder", "source_root": "raw"}
        for changes in (SMALL, sections):
            for name, leaves in changes.items():
                tree[name] |= leaves
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        for name in ("stages", "dvc.yaml"):  # a checkpoint is named after the code, too
            (tmp_path / name).symlink_to(ROOT / name)
        return tmp_path

    return write_params


def test_bad_input_ends_in_one_line(project: Callable[..., Path], root: Path) -> None:
    place = project()
    (root / "visible/3_1.png").write_text("<html>404</html>")
    message = (
        r"error in prepare: raw/folder/visible/3_1\.png is not an image; expected JPEG, PNG, BMP"
    )
    with pytest.raises(SystemExit, match=message):
        prepare.main()
    write(root, ["path,person", "visible/3_1.jpg,3"])
    with pytest.raises(
        SystemExit, match=r"error in prepare: raw/folder/images\.csv line 2: .*3_1\.jpg is not here"
    ):
        prepare.main()
    with pytest.raises(
        SystemExit,
        match=r"error in source: data\.root: raw/folder holds no source\.csv; data\.source",
    ):
        source.main()
    assert not (place / "data/images/target").exists()


def test_turned_pictures_are_stored_upright_without_a_word(
    project: Callable[..., Path], source_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = project()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = {}
    for path in (source_root / "folder/visible/3_0.png", source_root / "shop/eve_0.png"):
        with Image.open(path) as image:
            upright[path.name] = np.asarray(image)
            image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    prepare.main()
    source.main()
    assert "WARNING" not in capsys.readouterr().out
    for store_name, name in (("target", "3_0.png"), ("source", "eve_0.png")):
        store = ImageStore(place / "data/images" / store_name)
        row = store.table["path"].str.endswith("/" + name).to_numpy().argmax()
        np.testing.assert_array_equal(store.pixels[row], upright[name])


def test_thirty_pictures_of_four_people_through_the_pipeline(
    project: Callable[..., Path], source_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some seconds: five stages, two epochs of two to five steps each."""
    place = project()
    prepare.main()
    source.main()
    out = capsys.readouterr().out
    assert (
        "raw/folder/images.csv has no column split: the first 2 of 4 identities are for training"
        in out
    )
    assert (
        "folder: 2 training identities with 10 visible and 5 infrared images; "
        "5 query and 10 gallery images"
    ) in out
    assert "WARNING" not in out
    assert len(ImageStore(place / "data/images/source").rows("train", "visible")) == 4
    with run_stage("pseudo_label"):
        pseudo_label.main()
    with run_stage("train"):
        train.main()
    evaluate.main()
    labels = pd.read_csv(place / "data/labels/visible.csv")
    assert len(labels) == 10
    assert len(pd.read_csv(place / "data/labels/infrared.csv")) == 5
    facts = read_json(place / "data/rankings/protocol.json")
    assert facts["layout"] == "folder"
    assert facts["queries"] == {"infrared_to_visible": 5, "visible_to_infrared": 10}
    assert facts["gallery"] == {"infrared_to_visible": 10, "visible_to_infrared": 5}
    assert facts["unmatched"] == {"infrared_to_visible": 0, "visible_to_infrared": 0}
    metrics = read_json(place / "metrics/evaluate.json")
    for mode in protocol.modes:
        assert 0 < metrics[mode]["rank1"] <= metrics[mode]["rank20"] == 1
        assert metrics[mode]["rank1_sd"] == 0
