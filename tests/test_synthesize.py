"""The synthetic data sets: same seed, same bytes; no color in the infrared; the real layouts."""

import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.synthesize import __main__, people, render, sources, targets, trees
from stages.synthesize.figure import OVERSAMPLING, Figure, Part, Pose
from stages.synthesize.paint import paint, pattern
from stages.synthesize.plan import NOBODY, Layout, PlannedImage
from stages.synthesize.world import STYLES, WORLD

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
    source_persons=120,
    source_images=8,
    height=96,
    width=48,
)
TINY = replace(
    DEFAULTS,
    train_persons=3,
    val_persons=1,
    test_persons=2,
    images_per_camera=2,
    source_persons=4,
    source_images=4,
    height=32,
    width=16,
)
STUDIO = render.Studio("sysu_mm01", 0, 96, 48)


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def vector(person: people.Person) -> np.ndarray:
    """All numbers of an identity as one vector (D,) float64."""
    materials = [person.skin, person.hair, person.inner, person.shoes, person.bag_material]
    numbers = [person.hair_length, person.bag_side, person.bag_size, *vars(person.body).values()]
    for garment in (person.upper, person.lower):
        materials += [garment.base, garment.accent]
        numbers += [garment.period, garment.offset, garment.length, garment.fit]
    for material in materials:
        numbers += [*material.visible, material.infrared]
    return np.array(numbers, dtype=np.float64)


def figure(person: people.Person, facing: float = 0.0) -> Figure:
    return Figure(person, Pose(facing, 1.0, 0.9, 0.0, 0.0, 0.0, 0.0), 96, 48)


# --- the same seed, the same bytes ----------------------------------------------------------------


@pytest.mark.parametrize("layout", ["sysu_mm01", "regdb", "market1501"])
def test_bytes_depend_on_the_seed_and_not_on_the_workers(layout: str, tmp_path: Path) -> None:
    one = bytes_of(trees.write_tree(layout, tmp_path / "one", TINY, workers=1))
    two = bytes_of(trees.write_tree(layout, tmp_path / "two", TINY, workers=2))
    assert one == two
    other = bytes_of(trees.write_tree(layout, tmp_path / "other", replace(TINY, seed=1), workers=1))
    images = {digest for path, digest in one.items() if not path.endswith(".txt")}
    assert not images & set(other.values())


def test_images_do_not_depend_on_the_order_of_rendering() -> None:
    pairs = [(person, camera) for person in (3, 4) for camera in (1, 3)]
    planned = [PlannedImage("", person, camera, 0, camera == 3) for person, camera in pairs]
    forth = [render.render(STUDIO, image) for image in planned]
    for cached in (render.person_of, render.camera_of, render.scene_of):
        cached.cache_clear()
    back = [render.render(STUDIO, image) for image in reversed(planned)][::-1]
    np.testing.assert_array_equal(forth, back)


def test_images_of_one_person_and_camera_differ() -> None:
    images = [render.render(STUDIO, PlannedImage("", 7, 1, index)) for index in range(6)]
    assert len({image.tobytes() for image in images}) == 6


def test_jpegs_carry_no_metadata(tmp_path: Path) -> None:
    folder = trees.write_tree("dukemtmc", tmp_path, TINY, workers=1)
    for path in sorted(folder.rglob("*.jpg"))[:5]:
        picture = Image.open(path)
        assert picture.size == (16, 32)
        assert not picture.getexif()
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


# --- two modalities -------------------------------------------------------------------------------


def test_infrared_images_have_equal_channels_and_visible_ones_do_not(tmp_path: Path) -> None:
    folder = trees.write_tree("sysu_mm01", tmp_path, TINY, workers=1)
    for path in folder.rglob("*.jpg"):
        image = np.asarray(Image.open(path).convert("RGB")).astype(int)
        same = (image[:, :, 0] == image[:, :, 1]).all() and (image[:, :, 1] == image[:, :, 2]).all()
        assert same == (path.parts[-3] in ("cam3", "cam6")), path


