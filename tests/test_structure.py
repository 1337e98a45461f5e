"""SYSU-MM01's structure: infrared counts, and the real data set's identities and cameras.

The owners' files are no part of this project: they are read from VIREID_DATA, or `shared/data`
beside the checkout.
"""

import hashlib
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from stages.evaluate import sysu_mm01 as protocol
from stages.parts.images.table import check_table
from stages.parts.run import files
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import InputError
from stages.prepare import sysu_mm01 as reader
from stages.prepare.counts import compare
from stages.synthesize import __main__, structure, targets, trees
from stages.synthesize.plan import Layout
from stages.synthesize.structure import INFRARED, VISIBLE

DATA = Path(os.environ.get("VIREID_DATA", Path(__file__).parents[2] / "shared" / "data"))
DEFAULTS = Synthesize(
    layout="sysu_mm01",
    structure=None,
    seed=0,
    train_persons=80,
    val_persons=10,
    test_persons=40,
    images_per_camera=4,
    infrared_counts="halves",
    unpaired=0.0,
    source_persons=2,
    source_images=2,
    height=32,
    width=16,
)
MANY = replace(DEFAULTS, train_persons=480)
# Five people: 1 and 2 to train on, 4 to test, 3 seen by visible cameras only, 5 seen by both kinds.
SEEN = {
    1: {1: [1, 2, 3], 3: [1, 2]},
    2: {2: [2, 5, 7], 6: [1]},  # numbers with gaps, as where a data set's owner took images out
    3: {4: [1], 5: [1]},
    4: {1: [1, 2], 2: [1], 3: [1, 2], 6: [1, 2, 3]},
    5: {5: [1, 2], 6: [4]},
}


def infrared_sizes(whole: structure.Structure) -> np.ndarray:
    """Number of infrared images of each identity."""
    sizes: Counter[int] = Counter()
    for (person, camera), numbers in whole.image_numbers.items():
        sizes[person] += len(numbers) if camera in INFRARED else 0
    return np.array([sizes[person] for person in sorted(sizes)])


def table_of(plan: Layout) -> pd.DataFrame:
    """The table that `prepare` makes of the plan's tree, rows in the plan's order."""
    splits = {
        int(person): name
        for name in ("train", "val", "test")
        for person in plan.texts[f"exp/{name}_id.txt"].split(",")
        if person.strip()
    }
    rows = [
        {
            "path": image.path,
            "person": image.person,
            "camera": image.camera,
            "modality": "infrared" if image.infrared else "visible",
            "split": splits[image.person],
        }
        for image in plan.images
    ]
    for row in rows:
        if row["split"] == "test":
            row["split"] = "query" if row["modality"] == "infrared" else "gallery"
    return check_table(pd.DataFrame(rows).assign(row=range(len(rows))))


