"""Any params.yaml: accepted, or refused by the key's name; what is accepted runs."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.parts.run import params
from stages.parts.run.files import read_json
from stages.parts.run.settings import SECTIONS
from stages.parts.run.training import run_epochs
from stages.pseudo_label import __main__ as pseudo_label
from stages.synthesize.trees import LAYOUTS
from stages.train import __main__ as train
from tests import builders, tiny
from tests.builders import parameters


def places(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """The path of every node."""
    found = []
    for key, value in tree.items():
        found.append(prefix + key)
        found += places(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return found


def refusal(tree: Any) -> str | None:
    """The line that refuses a tree; None if it is accepted."""
    try:
        params.check(tree)
    except params.ParameterError as error:
        return str(error)
    return None


PLACES = places(parameters())
NUMBERS = st.integers(-(10**20), 10**20) | st.integers(0, 100) | st.floats()
NAMES = st.sampled_from(
    ["all", "none", "folder", "validation", "val", "official", "supervised", "imagenet", "cuda:1"]
)
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats(0, 1) | st.text(max_size=5) | NAMES
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=5), LEAVES)


@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1, max_size=4))
def test_any_values_are_accepted_or_refused_by_name(changes: dict[str, Any]) -> None:
    tree = parameters()
    for name in sorted(changes, key=len, reverse=True):  # leaves before their sections
        *way, leaf = name.split(".")
        node = tree
        for key in way:
            node = node[key]
        node[leaf] = changes[name]
    line = refusal(tree)
    if line is None:
        for name, kind in SECTIONS.items():
            assert isinstance(params.section(tree, name, kind), kind)
        return
    assert len(line.splitlines()) == 1
    assert any(place in line for place in PLACES), line


@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(params.ParameterError) as error:
        params.check(params.parse(text))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [(2, 0, 1, 2), (40, 5, 250, 40), (250, 33, 250, 1501)], ids=str)
def test_accepted_structures_can_be_planned(layout: str, sizes: tuple[int, ...]) -> None:
    names = ("train_persons", "val_persons", "test_persons", "source_persons")
    changes = {f"synthesize.{name}": size for name, size in zip(names, sizes, strict=True)}
    plan = LAYOUTS[layout](builders.settings("synthesize", changes))
    paths = [image.path for image in plan.images]
    assert len(paths) == len(set(paths)) > 0


# Values of parameters that keep a run tiny; steps, epochs and sizes stay those of `tiny`.
CHOICES: dict[str, list[Any]] = {
    "seed": [0, 1, 10**30],
    "dataset": ["sysu_mm01", "regdb", "llcm", "folder"],
    "network.architecture": ["narrow", "narrow", "resnet18"],
    "network.start": ["weights", "pseudo_label"],
    "network.pooling": ["average", "gem"],
    "network.two_stream": [False, True],
    "network.non_local": [False, True],
    "device.precision": ["auto", "float32", "tf32", "bfloat16"],
    "device.shards": [1, 2],
    "device.threads": [1, 2],
    "spcl.source": ["market1501", "folder", "none"],
    "spcl.warmup_epochs": [0, 1, 2],
    "spcl.instances": [2, 4, 64],
    "spcl.batch": [2, 7, 12],
    "spcl.height": [None, 16, 40],
    "spcl.width": [None, 8, 33],
    "spcl.weight_decay": [0, 0.0005, 1],
    "spcl.decay_every": [1, 1000],
    "spcl.decay": [0, 0.1, 1],
    "spcl.k1": [2, 6, 30],
    "spcl.k2": [1, 2, 6],
    "spcl.radius": [0.3, 0.6, 0.9],
    "spcl.radius_gap": [0, 0.02, 0.1],
    "spcl.min_samples": [1, 2, 4],
    "spcl.independence_quantile": [0, 0.9, 1],
    "spcl.momentum": [0, 0.2, 0.999],
    "spcl.temperature": [0.01, 0.05, 10],
    "spcl.statistics_group": [None, None, 2, 6],
    "spcl.flip": [0, 1],
    "spcl.pad": [0, 256],
    "spcl.erase": [0, 1],
    "spcl.mixture": [0, 0.5, 1],
    "spcl.gamma": [[1, 1], [0.5, 1.7]],
    "train.objective": ["otla", "otla", "prototypes"],
    "train.setting": ["unsupervised", "semi-supervised", "supervised"],
    "train.steps": [1, 2, None],
    "train.epoch_multiplier": [1, 2],
    "train.persons": [2, 5],
    "train.images": [2, 9],
    "train.backbone_rate": [0, 1],
    "train.weight_decay": [0, 1],
    "train.warmup_epochs": [0, 1000],
    "train.milestones": [[], [1], [-5, 1, 10**9]],
    "train.decay": [0, 1],
    "train.margin": [0, 0.3, 100],
    "train.triplet_scope": ["modality", "joint"],
    "train.weight_ce_visible": [0, 1],
    "train.weight_triplet_visible": [0, 1],
    "train.weight_ce_infrared": [0, 1],
    "train.weight_triplet_infrared": [0, 1],
    "train.grayscale": [0, 1],
    "train.flip": [0, 1],
    "train.erase": [0, 1],
    "train.exchange": [0, 0.5],
    "train.mixture": [0, 0.8],
    "train.gamma": [[1, 1], [0.01, 10]],
    "train.infrared_gamma": [[1, 1], [0.5, 2]],
    "train.erase_channel": [0, 1],
    "train.keep_outliers": [False, True],
    "train.selection": ["last", "validation"],
    "den.enabled": [False, True],
    "den.weight": [0, 1],
    "den.tau": [0.001, 1e6],
    "den.max_steps": [1, 100_000_000],
    "den.step": [1, 1000],
    "den.levels": ["all", "last"],
    "den.dropout": [0, 0.99],
    "otla.assignment": ["transport", "argmax", "none"],
    "otla.delta": [0.01, 25, 1000],
    "otla.rows": ["images", "clusters"],
    "otla.label_prior": ["uniform", "visible", "estimated"],
    "otla.prior_momentum": [0, 1],
    "otla.label_slack": [0, 0.3, 1000],
    "otla.solver": ["newton", "sinkhorn", "released"],
    "otla.tolerance": [1e-12, 1e-6, 1],
    "otla.max_iterations": [None, 1, 100],
    "otla.predict": ["all", "visited"],
    "otla.predict_mode": ["eval", "train"],
    "otla.label_lag": [0, 1],
    "otla.infrared_from_epoch": [0, 1, 10_000],
    "clusters.share": [0.1, 1],
    "clusters.k1": [2, 6, 1000],
    "clusters.k2": [1, 2],
    "clusters.radius": [0.001, 0.55, 0.999],
    "clusters.min_samples": [1, 2, 1000],
    "prototypes.association": ["transport", "matching", "global", "none"],
    "prototypes.views": [1, 2],
    "prototypes.own_epochs": [0, 1, 10_000],
    "prototypes.restart_rate": [False, True],
    "prototypes.momentum": [0, 0.1, 1],
    "prototypes.temperature": [0.01, 0.05, 10],
    "prototypes.teacher_temperature": [0.01, 0.05, 10],
    "prototypes.weight_own": [0, 1],
    "prototypes.weight_unified": [0, 1],
    "prototypes.weight_distillation": [0, 1],
    "pal.enabled": [False, True],
    "pal.weight": [0, 1],
    "pal.lambda_vr": [0, 1],
    "pal.lambda_rv": [0, 1],
    "pal.values": ["logits", "predictions"],
    "pal.detach": [False, True],
    "evaluate.modes": [None, None, ["all"], ["visible_to_infrared"]],
    "evaluate.trials": [1, 2],
    "evaluate.shots": [1, 10],
    "evaluate.flip": [False, True],
    "evaluate.features": ["after", "before"],
    "evaluate.split": ["test", "val"],
    "evaluate.rerank": [False, True],
    "evaluate.rerank_k1": [1, 8],
    "evaluate.rerank_k2": [1, 8],
    "evaluate.rerank_lambda": [0, 1],
    "evaluate.batch": [1, 64],
    "export.tolerance": [1e-5, 1],
    "export.int8": [False, True],
}
# What only a training can show; `spcl` and `train` say it in one line.
DUE_TO_TRAINING = (
    "found no cluster",
    "but a batch takes",
    "is not finite",
)
RUNS = 12


def draws(count: int = RUNS) -> Iterator[dict[str, Any]]:
    """Yield `count` settings that are accepted, of any values of CHOICES."""
    random = np.random.default_rng(0)
    while count:
        changes = {
            name: values[int(random.integers(len(values)))] for name, values in CHOICES.items()
        }
        line = refusal(parameters(tiny.SMALL | changes))
        if line is None:
            count -= 1
            yield changes
        else:
            assert any(name in line for name in CHOICES), line


def run(changes: dict[str, Any], begun: list[str]) -> str | None:
    """Run the four stages; the line with which one ends early. `begun` gets what was trained."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pseudo_label, train):
            patch.setattr(module, "run_epochs", partial(_noted, begun, module.__name__))
        for name in tiny.STAGES:
            try:
                tiny.run(name, changes)
            except SystemExit as end:
                return str(end)
    return None