def test_infrared_does_not_see_colors_and_visible_does_not_see_infrared() -> None:
    """Exact: other visible reflectances leave the infrared figure as it is, and the reverse."""
    for number in range(8):
        person = render.person_of(STUDIO, number)
        for infrared in (False, True):
            changed = _recolored(person, visible=infrared)
            before = paint(figure(person), infrared, np.random.default_rng(0))[0]
            after = paint(figure(changed), infrared, np.random.default_rng(0))[0]
            np.testing.assert_array_equal(before, after)
            opposite = _recolored(person, visible=not infrared)
            other = paint(figure(opposite), infrared, np.random.default_rng(0))[0]
            assert np.abs(before - other).max() > 0.05


def _recolored(person: people.Person, visible: bool) -> people.Person:
    def swap(material: people.Material) -> people.Material:
        red, green, blue = material.visible
        if visible:
            return people.Material((1.0 - blue, red, 1.0 - green), material.infrared)
        return people.Material(material.visible, 1.0 - material.infrared)

    def dye(garment: people.Garment) -> people.Garment:
        return replace(garment, base=swap(garment.base), accent=swap(garment.accent))

    dyed = replace(
        person, upper=dye(person.upper), lower=dye(person.lower), inner=swap(person.inner)
    )
    dyed = replace(dyed, skin=swap(person.skin), hair=swap(person.hair), shoes=swap(person.shoes))
    return replace(dyed, bag_material=swap(person.bag_material))


@pytest.mark.parametrize("dataset", sorted(STYLES))
def test_hue_says_nothing_about_infrared_and_luminance_a_part(dataset: str) -> None:
    random = np.random.default_rng(5)
    cloths = [people.cloth(random, STYLES[dataset], WORLD) for _ in range(4000)]
    infrared = np.array([cloth.infrared for cloth in cloths])
    luminance = np.array([cloth.luminance for cloth in cloths])
    colors = np.array([cloth.visible for cloth in cloths])
    opponent = np.stack([colors[:, 0] - colors[:, 1], colors[:, 2] - colors[:, :2].mean(1)])
    hue = np.arctan2(
        np.sqrt(3) * (colors[:, 1] - colors[:, 2]),
        2 * colors[:, 0] - colors[:, 1] - colors[:, 2],
    )
    strong = np.ptp(colors, axis=1) > 0.05
    for circle in (np.cos, np.sin):
        assert abs(np.corrcoef(circle(hue[strong]), infrared[strong])[0, 1]) < 0.06
    # What is left of color once luminance is known: nothing.
    rest = infrared - np.polyval(np.polyfit(luminance, infrared, 1), luminance)
    for axis in opponent / luminance:
        assert abs(np.corrcoef(axis, rest)[0, 1]) < 0.06
    assert 0.35 < np.corrcoef(luminance, infrared)[0, 1] < 0.6


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.0, -0.05, 0.05), (0.5, 0.6, 0.8), (1.0, 0.999, 1.001)]
)
def test_luminance_share_turns_the_knob(share: float, low: float, high: float) -> None:
    random, world = np.random.default_rng(6), replace(WORLD, luminance_share=share)
    cloths = [people.cloth(random, STYLES["sysu_mm01"], world) for _ in range(3000)]
    pairs = np.array([(cloth.luminance, cloth.infrared) for cloth in cloths])
    assert low < np.corrcoef(pairs.T)[0, 1] < high


def test_cloth_has_the_luminance_it_was_asked_for() -> None:
    random = np.random.default_rng(7)
    for luminance in (0.02, 0.1, 0.5, 0.9, 0.98):
        for _ in range(50):
            cloth = people.cloth(random, STYLES["market1501"], WORLD, luminance)
            assert cloth.luminance == pytest.approx(luminance, abs=1e-9)
            assert 0.0 <= min(cloth.visible) <= max(cloth.visible) <= 1.0


def test_patterns_keep_their_contrast_in_both_modalities() -> None:
    for number in range(300):
        person = render.person_of(STUDIO, number)
        for garment in (person.upper, person.lower):
            gaps = (
                garment.base.infrared - garment.accent.infrared,
                garment.base.luminance - garment.accent.luminance,
            )
            assert min(map(abs, gaps)) >= WORLD.pattern_contrast - 0.03


# --- people ---------------------------------------------------------------------------------------


