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
from torch.nn import functional

from stages.parts.clustering.memory import HybridMemory
from stages.parts.images.store import ImageStore, seal
from stages.parts.images.table import read_table
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.backbone import build_backbone
from stages.parts.network.domain_norm import DomainNorm, keep_target
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.run import files, seeds
from stages.parts.run.checkpoint import Checkpoint, optimizer_tensors
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.parts.run.training import run_epochs
from stages.pseudo_label import __main__ as stage
from stages.pseudo_label import loop, spcl, warm_up
from stages.pseudo_label.data import (
    Method,
    TrainingSet,
    VisibleImages,
    check,
    joint_batches,
    visible_images,
)
from stages.pseudo_label.schedule import learning_rate
from tests import builders

PERSONS, HEIGHT, WIDTH = 6, 32, 16
CPU = torch.device("cpu")
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


def make_target(cameras=(1, 4), persons=PERSONS, count=6):
    """`data/images/target`: persons 10, 11, … in two visible cameras, one infrared; test ones."""
    images = [
        (10 + person, camera, "visible", "val" if person == 1 else "train")
        for camera in cameras
        for person in range(persons)
        for _ in range(count)
    ]
    # Between the rows of training, so that rows and memory positions differ.
    images[3:3] = [(10 + person, 3, "infrared", "train") for person in range(persons)]
    images += [
        (30 + person, camera, "visible", "gallery") for camera in cameras for person in (0, 1)
    ]
    images += [(30 + person, 3, "infrared", "query") for person in (0, 1)]
    builders.store(stage.TARGET, images, HEIGHT, WIDTH)


def make_source(persons=PERSONS, count=6):
    """`data/images/source`: persons 100, 101, … by three cameras, and a test person."""
    images = [
        (100 + person, 1 + number % 3, "visible", "train")
        for person in range(persons)
        for number in range(count)
    ]
    test = [(150, 1, "visible", "query")] if persons else []
    builders.store(stage.SOURCE, images + test, HEIGHT, WIDTH)


def write_params(seed=0, **sections):
    """`params.yaml` of the repository with SMALL and the given leaves, {section: {leaf: value}}."""
    changes = {"seed": seed, "device.name": "cpu", "device.precision": "float32"}
    changes["device.threads"] = 1
    changes["train.persons"] = 2
    sections["spcl"] = SMALL | sections.get("spcl", {})
    for name, leaves in sections.items():
        changes |= {f"{name}.{leaf}": value for leaf, value in leaves.items()}
    builders.write_parameters(Path.cwd(), changes)


def prepare(patch):
    """Make the pictures in the current folder; a short measurement of statistics is enough."""
    patch.setattr(spcl, "STATISTICS_PASSES", 3)  # 30 are half of such a run
    make_target()
    make_source()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Pictures this small gain nothing from a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path):
    """A folder with pictures; call it to write the parameters: `project(seed=1, spcl={...})`."""
    with builders.workplace(tmp_path / "project") as patch:
        prepare(patch)
        yield write_params


def outputs():
    """Every file that DVC tracks, as bytes by name."""
    paths = [stage.LABELS, stage.NETWORK, stage.METRICS.with_suffix(".json")]
    paths += [stage.METRICS / "epochs.csv"]
    paths += sorted(Path(stage.METRICS, "plots").rglob("*.tsv"))
    return {str(path): path.read_bytes() for path in paths}


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
        with builders.workplace(tmp_path_factory.mktemp("finished") / mode) as patch:
            prepare(patch)
            write_params(spcl=change)
            stage.main()
            found[mode] = outputs()
            assert not list(Path(".ckpt").iterdir()), "a finished run forgets its checkpoint"
    return found


def settings(**change):
    """Stage 1's settings in SpCL's own numbers."""
    return dataclasses.replace(builders.settings("spcl", {"scale": "paper"}), **change)


