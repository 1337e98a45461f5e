"""The evaluate stage from files to files, in a folder of its own with a small network."""

import itertools
import json
import os
import shutil
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional

from stages.evaluate import __main__ as stage
from stages.evaluate import plan, score, sysu_mm01
from stages.evaluate.protocol import same_person_and_camera
from stages.evaluate.protocols import PROTOCOLS
from stages.parts.clustering.rerank import reranked_distance
from stages.parts.images.augment import normalize
from stages.parts.images.store import ImageStore, create_pixels, seal
from stages.parts.images.table import read_table, write_table
from stages.parts.network.backbone import Extras
from stages.parts.network.head import Embedder, build
from stages.parts.retrieval import index
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import RankingScores, score_ranking, top_ranked
from stages.parts.run.files import file_hash
from stages.parts.run.tensors import load_tensors, save_tensors
from tests import builders

PARAMS = Path(__file__).parents[1] / "params.yaml"
HEIGHT, WIDTH = 48, 24
SCORES = ["rank1", "rank5", "rank10", "rank20", "map", "minp"]
CAMERAS = {  # data set → modality → camera numbers
    "sysu_mm01": {"visible": [1, 2, 4, 5], "infrared": [3, 6]},
    "regdb": {"visible": [1], "infrared": [2]},
    "llcm": {"visible": [1, 2, 3], "infrared": [1, 2]},
}
MODES = {
    "sysu_mm01": ["all", "indoor"],
    "regdb": ["infrared_to_visible", "visible_to_infrared"],
    "llcm": ["infrared_to_visible", "visible_to_infrared"],
}