def test_identities_are_distinct_within_and_across_data_sets() -> None:
    numbers = {"sysu_mm01": range(1, 534), **{source: range(150) for source in __main__.SOURCES}}
    vectors = []
    for dataset, range_ in numbers.items():
        studio = replace(STUDIO, dataset=dataset)
        vectors += [vector(render.person_of(studio, number)) for number in range_]
    rows = np.array(vectors)
    assert len(np.unique(rows, axis=0)) == len(rows)
    near = np.abs(rows[:, None, :12] - rows[None, :, :12]).max(axis=2)
    np.fill_diagonal(near, 1.0)
    assert near.min() > 0.005  # nor are two nearly the same


@pytest.mark.parametrize("cut", sorted({*WORLD.upper_cuts, *WORLD.lower_cuts}))
def test_every_cut_looks_different_from_the_others(cut: str) -> None:
    person = render.person_of(STUDIO, 11)
    upper = cut in WORLD.upper_cuts
    maps = {}
    for other in {*(WORLD.upper_cuts if upper else WORLD.lower_cuts)}:
        piece = replace(person.upper if upper else person.lower, cut=other)
        worn = replace(person, bag="none", upper=replace(person.upper, cut="vest"))
        worn = replace(worn, upper=piece) if upper else replace(worn, lower=piece)
        maps[other] = figure(worn).draw()
    for other, drawn in maps.items():
        assert other == cut or (drawn != maps[cut]).mean() > 0.002, other


@pytest.mark.parametrize("bag", ["backpack", "shoulder", "hand"])
@pytest.mark.parametrize("facing", [0.0, np.pi / 2, np.pi, -np.pi / 2])
def test_bags_show_from_every_side(bag: str, facing: float) -> None:
    person = replace(render.person_of(STUDIO, 12), bag=bag)
    drawn = figure(person, facing).draw()
    assert np.isin(drawn, [Part.BAG, Part.STRAP]).sum() > 60
    bare = figure(replace(person, bag="none"), facing).draw()
    assert not np.isin(bare, [Part.BAG, Part.STRAP]).any()


@pytest.mark.parametrize("facing", np.linspace(-np.pi, np.pi, 9))
def test_a_figure_fills_the_picture_and_stays_inside(facing: float) -> None:
    for number in range(20):
        body = figure(render.person_of(STUDIO, number), facing).draw() > 0
        assert body.shape == (96 * OVERSAMPLING, 48 * OVERSAMPLING)
        assert 0.12 < body.mean() < 0.5
        assert np.flatnonzero(body.any(1))[[0, -1]] / len(body) == pytest.approx(
            [0.05, 0.95], abs=0.025
        )
        assert not body[:, [0, -1]].any()


def test_front_and_back_differ_by_the_face() -> None:
    person = replace(render.person_of(STUDIO, 13), hair_length=1.0, bag="none")
    head = slice(0, 50)
    front, back = (
        np.isin(figure(person, facing).draw()[head], [Part.SKIN]).sum() for facing in (0.0, np.pi)
    )
    assert front > 4 * back


def test_a_logo_is_on_the_chest_only() -> None:
    garment = replace(render.person_of(STUDIO, 1).upper, pattern="logo")
    x, y = np.linspace(-0.2, 0.2, 41)[None, :], np.linspace(0.0, 1.0, 101)[:, None]
    assert pattern(garment, x, y, front=1.0, edge=0.3).any()
    assert not pattern(garment, x, y, front=-1.0, edge=0.3).any()


def test_an_unknown_pattern_is_an_error() -> None:
    garment = replace(render.person_of(STUDIO, 1).upper, pattern="tartan")
    with pytest.raises(ValueError, match="'tartan' is not a pattern"):
        pattern(garment, np.zeros((1, 3)), np.zeros((4, 1)), front=1.0, edge=0.3)


def test_sources_have_a_style_of_their_own() -> None:
    """Means and spreads of channels differ more between sources than between halves of one."""

    def statistics(dataset: str, half: int) -> np.ndarray:
        studio = render.Studio(dataset, 0, 48, 24)
        planned = [
            PlannedImage("", 2 * person + half, 1 + camera, 0)
            for person in range(40)
            for camera in (person % 6, 3)
        ]
        images = np.stack([render.render(studio, image) for image in planned]) / 255.0
        return np.concatenate([images.mean((0, 1, 2)), images.std((0, 1, 2))])

    found = {
        dataset: (statistics(dataset, 0), statistics(dataset, 1)) for dataset in __main__.SOURCES
    }
    within = max(float(np.linalg.norm(first - second)) for first, second in found.values())
    names = list(found)
    between = [
        np.linalg.norm(found[a][0] - found[b][0]) for i, a in enumerate(names) for b in names[:i]
    ]
    assert min(between) > 2 * within


