"""Cross-modal training on a few small pictures: same bytes, what it may see, each switch."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.parts.assignment.bank import LabelBank
from stages.parts.assignment.transport import solve
from stages.parts.images.augment import normalize
from stages.parts.images.store import ImageStore, seal
from stages.parts.images.table import read_table
from stages.parts.network.backbone import build_backbone
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.run import params, seeds
from stages.parts.run.checkpoint import Checkpoint
from stages.parts.run.files import file_hash, write_csv
from stages.parts.run.settings import SECTIONS
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.parts.run.training import run_epochs
from stages.train import __main__ as train
from stages.train import loop
from stages.train.data import Method, TrainingSet, training_set
from stages.train.schedule import learning_rate
from tests import builders

PERSONS, TEST_PERSONS, IMAGES = 6, 2, 6
SMALL = {
    "seed": 3,
    "device.name": "cpu",
    "device.threads": 1,
    "train.epochs": 3,
    "train.steps": 2,
    "train.persons": 2,
    "train.images": 2,
    "train.learning_rate": 0.01,
    "train.backbone_rate": 0.5,
    "train.warmup_epochs": 0,
    "train.milestones": [2],
    "otla.infrared_from_epoch": 1,
}
TABLE, PIXELS = train.IMAGES / "table.csv", train.IMAGES / "pixels.npy"


class Project:
    """The current folder with what the earlier stages leave behind, in which the stage is run."""

    def __init__(self) -> None:
        self.folder = Path.cwd()
        write_images(train.IMAGES)
        rows = ImageStore(train.IMAGES).rows("train", "visible")
        self.write_labels(rows, np.arange(len(rows)) // IMAGES)
        start = build(Embedder, 7, "narrow")
        save_tensors(train.PSEUDO_LABEL_NETWORK, start.state_dict(), {"architecture": "narrow"})
        self.set()

    def set(self, **changes: Any) -> None:
        """Write params.yaml: the repository's with SMALL and `changes` (`otla__delta=5`)."""
        named = {name.replace("__", "."): value for name, value in changes.items()}
        builders.write_parameters(self.folder, SMALL | named)
        self.made_here()

    def made_here(self) -> None:
        """Seal the images; say in the pseudo-label network that it was made from what is here."""
        seal(train.IMAGES)
        if not (train.PSEUDO_LABEL_NETWORK.is_file() and train.VISIBLE_LABELS.is_file()):
            return
        tree = params.load()
        tensors, facts = load_tensors(train.PSEUDO_LABEL_NETWORK)
        origin = {
            "seed": tree["seed"],
            "setting": tree["train"]["setting"],
            "selection": tree["train"]["selection"],
            "images": ImageStore(train.IMAGES).identity,
            "labels": file_hash(train.VISIBLE_LABELS),
        }
        save_tensors(train.PSEUDO_LABEL_NETWORK, tensors, (facts or {}) | origin)

    def write_labels(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Write data/labels/visible.csv."""
        write_csv(train.VISIBLE_LABELS, pd.DataFrame({"row": rows, "label": labels}))

    def run(self, **changes: Any) -> dict[str, bytes]:
        """Train with these parameters; all that was written, by path."""
        self.set(**changes)
        shutil.rmtree(train.METRICS, ignore_errors=True)
        train.NETWORK.unlink(missing_ok=True)
        train.main()
        return self.outputs()

    def outputs(self) -> dict[str, bytes]:
        """What the stage has written, by path."""
        paths = [train.NETWORK, train.INFRARED_LABELS, train.COUNTS, train.ATTENTION]
        paths += [train.METRICS.with_suffix(".json")]
        paths += sorted(path for path in train.METRICS.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in paths}

    def epochs(self) -> pd.DataFrame:
        """metrics/train/epochs.csv."""
        return pd.read_csv(train.METRICS / "epochs.csv")

    def infrared(self) -> pd.DataFrame:
        """data/labels/infrared.csv."""
        return pd.read_csv(train.INFRARED_LABELS)

    def method(self) -> Method:
        """The parameters as the loop gets them."""
        tree = params.load()
        sections = {
            name: params.section(tree, name, SECTIONS[name])
            for name in ("train", "den", "otla", "pal", "clusters", "prototypes")
        }
        return Method(**sections, seed=tree["seed"])  # type: ignore[arg-type]

    def data(self) -> TrainingSet:
        """What the loop trains on."""
        return training_set(ImageStore(train.IMAGES), train.VISIBLE_LABELS, self.method().train)

    def state(self, network: IdentityNetwork | None = None) -> loop.State:
        """A state before the first epoch, of a network of its own or the given one."""
        data = self.data()
        network = network or IdentityNetwork("narrow", data.classes)
        return loop.new_state(network, data, self.method(), torch.device("cpu"))

    def train(self, state: loop.State, on_epoch_end: Callable[..., None] = lambda _: None) -> None:
        """Train a state in this process."""
        method = self.method()
        one_epoch = partial(loop.one_epoch, state, self.data(), method)
        epochs = method.train.epochs
        run_epochs(state, one_epoch, epochs, Checkpoint("test", "key"), on_epoch_end)

    def log_predictions(self) -> torch.Tensor:
        """What the stored network says of the infrared training images, log P (R, C)."""
        tensors, _ = load_tensors(train.NETWORK)
        network = IdentityNetwork("narrow", len(tensors["classifier.weight"])).eval()
        network.load_state_dict(tensors, strict=False)
        store = ImageStore(train.IMAGES)
        images = normalize(store.batch(store.rows("train", "infrared")))
        with torch.no_grad():
            return network.predict(images).log_softmax(1)


def write_images(folder: Path, height: int = 32) -> None:
    """People to train on and to test on, IMAGES visible and IMAGES infrared pictures of each."""
    test_split = {"visible": "gallery", "infrared": "query"}
    images = [
        (10 + person, camera, modality, "train" if person < PERSONS else test_split[modality])
        for person in range(PERSONS + TEST_PERSONS)
        for modality, camera in (("visible", 1), ("infrared", 3))
        for _ in range(IMAGES)
    ]
    builders.store(folder, images, height)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with builders.workplace(tmp_path / "project"):
        yield Project()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run with SMALL writes."""
    with builders.workplace(tmp_path_factory.mktemp("plain") / "project"):
        return Project().run()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What the loop passes on: rows of pictures, labels of batches, the bank after each epoch."""
    found: dict[str, list[Any]] = {"rows": [], "labels": [], "bank": []}

    def spy(name: str, keep: Callable[..., Any], after: bool = False) -> None:
        original = getattr(loop, name)

        def wrapper(*given: Any, **named: Any) -> Any:
            if after:
                result = original(*given, **named)
                keep(*given, **named)
                return result
            keep(*given, **named)
            return original(*given, **named)

        monkeypatch.setattr(loop, name, wrapper)

    spy("augmented", lambda store, rows, *_, **__: found["rows"].append(rows))
    spy(
        "loss_terms",
        lambda outputs, modality, visible, infrared, *_: found["labels"].append(
            (visible, infrared)
        ),
    )
    spy("assign", lambda labels, *_: found["bank"].append(labels.bank.labels.clone()), after=True)
    return found


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {Path(name).name for name in one | other if one.get(name) != other.get(name)}


def assert_same_but_for_origin(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    """Same bytes, but that the network says of which images it was made."""
    assert differing(one, other) <= {train.NETWORK.name}
    assert builders.same_weights(one[str(train.NETWORK)], other[str(train.NETWORK)])


# Same bytes


def test_a_seed_gives_its_bytes_and_another_seed_others(project, expected):
    assert differing(project.run(), expected) == set()
    names = differing(project.run(seed=4), expected)
    assert {"network.safetensors", "infrared.csv", "train.json", "epochs.csv", "loss.tsv"} <= names


def test_nothing_depends_on_or_changes_the_global_generators(project, expected):
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert differing(project.run(), expected) == set()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    project, expected, monkeypatch, capsys, after
):
    """Interrupted after each epoch, the last one included; the checkpoint is gone in the end."""

    def interrupt(figures: dict[str, Any], _: int) -> None:
        if figures["epoch"] == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "print_summary", interrupt)
        with pytest.raises(KeyboardInterrupt):
            project.run()
    assert len(list(Path(".ckpt").iterdir())) == 1
    assert differing(project.run(), expected) == set()
    assert f"going on after epoch {after} of 3" in capsys.readouterr().out
    assert list(Path(".ckpt").iterdir()) == []


def test_a_killed_process_goes_on_to_the_same_bytes(project, expected):
    """SIGKILL after the second epoch: no clean-up of any kind has run."""
    kill = (
        "import os, signal\nfrom stages.train import __main__ as train\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train.print_summary = lambda figures, _: figures['epoch'] == 2 and kill()\n"
        "train.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(builders.ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("DVC_ROOT", None)
    done = subprocess.run(
        [sys.executable, "-c", kill], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -9, done.stderr
    assert not Path("models/network.safetensors").exists()
    assert differing(project.run(), expected) == set()
    assert list(Path(".ckpt").iterdir()) == []


def test_a_signal_ends_the_stage_at_once_and_it_goes_on(project):
    project.set(train__epochs=300)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    given = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "stages.train"]
    for first, number in (
        ("train: epoch   1/300", signal.SIGINT),
        ("train: going on after epoch", signal.SIGTERM),
    ):
        with subprocess.Popen(command, **given) as stage:
            assert stage.stdout.readline().startswith("train: running on ")
            line = stage.stdout.readline()
            assert line.startswith(first), line + stage.stderr.read()
            stage.send_signal(number)
            _, said = stage.communicate(timeout=5)
        line = f"stopped by {number.name}; the same command goes on from what is finished"
        assert (stage.returncode, said) == (128 + number, f"\n{line}\n")
        assert [path.suffix for path in Path(".ckpt").iterdir()] == [".safetensors"]


def interrupted(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Leave the checkpoint of a run with these parameters behind, after its first epoch."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "print_summary", interrupt)
        with pytest.raises(KeyboardInterrupt):
            project.run(**changes)


@pytest.mark.parametrize("changes", [{"otla__delta": 5.0}, {"seed": 4}, {"den__tau": 9.0}], ids=str)
def test_a_checkpoint_of_other_parameters_is_left_alone(
    project, expected, monkeypatch, capsys, changes
):
    interrupted(project, monkeypatch, **changes)
    assert differing(project.run(), expected) == set()
    said = capsys.readouterr().out
    name, value = next(iter(changes.items()))
    assert "going on after" not in said
    assert (
        f"not going on from {next(Path('.ckpt').iterdir())}: "
        f"{name.replace('__', '.')} {value} there, " in said
    )
    assert len(list(Path(".ckpt").iterdir())) == 1


def test_a_checkpoint_under_another_s_name_is_refused(project, monkeypatch):
    interrupted(project, monkeypatch, otla__delta=5.0)
    stored = next(Path(".ckpt").iterdir())
    interrupted(project, monkeypatch, otla__delta=25.0)
    mine = next(path for path in Path(".ckpt").iterdir() if path != stored)
    stored.rename(mine)
    with pytest.raises(
        InputError, match=r"is of other parameters: otla\.delta 5\.0 there, 25\.0 asked for"
    ):
        project.run(otla__delta=25.0)


def test_a_checkpoint_without_parameters_is_left_alone(project, expected, capsys):
    """Files of early versions have none; their name is never that of a run of today."""
    save_tensors(Path(".ckpt/train-0123.safetensors"), {"x": torch.ones(1)}, {"epoch": 1})
    assert differing(project.run(), expected) == set()
    assert (
        "not going on from .ckpt/train-0123.safetensors: it names no parameters"
        in capsys.readouterr().out
    )


def test_a_checkpoint_of_other_inputs_is_left_alone(project, monkeypatch, capsys):
    """Labels, images of another size under the same table, other weights under the same name."""
    weights = {"network__start": "weights", "network__weights": "start.safetensors"}
    shutil.copy(train.PSEUDO_LABEL_NETWORK, "start.safetensors")

    def other_labels() -> None:
        given = pd.read_csv(train.VISIBLE_LABELS)
        project.write_labels(given["row"].to_numpy(), given["label"].to_numpy()[::-1])

    def other_weights() -> None:
        save_tensors(Path("start.safetensors"), build(Embedder, 8, "narrow").state_dict())

    for change in (other_labels, lambda: write_images(train.IMAGES, 40), other_weights):
        interrupted(project, monkeypatch, **weights)
        change()
        project.run(**weights)
        assert "going on after" not in capsys.readouterr().out
    interrupted(project, monkeypatch, **weights)
    project.run(**weights)
    assert "going on after" in capsys.readouterr().out


# What training may see


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train__setting": "semi-supervised"},
        {"otla__rows": "clusters", "clusters__k1": 4, "clusters__radius": 0.6},
        {"train__objective": "prototypes", "clusters__k1": 4, "clusters__radius": 0.6},
    ],
    ids=str,
)
def test_infrared_identities_are_for_the_figures_only(project, changes):
    """Other identities of the infrared images change figures of agreement and nothing else."""
    before, epochs = project.run(**changes), project.epochs()
    table = read_table(TABLE)
    chosen = (table["modality"] == "infrared") & (table["split"] == "train")
    table.loc[chosen, "person"] = (
        table.loc[chosen, "person"].sample(frac=1, random_state=1).to_numpy()
    )
    builders.write_table(table, TABLE)
    after = project.run(**changes)
    changed = differing(after, before) - {train.NETWORK.name}
    assert builders.same_weights(after[str(train.NETWORK)], before[str(train.NETWORK)])
    names = ("accuracy", "accuracy_argmax", "infrared_ari", "associations_right")
    cosines = ("similarity_same", "similarity_across", "similarity_infrared")
    agreement = {f"{name}.tsv" for name in (*names, *cosines)}
    assert changed & agreement
    assert changed <= agreement | {"epochs.csv", "train.json", "metrics.json"}
    columns = [name for name in epochs if f"{name}.tsv" not in agreement]
    pd.testing.assert_frame_equal(project.epochs()[columns], epochs[columns])


def test_pictures_of_test_identities_are_never_read(project, expected, seen):
    table = read_table(TABLE)
    test = table.loc[table["split"].isin(["query", "gallery"]), "row"].to_numpy()
    pixels = np.load(PIXELS, mmap_mode="r+")
    pixels[test] = 255 - pixels[test]
    pixels.flush()
    assert_same_but_for_origin(project.run(), expected)
    assert not np.isin(np.concatenate(seen["rows"]), test).any()


def test_validation_identities_are_trained_on(project, expected):
    """SYSU-MM01's customary training set is train and val."""
    table = read_table(TABLE)
    table.loc[table["person"] == 12, "split"] = "val"
    builders.write_table(table, TABLE)
    assert_same_but_for_origin(project.run(), expected)


# Algorithm 1


def test_batches_pair_the_modalities_by_visible_label_and_bank(project, seen):
    """Line 5: from the second epoch on both halves have the labels of the epoch before."""
    project.run()
    data = project.data()
    visible = dict(zip(data.visible_rows.tolist(), data.visible_labels.tolist(), strict=True))
    halves = zip(seen["rows"][::2], seen["rows"][1::2], seen["labels"], strict=True)
    for step, (visible_rows, infrared_rows, (labels, infrared_labels)) in enumerate(halves):
        assert [visible[row] for row in visible_rows.tolist()] == labels.tolist()
        assert np.isin(infrared_rows, data.infrared_rows).all()
        if step < 2:
            assert infrared_labels is None
            continue
        bank = dict(
            zip(data.infrared_rows.tolist(), seen["bank"][step // 2 - 1].tolist(), strict=True)
        )
        assert (
            [bank[row] for row in infrared_rows.tolist()]
            == infrared_labels.tolist()
            == labels.tolist()
        )
    assert step == 5
    assert seen["bank"][-1].tolist() == project.infrared()["label"].tolist()


def test_infrared_labels_are_the_transport_of_the_stored_network_s_predictions(project):
    project.run()
    transport = solve(project.log_predictions(), 25.0)
    found = project.infrared()
    assert found["row"].tolist() == ImageStore(train.IMAGES).rows("train", "infrared").tolist()
    assert found["label"].tolist() == transport.labels.tolist()
    np.testing.assert_allclose(found["confidence"], transport.confidence, atol=1e-3)
    assert (found["age"] == 0).all()
    counts, last = np.bincount(found["label"], minlength=PERSONS), project.epochs().iloc[-1]
    assert last["label_max_share"] == pytest.approx(counts.max() / counts.sum(), abs=1e-6)
    assert last["empty_labels"] == (counts == 0).sum()


def test_a_sharp_plan_shares_the_images_out_evenly(project):
    project.run(otla__delta=5000.0)
    assert np.bincount(project.infrared()["label"]).tolist() == [IMAGES] * PERSONS


def test_argmax_labels_are_the_most_likely_ones(project):
    project.run(otla__assignment="argmax")
    confidence, label = project.log_predictions().exp().max(1)
    assert project.infrared()["label"].tolist() == label.tolist()
    np.testing.assert_allclose(project.infrared()["confidence"], confidence, atol=1e-5)
    epochs = project.epochs()
    assert epochs["accuracy"].equals(epochs["accuracy_argmax"])
    assert epochs["assignment_iterations"].isna().all()
    assert epochs["ce_infrared"].notna().tolist() == [False, True, True]


def test_without_assignment_infrared_images_never_have_labels(project, seen):
    project.run(otla__assignment="none", otla__infrared_from_epoch=0)
    assert all(infrared is None for _, infrared in seen["labels"])
    epochs = project.epochs()
    assert epochs[["ce_infrared", "triplet_infrared", "accuracy"]].isna().all(axis=None)
    assert epochs[["discriminator", "alignment", "accuracy_argmax"]].notna().all(axis=None)


def test_the_visible_prior_gives_labels_their_share_of_visible_images(project):
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    project.write_labels(rows, np.repeat([0, 1, 2, 3], (18, 9, 6, 3)))
    project.run(otla__label_prior="visible", otla__delta=5000.0)
    assert np.bincount(project.infrared()["label"]).tolist() == [18, 9, 6, 3]
    project.run(otla__delta=5000.0)
    assert np.bincount(project.infrared()["label"]).tolist() == [9, 9, 9, 9]


def test_from_the_first_epoch_on_labels_start_at_random(project, seen):
    project.run(otla__infrared_from_epoch=0)
    assert project.epochs()["ce_infrared"].notna().all()
    assert seen["labels"][0][0].equal(seen["labels"][0][1])


def test_supervised_training_pairs_true_identities(project, seen):
    project.run(train__setting="supervised", otla__infrared_from_epoch=3)
    person = read_table(TABLE)["person"].to_numpy()
    for visible, infrared in zip(seen["rows"][::2], seen["rows"][1::2], strict=True):
        assert person[visible].tolist() == person[infrared].tolist()
    assert all(infrared is not None for _, infrared in seen["labels"])


@pytest.mark.parametrize(
    ("changes", "gone"),
    [({"den__enabled": False}, "discriminator"), ({"pal__enabled": False}, "alignment")],
    ids=["den", "pal"],
)
def test_a_switch_takes_its_term_away(project, expected, changes, gone):
    outputs = project.run(**changes)
    epochs = project.epochs()
    assert epochs[gone].isna().all()
    assert (epochs["reversal"] == 0).all() == (gone == "discriminator")
    assert {"network.safetensors", f"{gone}.tsv"} <= differing(outputs, expected)
    assert f"metrics/train/plots/metrics/{gone}.tsv" not in outputs


def test_without_den_the_discriminator_and_its_necks_stay_as_they_were(project):
    project.set(den__enabled=False)
    state, before = trained(project)
    for name in ("level_necks.0.weight", "level_necks.3.weight"):
        assert torch.equal(state.network.state_dict()[name], before[name])
    assert state.optimizer.state.keys().isdisjoint(state.discriminator.parameters())


def trained(project: Project) -> tuple[loop.State, dict[str, torch.Tensor]]:
    """A state after training in this process, and its network's tensors before."""
    network = build(IdentityNetwork, 1, "narrow", PERSONS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = project.state(network)
    project.train(state)
    return state, before


def test_the_discriminator_sees_all_levels_or_the_last(project, expected):
    sizes = build_backbone("narrow").sizes
    for levels, width in (("all", sum(sizes)), ("last", sizes[-1])):
        project.set(den__levels=levels)
        state = project.state()
        assert state.discriminator.first.in_features == width
    assert "network.safetensors" in differing(project.run(den__levels="last"), expected)
    assert project.epochs()["discriminator"].notna().all()


def test_the_last_level_is_the_identity_neck_s_output(project, monkeypatch):
    """Behind the neck, as the classifier sees it; the visible and infrared images of every step."""
    project.set(den__levels="last", train__epochs=1)
    behind, given = [], []
    network = IdentityNetwork("narrow", PERSONS)
    network.neck.register_forward_hook(
        lambda neck, _, output: behind.append(output) if neck.training else None
    )
    original = loop.reverse_gradient
    monkeypatch.setattr(
        loop, "reverse_gradient", lambda x, strength: given.append(x) or original(x, strength)
    )
    project.train(project.state(network))
    assert len(behind) == len(given) == 2
    assert all(torch.equal(one, other) for one, other in zip(behind, given, strict=True))


def test_no_two_epochs_draw_from_the_same_stream(project, monkeypatch):
    purposes = []

    def spy(name: str) -> None:
        original = getattr(seeds, name)
        monkeypatch.setattr(seeds, name, lambda *given: purposes.append(given) or original(*given))

    spy("generator")
    spy("numpy_generator")
    project.run()
    assert (
        len(purposes) == len(set(purposes)) == 2 + 2 * 3
    )  # the discriminator, the batch shown; batches and pictures of three epochs


def test_the_reversal_counts_steps(project):
    """2 / (1 + exp(-tau · step / max_steps)) - 1 at the epoch's last step."""
    project.run(den__tau=4.0, den__max_steps=100, den__step=5)
    wanted = [2 / (1 + np.exp(-4 * step / 100)) - 1 for step in (10, 20, 30)]
    np.testing.assert_allclose(project.epochs()["reversal"], wanted, atol=1e-6)


def test_learning_rates_of_both_groups_follow_the_schedule(project):
    project.set(
        train__backbone_rate=0.2, train__warmup_epochs=2, train__milestones=[2], train__epochs=3
    )
    state = project.state()
    rates: list[list[float]] = []

    def on_epoch_end(figures: dict[str, Any]) -> None:
        groups = [group["lr"] for group in state.optimizer.param_groups]
        rates.append([figures["learning_rate"], *groups])

    project.train(state, on_epoch_end)
    wanted = [learning_rate(epoch, 0.01, 2, [2], 0.1) for epoch in range(3)]
    np.testing.assert_allclose(wanted, [0.005, 0.01, 0.001])
    np.testing.assert_allclose(rates, [[rate, 0.2 * rate, rate] for rate in wanted])
    backbone, new = ({id(p) for p in group["params"]} for group in state.optimizer.param_groups)
    assert backbone == {id(p) for p in state.network.backbone.parameters()}
    others = [
        p
        for p in (*state.network.parameters(), *state.discriminator.parameters())
        if p.requires_grad
    ]
    assert new == {id(p) for p in others} - backbone
    assert [group["weight_decay"] for group in state.optimizer.param_groups] == [0.0005, 0.0005]


def test_a_backbone_rate_of_0_leaves_its_weights(project):
    project.set(train__backbone_rate=0.0)
    state, before = trained(project)
    after = state.network.state_dict()
    assert torch.equal(
        after["backbone.layer4.0.conv1.weight"], before["backbone.layer4.0.conv1.weight"]
    )
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])
    assert not after["neck.bias"].any()  # frozen at 0


def test_the_start_is_the_pseudo_label_network_or_the_given_weights(project):
    tree = params.load()
    data = project.data()
    chosen = params.section(tree, "network", SECTIONS["network"])
    stored, _ = load_tensors(train.PSEUDO_LABEL_NETWORK)
    for start in ("pseudo_label", "weights"):
        given = {
            "start": start,
            "weights": "none" if start == "pseudo_label" else str(train.PSEUDO_LABEL_NETWORK),
        }
        tensors = train.start_network(
            SECTIONS["network"](**(vars(chosen) | given)), data, 0
        ).state_dict()
        assert all(torch.equal(tensors[name], stored[name]) for name in stored)
    fresh = train.start_network(
        SECTIONS["network"](**(vars(chosen) | {"start": "weights"})), data, 0
    ).state_dict()
    assert not torch.equal(fresh["backbone.conv1.weight"], stored["backbone.conv1.weight"])


# The visible labels


def labeled(project: Project, labels: list[int] | np.ndarray, **changes: Any) -> Any:
    """The training set with these visible labels."""
    project.set(**changes)
    store = ImageStore(train.IMAGES)
    project.write_labels(store.rows("train", "visible"), np.asarray(labels))
    return project.data()


def test_images_without_a_cluster_are_dropped_or_classes_of_their_own(project):
    """Labels 7 and 9 stay, -1 twice and a lone 8 are outliers; numbers are compact and in order."""
    labels = np.repeat([9, 7, -1, 8], (20, 13, 2, 1))
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    data = labeled(project, labels)
    assert data.visible_rows.tolist() == rows[:33].tolist()
    assert (data.visible_labels.tolist(), data.classes) == ([1] * 20 + [0] * 13, 2)
    assert len(data.infrared_rows) == PERSONS * IMAGES
    data = labeled(project, labels, train__keep_outliers=True)
    assert data.visible_rows.tolist() == rows.tolist()
    assert (data.visible_labels.tolist(), data.classes) == ([1] * 20 + [0] * 13 + [2, 3, 4], 5)


def test_outliers_can_be_trained_on(project):
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    project.write_labels(rows, np.where(np.arange(len(rows)) < 20, np.arange(len(rows)) // 10, -1))
    project.run(train__keep_outliers=True)
    assert len(load_tensors(train.NETWORK)[0]["classifier.weight"]) == 2 + 16
    project.run()
    assert len(load_tensors(train.NETWORK)[0]["classifier.weight"]) == 2


def test_supervised_labels_are_those_of_the_visible_images(project):
    labels = np.repeat([5, 3, 2, 8, 1, 0], IMAGES)
    data = labeled(project, labels, train__setting="supervised")
    assert data.infrared_truth.tolist() == np.repeat([4, 3, 2, 5, 1, 0], IMAGES).tolist()
    labels[:IMAGES] = -1  # a person without visible label: its infrared images go too
    data = labeled(project, labels, train__setting="supervised")
    assert set(data.infrared_persons) == {11, 12, 13, 14, 15}
    assert data.infrared_truth.tolist() == np.repeat([3, 2, 4, 1, 0], IMAGES).tolist()


@pytest.mark.parametrize("setting", ["unsupervised", "semi-supervised"])
def test_there_is_no_truth_to_take_but_in_the_supervised_setting(project, setting):
    assert labeled(project, np.arange(36) // 6, train__setting=setting).infrared_truth is None


# One clear line


def message(project: Project, **changes: Any) -> str:
    """The line with which the stage ends."""
    with pytest.raises(SystemExit) as end, run_stage("train"):
        project.run(**changes)
    line = str(end.value)
    assert line.startswith("error in train: ")
    assert "\n" not in line
    return line


def test_labels_must_fit_the_table(project):
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    for given in (rows[:-1], rows + 1, rows[::-1]):
        project.write_labels(given, np.zeros(len(given), dtype=int))
        line = message(project)
        assert (
            "data/labels/visible.csv: its rows are not the 36 visible training images of "
            "data/images/target" in line
        )
    train.VISIBLE_LABELS.write_text("image,label\n1,2\n")
    assert "data/labels/visible.csv: its rows are not the 36" in message(project)


@pytest.mark.parametrize("wrong", ["", "1.5", "a", "-2"])
def test_labels_must_be_whole_numbers_from_minus_1(project, wrong):
    text = train.VISIBLE_LABELS.read_text().splitlines()
    text[3] = text[3].split(",")[0] + "," + wrong
    train.VISIBLE_LABELS.write_text("\n".join(text) + "\n")
    assert (
        "visible.csv: column label holds something that is not a whole number from -1"
        in message(project)
    )


@pytest.mark.parametrize(
    ("content", "words"), [("", "visible.csv: No columns"), (None, "data/labels/visible.csv")]
)
def test_labels_must_be_there(project, content, words):
    train.VISIBLE_LABELS.unlink()
    if content is not None:
        train.VISIBLE_LABELS.write_text(content)
    assert words in message(project)


def test_labels_must_fill_a_batch(project):
    line = message(project, train__persons=7)
    assert (
        "visible.csv: 6 labels with two images or more, but a batch takes train.persons = 7 of them"
        in line
    )
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    project.write_labels(rows, np.full(len(rows), -1))
    assert "0 labels with two images or more" in message(project)


def test_infrared_labels_must_fill_a_batch(project, monkeypatch):
    """If every infrared image gets the same label, no batch can be drawn, and that is said."""
    monkeypatch.setattr(
        LabelBank, "write", lambda bank, rows, labels, confidence: bank.labels.fill_(0)
    )
    assert "1 labels have images in both modalities, but a batch takes persons = 2" in message(
        project
    )


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_both_modalities_are_needed(project, modality):
    table = read_table(TABLE)
    table.loc[(table["modality"] == modality) & (table["split"] == "train"), "split"] = "query"
    builders.write_table(table, TABLE)
    assert f"data/images/target/table.csv: no {modality} training images" in message(project)


def test_supervised_training_needs_infrared_images_of_everybody(project):
    table = read_table(TABLE)
    table.loc[(table["modality"] == "infrared") & (table["person"] == 13), "split"] = "query"
    builders.write_table(table, TABLE)
    assert "person 13 has visible training images only" in message(
        project, train__setting="supervised"
    )
    project.run()


def test_supervised_training_needs_one_label_a_person(project):
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    project.write_labels(rows, np.arange(len(rows)) // 4)
    assert "visible.csv: person 10 has two labels" in message(project, train__setting="supervised")


@pytest.mark.parametrize("start", ["pseudo_label", "weights"])
def test_the_pseudo_label_network_must_be_there(project, start):
    train.PSEUDO_LABEL_NETWORK.unlink()
    assert "models/pseudo_label.safetensors" in message(project, network__start=start)


def test_stored_weights_must_fit(project):
    other = {
        name: value
        for name, value in build(Embedder, 1, "narrow").state_dict().items()
        if "layer3" not in name
    }
    save_tensors(train.PSEUDO_LABEL_NETWORK, other)
    line = message(project)
    assert (
        "models/pseudo_label.safetensors: stored network: backbone.layer3.0.conv1.weight: "
        "found nothing" in line
    )
    assert "wrong.safetensors is not here" in message(
        project, network__start="weights", network__weights="wrong.safetensors"
    )


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_last_good_state(
    project, expected, monkeypatch
):
    """The line names epoch, step, term and file; without the fault the run goes on from there."""
    calls = []

    def failing(*given: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = original(*given)
        return terms | ({"alignment": terms["alignment"] * torch.inf} if len(calls) == 4 else {})

    original = loop.loss_terms
    with monkeypatch.context() as patch:
        patch.setattr(loop, "loss_terms", failing)
        line = message(project)
    [good] = Path(".ckpt").iterdir()
    assert "epoch 2, step 2: the loss is not finite (alignment = inf)" in line
    assert f"the state after epoch 1 is in {good}" in line
    assert not train.NETWORK.exists()
    assert differing(project.run(), expected) == set()


def test_weights_that_are_not_finite_end_in_no_labels(project, monkeypatch):
    """The last step can break the network after its loss was checked; argmax would label on."""

    def broken(parameters: Any) -> None:
        original(parameters)
        parameters.param_groups[1]["params"][-1].data.fill_(torch.nan)
        for group in parameters.param_groups:
            group["params"][0].data.fill_(torch.nan)

    original = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", broken)
    line = message(project, otla__assignment="argmax", train__steps=1)
    assert (
        "epoch 1, the predictions that labels come from are not finite; no epoch was finished"
        in line
    )


def test_a_transport_that_stops_early_is_said(project, capsys):
    project.run(otla__solver="sinkhorn", otla__max_iterations=1, otla__tolerance=1e-12)
    assert (
        "train: transport (sinkhorn) stopped after 1 iterations without reaching otla.tol"
        in capsys.readouterr().out
    )