def make_images(dataset, persons=6, count=3):
    """Write `data/images/target`: a noisy pattern of each person, and two training images."""
    splits = {"visible": "gallery", "infrared": "query"}
    images = []
    for person, modality in itertools.product(range(1, persons + 1), splits):
        numbers = range(1, count + 1)
        for camera, number in itertools.product(CAMERAS[dataset][modality], numbers):
            path = f"{modality}/cam{camera}/{person:04d}/{number:04d}.jpg"
            images.append((path, person, camera, modality, splits[modality]))
    images.append(("train/1.jpg", 90, 1, "visible", "train"))
    images.append(("train/2.jpg", 90, 3, "infrared", "val"))
    table = pd.DataFrame(images, columns=["path", "person", "camera", "modality", "split"])
    table.insert(0, "row", range(len(table)))
    folder = Path("data/images/target")
    folder.mkdir(parents=True)
    write_table(table, folder / "table.csv")
    rng = np.random.default_rng(0)
    shape = (HEIGHT // 8, WIDTH // 8, 3)
    faces = {person: rng.integers(0, 40, shape) for person in set(table["person"])}
    pixels = create_pixels(folder / "pixels.npy", len(table), HEIGHT, WIDTH)
    for row, person in zip(table["row"], table["person"], strict=True):
        face = np.kron(faces[person], np.ones((8, 8, 1), dtype=np.int64))
        pixels[row] = face + rng.integers(0, 215, face.shape)
    pixels.flush()
    (folder / "files.csv").write_text("row,bytes,sha256\n0,1,aa\n")
    seal(folder)


def save_network(path, seed, height=HEIGHT, width=WIDTH, facts=None, **change):
    network = build(Embedder, seed, "narrow")
    tensors = dict(network.state_dict()) | {"classifier.weight": torch.zeros(4, 128)} | change
    sizes = {"architecture": "narrow", "height": height, "width": width}
    save_tensors(Path(path), tensors, sizes | (facts or {}))
    made_here()


def made_here():
    """Seal the images, and say in both networks that they were made from what is here."""
    seal(stage.TARGET)
    for path, origin in ((stage.PSEUDO_LABEL_NETWORK, None), (stage.NETWORK, "pseudo_label")):
        if not path.is_file():
            continue
        tensors, facts = load_tensors(path)
        facts |= {"images": ImageStore(stage.TARGET).identity}
        if origin and stage.PSEUDO_LABEL_NETWORK.is_file():
            facts[origin] = file_hash(stage.PSEUDO_LABEL_NETWORK)
        save_tensors(path, tensors, facts)


def write_params(dataset, **evaluate):
    tree = yaml.safe_load(PARAMS.read_text())
    tree["dataset"] = dataset
    tree["device"] |= {"name": "cpu", "precision": "float32", "threads": torch.get_num_threads()}
    tree["evaluate"] |= {"trials": 3} | evaluate
    if tree["evaluate"]["split"] == "val":
        tree["train"]["selection"] = "validation"
    Path("params.yaml").write_text(yaml.safe_dump(tree))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder and the function that makes a runnable one of it."""
    monkeypatch.chdir(tmp_path)

    def make(dataset="sysu_mm01", **evaluate):
        write_params(dataset, **evaluate)
        make_images(dataset)
        save_network("models/network.safetensors", 1)
        save_network("models/pseudo_label.safetensors", 2, height=32, width=16)

    return make


def read_all():
    metrics = json.loads(Path("metrics/evaluate.json").read_text())
    facts = json.loads(Path("data/rankings/protocol.json").read_text())
    return metrics, pd.read_csv("metrics/evaluate/cmc.csv"), facts


# ---- from files to files


@pytest.mark.parametrize("dataset", CAMERAS)
def test_what_is_written(project, dataset, capsys):
    project(dataset)
    stage.main()
    metrics, curves, facts = read_all()
    modes = MODES[dataset]
    assert list(metrics) == [*modes, "pseudo_label"]
    for mode in modes:
        assert list(metrics[mode]) == [name + end for name in SCORES for end in ("", "_sd")]
        assert all(0 <= value <= 1 for value in metrics[mode].values())
        assert list(metrics["pseudo_label"][mode]) == ["rank1", "map", "minp"]
    assert ("visible" in metrics["pseudo_label"]) == (dataset != "regdb")  # it takes two cameras

    assert list(curves.columns) == ["mode", "rank", "cmc"]
    names = [name for mode in modes for name in (mode, f"{mode} (pseudo labels only)")]
    assert list(curves["mode"].unique()) == names
    for name in names:
        curve = curves[curves["mode"] == name]
        assert curve["rank"].tolist() == list(range(1, 21))
        assert (curve["cmc"].diff().dropna() >= 0).all()
    for mode in modes:
        curve = curves[curves["mode"] == mode].set_index("rank")["cmc"]
        shares = [metrics[mode][f"rank{rank}"] for rank in (1, 5, 10, 20)]
        assert curve[[1, 5, 10, 20]].tolist() == shares

    visible = 6 * 3 * len(CAMERAS[dataset]["visible"])
    infrared = 6 * 3 * len(CAMERAS[dataset]["infrared"])
    if dataset == "sysu_mm01":
        queries, gallery = [infrared] * 2, [6 * 4, 6 * 2]
    elif dataset == "regdb":
        queries, gallery = [infrared, visible], [visible, infrared]
    else:
        queries, gallery = [infrared, visible], [6 * 3, 6 * 2]
    assert facts == {
        "layout": dataset,
        "split": "test",
        "modes": modes,
        "draws": "none: the gallery is all images" if dataset == "regdb" else "agw",
        "trials": 1 if dataset == "regdb" else 3,
        "shots": None if dataset == "regdb" else 1,
        "queries": dict(zip(modes, queries, strict=True)),
        "gallery": dict(zip(modes, gallery, strict=True)),
        "unmatched": dict.fromkeys(modes, 0),
        "features": "after",
        "flip": False,
        "rerank": False,
        "checkpoint": "last epoch",
        "data": file_hash(Path("data/images/target/files.csv")),
        "architecture": "narrow",
    }
    files = [f"{mode}.csv" for mode in modes] + ["protocol.json", "embeddings.npy", "rows.npy"]
    assert sorted(os.listdir("data/rankings")) == sorted(files)
    assert sorted(os.listdir("data")) == ["images", "rankings"]

    place, *lines = capsys.readouterr().out.splitlines()
    assert place.startswith("evaluate: running on ")
    assert lines[0].split() == ["%", "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"]
    for line, mode in zip(lines[1:3], modes, strict=True):
        mean = f"{100 * metrics[mode]['rank1']:.2f}"
        deviation = f"{100 * metrics[mode]['rank1_sd']:.2f}"
        assert line.split()[:4] == [mode, mean, "±", deviation]
    assert lines[3].startswith(f"pseudo-label network: {modes[0]} Rank-1 ")
    assert len(lines) == 5


@pytest.mark.parametrize("dataset", CAMERAS)
def test_scores_by_hand(project, dataset):
    """The same numbers from the network and the protocol's rules, without the stage's own code."""
    project(dataset)
    stage.main()
    protocol = PROTOCOLS[dataset]
    metrics, _, _ = read_all()
    table = read_table(Path("data/images/target/table.csv"))
    images = torch.from_numpy(np.load("data/images/target/pixels.npy")).permute(0, 3, 1, 2)
    network = build(Embedder, 1, "narrow").eval()
    with torch.no_grad():
        values = network(normalize(images)).numpy()
    person, camera = table["person"].to_numpy(), table["camera"].to_numpy()
    for mode in MODES[dataset]:
        query = protocol.query_rows(table, mode)
        scores = []
        for trial in range(1 if dataset == "regdb" else 3):
            rows = protocol.gallery_rows(table, mode, trial)
            excluded = np.zeros((len(query), len(rows)), dtype=bool)
            if dataset == "sysu_mm01":
                excluded = (camera[query][:, None] == 3) & (camera[rows] == 2)
            if dataset == "llcm":
                same_camera = camera[query][:, None] == camera[rows]
                excluded = same_camera & (person[query][:, None] == person[rows])
            similarity = values[query] @ values[rows].T
            unique = dataset != "regdb"
            scores.append(score_ranking(similarity, person[query], person[rows], excluded, unique))
        precisions = [score.mean_ap for score in scores]
        assert metrics[mode]["map"] == pytest.approx(np.mean(precisions), abs=2e-3)
        assert metrics[mode]["map_sd"] == pytest.approx(np.std(precisions), abs=2e-3)
        for rank in (1, 5):  # one pair of nearly equal similarities may swap
            expected = np.mean([score.cmc[rank - 1] for score in scores])
            assert metrics[mode][f"rank{rank}"] == pytest.approx(expected, abs=1.1 / len(query))


def test_modes_can_be_chosen(project):
    project("llcm", modes=["visible_to_infrared"], trials=1)
    stage.main()
    metrics, curves, facts = read_all()
    assert list(metrics) == ["visible_to_infrared", "pseudo_label"]
    assert facts["modes"] == ["visible_to_infrared"]
    names = ["visible_to_infrared", "visible_to_infrared (pseudo labels only)"]
    assert list(curves["mode"].unique()) == names


def network_rows(call):
    """`call(network, images)` on all test images, by hand; their rows."""
    table = read_table(Path("data/images/target/table.csv"))
    rows = table.loc[table["split"].isin(("query", "gallery")), "row"].to_numpy()
    images = torch.from_numpy(np.load("data/images/target/pixels.npy")[rows]).permute(0, 3, 1, 2)
    with torch.no_grad():
        return rows, call(build(Embedder, 1, "narrow").eval(), normalize(images)).numpy()


@pytest.mark.parametrize("features", ["after", "before"])
def test_embeddings_that_are_kept(project, features):
    """They are the full network's, before the neck or after it.

    Scales and shifts of the neck make the two differ.
    """
    project("llcm", features=features)
    rng = np.random.default_rng(0)
    neck = {}
    for name in ("neck.weight", "neck.bias"):
        neck[name] = torch.tensor(rng.uniform(0.2, 2, 128), dtype=torch.float32)
    save_network("models/network.safetensors", 1, **neck)
    stage.main()
    values = np.load("data/rankings/embeddings.npy", allow_pickle=False)
    rows = np.load("data/rankings/rows.npy", allow_pickle=False)

    def by_hand(network, images):
        network.restore(dict(network.state_dict()) | neck)
        pooled = network.pooled(images)[-1]
        return functional.normalize(network.neck(pooled) if features == "after" else pooled)

    expected_rows, expected = network_rows(by_hand)
    assert (values.dtype, rows.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5)
    assert json.loads(Path("data/rankings/protocol.json").read_text())["features"] == features


@pytest.mark.parametrize("flip", [False, True])
def test_a_network_of_two_streams_gets_each_modality_in_its_own(project, flip):
    """With the stems exchanged, and the modalities too, the embeddings stay what they were."""
    project("sysu_mm01", flip=flip, batch=7)
    extras = Extras(two_stream=True)
    network = build(Embedder, 1, "narrow", extras)
    with torch.no_grad():
        network.backbone.infrared_stem.conv1.weight.mul_(-1)
    tensors = network.state_dict()
    stem = {name for name in tensors if "infrared_stem." in name}
    other = {name.replace("infrared_stem.", ""): tensors[name].clone() for name in stem}
    exchanged = other | {name: tensors[name.replace("infrared_stem.", "")] for name in stem}

    def values(change, facts):
        save_network("models/network.safetensors", 1, facts=facts, **change)
        stage.main()
        return np.load("data/rankings/embeddings.npy")

    first = values(tensors, extras.facts())
    second = values(dict(tensors) | exchanged, extras.facts())
    as_visible = values(tensors, {})
    as_infrared = values(dict(tensors) | other, {})
    table = read_table(Path("data/images/target/table.csv"))
    rows = np.load("data/rankings/rows.npy")
    infrared = (table["modality"].to_numpy()[rows] == "infrared")[:, None]
    assert 0 < infrared.mean() < 1
    expected = np.where(infrared, as_infrared, as_visible)
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        second, np.where(infrared, as_visible, as_infrared), rtol=0, atol=1e-6
    )
    assert not np.isclose(as_visible, as_infrared).all(1).any()


def test_a_network_with_extras_is_built_with_them(project):
    project("llcm")
    extras = Extras("gem", non_local=True)
    tensors = build(Embedder, 1, "narrow", extras).state_dict()
    save_network("models/network.safetensors", 1, facts=extras.facts(), **tensors)
    stage.main()
    pooled = np.load("data/rankings/embeddings.npy")
    save_network("models/network.safetensors", 1, **tensors)
    stage.main()
    assert not np.allclose(np.load("data/rankings/embeddings.npy"), pooled, atol=1e-3)


def test_blocks_of_queries_change_nothing(project, monkeypatch):
    project("llcm")
    stage.main()
    whole = read_all()
    lists = pd.read_csv("data/rankings/infrared_to_visible.csv")
    monkeypatch.setattr(index, "BLOCK", 50)  # two queries at a time
    stage.main()
    assert read_all()[0] == whole[0]
    pd.testing.assert_frame_equal(read_all()[1], whole[1])
    again = pd.read_csv("data/rankings/infrared_to_visible.csv")
    similarity, expected = again.pop("similarity"), lists.pop("similarity")
    np.testing.assert_allclose(similarity, expected, rtol=0, atol=2e-6)
    pd.testing.assert_frame_equal(again, lists)


def test_reranked(project, capsys):
    """Scores, lists and every place that must say so."""
    project(rerank=True, rerank_k1=8, rerank_k2=3, rerank_lambda=0.4, trials=1)
    stage.main()
    metrics, _, facts = read_all()
    rows, values = (np.load(f"data/rankings/{name}.npy") for name in ("rows", "embeddings"))
    embeddings = score.Embeddings(rows, values, torch.device("cpu"))
    table = read_table(Path("data/images/target/table.csv"))
    person, camera = table["person"].to_numpy(), table["camera"].to_numpy()
    query, gallery = (
        sysu_mm01.PROTOCOL.query_rows(table, "all"),
        sysu_mm01.gallery_rows(table, "all", 0),
    )
    pair = embeddings.of(query), embeddings.of(gallery)
    similarity = -reranked_distance(*pair, inner_product_blocks, top_ranked, 8, 3, 0.4)
    excluded = sysu_mm01.excluded_pairs(camera[query], camera[gallery])
    expected = score_ranking(similarity, person[query], person[gallery], excluded, unique_ids=True)
    assert metrics["all"]["map"] == pytest.approx(expected.mean_ap, abs=1e-4)
    assert metrics["all"]["rank1"] == pytest.approx(expected.cmc[0], abs=1e-4)
    first = pd.read_csv("data/rankings/all.csv").query("rank == 1")["similarity"]
    largest = np.where(excluded, -9, similarity).max(axis=1)
    np.testing.assert_allclose(first, largest, rtol=0, atol=1e-6)
    assert metrics["rerank"] is True
    assert facts["rerank"] == {"k1": 8, "k2": 3, "lambda": 0.4}
    printed = capsys.readouterr().out
    assert "\n%, re-ranked" in printed
    assert "re-ranked by k-reciprocal neighbors (k1 8, k2 3, lambda 0.4)" in printed
    visible = metrics["pseudo_label"]["visible"]

    write_params("sysu_mm01", trials=1)
    stage.main()
    not_reranked = read_all()[0]
    assert "rerank" not in not_reranked
    assert not_reranked["all"]["map"] != metrics["all"]["map"]
    assert not_reranked["pseudo_label"]["visible"] == visible
    assert "re-ranked" not in capsys.readouterr().out


def held_out(persons=(4, 5, 6), facts=None):
    """Make `persons` validation identities, and save networks that have not seen them."""
    table = read_table(Path("data/images/target/table.csv"))
    table.loc[table["person"].isin(persons), "split"] = "val"
    table.loc[table["person"] == 90, "split"] = "train"
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()
    facts = facts or {"selection": "validation", "epoch": 7}
    save_network("models/network.safetensors", 1, facts=facts)
    facts = {"selection": facts["selection"]}
    save_network("models/pseudo_label.safetensors", 2, 32, 16, facts)
    return table


def test_validation_identities(project, capsys):
    """All numbers of both networks are those of a data set whose test images these are."""
    project(split="val")
    table = held_out()
    stage.main()
    metrics, curves, facts = read_all()
    assert facts["split"] == "val"
    assert facts["checkpoint"] == "best validation mAP, epoch 7"
    assert facts["queries"] == {"all": 3 * 6, "indoor": 3 * 6}
    assert facts["gallery"] == {"all": 3 * 4, "indoor": 3 * 2}
    assert set(table["split"].iloc[np.load("data/rankings/rows.npy")]) == {"val"}
    assert "validation identities, not the test set" in capsys.readouterr().out

    roles = table["modality"].map({"infrared": "query", "visible": "gallery"})
    table = table.assign(split=roles.where(table["split"] == "val", "train"))
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()
    write_params("sysu_mm01")
    stage.main()
    assert read_all()[0] == metrics
    pd.testing.assert_frame_equal(read_all()[1], curves)


def test_checkpoint_rule(project):
    project(modes=["indoor"], trials=1)
    for facts, rule in (
        ({"selection": "last", "epoch": 3}, "last epoch"),
        ({"selection": "validation", "epoch": 3}, "best validation mAP, epoch 3"),
    ):
        save_network("models/network.safetensors", 1, facts=facts)
        stage.main()
        assert read_all()[2]["checkpoint"] == rule


# ---- a gallery of any size


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_scores_by_blocks_are_the_same_bits(monkeypatch, size):
    """Also with ties, of which quantized embeddings have many."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"person": rng.integers(0, 9, 90), "camera": rng.integers(1, 4, 90)})
    values = (rng.integers(-1, 2, (90, 5)) / 2).astype(np.float32)
    queries, gallery = np.arange(30), np.arange(30, 90)
    similarity = values[queries] @ values[gallery].T
    person = table["person"].to_numpy()
    excluded = same_person_and_camera(table, queries, gallery)
    products = partial(inner_product_blocks, values[queries], values[gallery])
    search = score.Search(table, queries, gallery, products, same_person_and_camera)
    monkeypatch.setattr(index, "BLOCK", size)
    for unique_ids in (False, True):
        scores = score.score_search(search, unique_ids)
        whole = score_ranking(similarity, person[queries], person[gallery], excluded, unique_ids)
        assert scores[1:] == whole[1:]
        np.testing.assert_array_equal(scores.cmc, whole.cmc)


def test_a_gallery_of_a_million_images(monkeypatch):
    """It takes less memory than all similarities; the scores are those of the full lists."""
    rng = np.random.default_rng(1)
    count, few = 1_000_000, 32
    values = rng.standard_normal((count + few, 8), dtype=np.float32)
    person, camera = rng.integers(0, 50_000, count + few), rng.integers(1, 3, count + few)
    table = pd.DataFrame({"person": person, "camera": camera})
    gallery = np.arange(few, count + few)

    def search(count):
        queries = np.arange(count)
        products = partial(inner_product_blocks, values[:count], values[few:])
        return score.Search(table, queries, gallery, products, same_person_and_camera)

    monkeypatch.setattr(index, "BLOCK", 4 * count)
    tracemalloc.start()
    try:
        scores = score.score_search(search(few), unique_ids=False)
        assert tracemalloc.get_traced_memory()[1] < 0.6 * 4 * few * count
    finally:
        tracemalloc.stop()
    assert scores.queries == few
    precisions = []
    for query in range(4):
        similarity = values[query] @ values[few:].T
        kept = (person[few:] != person[query]) | (camera[few:] != camera[query])
        relevant = similarity[kept & (person[few:] == person[query])]
        places = np.sort([np.count_nonzero(similarity[kept] > value) + 1 for value in relevant])
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    scores = score.score_search(search(4), unique_ids=False)
    assert scores.mean_ap == pytest.approx(np.mean(precisions), rel=1e-4)


def test_ranked_lists_are_those_of_the_first_draw(project):
    project()
    stage.main()
    metrics, _, _ = read_all()
    table = read_table(Path("data/images/target/table.csv"))
    for mode in ("all", "indoor"):
        lists = pd.read_csv(f"data/rankings/{mode}.csv")
        assert list(lists.columns) == ["query", "rank", "gallery", "similarity", "correct"]
        gallery = sysu_mm01.gallery_rows(table, mode, 0)
        assert (
            lists["query"].unique().tolist() == sysu_mm01.PROTOCOL.query_rows(table, mode).tolist()
        )
        assert set(lists["gallery"]) <= set(gallery.tolist())
        cameras = table["camera"].to_numpy()
        met = cameras[lists["gallery"]]
        assert not ((cameras[lists["query"]] == 3) & (met == 2)).any()
        person = table["person"].to_numpy()
        assert (lists["correct"] == (person[lists["query"]] == person[lists["gallery"]])).all()
        for query, one in lists.groupby("query"):
            allowed = len(gallery) - (cameras[gallery] == 2).sum() * (cameras[query] == 3)
            assert one["rank"].tolist() == list(range(1, min(20, allowed) + 1))
            assert (one["similarity"].diff().dropna() <= 0).all()
        assert lists["similarity"].abs().max() <= 1.000001
    # with a single draw, Rank-1 of the file is Rank-1 of the metrics
    write_params("sysu_mm01", trials=1)
    stage.main()
    metrics, _, _ = read_all()
    for mode in ("all", "indoor"):
        lists = pd.read_csv(f"data/rankings/{mode}.csv")
        rank1 = lists.loc[lists["rank"] == 1, "correct"].mean()
        assert rank1 == pytest.approx(metrics[mode]["rank1"], abs=1e-4)
        assert all(metrics[mode][f"{name}_sd"] == 0 for name in SCORES)


def test_equal_input_gives_equal_bytes(project):
    project(batch=5)
    written = [
        "metrics/evaluate.json",
        "metrics/evaluate/cmc.csv",
        "data/rankings/all.csv",
        "data/rankings/protocol.json",
        "data/rankings/embeddings.npy",
        "data/rankings/rows.npy",
    ]
    stage.main()
    before = [Path(path).read_bytes() for path in written]
    stage.main()
    assert [Path(path).read_bytes() for path in written] == before
    assert b"\r" not in b"".join(before[:4])


def test_training_images_have_no_influence(project):
    project()
    stage.main()
    before = Path("data/rankings/all.csv").read_bytes()
    table = read_table(Path("data/images/target/table.csv"))
    pixels = np.load("data/images/target/pixels.npy", mmap_mode="r+")
    pixels[table.loc[table["split"].isin(("train", "val")), "row"]] = 0
    pixels.flush()
    made_here()
    stage.main()
    assert Path("data/rankings/all.csv").read_bytes() == before


def test_mirror_images_of_mirror_images_are_the_images(project):
    """With `flip`, the score does not change when every image is mirrored; without it, it does."""
    project(flip=True)
    pixels = np.load("data/images/target/pixels.npy", mmap_mode="r+")
    lists = {}
    for flip in (True, False):
        write_params("sysu_mm01", flip=flip)
        for mirrored in (False, True):
            stage.main()
            lists[flip, mirrored] = pd.read_csv("data/rankings/all.csv")["similarity"].to_numpy()
            pixels[:] = pixels[:, :, ::-1].copy()
            pixels.flush()
            made_here()
    np.testing.assert_allclose(lists[True, False], lists[True, True], rtol=0, atol=2e-5)
    assert np.abs(lists[False, False] - lists[False, True]).max() > 1e-4
    assert json.loads(Path("data/rankings/protocol.json").read_text())["flip"] is False


# ---- sums over draws


def constant_scores(cmc, mean_ap, mean_inp):
    return RankingScores(np.full(20, cmc), mean_ap, mean_inp, 5, 1)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("embed_images", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")),
        ("search_galleries", RuntimeError("faiss::gpu: alloc fail (cudaMalloc error)")),
    ],
    ids=["network", "search"],
)
def test_too_little_memory_is_one_line(project, monkeypatch, place, error):
    def fail(*_):
        raise error

    project()
    monkeypatch.setattr(stage, place, fail)
    with pytest.raises(SystemExit, match=r"lower evaluate.batch, or set device.precision to"):
        stage.main()
    assert not Path("data/rankings").exists()


