"""The pseudo-label stage from files to files, on small pictures whose colors tell the person."""

import copy
import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional

from stages.parts.clustering.memory import HybridMemory
from stages.parts.images.store import ImageStore, create_pixels
from stages.parts.images.table import read_table, write_table
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.backbone import build_backbone
from stages.parts.network.domain_norm import DomainNorm, keep_target
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.run import checkpoint, files, seeds
from stages.parts.run.checkpoint import Checkpoint, optimizer_tensors
from stages.parts.run.settings import Spcl
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.pseudo_label import __main__ as stage
from stages.pseudo_label import loop
from stages.pseudo_label.data import Domain, check, domain

REPOSITORY = Path(__file__).parents[1]
PARAMS = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
PERSONS, HEIGHT, WIDTH = 6, 32, 16
SMALL = {
    "epochs": 2,
    "steps": 3,
    "warmup_epochs": 2,
    "batch": 12,
    "learning_rate": 0.001,
    "decay_every": 1,
    "k1": 6,
    "k2": 2,
    "pad": 2,
    "erase": 0.1,
}
USL = {"source": "none", "statistics_group": 4}
MODES = {"uda": {}, "usl": USL}


def make_store(folder, images, seed):
    """An image store of (person, camera, modality, split) tuples: a color for each person, the same in all stores."""
    rows = [
        (row, f"cam{camera}/{person:04d}/{row:04d}.jpg", person, camera, modality, split)
        for row, (person, camera, modality, split) in enumerate(images)
    ]
    folder.mkdir(parents=True)
    table = pd.DataFrame(rows, columns=["row", "path", "person", "camera", "modality", "split"])
    write_table(table, folder / "table.csv")
    colors = np.random.default_rng(7).integers(
        30, 220, (200, 2, 3)
    )  # of the upper and the lower half
    noise = np.random.default_rng(seed)
    pixels = create_pixels(folder / "pixels.npy", len(rows), HEIGHT, WIDTH)
    for row, (person, *_) in enumerate(images):
        picture = np.repeat(colors[person], HEIGHT // 2, axis=0)[:, None, :]
        pixels[row] = (picture + noise.normal(0, 12, (HEIGHT, WIDTH, 3))).clip(0, 255)
    pixels.flush()
    (folder / "files.csv").write_text("row,bytes,sha256\n")


def make_target(cameras=(1, 4), persons=PERSONS, count=6):
    """`data/images/target`: persons 10, 11, … seen by two visible cameras, one infrared; and two test persons."""
    images = [
        (10 + person, camera, "visible", "val" if person == 1 else "train")
        for camera in cameras
        for person in range(persons)
        for _ in range(count)
    ]
    # Between the rows of training, so that rows and memory positions differ.
    images[3:3] = [(10 + person, 3, "infrared", "train") for person in range(persons)]
    images += [
        (30 + person, camera, "visible", "gallery") for camera in cameras for person in range(2)
    ]
    images += [(30 + person, 3, "infrared", "query") for person in range(2)]
    make_store(stage.TARGET, images, 1)


def make_source(persons=PERSONS, count=6):
    """`data/images/source`: persons 100, 101, … by three cameras, and a test person."""
    images = [
        (100 + person, 1 + number % 3, "visible", "train")
        for person in range(persons)
        for number in range(count)
    ]
    make_store(stage.SOURCE, [*images, (150, 1, "visible", "query")] if persons else [], 2)


def write_params(seed=0, **sections):
    """`params.yaml` of the repository with SMALL and the given leaves, {section: {leaf: value}}."""
    tree = copy.deepcopy(PARAMS)
    tree |= {
        "dataset": "synthetic",
        "seed": seed,
        "profiles": {"synthetic": tree["profiles"]["synthetic"]},
    }
    tree["device"] |= {"name": "cpu", "precision": "float32", "threads": 1}
    tree["spcl"] |= SMALL | sections.get("spcl", {})
    for section in ("network", "train"):
        tree[section] |= sections.get(section, {})
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def enter(folder, patch):
    """Work in `folder`, which sees the code that checkpoints are keyed by."""
    folder.mkdir(exist_ok=True)
    patch.chdir(folder)
    patch.setattr(files, "ROOT", Path("."))
    patch.setattr(checkpoint, "CHECKPOINTS", Path(".ckpt"))
    patch.setattr(
        loop, "measure_statistics", partial(loop.measure_statistics, passes=3)
    )  # 30 are half of such a run
    Path("stages").symlink_to(REPOSITORY / "stages")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures this small gain nothing from a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with pictures; call it to write the parameters: `project(seed=1, spcl={...})`."""
    enter(tmp_path / "project", monkeypatch)
    make_target()
    make_source()
    return write_params


def outputs():
    """Every file that DVC tracks, as bytes by name."""
    files = [
        stage.LABELS,
        stage.NETWORK,
        stage.METRICS.with_suffix(".json"),
        stage.METRICS / "epochs.csv",
    ]
    return {
        str(file): file.read_bytes()
        for file in [*files, *sorted(Path(stage.METRICS, "plots").rglob("*.tsv"))]
    }


def labels():
    return pd.read_csv(stage.LABELS)["label"].to_numpy()


def epochs():
    return pd.read_csv(stage.METRICS / "epochs.csv")


def true_persons():
    """Of the visible training images, by row."""
    table = read_table(stage.TARGET / "table.csv")
    return table.loc[table["split"].isin(["train", "val"]) & (table["modality"] == "visible")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Outputs of a run in each mode that nothing interrupted."""
    found = {}
    for mode, change in MODES.items():
        with pytest.MonkeyPatch.context() as patch:
            enter(tmp_path_factory.mktemp("finished") / mode, patch)
            make_target()
            make_source()
            write_params(spcl=change)
            stage.main()
            found[mode] = outputs()
            assert not list(Path(".ckpt").iterdir()), "a finished run forgets its checkpoint"
    return found


def settings(**change):
    """Stage 1's settings in SpCL's own numbers."""
    empty = dict.fromkeys(field.name for field in dataclasses.fields(Spcl))
    own = {name: value for name, value in PARAMS["spcl"].items() if value is not None}
    return Spcl(**(empty | PARAMS["profiles"]["sysu_mm01"]["spcl"] | own | change))


def task(seed=0, **change):
    """A task on the pictures here, without `main`."""
    given = settings(**(SMALL | {"height": None, "width": None, "statistics_group": None} | change))
    source = None if given.source == "none" else domain(ImageStore(stage.SOURCE))
    return loop.Task(given, domain(ImageStore(stage.TARGET)), source, torch.device("cpu"), seed)


# What comes out


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_bytes_and_another_seed_other_ones(project, finished, mode):
    project(spcl=MODES[mode])
    stage.main()
    assert outputs() == finished[mode]
    project(seed=1, spcl=MODES[mode])
    stage.main()
    assert outputs()[str(stage.NETWORK)] != finished[mode][str(stage.NETWORK)]


def test_labels_are_those_of_the_last_clustering_and_the_network_is_the_one_after_it(
    project, monkeypatch
):
    clusterings, trained = [], []
    relabel, train_epoch = loop.relabel, loop.train_epoch

    def clustered(state, task):
        figures = relabel(state, task)
        clusterings.append((len(trained), state.labels.copy(), task.target.rows))
        return figures

    def taught(state, task):
        figures = train_epoch(state, task)
        trained.append({name: value.clone() for name, value in state.network.state_dict().items()})
        return figures

    monkeypatch.setattr(loop, "relabel", clustered)
    monkeypatch.setattr(loop, "train_epoch", taught)
    project(spcl={"epochs": 3})
    stage.main()
    assert [before for before, _, _ in clusterings] == [2, 3, 4]
    _, last, rows = clusterings[-1]
    written = pd.read_csv(stage.LABELS)
    assert list(written["row"]) == sorted(rows) == list(true_persons()["row"])
    assert dict(zip(written["row"], written["label"], strict=True)) == dict(
        zip(rows, last, strict=True)
    )
    tensors, facts = load_tensors(stage.NETWORK)
    assert facts == {
        "architecture": "narrow",
        "height": HEIGHT,
        "width": WIDTH,
        "selection": "last",
    }
    assert torch.equal(tensors["neck.weight"], trained[-1]["neck.target.weight"])
    for name in ("backbone.conv1.weight", "backbone.layer4.0.conv2.weight"):
        assert torch.equal(tensors[name], trained[-1][name])
        assert not torch.equal(tensors[name], trained[-2][name])


def test_figures_are_of_the_labels_that_are_written(project, finished):
    project()
    stage.main()
    found, table = json.loads(stage.METRICS.with_suffix(".json").read_text()), epochs()
    assert list(found) == list(stage.QUALITY)
    label = labels()
    assert found["clusters"] == len(np.unique(label[label >= 0])) > 1
    assert found["unclustered_share"] == pytest.approx((label < 0).mean(), abs=1e-4)
    assert found["persons"] == PERSONS
    assert np.unique(label[label >= 0], return_counts=True)[1].min() > 1, (
        "a label of one image is no cluster"
    )
    assert list(table["phase"]) == ["warmup"] * 2 + ["spcl"] * 2
    assert list(table["epoch"]) == [1, 2, 3, 4]
    assert table["ari"].iloc[-1] == pytest.approx(found["ari"], abs=1e-4)
    assert table["clusters"].notna().tolist() == [False, False, True, True]
    curve = pd.read_csv(stage.METRICS / "plots/metrics/ari.tsv", sep="\t")
    assert list(curve["step"]) == [2, 3], (
        "the curve's steps are epochs, those of the warm-up included"
    )


def test_colors_are_found(project):
    """The pictures are easy: what the warm-up learns on other persons tells these apart nearly everywhere."""
    project(spcl={"warmup_epochs": 4, "steps": 8, "k1": 12, "k2": 3, "epochs": 1})
    stage.main()
    first = epochs().iloc[4]  # the few steps that follow only disturb it
    assert first["ari"] > 0.8
    assert first["unclustered_share"] < 0.2


# What has no influence


@pytest.mark.parametrize("mode", MODES)
def test_true_identities_of_the_target_change_figures_only(project, finished, mode):
    table = read_table(stage.TARGET / "table.csv")
    table["person"] = np.random.default_rng(3).permutation(table["person"])
    write_table(table, stage.TARGET / "table.csv")
    project(spcl=MODES[mode])
    stage.main()
    found = outputs()
    for name in (str(stage.LABELS), str(stage.NETWORK)):
        assert found[name] == finished[mode][name]
    for curve in ("loss_target", "learning_rate", "clusters", "unclustered_share"):
        name = str(stage.METRICS / f"plots/metrics/{curve}.tsv")
        assert found[name] == finished[mode][name]
    assert (
        found[str(stage.METRICS.with_suffix(".json"))]
        != finished[mode][str(stage.METRICS.with_suffix(".json"))]
    )


def test_pictures_of_test_identities_and_infrared_ones_are_not_looked_at(project, finished):
    for folder in (stage.TARGET, stage.SOURCE):
        table = read_table(folder / "table.csv")
        pixels = np.load(folder / "pixels.npy", mmap_mode="r+")
        unseen = table["split"].isin(["query", "gallery"]) | (table["modality"] == "infrared")
        assert unseen.any()
        pixels[unseen.to_numpy()] = 255 - pixels[unseen.to_numpy()]
        pixels.flush()
    project()
    stage.main()
    assert outputs() == finished["uda"]


def test_a_source_that_is_there_is_not_used_without_one(project, finished):
    np.load(stage.SOURCE / "pixels.npy", mmap_mode="r+")[:] = 0
    project(spcl=USL)
    stage.main()
    assert outputs() == finished["usl"]


# Interrupted and gone on


class Killed(BaseException):
    """What no code catches."""


@pytest.mark.parametrize("mode", MODES)
def test_killed_after_every_epoch_gives_the_same_bytes(
    project, finished, mode, monkeypatch, capsys
):
    """Within the warm-up, at its end, and when all epochs are done but nothing is written."""
    save = Checkpoint.save

    def save_and_die(self, tensors, facts):
        save(self, tensors, facts)
        raise Killed

    project(spcl=MODES[mode])
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        for done in range(4):
            with pytest.raises(Killed):
                stage.main()
            assert (f"going on after epoch {done} of 4" in capsys.readouterr().out) == (done > 0)
            assert not stage.LABELS.exists()
            assert len(list(Path(".ckpt").iterdir())) == 1
    stage.main()
    assert "going on after epoch 4 of 4" in capsys.readouterr().out
    assert outputs() == finished[mode]
    assert not list(Path(".ckpt").iterdir())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_killed_within_an_epoch_gives_the_same_bytes(project, finished, mode, epoch, monkeypatch):
    train_epoch = loop.train_epoch

    def train_and_die(state, task):
        figures = train_epoch(state, task)
        if state.epoch == epoch:
            raise Killed
        return figures

    project(spcl=MODES[mode])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_epoch", train_and_die)
        with pytest.raises(Killed):
            stage.main()
    stage.main()
    assert outputs() == finished[mode]


def test_killed_while_the_results_are_written_gives_the_same_bytes(project, finished, monkeypatch):
    def die(path, text):
        raise Killed

    project()
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", die)
        with pytest.raises(Killed):
            stage.main()
    monkeypatch.setattr(loop, "train_epoch", die)  # nothing is left to train
    stage.main()
    assert outputs() == finished["uda"]


@pytest.mark.parametrize("threshold", [None, 0.1 + 0.2])
def test_a_checkpoint_holds_the_whole_state(project, threshold):
    given, checkpoint = task(statistics_group=4), Checkpoint("x", "y")
    state = loop.State(
        build(Embedder, 5, "narrow"),
        np.arange(len(given.target.rows)),
        epoch=3,
        threshold=threshold,
    )
    state.history = [{"epoch": 3, "ari": 1 / 3, "clusters": 7, "loss_source": None}]
    loop.begin(state, given, warming=False)
    loop.train_epoch(state, given)
    loop.save(state, checkpoint)
    again = loop.State(build(Embedder, 6, "narrow"), np.zeros(0))
    assert loop.restore(again, given, checkpoint)
    assert (again.epoch, again.threshold, again.history) == (3, threshold, state.history)
    assert np.array_equal(again.labels, state.labels)
    for name in ("rows", "labels"):
        assert torch.equal(getattr(again.memory, name), getattr(state.memory, name))
    for tensors in (
        lambda run: run.network.state_dict(),
        lambda run: optimizer_tensors(run.optimizer),
    ):
        before, after = tensors(state), tensors(again)
        assert set(before) == set(after)
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("change", ["seed", "parameter", "pixels", "weights"])
def test_other_inputs_do_not_go_on_from_this_state(project, change, monkeypatch, capsys):
    weights = Path("start.safetensors")
    save_tensors(weights, build(Embedder, 0, "narrow").state_dict())
    given = {
        "network": {"weights": str(weights)},
        "spcl": {"warmup_epochs": 1, "epochs": 1, "steps": 1},
    }
    project(**given)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_write", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            stage.main()
    if change == "seed":
        given["seed"] = 1
    elif change == "parameter":
        given["spcl"]["momentum"] = 0.3
    elif change == "pixels":  # prepared in another way from the same files
        np.load(stage.TARGET / "pixels.npy", mmap_mode="r+")[:] ^= 1
    else:
        save_tensors(weights, build(Embedder, 1, "narrow").state_dict())
    project(**given)
    capsys.readouterr()
    stage.main()
    said = capsys.readouterr().out
    assert "going on after" not in said
    reasons = {
        "seed": "seed 0 there, 1 asked for",
        "parameter": "spcl.momentum 0.2 there, 0.3 asked for",
    }
    assert reasons.get(change, "other input files or code") in said


# The network


def test_the_exported_network_is_the_targets_branch(project, monkeypatch):
    kept = []

    def keep(network):
        target = domain(ImageStore(stage.TARGET))
        pictures = list(target.clean(task().settings, torch.device("cpu")))
        kept.append(
            (embed(network, pictures), sum(isinstance(m, DomainNorm) for m in network.modules()))
        )
        for module in network.modules():
            if isinstance(module, DomainNorm):
                assert not torch.equal(module.source.running_mean, module.target.running_mean)
        return keep_target(network)

    monkeypatch.setattr(stage, "keep_target", keep)
    project()
    stage.main()
    tensors, facts = load_tensors(stage.NETWORK)
    plain = Embedder(facts["architecture"])
    assert set(tensors) == set(plain.state_dict())
    assert {name.split(".")[0] for name in tensors} == {"backbone", "neck"}
    plain.restore(tensors)
    pictures = domain(ImageStore(stage.TARGET)).clean(task().settings, torch.device("cpu"))
    expected, pairs = kept[0]
    assert pairs > 10
    torch.testing.assert_close(embed(plain, pictures), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("group", [None, 4, 12])
def test_without_a_source_in_groups_or_not(project, group):
    project(spcl=USL | {"statistics_group": group})
    stage.main()
    table = epochs()
    assert table["loss_source"].isna().all()
    assert (table["loss_target"] > 0).all()
    tensors = load_tensors(stage.NETWORK)[0]
    assert set(tensors) == set(Embedder("narrow").state_dict())
    assert not tensors["neck.bias"].any(), "frozen without a source, as in SpCL"


def test_groups_change_the_network_with_a_source_and_without(project, finished):
    for mode, group in (("usl", None), ("uda", 4)):
        project(spcl=MODES[mode] | {"statistics_group": group})
        stage.main()
        assert outputs()[str(stage.NETWORK)] != finished[mode][str(stage.NETWORK)]


def test_no_warm_up_starts_with_both_branches_equal(project):
    """As SpCL does from ImageNet weights: the network is not touched before the first clustering."""
    given = task(warmup_epochs=0)
    network = build(Embedder, 5, "narrow")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = loop.State(network, np.full(len(given.target.rows), -1))
    loop.begin(state, given, warming=False)
    branches = [m for m in state.network.modules() if isinstance(m, DomainNorm)]
    assert branches
    for branch in branches:
        assert all(
            torch.equal(a, b)
            for a, b in zip(branch.source.buffers(), branch.target.buffers(), strict=True)
        )
    after = keep_target(state.network).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_memory_begins_with_class_means_and_images(project):
    """With a warm-up the source's rows are those of the network that learnt it, statistics of the source included."""
    for warmup in (0, 2):
        given = task(warmup_epochs=warmup)
        network = build(Embedder, 5, "narrow")
        given_source = embed(network, given.source.clean(given.settings, given.device))
        state = loop.State(network, np.full(len(given.target.rows), -1))
        loop.begin(state, given, warming=False)
        rows = state.memory.rows
        assert rows.shape == (PERSONS + len(given.target.rows), 128)
        for number in range(PERSONS):
            mean = given_source[given.source.persons == number].mean(0)
            torch.testing.assert_close(rows[number], mean / mean.norm(), rtol=0, atol=1e-5)
        images = embed(state.network, given.target.clean(given.settings, given.device))
        torch.testing.assert_close(rows[PERSONS:], images, rtol=0, atol=1e-5)
        assert state.memory.labels.tolist() == list(range(len(rows)))
        measured = not torch.equal(state.network.neck.target.running_mean, torch.zeros(128))
        assert measured == (warmup > 0), (
            "the target's statistics, which a warm-up on the source did not see"
        )


def test_the_warm_up_learns_the_source_and_leaves_the_target_alone(project, finished):
    """Its last epoch's state does not change with the target's pictures; its classifier is gone afterwards."""
    found = []
    for _ in range(2):
        given = task()
        state = loop.State(build(Embedder, 5, "narrow"), np.full(len(given.target.rows), -1))
        loop.run(state, given, Checkpoint("x", "y"), lambda _: None, 2)
        assert isinstance(state.network, IdentityNetwork)
        assert state.network.classifier.out_features == PERSONS
        assert (state.labels == -1).all()
        assert state.history[1]["loss_source"] < state.history[0]["loss_source"]
        found.append(state.network.state_dict())
        np.load(stage.TARGET / "pixels.npy", mmap_mode="r+")[:] = 0
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())
    plain = loop.without_classifier(state.network)
    assert type(plain) is Embedder
    assert all(torch.equal(found[0][name], value) for name, value in plain.state_dict().items())


def test_a_step_of_the_warm_up_is_cross_entropy_and_triplet(project):
    given = task()
    network = loop.with_classifier(build(Embedder, 5, "narrow"), given)
    torch.nn.init.normal_(network.classifier.weight)
    (images, (persons,)) = next(iter(loop.joint_batches(given, None, "train", 0, 1)))
    assert images.shape[0] == SMALL["batch"], "the target is left out"
    outputs = copy.deepcopy(network).outputs(images)
    expected = functional.cross_entropy(outputs.logits, persons) + batch_hard_triplet(
        outputs.pooled, persons
    )
    assert float(loop.supervised_step(network, images, persons)) == pytest.approx(
        float(expected.detach())
    )
    assert network.classifier.weight.grad.any()
    assert network.backbone.conv1.weight.grad.any()


def test_weights_of_a_file(project):
    """With true labels and `start: weights` nothing is trained: what comes out is what went in."""
    network = build(Embedder, 11, "narrow")
    save_tensors(Path("kept/start.safetensors"), network.state_dict())
    chosen = {"weights": "kept/start.safetensors", "start": "weights"}
    project(network=chosen, train={"setting": "supervised"})
    stage.main()
    tensors = load_tensors(stage.NETWORK)[0]
    assert all(torch.equal(tensors[name], value) for name, value in network.state_dict().items())


def test_another_size_of_the_network_input(project, finished, monkeypatch):
    shapes = set()
    forward = Embedder.forward
    monkeypatch.setattr(
        Embedder, "forward", lambda self, x: (shapes.add(tuple(x.shape[1:])), forward(self, x))[1]
    )
    project(spcl={"height": 48, "warmup_epochs": 1, "epochs": 1})
    stage.main()
    assert shapes == {(3, 48, WIDTH)}
    facts = load_tensors(stage.NETWORK)[1]
    assert (facts["height"], facts["width"]) == (48, WIDTH)


# The schedule


def test_learning_rates_of_spcl():
    given = settings(warmup_epochs=0)
    rates = [loop.learning_rate(epoch, given) for epoch in range(51)]
    assert rates == pytest.approx([3.5e-4] * 20 + [3.5e-5] * 20 + [3.5e-6] * 11)


@pytest.mark.parametrize(("warmup", "late"), [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (20, 5)])
def test_learning_rates_of_a_warm_up(warmup, late):
    """Only epochs within its last quarter are slow; SpCL's own schedule starts behind it."""
    given = settings(warmup_epochs=warmup, warmup_rate=0.5)
    rates = [loop.learning_rate(epoch, given) for epoch in range(warmup + 21)]
    assert rates == pytest.approx(
        [0.5] * (warmup - late) + [0.05] * late + [3.5e-4] * 20 + [3.5e-5]
    )


def test_adam_runs_at_the_rate_of_the_epoch(project, monkeypatch):
    used = []
    step = torch.optim.Adam.step

    def spy(self, *rest):
        (group,) = self.param_groups
        used.append((group["lr"], group["weight_decay"], group["betas"]))
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    project(spcl={"epochs": 3})
    stage.main()
    rates = [0.0035] * 2 + [0.001, 0.0001, 0.00001]
    assert [rate for rate, _, _ in used] == pytest.approx(list(np.repeat(rates, SMALL["steps"])))
    assert {rest for _, *rest in map(tuple, used) for rest in [tuple(rest)]} == {
        (0.0005, (0.9, 0.999))
    }
    assert list(epochs()["learning_rate"]) == pytest.approx(rates)


# True labels


@pytest.mark.parametrize("setting", ["semi-supervised", "supervised"])
def test_true_labels_need_no_clustering(project, setting, monkeypatch):
    monkeypatch.setattr(loop, "relabel", lambda *_: pytest.fail("clusters are not asked for"))
    project(train={"setting": setting}, network={"start": "pseudo_label"})
    stage.main()
    persons = true_persons()["person"].to_numpy()
    assert np.array_equal(labels(), persons - 10)
    assert list(epochs()["phase"]) == ["warmup"] * 2
    found = json.loads(stage.METRICS.with_suffix(".json").read_text())
    assert (found["ari"], found["clusters"], found["unclustered_share"]) == (1, PERSONS, 0)


def test_true_labels_and_no_start_of_ours_train_nothing(project):
    """DVC wants every output, so the folder of the curves is there, and empty."""
    project(
        train={"setting": "semi-supervised"},
        network={"start": "weights"},
        spcl={"batch": 512, "k1": 500},
    )
    stage.main()
    assert len(epochs()) == 0
    assert (stage.METRICS / "plots/metrics").is_dir()
    assert not list((stage.METRICS / "plots/metrics").iterdir())
    assert set(labels()) == set(range(PERSONS))
    assert not Path(".ckpt").exists()


# Batches and images


def test_images_come_in_the_order_of_their_paths(project):
    table = read_table(stage.TARGET / "table.csv")
    table["path"] = [f"{name:04d}.jpg" for name in np.random.default_rng(0).permutation(len(table))]
    write_table(table, stage.TARGET / "table.csv")
    found = domain(ImageStore(stage.TARGET))
    chosen = table.loc[found.rows]
    assert list(chosen["path"]) == sorted(chosen["path"])
    assert set(chosen["split"]) == {"train", "val"}
    assert set(chosen["modality"]) == {"visible"}
    assert np.array_equal(found.persons, chosen["person"] - 10)
    assert np.array_equal(found.cameras, chosen["camera"])


def test_batches_are_source_then_target_with_their_memory_rows(project, monkeypatch):
    """And the pictures are those of the rows: without augmentation a memory row finds its picture."""
    monkeypatch.setattr(Domain, "augmented", lambda self, indices, settings, device, _: self.pictures(
        indices, settings, device))  # fmt: skip
    given = task()
    count = len(given.target.rows)
    clusters = np.arange(count) // 12
    batches = list(loop.joint_batches(given, clusters, "train", 3, 7))
    assert len(batches) == 7, "exactly as many as asked for, from as many passes as it takes"
    for images, (of_source, of_target) in batches:
        assert images.shape == (24, 3, HEIGHT, WIDTH)
        assert of_source.shape == of_target.shape == (12,)
        assert int(of_source.max()) < PERSONS <= int(of_target.min())
        position = of_target.numpy() - PERSONS
        assert torch.equal(
            images[12:], given.target.pictures(position, given.settings, given.device)
        )
        assert np.unique(of_source.numpy(), return_counts=True)[1].tolist() == [4, 4, 4]
        groups = position.reshape(3, 4)
        assert (clusters[groups] == clusters[groups[:, :1]]).all()
        anchor, others = given.target.cameras[groups[:, :1]], given.target.cameras[groups[:, 1:]]
        mixed = [
            len(set(given.target.cameras[clusters == label])) > 1
            for label in clusters[groups[:, 0]]
        ]
        assert (anchor != others)[mixed].all(), "positives come from other cameras"


def test_epochs_and_domains_draw_differently(project):
    given = task()
    clusters = np.arange(len(given.target.rows)) // 12
    draws = [
        next(iter(loop.joint_batches(given, clusters, "train", epoch, 1)))[1] for epoch in (2, 2, 3)
    ]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(draws[0], draws[2], strict=True))