def test_the_dark_room_is_the_lit_room() -> None:
    """Cameras 2 and 3 of SYSU-MM01 look at one place; the other cameras each at their own."""
    places = {camera: render.scene_of(STUDIO, camera) for camera in range(1, 7)}
    np.testing.assert_array_equal(places[2], places[3])
    for first, second in ((1, 2), (2, 4), (4, 5), (5, 6), (3, 6)):
        assert np.abs(places[first] - places[second]).mean() > 0.02


# --- trees ----------------------------------------------------------------------------------------


def seen_by(plan: Layout) -> dict[int, dict[tuple[int, bool], int]]:
    """Person → (camera, infrared) → number of images."""
    found: dict[int, dict[tuple[int, bool], int]] = defaultdict(lambda: defaultdict(int))
    for image in plan.images:
        found[image.person][image.camera, image.infrared] += 1
    return found


@pytest.mark.parametrize("layout", sorted(trees.LAYOUTS))
@pytest.mark.parametrize("settings", [TINY, DEFAULTS], ids=["tiny", "default"])
def test_no_path_and_no_drawing_occurs_twice(layout: str, settings: Synthesize) -> None:
    plan = trees.LAYOUTS[layout](settings)
    paths = [image.path for image in plan.images]
    paths += [*plan.texts, *(copy for _, copy in plan.copies)]
    assert len(set(paths)) == len(paths)
    drawings = {(image.person, image.camera, image.infrared, image.index) for image in plan.images}
    assert len(drawings) == len(plan.images)


@pytest.mark.parametrize("layout", sorted(trees.LAYOUTS))
def test_write_tree_writes_what_is_planned(layout: str, tmp_path: Path) -> None:
    folder = trees.write_tree(layout, tmp_path, TINY, workers=1)
    plan = trees.LAYOUTS[layout](TINY)
    written = bytes_of(folder)
    copies = {copy for _, copy in plan.copies}
    assert set(written) == {image.path for image in plan.images} | set(plan.texts) | copies
    for source, copy in plan.copies:
        assert written[source] == written[copy]
    for image in plan.images:
        assert Image.open(folder / image.path).size == (TINY.width, TINY.height)


def test_sysu_people_cameras_and_lists() -> None:
    plan = targets.sysu_mm01(DEFAULTS)
    lists = {
        name: [int(number) for number in plan.texts[f"exp/{name}_id.txt"].split(",")]
        for name in ("train", "val", "test")
    }
    sizes = {name: len(numbers) for name, numbers in lists.items()}
    assert sizes == {"train": 80, "val": 10, "test": 40}
    everyone = [number for numbers in lists.values() for number in numbers]
    assert len(set(everyone)) == 130
    assert min(everyone) >= 1
    assert max(everyone) <= 533
    assert lists["train"] != list(range(min(lists["train"]), min(lists["train"]) + 80))
    people_ = seen_by(plan)
    assert set(people_) == set(everyone)
    for cameras in people_.values():
        assert {number for number, infrared in cameras if infrared} <= {3, 6}
        assert {number for number, infrared in cameras if not infrared} <= {1, 2, 4, 5}
        assert sum(infrared for _, infrared in cameras) >= 1
        assert sum(not infrared for _, infrared in cameras) >= 2
        assert set(cameras.values()) == {4}
    one_infrared = np.mean(
        [sum(infrared for _, infrared in cameras) == 1 for cameras in people_.values()]
    )
    assert 0.35 < one_infrared < 0.65
    assert any(sum(not infrared for _, infrared in cameras) < 4 for cameras in people_.values())
    assert all(re.fullmatch(r"cam[1-6]/\d{4}/\d{4}\.jpg", image.path) for image in plan.images)


def test_sysu_ends_at_533_people() -> None:
    with pytest.raises(ValueError, match=r"= 550; the numbers of SYSU-MM01 end at 533"):
        targets.sysu_mm01(replace(DEFAULTS, train_persons=500))