def task(seed=0, **change):
    """Data and method on the pictures here, without `main`."""
    sizes = {"height": HEIGHT, "width": WIDTH, "statistics_group": None}
    method = Method(settings(**(SMALL | sizes | change)), seed)
    target = visible_images(ImageStore(stage.TARGET))
    has_source = method.spcl.source != "none"
    source = visible_images(ImageStore(stage.SOURCE)) if has_source else None
    return TrainingSet(target, source), method


def run(start, data, method, epochs):
    """Stage 1 in this process."""
    run = partial(run_epochs, checkpoint=Checkpoint("x", "y"), on_epoch_end=lambda _: None)
    return loop.find_labels(start, data, method, epochs, None, run)


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
    relabel, train_epoch = spcl.relabel, spcl.train_epoch

    def clustered(state, data, method):
        figures = relabel(state, data, method)
        clusterings.append((len(state.history), state.labels.copy(), data.target.rows))
        return figures

    def trained_epoch(state, data, method):
        figures = train_epoch(state, data, method)
        trained.append({name: value.clone() for name, value in state.network.state_dict().items()})
        return figures

    monkeypatch.setattr(spcl, "relabel", clustered)
    monkeypatch.setattr(spcl, "train_epoch", trained_epoch)
    project(spcl={"epochs": 3})
    stage.main()
    assert [before for before, _, _ in clusterings] == [2, 3, 4]
    _, last, rows = clusterings[-1]
    written = pd.read_csv(stage.LABELS)
    assert list(written["row"]) == sorted(rows) == list(true_persons()["row"])
    by_row = dict(zip(written["row"], written["label"], strict=True))
    assert by_row == dict(zip(rows, last, strict=True))
    tensors, facts = load_tensors(stage.NETWORK)
    assert facts == {
        "architecture": "narrow",
        "height": HEIGHT,
        "width": WIDTH,
        "setting": "unsupervised",
        "selection": "last",
        "seed": 0,
        "images": ImageStore(stage.TARGET).identity,
        "labels": files.file_hash(stage.LABELS),
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
    """The pictures are easy: what the warm-up learns on other persons tells these apart."""
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
    builders.write_table(table, stage.TARGET / "table.csv")
    project(spcl=MODES[mode])
    stage.main()
    found = outputs()
    assert found[str(stage.LABELS)] == finished[mode][str(stage.LABELS)]
    assert builders.same_weights(found[str(stage.NETWORK)], finished[mode][str(stage.NETWORK)])
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
        seal(folder)
    project()
    stage.main()
    found, expected = outputs(), dict(finished["uda"])
    network = str(stage.NETWORK)  # it says of which images it was made
    assert builders.same_weights(found.pop(network), expected.pop(network))
    assert found == expected


def test_a_source_that_is_there_is_not_used_without_one(project, finished):
    np.load(stage.SOURCE / "pixels.npy", mmap_mode="r+")[:] = 0
    seal(stage.SOURCE)
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
    project(spcl=MODES[mode])
    with monkeypatch.context() as patch:
        for phase in (warm_up, spcl):
            train = phase.one_epoch

            def train_and_die(state, data, method, train=train):
                figures = train(state, data, method)
                if len(state.history) == epoch:
                    raise Killed
                return figures

            patch.setattr(phase, "one_epoch", train_and_die)
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
    monkeypatch.setattr(spcl, "one_epoch", die)  # nothing is left to train
    stage.main()
    assert outputs() == finished["uda"]


@pytest.mark.parametrize("threshold", [None, 0.1 + 0.2])
def test_a_checkpoint_holds_the_whole_state(project, threshold):
    (data, method), checkpoint = task(statistics_group=4), Checkpoint("x", "y")
    state = spcl.open_state(build(Embedder, 5, "narrow"), data, method)
    state.labels, state.threshold = np.arange(len(data.target.rows)), threshold
    state.history = [{"epoch": 1, "ari": 1 / 3, "clusters": 7, "loss_source": None}]
    run_epochs(state, lambda: (spcl.train_epoch(state, data, method), {}), 2, checkpoint, print)
    again = spcl.open_state(build(Embedder, 6, "narrow"), data, method, checkpoint.load())
    assert (len(again.history), again.threshold, again.history) == (2, threshold, state.history)
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
        patch.setattr(stage, "_write_network", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            stage.main()
    if change == "seed":
        given["seed"] = 1
    elif change == "parameter":
        given["spcl"]["momentum"] = 0.3
    elif change == "pixels":  # prepared in another way from the same files
        np.load(stage.TARGET / "pixels.npy", mmap_mode="r+")[:] ^= 1
        seal(stage.TARGET)
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
        data, method = task()
        pictures = list(data.target.clean(method.spcl, CPU))
        pairs = sum(isinstance(module, DomainNorm) for module in network.modules())
        kept.append((embed(network, pictures), pairs))
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
    data, method = task()
    pictures = data.target.clean(method.spcl, CPU)
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
    """As SpCL does from ImageNet weights: the network is untouched before the first clustering."""
    data, method = task(warmup_epochs=0)
    network = build(Embedder, 5, "narrow")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = spcl.open_state(network, data, method)
    branches = [module for module in state.network.modules() if isinstance(module, DomainNorm)]
    assert branches
    for branch in branches:
        pairs = zip(branch.source.buffers(), branch.target.buffers(), strict=True)
        assert all(torch.equal(source, target) for source, target in pairs)
    after = keep_target(state.network).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_memory_begins_with_class_means_and_images(project):
    """With a warm-up the source's rows are those of the network that learnt the source."""
    for warmup in (0, 2):
        data, method = task(warmup_epochs=warmup)
        network = build(Embedder, 5, "narrow")
        source = embed(network, data.source.clean(method.spcl, CPU))
        state = spcl.open_state(network, data, method)
        rows = state.memory.rows
        assert rows.shape == (PERSONS + len(data.target.rows), 128)
        for number in range(PERSONS):
            mean = source[data.source.persons == number].mean(0)
            torch.testing.assert_close(rows[number], mean / mean.norm(), rtol=0, atol=1e-5)
        images = embed(state.network, data.target.clean(method.spcl, CPU))
        torch.testing.assert_close(rows[PERSONS:], images, rtol=0, atol=1e-5)
        assert state.memory.labels.tolist() == list(range(len(rows)))
        measured = not torch.equal(state.network.neck.target.running_mean, torch.zeros(128))
        # the target's statistics, which a warm-up on the source did not see
        assert measured == (warmup > 0)


def test_the_warm_up_learns_the_source_and_leaves_the_target_alone(project, finished):
    """Its last state does not change with the target's pictures; its classifier goes afterwards."""
    found = []
    for _ in range(2):
        data, method = task()
        result = run(build(Embedder, 5, "narrow"), data, method, 2)
        assert isinstance(result.network, IdentityNetwork)
        assert result.network.classifier.out_features == PERSONS
        assert (result.labels == -1).all()
        assert result.history[1]["loss_source"] < result.history[0]["loss_source"]
        found.append(result.network.state_dict())
        np.load(stage.TARGET / "pixels.npy", mmap_mode="r+")[:] = 0
        seal(stage.TARGET)
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())
    data, method = task(source="none")
    plain = spcl.open_state(result.network, data, method).network
    assert type(plain) is Embedder
    assert all(torch.equal(found[0][name], value) for name, value in plain.state_dict().items())


def test_a_step_of_the_warm_up_is_cross_entropy_and_triplet(project):
    data, method = task()
    network = warm_up.open_state(build(Embedder, 5, "narrow"), data, method).network
    torch.nn.init.normal_(network.classifier.weight)
    (images, (persons,)) = next(iter(joint_batches(data, method, None, ("train", 0, 1), CPU)))
    assert images.shape[0] == SMALL["batch"], "the target is left out"
    network.train()
    outputs = copy.deepcopy(network).outputs(images)
    triplet = batch_hard_triplet(outputs.pooled, persons)
    expected = functional.cross_entropy(outputs.logits, persons) + triplet
    loss = warm_up.source_loss(network.outputs(images), persons)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()))
    loss.backward()
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
        Embedder,
        "forward",
        lambda self, x, visible=None: (shapes.add(tuple(x.shape[1:])), forward(self, x))[1],
    )
    project(spcl={"height": 48, "warmup_epochs": 1, "epochs": 1})
    stage.main()
    assert shapes == {(3, 48, WIDTH)}
    facts = load_tensors(stage.NETWORK)[1]
    assert (facts["height"], facts["width"]) == (48, WIDTH)