# Clusterings


def clustered(rows, source_rows=0, **change):
    """A state whose memory holds `rows` (N, D) behind `source_rows` rows of a source, and its task."""
    persons = np.arange(len(rows)) // 4
    target = Domain(None, np.arange(len(rows)), persons, np.zeros(len(rows), np.int64))
    source = Domain(
        None, np.arange(source_rows), np.arange(source_rows), np.zeros(source_rows, np.int64)
    )
    given = loop.Task(
        settings(**change), target, source if source_rows else None, torch.device("cpu"), 0
    )
    before = torch.nn.functional.normalize(torch.ones(source_rows, rows.shape[1]))
    stacked = torch.cat([before, torch.from_numpy(rows)])
    memory = HybridMemory(stacked, torch.arange(len(stacked)))
    return loop.State(Embedder("narrow"), np.full(len(rows), -1), memory=memory), given


@pytest.mark.parametrize("size", ["small", "large"])
def test_golden_labels_of_two_epochs(gold, size):
    """The memory's labels with a source of seven classes, and what SpCL's second epoch makes of the threshold."""
    points, paced = gold(f"spcl/jaccard_{size}.npz"), gold(f"spcl/selfpaced_{size}.npz")
    state, given = clustered(points["features"], source_rows=7)
    loop.relabel(state, given)
    assert np.array_equal(state.memory.labels[:7], np.arange(7))
    assert np.array_equal(state.memory.labels[7:], paced["uda_e0_pseudo_labels"])
    assert state.threshold == pytest.approx(float(paced["e0_indep_thres"]))
    expected = paced["e0_pseudo_labels"]
    alone = np.bincount(expected)[expected] == 1
    assert np.array_equal(state.labels, np.where(alone, -1, expected)), "exported: outliers are -1"
    second, given = clustered(paced["e1_features"])
    second.threshold = state.threshold
    figures = loop.relabel(second, given)
    assert np.array_equal(second.memory.labels, paced["e1_pseudo_labels"])
    assert figures["clusters"] == int(paced["e1_n_clusters"])
    assert second.threshold == state.threshold, "taken from the first clustering, for all epochs"


