"""params.yaml: numbers as DVC writes them, and one clear line for every slip."""

from pathlib import Path

import pytest
import yaml

from stages.parts.run import params
from stages.parts.run.settings import SECTIONS, Otla, Spcl, Train

ROOT = Path(__file__).parents[1]


def write(folder: Path, changes: dict[str, object]) -> Path:
    """params.yaml of the repository with some leaves replaced."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        *way, leaf = name.split(".")
        node = tree
        for key in way:
            node = node[key]
        if value is ...:
            del node[leaf]
        else:
            node[leaf] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


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


@pytest.mark.parametrize("dataset", yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"])
def test_every_profile_is_complete(tmp_path: Path, dataset: str) -> None:
    tree = params.load(write(tmp_path, {"dataset": dataset}))
    for name, kind in SECTIONS.items():
        params.section(tree, name, kind)


def test_a_section_goes_before_its_profile(tmp_path: Path) -> None:
    tree = params.load(write(tmp_path, {"spcl.epochs": 3}))
    assert params.section(tree, "spcl", Spcl).epochs == 3
    assert params.section(params.load(ROOT / "params.yaml"), "spcl", Spcl).epochs != 3


def test_the_paper_profile_has_the_papers_values() -> None:
    tree = params.load(ROOT / "params.yaml") | {"dataset": "sysu_mm01"}
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
    "otla.solver": ("simplex", "otla.solver: 'simplex' is not one of newton, sinkhorn"),
    "otla.stop": (
        "change",
        "otla.stop: change is a rule of otla.solver: sinkhorn, newton has none like it",
    ),
    "train.epochs": ("ten", "train.epochs: 'ten' is not a whole number"),
    "train.milestones": (5, "train.milestones: 5 is not a list"),
    "den.enabled": (1, "den.enabled: 1 is not true or false"),
    "spcl.source": (
        "markt1501",
        "spcl.source: 'markt1501' is not one of market1501, dukemtmc, msmt17, folder, none",
    ),
    "spcl.batch": (True, "spcl.batch: True is not a whole number"),
    "evaluate.modes": (["all", "all"], "evaluate.modes: ('all', 'all') is not a list of"),
    "dataset": ("sysu", "dataset: 'sysu' is not one of synthetic"),
    "seed": (-1, "seed: -1 is not a whole number of at least 0"),
    "trian": ({}, "trian is not a parameter; did you mean train?"),
    "profiles.synthetic.spcl.epoch": (3, "profiles.synthetic.spcl.epoch is not a parameter"),
    "profiles.synthetic.spcl.epochs": (
        None,
        "spcl.epochs is empty, and so is profiles.synthetic.spcl.epochs",
    ),
    "seed ": (0, "seed  is not a parameter"),
    "profiles": (..., "profiles is missing"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    value, message = SLIPS[name]
    with pytest.raises(params.ParameterError) as error:
        params.load(write(tmp_path, {name: value}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


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
    write(tmp_path, {"otla.delta": 0})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit, match=r"error: params.yaml: otla.delta: 0.0 is not a number above 0"
    ):
        params.main()