# The schedule


def test_learning_rates_of_spcl():
    given = settings(warmup_epochs=0)
    rates = [learning_rate(epoch, given) for epoch in range(51)]
    assert rates == pytest.approx([3.5e-4] * 20 + [3.5e-5] * 20 + [3.5e-6] * 11)


@pytest.mark.parametrize(("warmup", "late"), [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (20, 5)])
def test_learning_rates_of_a_warm_up(warmup, late):
    """Only epochs within its last quarter are slow; SpCL's own schedule starts behind it."""
    given = settings(warmup_epochs=warmup, warmup_rate=0.5)
    rates = [learning_rate(epoch, given) for epoch in range(warmup + 21)]
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
    monkeypatch.setattr(spcl, "relabel", lambda *_: pytest.fail("clusters are not asked for"))
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
    builders.write_table(table, stage.TARGET / "table.csv")
    found = visible_images(ImageStore(stage.TARGET))
    chosen = table.loc[found.rows]
    assert list(chosen["path"]) == sorted(chosen["path"])
    assert set(chosen["split"]) == {"train", "val"}
    assert set(chosen["modality"]) == {"visible"}
    assert np.array_equal(found.persons, chosen["person"] - 10)
    assert np.array_equal(found.cameras, chosen["camera"])


def test_batches_are_source_then_target_with_their_memory_rows(project, monkeypatch):
    """And the pictures are those of the rows: without augmentation a row finds its picture."""

    def without_augmentation(images, positions, settings, device, _):
        return images.resized(positions, settings, device)

    monkeypatch.setattr(VisibleImages, "augmented", without_augmentation)
    data, method = task()
    target = data.target
    clusters = np.arange(len(target.rows)) // 12
    batches = list(joint_batches(data, method, clusters, ("train", 3, 7), CPU))
    assert len(batches) == 7, "exactly as many as asked for, from as many passes as it takes"
    for images, (of_source, of_target) in batches:
        assert images.shape == (24, 3, HEIGHT, WIDTH)
        assert of_source.shape == of_target.shape == (12,)
        assert int(of_source.max()) < PERSONS <= int(of_target.min())
        positions = of_target.numpy() - PERSONS
        assert torch.equal(images[12:], target.resized(positions, method.spcl, CPU))
        assert np.unique(of_source.numpy(), return_counts=True)[1].tolist() == [4, 4, 4]
        groups = positions.reshape(3, 4)
        assert (clusters[groups] == clusters[groups[:, :1]]).all()
        anchor, others = target.cameras[groups[:, :1]], target.cameras[groups[:, 1:]]
        mixed = [
            len(set(target.cameras[clusters == label])) > 1 for label in clusters[groups[:, 0]]
        ]
        assert (anchor != others)[mixed].all(), "positives come from other cameras"