def _noted(begun: list[str], name: str, *given: Any, **named: Any) -> None:
    begun.append(name)
    run_epochs(*given, **named)


@pytest.mark.slow
def test_what_is_accepted_runs(tmp_path: Path) -> None:
    """Four stages on a few tiny images, RUNS times; about a minute."""
    finished = 0
    for number, changes in enumerate(draws()):
        with builders.workplace(tmp_path / str(number)):
            tiny.write_images()
            begun: list[str] = []
            line = run(changes, begun)
            if line is None:
                metrics = pd.json_normalize(read_json(Path("metrics/evaluate.json"))).iloc[0]
                assert np.isfinite(metrics.astype(float)).all()
                finished += 1
            elif begun:
                assert any(words in line for words in DUE_TO_TRAINING), (line, changes)
    assert finished > RUNS / 2


def test_every_leaf_is_drawn_or_of_another_stage() -> None:
    """A new parameter is entered in CHOICES, or it is one of these."""
    others = {
        "data", "images", "synthesize", "profiles", "scale",
        "network.weights", "device.name", "device.numerics",
        "spcl.epochs", "spcl.steps", "spcl.warmup_rate", "spcl.learning_rate",
        "train.epochs", "train.learning_rate",
        "evaluate.draws", "evaluate.official_draws",
    }  # fmt: skip
    tree = parameters()
    for name in PLACES:
        top = name.split(".")[0]
        if not isinstance(tree[top], dict) or (name != top and top not in others):
            assert name in CHOICES or name in others, name
