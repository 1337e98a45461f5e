"""Every way in which the released code departs from the paper, and what goes beyond both."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.plans import VARIANTS
from stages.parts.images.augment import normalize
from stages.parts.images.store import ImageStore
from stages.parts.images.table import read_table
from stages.parts.network.head import Embedder, IdentityNetwork
from stages.parts.run import params
from stages.parts.run.checkpoint import Checkpoint
from stages.parts.run.settings import ASSOCIATIONS
from stages.parts.run.tensors import load_tensors
from stages.train import __main__ as train
from stages.train import labels, loop, validation
from stages.train.assignment import by_argmax
from stages.train.diagnostics import PROTOTYPE_FIGURES, attention_of_a_batch
from stages.train.groups import groups_of
from tests import builders
from tests.test_train import IMAGES, PERSONS, TABLE, Project

CLUSTERS = {"otla__rows": "clusters", "clusters__k1": 4, "clusters__k2": 2, "clusters__radius": 0.6}

PROTOTYPES = CLUSTERS | {"train__objective": "prototypes", "prototypes__own_epochs": 1}


EXTRAS = {"network__pooling": "gem", "network__two_stream": True, "network__non_local": True}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with builders.workplace(tmp_path / "project"):
        yield Project()


def order_of_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, np.ndarray]]:
    """What an epoch does, in order.

    `label` comes with the images that were predicted, `train` with the labels in use.
    """
    calls: list[tuple[str, np.ndarray]] = []
    predict, steps = loop.log_predictions, loop.train_epoch

    def log_predictions(*given):
        found = predict(*given)
        calls.append(("label", found[0]))
        return found

    def train_epoch(state, *given):
        calls.append(("train", state.labels.bank.labels.numpy().copy()))
        return steps(state, *given)

    monkeypatch.setattr(loop, "log_predictions", log_predictions)
    monkeypatch.setattr(loop, "train_epoch", train_epoch)
    return calls


# What is predicted, when, and how


def test_by_default_all_images_are_labeled_after_the_steps(project, monkeypatch):
    calls = order_of_calls(monkeypatch)
    project.run()
    assert [name for name, _ in calls] == ["train", "label"] * 3
    assert all(len(images) == PERSONS * IMAGES for name, images in calls if name == "label")


def test_with_a_lag_labels_are_made_before_the_steps_and_used_one_epoch_later(project, monkeypatch):
    calls = order_of_calls(monkeypatch)
    used = []
    draw = loop.cross_modal_batches
    monkeypatch.setattr(
        loop, "cross_modal_batches", lambda v, i, *rest: used.append(i.copy()) or draw(v, i, *rest)
    )
    project.run(otla__label_lag=1, otla__infrared_from_epoch=0)
    assert [name for name, _ in calls] == ["label", "train"] * 3
    banks = [bank for name, bank in calls if name == "train"]
    np.testing.assert_array_equal(
        used[1], banks[0]
    )  # drawn in the second epoch: labels of before the first's steps
    np.testing.assert_array_equal(used[2], banks[1])


def test_visited_images_alone_are_labeled_and_the_others_keep_theirs(project, monkeypatch):
    calls = order_of_calls(monkeypatch)
    project.run(otla__predict="visited", otla__infrared_from_epoch=0, train__epochs=2)
    images = [found for name, found in calls if name == "label"]
    assert all(0 < len(found) < PERSONS * IMAGES for found in images)
    share = project.epochs()["predicted_share"].to_numpy()
    np.testing.assert_allclose(
        share, [len(found) / (PERSONS * IMAGES) for found in images], atol=1e-6
    )
    bank = project.infrared()
    never = np.setdiff1d(np.arange(len(bank)), np.union1d(*images))
    assert (bank["age"].to_numpy()[images[1]] == 0).all()
    assert (bank["age"].to_numpy()[never] == 2).all()  # the random labels of the start
    assert (bank["confidence"].to_numpy()[never] == 0).all()


def test_training_mode_predicts_augmented_visits_and_averages_them(project):
    """The mean over visits is what the logits give by hand; running statistics have moved."""
    project.set(
        otla__predict="visited", otla__predict_mode="train", train__flip=0.0, train__erase=0.0
    )
    state, data, method = project.state(), project.data(), project.method()
    visits = np.array([[0, 1, 2, 3], [3, 2, 5, 4]])
    before = state.network.neck.running_mean.clone()
    images, found = labels.log_predictions(state.network, data, method, visits, 0)
    np.testing.assert_array_equal(images, [0, 1, 2, 3, 4, 5])
    assert not torch.equal(state.network.neck.running_mean, before)
    state.network.train()
    with torch.no_grad():
        by_hand = [
            state.network.outputs(
                normalize(data.store.batch(data.infrared_rows[visit]))
            ).logits.softmax(1)
            for visit in visits
        ]
    torch.testing.assert_close(found[3].exp().float(), (by_hand[0][3] + by_hand[1][0]) / 2)
    torch.testing.assert_close(found[5].exp().float(), by_hand[1][2])
    torch.testing.assert_close(found.exp().sum(1), torch.ones(6, dtype=torch.float64))


def test_evaluation_mode_leaves_the_network_as_it_was(project):
    state, data, method = project.state(), project.data(), project.method()
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    batches = np.zeros((1, 4), int)
    images, found = labels.log_predictions(state.network, data, method, batches, 0)
    assert len(images) == len(found) == PERSONS * IMAGES
    assert all(
        torch.equal(before[name], value) for name, value in state.network.state_dict().items()
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_a_named_set_of_parameters_runs_two_epochs(project, name):
    """Every variant; lengths of a run are those of the profile."""
    changes = dict(change.split("=", 1) for change in VARIANTS[name])
    given = {
        key.replace(".", "__"): params.parse(value)
        for key, value in changes.items()
        if key.split(".")[0] in ("train", "den", "otla", "pal", "clusters", "prototypes")
    }
    first = project.run(**given, train__epochs=2)
    assert np.isfinite(project.epochs()["loss"]).all()
    assert project.run(**given, train__epochs=2) == first


# Priors


def test_the_estimated_prior_follows_the_mean_prediction(project):
    project.set(otla__label_prior="estimated", otla__prior_momentum=0.25, otla__delta=1.0)
    state, data, method = project.state(), project.data(), project.method()
    predicted = (
        torch.randn(
            len(data.infrared_rows), data.classes, generator=torch.Generator().manual_seed(0)
        )
        * 3
    )
    predicted = predicted.log_softmax(1)
    images = np.arange(len(predicted))
    labels.assign(state.labels, images, predicted, data, method.otla)
    expected = 0.25 / data.classes + 0.75 * predicted.exp().double().mean(0)
    torch.testing.assert_close(state.labels.prior, expected, atol=1e-7, rtol=0)
    assert float(state.labels.prior.sum()) == pytest.approx(1)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_prediction_is_the_same_in_one_block_and_in_several(monkeypatch, weighted):
    """In one block it is the plain mean, to the bit."""
    draw = torch.Generator().manual_seed(2)
    log_p = (torch.randn(50, 6, generator=draw) * 3).log_softmax(1)
    masses = torch.rand(50, dtype=torch.float64, generator=draw) if weighted else None
    whole = labels._mean_prediction(log_p, masses)
    predicted = log_p.double().exp()
    assert torch.equal(whole, predicted.mean(0) if masses is None else masses @ predicted)
    monkeypatch.setattr(labels, "ROWS", 7)
    torch.testing.assert_close(labels._mean_prediction(log_p, masses), whole, atol=1e-14, rtol=0)


def test_argmax_is_the_most_likely_label_and_its_probability():
    draw = torch.Generator().manual_seed(3)
    log_p = (torch.randn(500, 40, generator=draw) * 3).log_softmax(1)
    confidence, expected = log_p.exp().max(1)
    found = by_argmax(log_p, None, None, builders.settings("otla"))
    assert torch.equal(found.labels, expected)
    assert torch.equal(found.confidence, confidence)


def test_no_label_dies_of_an_estimate(project):
    """A label that no image is predicted for keeps a tenth of the uniform share."""
    project.set(otla__label_prior="estimated", otla__prior_momentum=0.0)
    state, data, method = project.state(), project.data(), project.method()
    predicted = torch.full((len(data.infrared_rows), data.classes), -20.0)
    predicted[:, 0] = 0.0
    _, seconds = labels.assign(
        state.labels, np.arange(len(predicted)), predicted.log_softmax(1), data, method.otla
    )
    assert seconds > 0
    counts = state.labels.counts[0, 0]
    assert counts.sum() == len(predicted)
    assert counts[0] > 0.4 * len(predicted)


def test_slack_lets_the_label_shares_follow_the_predictions(project):
    """From the paper's equal shares to those of argmax."""
    state, data = project.state(), project.data()
    draw = torch.Generator().manual_seed(1)
    bias = torch.tensor([2.0] + [0.0] * (data.classes - 1))
    predicted = (
        torch.randn(len(data.infrared_rows), data.classes, generator=draw) + bias
    ).log_softmax(1)
    largest = []
    for slack in (0.0, 0.3, 1000.0):
        project.set(otla__label_slack=slack, otla__delta=25.0)
        labels.assign(
            state.labels, np.arange(len(predicted)), predicted, data, project.method().otla
        )
        largest.append(int(state.labels.counts[-1, 0].max()))
    assert largest[0] < largest[1] <= largest[2]
    np.testing.assert_array_equal(state.labels.counts[-1, 0], state.labels.counts[-1, 1])