def test_mean_and_deviation_over_draws():
    tree = score.summary([constant_scores(0.2, 0.5, 0.1), constant_scores(0.4, 0.7, 0.1)])
    assert list(tree) == [name + end for name in SCORES for end in ("", "_sd")]
    assert tree["rank10"] == pytest.approx(0.3)
    assert tree["rank10_sd"] == pytest.approx(0.1)
    assert tree["map"] == pytest.approx(0.6)
    assert tree["minp_sd"] == pytest.approx(0)


def test_visible_against_other_cameras(project):
    project("llcm")
    table = read_table(Path("data/images/target/table.csv"))
    rows = table.loc[table["split"].isin(("query", "gallery")), "row"].to_numpy()
    rng = np.random.default_rng(3)
    values = rng.normal(size=(len(rows), 8)).astype(np.float32)
    scores = score.visible_score(table, score.Embeddings(rows, values, torch.device("cpu")))
    visible = table.loc[table["split"] == "gallery", "row"].to_numpy()
    at = np.searchsorted(rows, visible)
    person = table["person"].to_numpy()[visible]
    excluded = same_person_and_camera(table, visible, visible)
    assert excluded.diagonal().all()
    expected = score_ranking(values[at] @ values[at].T, person, person, excluded)
    np.testing.assert_allclose(scores.cmc, expected.cmc)
    assert scores[1:] == pytest.approx(expected[1:])