def test_epochs_and_domains_draw_differently(project):
    data, method = task()
    clusters = np.arange(len(data.target.rows)) // 12
    draws = [
        next(iter(joint_batches(data, method, clusters, ("train", epoch, 1), CPU)))[1]
        for epoch in (2, 2, 3)
    ]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(draws[0], draws[2], strict=True))


# Clusterings


def clustered(rows, source_rows=0, **change):
    """A state whose memory holds `rows` (N, D) behind rows of a source, and its data and method."""

    def images(persons):
        return VisibleImages(None, np.arange(len(persons)), persons, np.zeros_like(persons))

    source = images(np.arange(source_rows)) if source_rows else None
    data = TrainingSet(images(np.arange(len(rows)) // 4), source)
    before = functional.normalize(torch.ones(source_rows, rows.shape[1]))
    stacked = torch.cat([before, torch.from_numpy(rows)])
    memory = HybridMemory(stacked, torch.arange(len(stacked)))
    network = Embedder("narrow")
    optimizer = torch.optim.Adam(network.parameters())
    state = spcl.State(network, memory, optimizer, np.full(len(rows), -1))
    return state, data, Method(settings(**change), seed=0)


@pytest.mark.parametrize("size", ["small", "large"])
def test_golden_labels_of_two_epochs(gold, size):
    """The memory's labels with a source of seven classes, and the second epoch's threshold."""
    points, paced = gold(f"spcl/jaccard_{size}.npz"), gold(f"spcl/selfpaced_{size}.npz")
    state, *given = clustered(points["features"], source_rows=7)
    spcl.relabel(state, *given)
    assert np.array_equal(state.memory.labels[:7], np.arange(7))
    assert np.array_equal(state.memory.labels[7:], paced["uda_e0_pseudo_labels"])
    assert state.threshold == pytest.approx(float(paced["e0_indep_thres"]))
    expected = paced["e0_pseudo_labels"]
    alone = np.bincount(expected)[expected] == 1
    assert np.array_equal(state.labels, np.where(alone, -1, expected)), "exported: outliers are -1"
    second, *given = clustered(paced["e1_features"])
    second.threshold = state.threshold
    figures = spcl.relabel(second, *given)
    assert np.array_equal(second.memory.labels, paced["e1_pseudo_labels"])
    assert figures["clusters"] == int(paced["e1_n_clusters"])
    assert second.threshold == state.threshold, "taken from the first clustering, for all epochs"


def test_golden_export(gold):
    """The images that OTLA's second stage keeps, and their labels, are those with a label here."""
    points, export = gold("spcl/jaccard_small.npz"), gold("spcl/otla_export.npz")
    state, *given = clustered(points["features"])
    spcl.relabel(state, *given)
    assert np.array_equal(state.labels >= 0, export["small_consumer_mask"])
    compact = np.unique(state.labels[state.labels >= 0], return_inverse=True)[1]
    assert np.array_equal(compact, export["small_consumer_labels"])


# Edge cases


def all_noise(count):
    return np.full(count, -1, dtype=np.int64)


def test_no_cluster_in_the_first_epoch(project, monkeypatch):
    monkeypatch.setattr(spcl, "cluster", lambda similarity, *_: all_noise(similarity.shape[0]))
    project(spcl={"warmup_epochs": 1})
    with pytest.raises(
        InputError, match=r"first clustering of 72 images found no cluster at spcl\.radius 0\.55"
    ):
        stage.main()
    assert not stage.LABELS.exists()


@pytest.mark.parametrize("bad", [2, 3])
def test_all_noise_in_a_later_epoch(project, bad, monkeypatch, capsys):
    """The epoch goes on with every image as its own class; only the last one's labels are -1."""
    calls, cluster = [], spcl.cluster

    def sometimes(similarity, radius, min_samples):
        calls.append(radius)
        noise = (len(calls) - 1) // 3 == bad - 1
        return all_noise(similarity.shape[0]) if noise else cluster(similarity, radius, min_samples)

    monkeypatch.setattr(spcl, "cluster", sometimes)
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
        builders.write_table(table, folder / "table.csv")
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
            r"spcl\.k1: 73 exceeds the 72 visible training images of "
            r"data/images/target/table\.csv",
        ),
        (
            {"min_samples": 73},
            r"spcl\.min_samples: 73 exceeds the 72 visible training images of data",
        ),
        (
            {"batch": 80, "source": "none"},
            r"spcl\.batch: 80 exceeds the 72 visible training images of data/images/targ",
        ),
        (
            {"batch": 25},
            r"spcl\.batch: 25 exceeds the 24 images that 6 identities of "
            r"data/images/source/table\.csv giv",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_the_first_epoch(
    project, change, message, monkeypatch
):
    monkeypatch.setattr(stage, "find_labels", lambda *_: pytest.fail("hours for nothing"))
    project(spcl=change)
    with pytest.raises(InputError, match=message):
        stage.main()


def test_a_small_target_is_no_fault_where_only_the_source_is_learnt(project):
    data, method = task(batch=16, k1=100, statistics_group=5)
    few = dataclasses.replace(data.target, rows=data.target.rows[:3])
    warmup = method.spcl.warmup_epochs
    check(method.spcl, TrainingSet(few, data.source), warmup)
    check(dataclasses.replace(method.spcl, batch=512), TrainingSet(few, data.source), 0)
    with pytest.raises(InputError, match=r"spcl\.batch: 16 exceeds the 3 visible"):
        check(method.spcl, TrainingSet(few, None), warmup)


def test_a_source_with_one_identity(project):
    make_source(persons=1)
    project()
    with pytest.raises(
        InputError, match=r"source/table\.csv: all visible training images show one identity, exp"
    ):
        stage.main()


def test_an_empty_source_is_missed_only_where_it_is_wanted(project):
    make_source(persons=0)
    project(spcl=USL | {"warmup_epochs": 0, "epochs": 1, "radius": 0.7})
    stage.main()
    project()
    with pytest.raises(
        InputError, match=r"data/images/source/table\.csv: no visible training images"
    ):
        stage.main()


def test_one_cluster_fills_a_batch_with_repetition(project):
    data, method = task()
    one_cluster = np.zeros(len(data.target.rows), np.int64)
    batches = joint_batches(data, method, one_cluster, ("train", 2, 1), CPU)
    images, (_, indices) = next(iter(batches))
    assert len(indices) == method.spcl.batch == len(images) // 2
    assert len(set(indices.tolist())) > 1


def test_a_loss_that_is_not_finite_ends_the_run(project, monkeypatch):
    monkeypatch.setattr(warm_up, "batch_hard_triplet", lambda pooled, _: pooled.sum() * torch.nan)
    project()
    message = (
        r"epoch 1, step 1: the loss is not finite \(loss_source = nan\); no epoch was finished"
    )
    with pytest.raises(FloatingPointError, match=message):
        stage.main()


def test_weights_that_do_not_fit(project):
    project(network={"weights": "nowhere.safetensors"})
    with pytest.raises(InputError, match=r"network\.weights: nowhere\.safetensors is not here"):
        stage.main()
    save_tensors(Path("wide.safetensors"), {"backbone.conv1.weight": torch.zeros(8, 3, 3, 3)})
    project(network={"weights": "wide.safetensors"})
    with pytest.raises(
        InputError, match=r"wide\.safetensors: .*backbone\.conv1\.weight: found \[8, 3, 3, 3\]"
    ):
        stage.main()


def test_imagenet_weights_fill_the_backbone(project, monkeypatch):
    stored = build(build_backbone, 21, "resnet18").state_dict()
    monkeypatch.setattr(stage, "imagenet_weights", lambda architecture: stored)
    network = {"architecture": "resnet18", "weights": "imagenet", "start": "weights"}
    project(network=network, train={"setting": "supervised"})
    stage.main()
    tensors = load_tensors(stage.NETWORK)[0]
    assert all(torch.equal(tensors[f"backbone.{name}"], value) for name, value in stored.items())
    fresh = build(Embedder, seeds.derive(0, "pseudo_label", "weights"), "resnet18").state_dict()
    assert not torch.equal(fresh["backbone.conv1.weight"], stored["conv1.weight"])
