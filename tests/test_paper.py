"""The paper's setting, dry: scale `paper` on a small tree, two steps of train, one of SpCL.

It takes most of a minute, because ResNet-50 at 288 × 144 on a CPU does. The batches are the paper's
in kind, not in size (2 identities × 2 images a modality, 16 images a domain), and there are no
ImageNet weights without a network. The set `frontier` runs dry too, on images of 64 × 32.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import stages.evaluate.__main__ as evaluate
import stages.prepare.__main__ as prepare
import stages.prepare.source as source
import stages.pseudo_label.__main__ as pseudo_label
import stages.train.__main__ as train
from experiments.plans import variant
from stages.parts.images.store import ImageStore
from stages.parts.network.head import Embedder, build
from stages.parts.run import checkpoint, params, settings
from stages.parts.run.files import read_json
from stages.parts.run.tensors import load_tensors
from stages.pseudo_label import spcl
from stages.pseudo_label.data import Method, TrainingSet, visible_images
from stages.synthesize.trees import write_tree
from tests import builders, tiny

CHANGES = {
    "scale": "paper",
    "network.weights": "none",
    "spcl.batch": 16,
    "spcl.steps": 1,
    "train.setting": "semi-supervised",
    "train.epochs": 1,
    "train.steps": 2,
    "train.persons": 2,
    "train.images": 2,
    "evaluate.trials": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with params.yaml and two rendered trees below data/raw."""
    folder = tmp_path_factory.mktemp("paper")
    small = settings.Synthesize("none", None, 1, 4, 1, 2, 2, "halves", 0.0, 4, 4, 96, 48)
    for layout in ("sysu_mm01", "market1501"):
        write_tree(layout, folder / "data/raw", small, workers=1)
    builders.write_parameters(folder, CHANGES)
    for name in ("stages", "dvc.yaml"):
        (folder / name).symlink_to(builders.ROOT / name)
    return folder


@pytest.mark.slow
def test_the_papers_setting_runs_dry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(checkpoint, "CHECKPOINTS", folder / ".ckpt")
    for stage in (prepare, source, pseudo_label, train, evaluate):
        stage.main()
    assert np.load("data/images/target/pixels.npy", mmap_mode="r").shape[1:] == (288, 144, 3)
    tensors, facts = load_tensors(Path("models/network.safetensors"))
    assert facts["architecture"] == "resnet50"
    assert all(torch.isfinite(value).all() for value in tensors.values())
    history = pd.read_csv("metrics/train/epochs.csv")
    assert history["learning_rate"].item() == pytest.approx(3.5e-4)  # first epoch of ten of warm-up
    assert set(read_json(Path("metrics/evaluate.json"))) >= {"all", "indoor"}


@pytest.mark.slow
def test_a_step_of_spcl_in_the_papers_setting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 × 128, batch normalization by domain over groups of 16, hybrid memory."""
    monkeypatch.chdir(folder)
    chosen: settings.Spcl = params.section(params.load(), "spcl", settings.Spcl)
    target, origin = (
        visible_images(ImageStore(Path("data/images") / name)) for name in ("target", "source")
    )
    data, method = TrainingSet(target, origin), Method(chosen, seed=0)
    state = spcl.open_state(build(Embedder, 0, "resnet50"), data, method)
    figures = spcl.train_epoch(state, data, method)
    assert (chosen.height, chosen.width, chosen.statistics_group) == (256, 128, 16)
    assert 0 < figures["loss_target"] < 14
    assert 0 < figures["loss_source"] < 14


@pytest.mark.slow
def test_the_published_recipe_runs_dry(tmp_path: Path) -> None:
    """Two steps of ResNet-50, one of each stage, with all values but those of lengths and sizes.

    There are few images, so the lists of neighbors are shorter.
    """
    recipe = dict(change.split("=", 1) for change in variant("frontier", "paper"))
    changes = {name: params.parse(value) for name, value in recipe.items()}
    changes |= {"scale": "paper", "network.architecture": "resnet50", "network.start": "weights"}
    changes |= {"train.epochs": 2, "prototypes.own_epochs": 1, "train.steps": 1}
    changes |= {"train.persons": 2, "train.images": 2, "clusters.k1": 4, "clusters.k2": 2}
    with builders.workplace(tmp_path / "frontier"):
        tiny.write_images(height=64, width=32)
        for name in tiny.STAGES:
            tiny.run(name, changes)
        history = pd.read_csv("metrics/train/epochs.csv")
        assert (history["infrared_clusters"] > 1).all()  # so batches have both modalities
        assert history["own"].notna().tolist() == [True, False]
        assert history["unified"].notna().tolist() == [False, True]
        assert history["distillation"].notna().tolist() == [False, True]
        assert history["learning_rate"].tolist() == pytest.approx([3.5e-4, 3.5e-4])
        tensors, facts = load_tensors(Path("models/network.safetensors"))
        extras = {"pooling": "gem", "two_stream": True, "non_local": True}
        assert facts.items() >= ({"architecture": "resnet50"} | extras).items()
        assert all(torch.isfinite(value).all() for value in tensors.values())
        assert set(read_json(Path("metrics/evaluate.json"))) >= {"all", "indoor"}