def test_a_person_without_gallery_image_is_counted_as_unmatched(project):
    project()
    table = read_table(Path("data/images/target/table.csv"))
    table.loc[(table["person"] == 2) & (table["modality"] == "visible"), "split"] = "val"
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()
    stage.main()
    _, _, facts = read_all()
    assert facts["unmatched"] == {"all": 6, "indoor": 6}
    assert facts["queries"] == {"all": 36, "indoor": 36}


# ---- bad input: one line that names what is wrong, and nothing half written


def wrong_mode(project):
    project("regdb")
    write_params("regdb", modes=["all"])


def official_without_file(project):
    project(draws="official")


def official_elsewhere(project):
    project("llcm", draws="official", official_draws="draws.mat")


def official_missing(project):
    project(draws="official", official_draws="draws.mat")


def no_network(project):
    project()
    Path("models/network.safetensors").unlink()


def not_a_network(project):
    project()
    Path("models/network.safetensors").write_text("x")


def other_shape(project):
    project()
    save_network("models/pseudo_label.safetensors", 0, **{"neck.weight": torch.ones(5)})


def no_facts(project):
    project()
    save_tensors(Path("models/network.safetensors"), build(Embedder, 0, "narrow").state_dict())


def not_finite(project):
    project()
    nan = torch.full((128,), float("nan"))
    save_network("models/network.safetensors", 0, **{"neck.weight": nan})