def test_sysu_without_val_people_has_an_empty_list() -> None:
    plan = targets.sysu_mm01(replace(TINY, val_persons=0))
    assert plan.texts["exp/val_id.txt"] == "\n"


def test_regdb_has_ten_different_halves_with_labels_from_zero() -> None:
    plan = targets.regdb(DEFAULTS)
    assert {image.path for image in plan.images} == {
        line.split()[0]
        for name, text in plan.texts.items()
        if "_1." in name
        for line in text.splitlines()
    }
    train_people = []
    for trial in range(1, 11):
        of_split: dict[str, set[str]] = {}
        for split in ("train", "test"):
            labels: list[dict[str, int]] = []
            for modality in ("visible", "thermal"):
                lines = plan.texts[f"idx/{split}_{modality}_{trial}.txt"].splitlines()
                assert len(lines) == 65 * 10
                pairs = {(line.split("/")[1], int(line.split()[1])) for line in lines}
                assert sorted(label for _, label in pairs) == list(range(65))
                labels.append(dict(pairs))
                assert all(line.startswith(modality.capitalize() + "/") for line in lines)
            assert labels[0] == labels[1]  # a person has one label in both modalities
            of_split[split] = set(labels[0])
        assert not of_split["train"] & of_split["test"]
        train_people.append(frozenset(of_split["train"]))
    assert len(set(train_people)) == 10


def test_regdb_drops_the_odd_person() -> None:
    assert len(seen_by(targets.regdb(replace(TINY, test_persons=3)))) == 6


def test_llcm_lists_and_folders_agree() -> None:
    plan = targets.llcm(DEFAULTS)
    tests = {int(number) for number in plan.texts["idx/test_id.txt"].split(",")}
    assert len(tests) == 40
    for kind in ("vis", "nir"):
        for split in ("train", "test"):
            lines = [line.split() for line in plan.texts[f"idx/{split}_{kind}.txt"].splitlines()]
            numbers = {int(path.split("/")[1]) for path, _ in lines}
            assert numbers == (tests if split == "test" else set(range(1, 131)) - tests)
            assert sorted({int(label) for _, label in lines}) == list(range(len(numbers)))
            pattern_ = rf"{kind}/(\d{{4}})/\1_c0[1-9]_s\d{{6}}_f\d{{4}}_{kind}\.jpg"
            assert all(re.fullmatch(pattern_, path) for path, _ in lines)
    assert all(int(source.split("/")[1]) in tests for source, _ in plan.copies)
    assert all(re.match(r"test_(vis|nir)/cam[1-9]/\d{4}/", copy) for _, copy in plan.copies)
    for cameras in seen_by(plan).values():
        assert (3, True) not in cameras
        assert {infrared for _, infrared in cameras} == {False, True}


@pytest.mark.parametrize("source", __main__.SOURCES)
def test_sources_have_disjoint_halves_and_queries_with_a_match(source: str) -> None:
    plan = trees.LAYOUTS[source](DEFAULTS)
    folders = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
    if source == "msmt17":
        role = {
            f"{'train' if name in ('train', 'val') else 'test'}/{line.split()[0]}": name
            for name in ("train", "val", "query", "gallery")
            for line in plan.texts[f"list_{name}.txt"].splitlines()
        }
    else:
        role = {image.path: folders[image.path.split("/")[0]] for image in plan.images}
    of_role: dict[str, list[PlannedImage]] = defaultdict(list)
    for image in plan.images:
        of_role[role[image.path]].append(image)
    train = {image.person for name in ("train", "val") for image in of_role[name]}
    test = {image.person for image in of_role["query"]}
    assert len(train) == 120
    assert len(test) == 20
    assert not train & {image.person for name in ("query", "gallery") for image in of_role[name]}
    assert {image.person for image in of_role["train"]} == train
    for query in of_role["query"]:
        assert any(
            image.person == query.person and image.camera != query.camera
            for image in of_role["gallery"]
        )
    for person, cameras in seen_by(plan).items():
        if person in train | test:
            assert 2 <= len(cameras) <= 6
            assert sum(cameras.values()) == 8