def test_images_of_a_cluster_get_one_label_and_their_number_as_mass(project):
    """Three groups of unequal size for three labels, that all prefer the first label most."""
    state, data = project.state(), project.data()
    count = len(data.infrared_rows)
    clusters = np.arange(count) % 3
    clusters[: count // 2] = 0
    groups = groups_of(clusters)
    predicted = torch.full((count, data.classes), -9.0)
    predicted[:, 0] = 0.0
    predicted[clusters == 1, 1] = -0.1
    project.set(otla__rows="clusters", otla__label_slack=0.0, otla__label_prior="visible")
    images = np.arange(count)
    labels.assign(
        state.labels, images, predicted.log_softmax(1), data, project.method().otla, groups
    )
    written = state.labels.bank.labels.numpy()
    for cluster in range(3):
        assert len(set(written[clusters == cluster])) == 1
    assert len(set(written)) > 1  # equal shares do not let all be the first label


def test_training_by_clusters_says_how_good_they_are(project):
    project.run(**CLUSTERS)
    epochs = project.epochs()
    assert (epochs["infrared_clusters"] > 1).all()
    assert epochs["infrared_ari"].between(-1, 1).all()
    project.run()
    assert project.epochs()[["infrared_clusters", "infrared_ari"]].isna().all(axis=None)


def test_figures_of_prototypes_are_in_no_file_of_another_objective(project):
    outputs = project.run()
    for name in PROTOTYPE_FIGURES:
        assert name not in project.epochs()
        assert not any(name.encode() in content for content in outputs.values())


@pytest.mark.parametrize("setting", ["unsupervised", "supervised"])
@pytest.mark.parametrize("association", ASSOCIATIONS)
def test_prototypes_train_with_every_association(project, association, setting):
    changes = PROTOTYPES | {"prototypes__association": association, "train__setting": setting}
    project.run(**changes)
    epochs, bank = project.epochs(), project.infrared()
    assert epochs["own"].notna().tolist() == [True, False, False]
    assert epochs["distillation"].notna().tolist() == [False, True, True]
    assert epochs["ce_visible"].isna().all()
    assert epochs["matched_share"].between(0, 1).all()
    assert epochs["similarity_visible"].between(-1, 1).all()
    assert bank["label"].between(-1, PERSONS - 1).all()
    if setting == "supervised":
        assert epochs[["accuracy", "matched_share", "associations_right"]].eq(1).all(axis=None)
    elif association == "none":
        assert (bank["label"] == -1).all()
        assert epochs["similarity_associated"].isna().all()
    else:
        assert (bank["label"] >= 0).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"otla__label_prior": "estimated", "otla__delta": 5.0},
        {"otla__label_lag": 1, "otla__infrared_from_epoch": 0, "otla__predict": "visited"},
        {"train__selection": "validation"},
        {"train__setting": "supervised"},
        CLUSTERS | {"train__mixture": 0.8, "train__gamma": [0.5, 1.7]},
        PROTOTYPES | {"otla__label_prior": "estimated", "prototypes__views": 2},
        PROTOTYPES | {"prototypes__association": "global", "clusters__share": 0.5},
        PROTOTYPES | EXTRAS,
        EXTRAS,
    ],
    ids=str,
)
def test_every_state_survives_an_interruption(project, monkeypatch, changes):
    if "train__selection" in changes:
        hold_out(project)
    expected = project.run(**changes)
    save = Checkpoint.save

    def save_and_die(self, tensors, facts):
        save(self, tensors, facts)
        if len(facts["history"]) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            project.run(**changes)
    train.main()
    assert project.outputs() == expected