def nobody_in_the_gallery(project):
    project()
    table = read_table(Path("data/images/target/table.csv"))
    table.loc[table["split"] == "query", "person"] += 1000
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()


def no_gallery(project):
    project()
    table = read_table(Path("data/images/target/table.csv"))
    table.loc[table["camera"].isin((1, 2)), "split"] = "train"
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()


def no_validation_identities(project):
    project(split="val")
    table = read_table(Path("data/images/target/table.csv"))
    table = table.assign(split=table["split"].replace("val", "train"))
    builders.write_table(table, Path("data/images/target/table.csv"))
    made_here()


def trained_on_all(project):
    project(split="val")
    held_out(facts={"selection": "last", "epoch": 3})


def trained_before_there_was_a_choice(project):
    project(split="val")
    held_out()
    save_network("models/network.safetensors", 1)


def labels_of_all(project):
    project(split="val")
    held_out()
    save_network("models/pseudo_label.safetensors", 2, facts={"selection": "last"})


def too_many_neighbours(project):
    project(rerank=True, rerank_k1=50, trials=1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            no_validation_identities,
            "evaluate.split: val: this sysu_mm01 data set has no validation images, expected test",
        ),
        (
            trained_on_all,
            "models/network.safetensors was trained on "
            "the validation identities (train.selection: last)",
        ),
        (
            trained_before_there_was_a_choice,
            "models/network.safetensors was trained on the validation identities",
        ),
        (labels_of_all, "models/pseudo_label.safetensors was trained on the validation identities"),
        (
            too_many_neighbours,
            "re-ranking: k1 = 50 and k2 = 6 neighbours among 48 images of queries and gallery",
        ),
        (
            wrong_mode,
            "evaluate.modes: regdb has infrared_to_visible, visible_to_infrared; it has no all",
        ),
        (
            official_without_file,
            "evaluate.official_draws is empty; evaluate.draws: official needs the path",
        ),
        (official_elsewhere, "evaluate.draws: llcm has no official gallery draws, expected agw"),
        (official_missing, "evaluate.official_draws: draws.mat is not here"),
        (no_network, "models/network.safetensors is not here"),
        (not_a_network, "models/network.safetensors is not a readable safetensors file"),
        (
            other_shape,
            "models/pseudo_label.safetensors: stored network: "
            "neck.weight: found [5], expected [128]",
        ),
        (
            no_facts,
            "models/network.safetensors: expected the "
            "facts architecture, height and width, found None",
        ),
        (
            not_finite,
            "models/network.safetensors: stored network: "
            "neck.weight holds a value that is not finite",
        ),
        (
            nobody_in_the_gallery,
            "mode all: none of the 36 query images shows a person of the gallery",
        ),
        (no_gallery, "mode indoor: no gallery image from cameras 1, 2"),
    ],
)
def test_bad_input(project, spoil, message):
    spoil(project)
    with pytest.raises(SystemExit) as caught:
        stage.main()
    line = str(caught.value)
    assert line.startswith("error in evaluate: ")
    assert message in line
    assert "\n" not in line
    assert not Path("data/rankings").exists()
    assert not Path("metrics").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nobody_in_the_gallery, "mode all: none of the 36 query images shows a person of the gall"),
        (no_gallery, "mode indoor: no gallery image from cameras 1, 2"),
        (no_validation_identities, "this sysu_mm01 data set has no validation images"),
        (too_many_neighbours, "re-ranking: k1 = 50 and k2 = 6 neighbours among 48 images"),
        (official_missing, "evaluate.official_draws: draws.mat is not here"),
        (wrong_mode, "evaluate.modes: regdb has infrared_to_visible"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_the_plan_before_there_is_a_network(
    project, spoil, message
):
    spoil(project)
    shutil.rmtree("models")
    with pytest.raises(SystemExit) as caught:
        plan.main()
    assert message in str(caught.value)


def test_the_plan_alone_writes_nothing_but_its_time(project):
    project()
    before = {path for path in Path().rglob("*") if path.is_file()}
    plan.main()
    assert {path for path in Path().rglob("*") if path.is_file()} - before == {
        Path("logs/evaluate.plan.json")
    }