def test_file_names_of_the_sources() -> None:
    market = sources.market1501(DEFAULTS)
    name = re.compile(r".*/(-1|\d{4})_c[1-6]s[1-6]_\d{6}_\d{2}\.jpg")
    assert all(name.fullmatch(image.path) for image in market.images)
    for junk in ("-1_", "0000_"):
        found = [image for image in market.images if f"/{junk}" in image.path]
        assert len(found) >= 2
        assert all(image.path.startswith("bounding_box_test/") for image in found)
    assert all(("/0000_" in image.path) == (image.person == NOBODY) for image in market.images)
    duke = sources.dukemtmc(DEFAULTS)
    assert all(re.search(r"/\d{4}_c[1-8]_f\d{7}\.jpg$", image.path) for image in duke.images)
    msmt = sources.msmt17(DEFAULTS)
    name = re.compile(
        r"(train|test)/(\d{4})/\2_\d{3}_(0[1-9]|1[0-5])_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg"
    )
    assert all(name.fullmatch(image.path) for image in msmt.images)
    assert msmt.texts["list_train.txt"].startswith("0000/0000_000_")


def test_a_source_of_two_images_a_person_still_has_queries() -> None:
    plan = sources.dukemtmc(replace(TINY, source_images=2))
    assert sum(image.path.startswith("query/") for image in plan.images) == 4


def test_write_tree_refuses_an_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="'cuhk03' is not a layout; expected one of sysu_mm01, regdb"
    ):
        trees.write_tree("cuhk03", tmp_path, TINY)


# --- the stage ------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with this project's parameters, made tiny."""
    text = (Path(__file__).parents[1] / "params.yaml").read_text()
    for name in ("train_persons", "val_persons", "test_persons", "source_persons", "source_images"):
        text = re.sub(rf"^  {name}: \d+$", f"  {name}: 2", text, flags=re.MULTILINE)
    text = re.sub(
        r"^  height: 96\n  width: 48$", "  height: 32\n  width: 16", text, flags=re.MULTILINE
    )
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_writes_the_target_and_three_sources(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "data/synthetic/stale").mkdir(parents=True)
    __main__.main()
    names = sorted(path.name for path in (checkout / "data/synthetic").iterdir())
    assert names == ["DukeMTMC-reID", "MSMT17_V1", "Market-1501-v15.09.15", "SYSU-MM01"]
    assert "data/synthetic/MSMT17_V1: 8 images" in capsys.readouterr().out
    assert (checkout / "logs/synthesize.json").is_file()


def test_pictures_of_ones_own_get_the_sources_alone(checkout: Path) -> None:
    head, rest = (checkout / "params.yaml").read_text().split("\nsynthesize:\n")
    rest = rest.replace("\n  layout:\n", "\n  layout: sources\n", 1)
    (checkout / "params.yaml").write_text(f"{head}\nsynthesize:\n{rest}")
    __main__.main()
    names = sorted(path.name for path in (checkout / "data/synthetic").iterdir())
    assert names == ["DukeMTMC-reID", "MSMT17_V1", "Market-1501-v15.09.15"]


def test_real_data_leave_an_empty_folder(checkout: Path) -> None:
    text = (checkout / "params.yaml").read_text()
    assert "scale: small\n" in text
    (checkout / "params.yaml").write_text(text.replace("scale: small\n", "scale: paper\n"))
    __main__.main()
    assert list((checkout / "data/synthetic").iterdir()) == []


def test_an_interrupted_run_leaves_what_was_there(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "data/synthetic").mkdir(parents=True)
    (checkout / "data/synthetic/before.txt").write_text("")

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "write_tree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        __main__.main()
    assert [path.name for path in (checkout / "data").rglob("*")] == ["synthetic", "before.txt"]


def test_people_of_one_seed_do_not_shift_when_there_are_more_of_them() -> None:
    """Turning `train_persons` up does not give the people already there other clothes."""
    few, many = (targets.sysu_mm01(replace(TINY, train_persons=count)) for count in (3, 30))
    shared = set(seen_by(few)) & set(seen_by(many))
    assert shared
    random = numpy_generator(0, "sysu_mm01", "person", min(shared))
    again = people.draw_person(random, STYLES["sysu_mm01"], WORLD)
    assert again == render.person_of(STUDIO, min(shared))