def test_golden_export(gold):
    """The images that OTLA's second stage keeps, and their labels, are those with a label here."""
    points, export = gold("spcl/jaccard_small.npz"), gold("spcl/otla_export.npz")
    state, given = clustered(points["features"])
    loop.relabel(state, given)
    assert np.array_equal(state.labels >= 0, export["small_consumer_mask"])
    compact = np.unique(state.labels[state.labels >= 0], return_inverse=True)[1]
    assert np.array_equal(compact, export["small_consumer_labels"])


# Edge cases


def all_noise(count):
    return np.full(count, -1, dtype=np.int64)


def test_no_cluster_in_the_first_epoch(project, monkeypatch):
    monkeypatch.setattr(loop, "cluster", lambda similarity, *_: all_noise(similarity.shape[0]))
    project(spcl={"warmup_epochs": 1})
    with pytest.raises(
        InputError, match=r"first clustering of 72 images found no cluster at spcl\.radius 0\.55"
    ):
        stage.main()
    assert not stage.LABELS.exists()


@pytest.mark.parametrize("bad", [2, 3])
def test_all_noise_in_a_later_epoch(project, bad, monkeypatch, capsys):
    """The epoch goes on with every image as its own class; the labels say -1 only when it was the last one."""
    calls, cluster = [], loop.cluster

    def sometimes(similarity, radius, min_samples):
        calls.append(radius)
        noise = (len(calls) - 1) // 3 == bad - 1
        return all_noise(similarity.shape[0]) if noise else cluster(similarity, radius, min_samples)

    monkeypatch.setattr(loop, "cluster", sometimes)
    project(spcl={"epochs": 3, "warmup_epochs": 1})
    stage.main()
    assert f"epoch {1 + bad} has no cluster at spcl.radius 0.55" in capsys.readouterr().out
    assert epochs()["clusters"].iloc[bad] == 0
    assert np.isfinite(epochs()["loss_target"].iloc[bad])
    assert (labels() == -1).all() == (bad == 3)