@pytest.mark.parametrize(
    "changes",
    [
        CLUSTERS,
        {"otla__predict_mode": "train", "otla__predict": "visited"},
        PROTOTYPES | {"prototypes__views": 2},
        PROTOTYPES | {"prototypes__association": "global"},
    ],
    ids=str,
)
def test_the_network_is_told_which_images_are_infrared(project, monkeypatch, changes):
    """In training, embedding, predicting, validation and figures; infrared pictures are gray."""
    hold_out(project)
    calls = []
    pooled = Embedder.pooled

    def checked(network, images, visible=None):
        # the same gray in all channels, before each channel was normalized
        black, white = normalize(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
        shades = (images - black) / (white - black)
        is_gray = (shades.amax(1) - shades.amin(1) < 1e-3).flatten(1).all(1)
        first = len(images) if visible is None else visible
        assert is_gray.tolist() == [place >= first for place in range(len(images))]
        calls.append(0 < first < len(images))
        return pooled(network, images, visible)

    monkeypatch.setattr(Embedder, "pooled", checked)
    project.run(
        **changes,
        network__two_stream=True,
        train__selection="validation",
        train__grayscale=0.0,
        train__erase=0.0,
    )
    assert calls.count(True) == 6  # the steps of three epochs
    assert calls.count(False) >= 9


def test_the_streams_part_in_training_and_the_file_says_so(project):
    project.run(**EXTRAS)
    tensors, facts = load_tensors(train.NETWORK)
    named = {name.removeprefix("network__"): value for name, value in EXTRAS.items()}
    assert facts.items() >= named.items()
    for name in ("conv1.weight", "bn1.running_mean"):
        visible, infrared = tensors[f"backbone.{name}"], tensors[f"backbone.infrared_stem.{name}"]
        assert not torch.isclose(visible, infrared).all()
    assert tensors["backbone.pool.exponent"].item() != 3
    assert tensors["backbone.non_local.1.0.norm.weight"].any()


def test_the_schedule_of_the_rate_starts_again_with_the_second_stage(project):
    changes = PROTOTYPES | {"train__epochs": 5, "train__milestones": [1], "train__decay": 0.1}
    changes |= {"prototypes__own_epochs": 2}
    for restart, rates in ((True, [1, 0.1, 1, 0.1, 0.1]), (False, [1, 0.1, 0.1, 0.1, 0.1])):
        project.run(**changes, prototypes__restart_rate=restart)
        np.testing.assert_allclose(project.epochs()["learning_rate"], np.multiply(rates, 0.01))


# Selection


def hold_out(project: Project, persons: int = 2) -> None:
    """Make the last `persons` training people validation people; the label file is of the rest."""
    table = read_table(TABLE)
    people = sorted(table.loc[table["split"] == "train", "person"].unique())[-persons:]
    table.loc[table["person"].isin(people) & (table["split"] == "train"), "split"] = "val"
    builders.write_table(table, TABLE)
    rows = ImageStore(train.IMAGES).rows("train", "visible")
    project.write_labels(rows, np.arange(len(rows)) // IMAGES)


def test_validation_chooses_the_epoch_of_the_best_map(project, monkeypatch):
    """Scores are made up; the network that is kept had the best one, the first of equals."""
    hold_out(project)
    scores = iter([0.2, 0.9, 0.9, 0.2, 0.9])
    monkeypatch.setattr(loop, "validation_map", lambda *_: next(scores))
    project.run(train__selection="validation")
    tensors, facts = load_tensors(train.NETWORK)
    assert (facts["selection"], facts["epoch"]) == ("validation", 2)
    project.run(train__selection="validation", train__epochs=2)
    last, _ = load_tensors(train.NETWORK)
    assert all(torch.equal(tensors[name], last[name]) for name in tensors | last)


def test_the_validation_score_is_made_of_validation_images(project):
    hold_out(project)
    outputs = project.run(train__selection="validation")
    scores = project.epochs()["validation_map"]
    assert scores.between(0, 1, inclusive="right").all()
    labeled = ImageStore(train.IMAGES).rows("train", "infrared")
    assert project.infrared()["row"].tolist() == labeled.tolist()
    assert project.run(train__selection="validation") == outputs


def test_validation_needs_validation_images(project):
    with pytest.raises(
        ValueError, match=r"train\.selection: validation needs visible images of split val"
    ):
        project.run(train__selection="validation")


def test_a_perfect_network_has_a_map_of_1(project, monkeypatch):
    hold_out(project)
    store = ImageStore(train.IMAGES)
    person = torch.tensor(store.table["person"].to_numpy())
    rows = iter([store.rows("val", "infrared"), store.rows("val", "visible")])
    one_hot = torch.eye(100)
    monkeypatch.setattr(validation, "embed_images", lambda *_, **__: one_hot[person[next(rows)]])
    assert validation.validation_map(IdentityNetwork("narrow", 2), store) == 1.0


def test_a_network_whose_output_is_not_finite_has_no_map(project):
    hold_out(project)
    network = IdentityNetwork("narrow", 2)
    network.neck.running_mean[0] = torch.nan
    with pytest.raises(FloatingPointError, match="embeddings of the validation images are not"):
        validation.validation_map(network, ImageStore(train.IMAGES))


# What the report draws


def test_counts_by_epoch_add_up(project):
    project.run()
    counts = pd.read_csv(train.COUNTS)
    sums = counts.groupby("epoch")[["assigned", "argmax"]].sum()
    assert sums.eq(PERSONS * IMAGES).all(axis=None)
    project.run(otla__assignment="argmax")
    counts = pd.read_csv(train.COUNTS)
    assert counts["assigned"].equals(counts["argmax"])
    project.run(otla__assignment="none")
    assert pd.read_csv(train.COUNTS)["assigned"].isna().all()


def test_attention_is_of_one_batch_and_its_rows_add_up_to_1(project):
    project.run()
    weights = pd.read_csv(train.ATTENTION)
    assert set(weights["kind"]) == {"v2i", "i2i"}
    modality = read_table(TABLE)["modality"]
    for kind, query in (("v2i", "visible"), ("i2i", "infrared")):
        some = weights[weights["kind"] == kind]
        assert (modality.loc[some["query"]] == query).all()
        assert (modality.loc[some["key"]] == "infrared").all()
        size = int(np.sqrt(len(some)))
        np.testing.assert_allclose(
            some["weight"].to_numpy().reshape(size, size).sum(1), 1, atol=1e-4
        )


def test_without_a_shared_label_there_is_no_attention(project):
    state, data, method = project.state(), project.data(), project.method()
    nothing = np.full(len(data.infrared_rows), -1)
    assert attention_of_a_batch(state.network, data, nothing, method).empty
