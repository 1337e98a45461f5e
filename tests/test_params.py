"""params.yaml: numbers as DVC writes them, and one clear line for every slip."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.evaluate.protocols import PROTOCOLS
from stages.parts.run import params
from stages.parts.run.rendered import rendered_layout
from stages.parts.run.settings import DATASETS, SECTIONS, Otla, Spcl, Train
from tests.builders import ROOT, parameters, write_parameters

# The seven profiles of the first version, value by value, and what is written now in their place.
FORMER = json.loads((ROOT / "tests/former_profiles.json").read_text())
NOW = {
    "synthetic": ("sysu_mm01", "small"),
    "synthetic_regdb": ("regdb", "small"),
    "synthetic_llcm": ("llcm", "small"),
    "folder": ("folder", "small"),
    "sysu_mm01": ("sysu_mm01", "paper"),
    "regdb": ("regdb", "paper"),
    "llcm": ("llcm", "paper"),
}


@pytest.mark.parametrize("text", ["1e-05", "5e-4", "0.00001", "1.", ".5", "1E3", "-2.5e+3"])
def test_floats_follow_yaml_1_2(tmp_path: Path, text: str) -> None:
    """DVC writes `-S otla.tolerance=0.00001` as 1e-05, which plain PyYAML reads as a text."""
    assert yaml.load(f"value: {text}", params._Loader)["value"] == float(text)


@pytest.mark.parametrize("text", ["1", "0", "-7", "007a", "none", "1e", "e5", "true"])
def test_other_scalars_stay_what_they_are(text: str) -> None:
    value = yaml.load(f"value: {text}", params._Loader)["value"]
    assert not isinstance(value, float)


def test_dvc_notation_reaches_the_dataclass(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("tolerance: 0.000001", "tolerance: 1e-05")
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert params.section(params.load(path), "otla", Otla).tolerance == 1e-5


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_profile_is_complete(tmp_path: Path, dataset: str, scale: str) -> None:
    tree = params.load(write_parameters(tmp_path, {"dataset": dataset, "scale": scale}))
    for name, kind in SECTIONS.items():
        params.section(tree, name, kind)


@pytest.mark.parametrize("former", NOW)
def test_the_two_axes_resolve_to_the_values_of_the_former_profile(
    tmp_path: Path, former: str
) -> None:
    dataset, scale = NOW[former]
    tree = params.load(write_parameters(tmp_path, {"dataset": dataset, "scale": scale}))
    for name, value in FORMER[former].items():
        section, leaf = name.split(".")
        resolved = params.section(tree, section, SECTIONS[section])
        if name == "data.layout":
            assert dataset == value
        elif name == "synthesize.layout":
            assert rendered_layout(dataset, scale, resolved.layout) == value
        elif name == "evaluate.modes":
            assert resolved.modes is None
            assert list(PROTOCOLS[dataset].modes) == value
        else:
            expected = tuple(value) if isinstance(value, list) else value
            assert getattr(resolved, leaf) == expected, name


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("synthetic", "dataset: sysu_mm01 and scale: small"),
        ("synthetic_regdb", "dataset: regdb and scale: small"),
        ("synthetic_llcm", "dataset: llcm and scale: small"),
    ],
)
def test_a_former_data_set_is_told_what_to_write_now(tmp_path: Path, former: str, now: str) -> None:
    with pytest.raises(params.ParameterError) as error:
        params.load(write_parameters(tmp_path, {"dataset": former}))
    assert str(error.value) == f"params.yaml: dataset: '{former}' is now {now}"


def test_a_section_goes_before_its_profile(tmp_path: Path) -> None:
    tree = params.load(write_parameters(tmp_path, {"spcl.epochs": 3}))
    assert params.section(tree, "spcl", Spcl).epochs == 3
    assert params.section(params.load(ROOT / "params.yaml"), "spcl", Spcl).epochs != 3


def test_the_paper_profile_has_the_papers_values() -> None:
    tree = params.load(ROOT / "params.yaml") | {"scale": "paper"}
    train, otla = params.section(tree, "train", Train), params.section(tree, "otla", Otla)
    assert (train.epochs, train.persons, train.images, train.learning_rate) == (80, 4, 8, 3.5e-3)
    assert (train.warmup_epochs, train.milestones, train.margin, otla.delta) == (
        10,
        (20, 50),
        0.3,
        25.0,
    )


SLIPS = {
    "otla.detla": (5, "otla.detla is not a parameter; did you mean otla.delta?"),
    "otla.delta": (-1, "otla.delta: -1.0 is not a number above 0"),
    "otla.solver": ("simplex", "otla.solver: 'simplex' is not one of newton, sinkhorn, released"),
    "otla.stop": (
        "change",
        "otla.stop is now part of `otla.solver` (`change` is `released`); delete it",
    ),
    "data.layout": ("folder", "data.layout is now `dataset`"),
    "train.epochs": ("ten", "train.epochs: 'ten' is not a whole number"),
    "train.milestones": (5, "train.milestones: 5 is not a list"),
    "den.enabled": (1, "den.enabled: 1 is not true or false"),
    "spcl.source": (
        "markt1501",
        "spcl.source: 'markt1501' is not one of market1501, dukemtmc, msmt17, folder, none",
    ),
    "spcl.batch": (True, "spcl.batch: True is not a whole number"),
    "evaluate.modes": (["all", "all"], "evaluate.modes: ('all', 'all') is not a list of"),
    "dataset": ("sysu", "dataset: 'sysu' is not one of sysu_mm01, regdb, llcm, folder"),
    "seed": (-1, "seed: -1 is not a whole number of at least 0"),
    "trian": ({}, "trian is not a parameter; did you mean train?"),
    "scale": ("large", "scale: 'large' is not one of small, paper"),
    "profiles.small.all.spcl.epoch": (3, "profiles.small.all.spcl.epoch is not a parameter"),
    "profiles.small.all.evaluate": ({}, "profiles.small.all.evaluate is not a parameter"),
    "profiles.paper.regdb.den": (..., "profiles.paper.regdb.den is missing, expected at least {}"),
    "profiles.small.sysu_mm01": (..., "profiles.small.sysu_mm01 is missing"),
    "profiles.small.all.spcl.epochs": (
        None,
        "no value in spcl.epochs and profiles.small.sysu_mm01.spcl.epochs and "
        "profiles.small.all.spcl.epochs, expected one",
    ),
    "evaluate.trials": (None, "no value in evaluate.trials, expected one"),
    "profiles.paper.all.spcl.k1": ("x", "profiles.paper.all.spcl.k1: 'x' is not a whole number"),
    "profiles.small.all.train.setting": (
        "supervised",
        "profiles.small.all.train.setting has no effect; write it as train.setting",
    ),
    "profiles.small.all.spcl.source": ("none", "has no effect; write it as spcl.source"),
    "otla.tolerance": (10**400, "otla.tolerance: the number is too large"),
    "images": ([], "images: expected keys, found []"),
    "profiles": ({1: {}}, "profiles: 1 is not the name of a scale"),
    "seed ": (0, "seed  is not a parameter"),
    "device.name": (
        "cuda:1",
        "device.name: 'cuda:1' is not auto, cpu or cuda (CUDA_VISIBLE_DEVICES says which GPU)",
    ),
    "data.root": ("a\0b", r"data.root: 'a\x00b' holds a NUL character"),
    "profiles ": ({}, "profiles  is not a parameter; did you mean profiles?"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    value, message = SLIPS[name]
    with pytest.raises(params.ParameterError) as error:
        params.load(write_parameters(tmp_path, {name: value}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_a_former_version_is_told_what_to_write_now(tmp_path: Path) -> None:
    """Also where it lacks what has come since."""
    changes = {"dataset": "synthetic", "scale": ..., "profiles": ...}
    with pytest.raises(params.ParameterError, match="'synthetic' is now dataset: sysu_mm01 and"):
        params.load(write_parameters(tmp_path, changes))
    for name in ("scale", "profiles"):
        with pytest.raises(params.ParameterError, match=f"{name} is missing"):
            params.load(write_parameters(tmp_path, {name: ...}))


TOGETHER = [
    (
        {"dataset": "regdb", "train.selection": "validation"},
        "train.selection: regdb has no validation identities to choose by; expected last, or one",
    ),
    (
        {"dataset": "llcm", "train.selection": "validation"},
        "train.selection: llcm has no validation",
    ),
    ({"network.weights": "imagenet"}, "network.weights: there are no imagenet weights for narrow"),
    ({"spcl.k2": 16}, "spcl.k2: 16 exceeds spcl.k1, 15"),
    ({"spcl.batch": 4}, "spcl.batch: 4 images may all be of one label (spcl.instances: 4)"),
    ({"spcl.radius": 0.99}, "spcl.radius: 0.99 ± 0.02 (spcl.radius_gap) is not between 0 and 1"),
    ({"spcl.radius": 0.01}, "spcl.radius: 0.01 ± 0.02"),
    ({"spcl.radius": 0.02}, "spcl.radius: 0.02 ± 0.02"),
    (
        {"spcl.statistics_group": 5},
        "spcl.batch: 32 images do not divide into groups of 5 (spcl.statistics_group)",
    ),
    ({"spcl.statistics_group": 64}, "spcl.batch: 32 images do not divide into groups of 64"),
    (
        {"evaluate.modes": ["all", "visible_to_infrared"]},
        "evaluate.modes: sysu_mm01 has all, indoor; it has no visible_to_infrared",
    ),
    ({"dataset": "folder", "evaluate.modes": ["all"]}, "evaluate.modes: folder has infrared_to_v"),
    (
        {"dataset": "llcm", "evaluate.draws": "official", "evaluate.official_draws": "a.mat"},
        "evaluate.draws: llcm has no official gallery draws, expected agw",
    ),
    (
        {"data.unpaired": 0.5, "data.unpaired_from": "market1501"},
        "data.unpaired_from: market1501 is the labeled source (spcl.source), so its people are",
    ),
    (
        {"data.unpaired": 0.5, "train.setting": "supervised"},
        "data.unpaired: train.setting supervised needs infrared images of each identity",
    ),
    (
        {"data.unpaired": 0.5, "train.selection": "validation"},
        "data.unpaired: train.selection: validation needs both modalities",
    ),
    ({"evaluate.draws": "official"}, "evaluate.official_draws is empty; evaluate.draws: official"),
    (
        {"evaluate.split": "val"},
        "evaluate.split: val needs train.selection: validation, which is last",
    ),
    (
        {"evaluate.rerank": True, "evaluate.rerank_k2": 21},
        "evaluate.rerank_k2: 21 exceeds evaluate.rerank_k1, 20",
    ),
]


@pytest.mark.parametrize(("changes", "message"), TOGETHER, ids=str)
def test_parameters_that_do_not_go_together_are_refused_before_any_work(
    changes: dict, message: str
) -> None:
    with pytest.raises(params.ParameterError) as error:
        params.check(parameters(changes))
    assert f"params.yaml: {message}" in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.setting": "supervised", "spcl.k2": 16, "spcl.statistics_group": 5},
        {"dataset": "folder", "train.selection": "validation"},
        {"data.unpaired_from": "market1501"},
        {"data.unpaired": 0.5, "data.unpaired_from": "market1501", "spcl.source": "none"},
        {"data.unpaired": 0.5, "train.setting": "semi-supervised"},
        {"evaluate.rerank_k2": 21},
        {"spcl.batch": 4, "spcl.warmup_epochs": 0},
        {"spcl.batch": 4, "spcl.source": "none"},
        {"evaluate.split": "val", "train.selection": "validation"},
        {"network.architecture": "resnet18", "network.weights": "imagenet"},
        {"evaluate.draws": "official", "evaluate.official_draws": "rand_perm_cam.mat"},
    ],
    ids=str,
)
def test_what_is_not_used_need_not_fit(changes: dict) -> None:
    params.check(parameters(changes))


WRONG = (None, True, 1, -1, 10**400, 0.5, "", "x", [], [[]], ["x"], {}, {1: 2}, {"x": None})


def test_whatever_the_tree_holds_is_accepted_or_refused() -> None:
    """Any value in the place of any node, also of the profiles."""

    def nodes(tree: dict, way: tuple = ()) -> list[tuple]:
        found = [(*way, key) for key in tree]
        for key, value in tree.items():
            found += nodes(value, (*way, key)) if isinstance(value, dict) else []
        return found

    random = np.random.default_rng(0)
    for way in nodes(parameters()):
        for value in random.choice(len(WRONG), 3, replace=False):
            tree = parameters()
            node = tree
            for key in way[:-1]:
                node = node[key]
            node[way[-1]] = WRONG[value]
            with suppress(params.ParameterError):
                params.check(tree)


@pytest.mark.parametrize(
    "content", [b"a: [1", b"seed: 2020-13-45", b"seed: 0b_", b"\xff\xfe", b"[" * 3000], ids=str
)
def test_what_is_no_yaml_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(params.ParameterError, match=r"is not valid YAML|cannot be read as text"):
        params.load(path)
    with pytest.raises(params.ParameterError, match="cannot be read as text"):
        params.load(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(params.ParameterError, match="is not here"):
        params.load(path)
    path.write_text("a: [1")
    with pytest.raises(params.ParameterError, match="not valid YAML"):
        params.load(path)
    path.write_text("3")
    with pytest.raises(params.ParameterError, match="expected sections"):
        params.load(path)


def test_the_check_before_a_run_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parameters(tmp_path, {"otla.delta": 0})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit, match=r"error: params.yaml: otla.delta: 0.0 is not a number above 0"
    ):
        params.main()