def test_one_camera(project):
    for folder in (stage.TARGET, stage.SOURCE):
        table = read_table(folder / "table.csv")
        table["camera"] = 1
        write_table(table, folder / "table.csv")
    project()
    stage.main()
    assert labels().max() > 0


def test_images_that_do_not_divide_by_the_batch(project):
    project(spcl=USL | {"batch": 35, "statistics_group": None, "steps": 4})
    stage.main()
    assert len(epochs()) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"k1": 73},
            r"spcl\.k1: 73 neighbours exceed the 72 visible training images of data/images/target/table\.csv",
        ),
        ({"k2": 7}, r"spcl\.k2: 7 exceeds spcl\.k1, 6"),
        (
            {"batch": 80, "source": "none"},
            r"spcl\.batch: 80 exceeds the 72 visible training images of data/images/targ",
        ),
        (
            {"batch": 25},
            r"spcl\.batch: 25 exceeds the 24 images that 6 identities of data/images/source/table\.csv giv",
        ),
        (
            {"statistics_group": 5},
            r"spcl\.batch: 12 images do not divide into groups of 5 \(spcl\.statistics_group\)",
        ),
        ({"statistics_group": 24}, r"spcl\.batch: 12 images do not divide into groups of 24"),
        (
            {"radius": 0.99},
            r"spcl\.radius: 0\.99 ± 0\.02 \(spcl\.radius_gap\) is not between 0 and 1",
        ),
        ({"radius": 0.01}, r"spcl\.radius: 0\.01 ± 0\.02"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_the_first_epoch(
    project, change, message, monkeypatch
):
    monkeypatch.setattr(loop, "train_epoch", lambda *_: pytest.fail("hours of warm-up for nothing"))
    project(spcl=change)
    with pytest.raises(InputError, match=message):
        stage.main()


def test_a_small_target_is_no_fault_where_only_the_source_is_learnt(project):
    given = task(batch=16, k1=100, statistics_group=5)
    few = dataclasses.replace(given.target, rows=given.target.rows[:3])
    check(given.settings, few, given.source, given.settings.warmup_epochs)
    check(dataclasses.replace(given.settings, batch=512), few, given.source, 0)
    with pytest.raises(InputError, match=r"spcl\.batch: 16 exceeds the 3 visible"):
        check(given.settings, few, None, given.settings.warmup_epochs)


def test_a_source_with_one_identity(tmp_path, monkeypatch):
    enter(tmp_path / "one", monkeypatch)
    make_target()
    make_source(persons=1)
    write_params()
    with pytest.raises(
        InputError, match=r"source/table\.csv: all visible training images show one identity, exp"
    ):
        stage.main()


def test_an_empty_source_is_missed_only_where_it_is_wanted(tmp_path, monkeypatch):
    enter(tmp_path / "none", monkeypatch)
    make_target()
    make_source(persons=0)
    write_params(spcl=USL | {"warmup_epochs": 0, "epochs": 1, "radius": 0.7})
    stage.main()
    write_params()
    with pytest.raises(
        InputError, match=r"data/images/source/table\.csv: no visible training images"
    ):
        stage.main()


def test_one_cluster_fills_a_batch_with_repetition(project):
    given = task()
    one_cluster = np.zeros(len(given.target.rows), np.int64)
    images, (_, indices) = next(iter(loop.joint_batches(given, one_cluster, "train", 2, 1)))
    assert len(indices) == given.settings.batch == len(images) // 2
    assert len(set(indices.tolist())) > 1


def test_a_loss_that_is_not_finite_ends_the_run(project, monkeypatch):
    monkeypatch.setattr(loop, "batch_hard_triplet", lambda pooled, _: pooled.sum() * torch.nan)
    project()
    with pytest.raises(FloatingPointError, match="epoch 1: the loss is not finite"):
        stage.main()


def test_weights_that_do_not_fit(project):
    project(network={"weights": "nowhere.safetensors"})
    with pytest.raises(InputError, match=r"network\.weights: nowhere\.safetensors: .*not here"):
        stage.main()
    save_tensors(Path("wide.safetensors"), {"backbone.conv1.weight": torch.zeros(8, 3, 3, 3)})
    project(network={"weights": "wide.safetensors"})
    with pytest.raises(
        InputError, match=r"wide\.safetensors: .*backbone\.conv1\.weight: found \[8, 3, 3, 3\]"
    ):
        stage.main()


def test_imagenet_weights_fill_the_backbone(project, monkeypatch):
    stored = build(build_backbone, 21, "narrow").state_dict()
    monkeypatch.setattr(stage, "imagenet_weights", lambda architecture: stored)
    project(network={"weights": "imagenet", "start": "weights"}, train={"setting": "supervised"})
    stage.main()
    tensors = load_tensors(stage.NETWORK)[0]
    assert all(torch.equal(tensors[f"backbone.{name}"], value) for name, value in stored.items())
    fresh = build(Embedder, seeds.derive(0, "pseudo_label", "weights"), "narrow").state_dict()
    assert not torch.equal(fresh["backbone.conv1.weight"], stored["conv1.weight"])