@pytest.fixture
def official() -> Path:
    """The folder of the SYSU-MM01 owners' identity lists and gallery draws."""
    folder = DATA / "sysu_official"
    if not folder.is_dir():
        hint = "set VIREID_DATA to the folder that holds sysu_official"
        pytest.skip(f"no SYSU-MM01 lists in {folder} ({hint})")
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with the three files of a data set of five people."""
    folder = tmp_path / "owner"
    folder.mkdir()
    write_permutations(folder, SEEN)
    scipy.io.savemat(folder / "train_id.mat", {"id": np.array([[2, 1]], dtype=np.uint16)})
    scipy.io.savemat(folder / "test_id.mat", {"id": np.array([[4]], dtype=np.uint16)})
    return folder


def write_permutations(folder: Path, seen: dict[int, dict[int, list[int]]]) -> None:
    """`rand_perm_cam.mat` as the real one: 6 × 1 cells of people × 1 cells of 10 × n matrices."""
    cameras = np.empty((6, 1), dtype=object)
    random = np.random.default_rng(0)
    for camera in range(1, 7):
        cells = np.empty((max(seen), 1), dtype=object)
        for person in range(1, max(seen) + 1):
            numbers = seen.get(person, {}).get(camera, [])
            draws = [random.permutation(numbers) for _ in range(10)]
            cells[person - 1, 0] = np.array(draws, dtype=np.uint8).reshape(10, len(numbers))
        cameras[camera - 1, 0] = cells
    scipy.io.savemat(folder / "rand_perm_cam.mat", {"rand_perm_cam": cameras})


# --- drawn ----------------------------------------------------------------------------------------


def test_the_default_plan_stays_as_it_was_before_there_were_other_counts() -> None:
    plan = targets.sysu_mm01(DEFAULTS)
    lines = [
        f"{image.path} {image.person} {image.camera} {image.index} {image.infrared}"
        for image in plan.images
    ]
    lines += [f"{name}: {text}" for name, text in plan.texts.items()]
    assert len(plan.images) == 2536
    found = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert found == "ffb20579a440d14a234bea74b785ee801b5264b4c28ecf015291b72b7c2f2392"


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_unpaired_training_identities_have_no_infrared_image(share: float) -> None:
    paired = structure.draw(DEFAULTS)
    found = structure.draw(replace(DEFAULTS, unpaired=share))
    assert found.splits == paired.splits
    gone = paired.image_numbers.keys() - found.image_numbers.keys()
    assert {camera for _, camera in gone} <= set(structure.INFRARED)
    persons = {person for person, _ in gone}
    assert len(persons) == round(share * DEFAULTS.train_persons)
    assert persons <= set(found.splits["train"])
    for person in persons:
        assert not any((person, camera) in found.image_numbers for camera in structure.INFRARED)
    for pair, numbers in found.image_numbers.items():
        assert numbers == paired.image_numbers[pair]


@pytest.mark.parametrize("counts", ["equal", "skewed"])
def test_infrared_counts_change_infrared_images_alone(counts: str) -> None:
    halves = structure.draw(DEFAULTS)
    other = structure.draw(replace(DEFAULTS, infrared_counts=counts))
    assert other.splits == halves.splits
    visible = [
        {pair: numbers for pair, numbers in each.image_numbers.items() if pair[1] in VISIBLE}
        for each in (halves, other)
    ]
    assert visible[0] == visible[1]
    assert other.image_numbers != halves.image_numbers


def test_halves_are_one_or_two_cameras() -> None:
    sizes = infrared_sizes(structure.draw(MANY))
    assert set(sizes.tolist()) == {4, 8}
    assert 0.4 < (sizes == 4).mean() < 0.6


@pytest.mark.parametrize("each", [1, 4])
def test_equal_is_both_cameras_for_everyone(each: int) -> None:
    found = structure.draw(replace(DEFAULTS, infrared_counts="equal", images_per_camera=each))
    assert (infrared_sizes(found) == 2 * each).all()
    seen = found.image_numbers
    assert all((person, camera) in seen for person, _ in seen for camera in INFRARED)


@pytest.mark.parametrize("each", [1, 2, 4, 10])
def test_skewed_has_a_long_tail(each: int) -> None:
    halves = structure.draw(replace(MANY, images_per_camera=each))
    skewed = structure.draw(replace(MANY, images_per_camera=each, infrared_counts="skewed"))
    assert skewed.image_numbers.keys() == halves.image_numbers.keys()  # the same cameras see them
    sizes, before = infrared_sizes(skewed), infrared_sizes(halves)
    assert sizes.min() == 2
    infrared = [pair for pair in skewed.image_numbers if pair[1] in INFRARED]
    assert max(len(skewed.image_numbers[pair]) for pair in infrared) == 3 * each
    assert sizes.std() / sizes.mean() > before.std() / before.mean()
    assert np.median(sizes) < sizes.mean()
    if each >= 4:
        assert sizes.std() / sizes.mean() > 2 * before.std() / before.mean()
        assert 0.85 < sizes.sum() / before.sum() < 1.15


def test_a_persons_skewed_count_does_not_depend_on_who_else_is_there() -> None:
    few, many = (
        structure.draw(replace(settings, infrared_counts="skewed")) for settings in (DEFAULTS, MANY)
    )

    def per_camera(whole: structure.Structure) -> dict[int, int]:
        """Of people whom both infrared cameras see, whose count nothing raises to 2."""
        seen = whole.image_numbers
        both = [person for person, camera in seen if camera == 3 and (person, 6) in seen]
        return {person: len(seen[person, 3]) for person in both}

    shared = per_camera(few).keys() & per_camera(many).keys()
    assert len(shared) > 10
    assert all(per_camera(few)[person] == per_camera(many)[person] for person in shared)


@pytest.mark.parametrize("layout", ["regdb", "llcm"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("infrared_counts", "skewed"), ("unpaired", 0.5), ("structure", "data/raw/exp")],
)
def test_other_layouts_refuse_what_is_sysus_alone(layout: str, name: str, value: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^synthesize\.{name}: {value!r} is for the layout sysu_mm01, not for {layout}$",
    ):
        trees.LAYOUTS[layout](replace(DEFAULTS, **{name: value}))


# --- as in the real data set ----------------------------------------------------------------------


def test_the_plan_follows_the_owners_files(small: Path) -> None:
    plan = targets.sysu_mm01(replace(DEFAULTS, structure=str(small)))
    assert plan.texts == {
        "exp/train_id.txt": "1,2\n",
        "exp/val_id.txt": "5\n",
        "exp/test_id.txt": "4\n",
    }
    expected = [
        f"cam{camera}/{person:04d}/{number:04d}.jpg"
        for person in (1, 2, 4, 5)  # 3 is on no list, and no infrared camera has seen it
        for camera, numbers in SEEN[person].items()
        for number in numbers
    ]
    assert [image.path for image in plan.images] == expected
    assert {image.camera for image in plan.images if image.infrared} == {3, 6}


def test_the_rendered_tree_is_read_back_and_judged_by_the_owners_draws(
    small: Path, tmp_path: Path
) -> None:
    settings = replace(DEFAULTS, structure=str(small))
    table = reader.read(trees.write_tree("sysu_mm01", tmp_path, settings, workers=1))
    planned = table_of(targets.sysu_mm01(settings))
    columns = ["path", "person", "camera", "modality", "split"]
    read_back, expected = (set(each[columns].itertuples(index=False)) for each in (table, planned))
    assert read_back == expected
    draws = small / "rand_perm_cam.mat"
    for trial in range(10):
        rows = protocol.gallery_rows(table, "all", trial, 1, "official", draws)
        assert table["camera"].iloc[rows].tolist() == [1, 2]
        assert set(table["person"].iloc[rows]) == {4}


def test_a_relative_path_starts_at_the_users_checkout(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROOT", small.parent)
    assert targets.sysu_mm01(replace(DEFAULTS, structure="owner")).texts["exp/test_id.txt"] == "4\n"


def test_the_real_structure_has_the_published_counts(official: Path) -> None:
    plan = targets.sysu_mm01(replace(DEFAULTS, structure=str(official)))
    splits = {
        name: len(plan.texts[f"exp/{name}_id.txt"].split(",")) for name in ("train", "val", "test")
    }
    assert splits == {"train": 296, "val": 99, "test": 96}
    table = table_of(plan)
    assert compare(table, reader.PUBLISHED, "the plan") == []
    assert table.groupby(["split", "modality"]).size().to_dict() == {
        ("train", "visible"): 20_284,
        ("train", "infrared"): 9_929,
        ("val", "visible"): 1_974,
        ("val", "infrared"): 1_980,
        ("query", "infrared"): 3_803,
        ("gallery", "visible"): 6_775,
    }
    assert table.loc[table["split"] == "query", "camera"].value_counts().to_dict() == {
        3: 1_883,
        6: 1_920,
    }
    drawings = {(image.person, image.camera, image.index) for image in plan.images}
    assert len(drawings) == len(plan.images) == 44_745


def test_both_gallery_draws_of_the_real_structure_have_the_published_sizes(official: Path) -> None:
    table = table_of(targets.sysu_mm01(replace(DEFAULTS, structure=str(official))))
    for mode, size in (("all", 301), ("indoor", 112)):
        assert len(protocol.PROTOCOL.query_rows(table, mode)) == 3_803
        drawn = {draws: [] for draws in ("agw", "official")}
        for draws, galleries in drawn.items():
            for trial in (0, 4, 9):
                rows = protocol.gallery_rows(
                    table, mode, trial, 1, draws, official / "rand_perm_cam.mat"
                )
                assert len(set(rows.tolist())) == len(rows) == size
                galleries.append(set(rows.tolist()))
        assert all(first != second for first, second in zip(*drawn.values(), strict=True))
    rows = protocol.gallery_rows(table, "all", 0, 1, "official", official / "rand_perm_cam.mat")
    assert table["camera"].iloc[rows].value_counts().to_dict() == {1: 56, 2: 56, 4: 94, 5: 95}
    # The owners' own first draw of test identity 6 in camera 1, straight from their file.
    first = scipy.io.loadmat(official / "rand_perm_cam.mat")["rand_perm_cam"][0, 0][5, 0][0, 0]
    assert table["path"].iloc[rows[0]] == f"cam1/0006/{first:04d}.jpg"


# --- what is wrong with the files -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["rand_perm_cam.mat", "train_id.mat", "test_id.mat"])
def test_a_missing_file_is_named(small: Path, name: str) -> None:
    (small / name).unlink()
    with pytest.raises(
        InputError, match=rf"^synthesize\.structure: .*{name} is not here; expected rand_perm_cam"
    ):
        structure.read(small)


@pytest.mark.parametrize("name", ["rand_perm_cam.mat", "train_id.mat", "test_id.mat"])
def test_a_file_of_another_kind_is_named(small: Path, name: str) -> None:
    (small / name).write_text("1,2,4\n")
    with pytest.raises(InputError, match=rf"{name} is not a MATLAB 5 file"):
        structure.read(small)
    scipy.io.savemat(small / name, {"other": np.zeros((1, 2))})
    with pytest.raises(
        InputError, match=rf"{name}: no variable (id|rand_perm_cam) there, only .*other"
    ):
        structure.read(small)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.zeros((6, 5)), r"found float64 of 30"),
        (np.array([["a"]] * 5, dtype=object), r"found object of 5"),
    ],
)
def test_permutations_of_another_layout(small: Path, value: np.ndarray, found: str) -> None:
    scipy.io.savemat(small / "rand_perm_cam.mat", {"rand_perm_cam": value})
    with pytest.raises(
        InputError, match=rf"rand_perm_cam\.mat: expected rand_perm_cam, 6 cells .*{found}$"
    ):
        structure.read(small)


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        (np.array([[1.0, 2.0]]), r"found float64 \(1, 2\)"),
        (np.array([[1, 2], [1, 3]]), "not permutations of the same image numbers"),
        (np.array([[1, 1], [1, 1]]), "not permutations of the same image numbers"),
        (np.array([[0, 1], [1, 0]]), "not permutations of the same image numbers"),
    ],
)
def test_cells_that_are_no_permutations(small: Path, matrix: np.ndarray, problem: str) -> None:
    cameras = scipy.io.loadmat(small / "rand_perm_cam.mat")["rand_perm_cam"]
    cameras[1, 0][3, 0] = matrix
    scipy.io.savemat(small / "rand_perm_cam.mat", {"rand_perm_cam": cameras})
    with pytest.raises(
        InputError, match=rf"rand_perm_cam\.mat: .*{problem}: camera 2, identity 4$"
    ):
        structure.read(small)


@pytest.mark.parametrize(
    ("name", "ids", "problem"),
    [
        ("train_id.mat", np.array([[1, 2, 77]]), "identity 77 has no image in rand_perm_cam.mat"),
        ("test_id.mat", np.array([[2, 4]]), "identity 2 is in train_id.mat, too"),
        (
            "test_id.mat",
            np.array([[4.0]]),
            r"expected id, whole numbers of identities; found float64 \(1, 1\)",
        ),
        (
            "test_id.mat",
            np.zeros((0, 0), dtype=np.uint8),
            r"expected id, whole numbers of identities; found uint8",
        ),
    ],
)
def test_lists_that_cannot_be(small: Path, name: str, ids: np.ndarray, problem: str) -> None:
    scipy.io.savemat(small / name, {"id": ids})
    with pytest.raises(InputError, match=rf"^synthesize\.structure: .*{name}: {problem}"):
        structure.read(small)


def test_a_structure_knows_how_many_infrared_images_there_are(small: Path) -> None:
    settings = replace(DEFAULTS, structure=str(small), infrared_counts="equal")
    with pytest.raises(
        ValueError, match=r"infrared_counts: 'equal' does not go with synthesize\.structure"
    ):
        targets.sysu_mm01(settings)


# --- the stage ------------------------------------------------------------------------------------


def test_the_stage_says_in_one_line_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    assert "\n  structure:\n" in text
    (tmp_path / "params.yaml").write_text(
        text.replace("\n  structure:\n", "\n  structure: nowhere\n")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit,
        match=r"^error in synthesize: synthesize\.structure: nowhere/rand_perm_cam\.mat is not",
    ):
        __main__.main()
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "data").iterdir())
