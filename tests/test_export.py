"""The stage `export`: files that say what PyTorch says, and a card that says what they are for."""

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from stages.evaluate.plan import plan_searches
from stages.evaluate.protocols import PROTOCOLS
from stages.evaluate.score import Embeddings, search_galleries
from stages.export import __main__ as export
from stages.export.card import Figures, card
from stages.export.description import rounded_up
from stages.export.folding import fold_norms
from stages.export.measure import CPU, mean_precisions
from stages.export.onnx_file import embed_onnx, open_onnx, write_onnx
from stages.parts.images.augment import normalize
from stages.parts.images.store import ImageStore
from stages.parts.network.backbone import Extras
from stages.parts.network.head import Embedder, build
from stages.parts.network.pooling import POOLINGS
from stages.parts.run.tensors import load_tensors
from tests import builders, tiny
from tests.builders import ROOT

CLOSE = 1e-5  # between embeddings of onnxruntime and of PyTorch, here some 1e-7
ALL_EXTRAS = Extras("gem", two_stream=True, non_local=True)
EXTRAS = {
    "network.pooling": "gem",
    "network.two_stream": True,
    "network.non_local": True,
    "export.int8": True,
    "evaluate.flip": True,
}


def network(architecture: str, extras: Extras) -> Embedder:
    """A network whose weights and statistics are all drawn, as if it had been trained."""
    made = build(Embedder, 0, architecture, extras).eval()
    generator = torch.Generator().manual_seed(1)
    for name, value in made.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2, generator=generator)
        elif name.endswith("running_var") or "norm.weight" in name:
            value.uniform_(0.5, 2, generator=generator)
    return made


def embeddings(path: Path, images: torch.Tensor) -> np.ndarray:
    """What the file gives for images (N, 3, H, W) uint8."""
    session = open_onnx(path, threads=1)
    values: np.ndarray = session.run(["embeddings"], {"images": images.numpy()})[0]
    return values


# The file


@pytest.mark.parametrize(
    ("architecture", "extras"),
    [
        *(("narrow", Extras(*each)) for each in itertools.product(POOLINGS, *[[False, True]] * 2)),
        ("resnet18", ALL_EXTRAS),
        ("resnet50", ALL_EXTRAS),
    ],
    ids=str,
)
@pytest.mark.parametrize("visible", [None, 0], ids=["visible", "infrared"])
def test_a_file_gives_what_pytorch_gives(
    tmp_path: Path, architecture: str, extras: Extras, visible: int | None
) -> None:
    made = network(architecture, extras)
    write_onnx(tmp_path / "a.onnx", made, 32, 16, visible)
    for count in (1, 2, 5):
        images = torch.randint(256, (count, 3, 32, 16), dtype=torch.uint8)
        with torch.no_grad():
            expected = made(normalize(images), visible).numpy()
        found = embeddings(tmp_path / "a.onnx", images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_the_streams_differ(tmp_path: Path) -> None:
    """Otherwise the infrared file would be a copy."""
    made = network("narrow", ALL_EXTRAS)
    for name, visible in (("visible", None), ("infrared", 0)):
        write_onnx(tmp_path / name, made, 32, 16, visible)
    images = torch.randint(256, (2, 3, 32, 16), dtype=torch.uint8)
    values = [embeddings(tmp_path / name, images) for name in ("visible", "infrared")]
    assert np.abs(values[0] - values[1]).max() > 0.01


def test_a_file_says_its_input_and_output_and_nothing_of_the_machine(tmp_path: Path) -> None:
    write_onnx(tmp_path / "a.onnx", network("narrow", ALL_EXTRAS), 32, 16)
    model = onnx.load(tmp_path / "a.onnx")
    session = open_onnx(tmp_path / "a.onnx", threads=1)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["N", 3, 32, 16])
    assert (made.name, made.type, made.shape) == ("embeddings", "tensor(float)", ["N", 128])
    assert [each.version for each in model.opset_import] == [18]
    assert model.producer_version == ""
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert not re.search(rb"\.py\b|/tmp|site-packages", (tmp_path / "a.onnx").read_bytes())


def test_no_norm_is_left_behind_a_convolution(tmp_path: Path) -> None:
    """The network's neck stays one: it stands behind the pooling."""
    write_onnx(tmp_path / "a.onnx", network("resnet18", ALL_EXTRAS), 32, 16)
    graph = onnx.load(tmp_path / "a.onnx").graph
    norms = [node.name for node in graph.node if node.op_type == "BatchNormalization"]
    assert norms == ["/network/neck/BatchNormalization"]
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


def test_a_convolution_that_others_read_keeps_its_norm() -> None:
    norm = ["scale", "shift", "mean", "variance"]
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["y"]),
        make("BatchNormalization", ["y", *norm], ["z"], epsilon=1e-5),
        make("Add", ["y", "z"], ["out"]),
    ]
    tensors = {"w": np.ones((1, 1, 1, 1), np.float32)} | dict.fromkeys(norm, np.ones(1, np.float32))
    given = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
    value = partial(onnx.helper.make_tensor_value_info, elem_type=1, shape=[1, 1, 2, 2])
    graph = onnx.helper.make_graph(nodes, "g", [value("x")], [value("out")], given)
    fold_norms(graph)
    assert list(graph.node) == nodes
    assert len(graph.initializer) == 5


def test_equal_weights_give_equal_bytes_also_in_another_process(tmp_path: Path) -> None:
    """Also in the first export of a process, which is where the mean color is made."""
    code = """if True:
        from pathlib import Path
        from stages.export.onnx_file import write_onnx
        from stages.parts.network.backbone import Extras
        from stages.parts.network.head import Embedder, build
        network = build(Embedder, 0, "narrow", Extras("gem", True, True)).eval()
        for name in ("a", "b"):
            write_onnx(Path(name), network, 32, 16, 0)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    write_onnx(tmp_path / "c", build(Embedder, 0, "narrow", ALL_EXTRAS).eval(), 32, 16, 0)
    assert len({(tmp_path / name).read_bytes() for name in ("a", "b", "c")}) == 1


# The stage


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stages have run on a few tiny images."""
    return run_stages(tmp_path_factory.mktemp("plain") / "here", {})


@pytest.fixture(scope="module")
def with_extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a network of two streams, 8 bits and mirror images."""
    return run_stages(tmp_path_factory.mktemp("extras") / "here", EXTRAS)


def run_stages(folder: Path, changes: dict[str, Any]) -> Path:
    with builders.workplace(folder):
        tiny.write_images()
        for name in tiny.STAGES:
            tiny.run(name, changes)
    return folder


@pytest.fixture
def place(plain: Path, tmp_path: Path) -> Iterator[None]:
    """A copy of `plain` without the exported files as the current folder."""
    with builders.workplace(tmp_path / "place"):
        for name in ("data", "metrics", "models"):
            shutil.copytree(plain / name, name)
        shutil.rmtree("models/export")
        yield


def model_of(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "models/export/model.json").read_text())
    return tree


def test_the_folder_holds_what_its_description_says(plain: Path) -> None:
    folder, model = plain / "models/export", model_of(plain)
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "model.json", "network.onnx", "network.safetensors"}
    assert model["models"] == {"visible": "network.onnx", "infrared": "network.onnx"}
    assert "models_int8" not in model
    for name, expected in model["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    assert set(model["sha256"]) == names - {"README.md", "model.json"}
    given = {"height": 32, "width": 16, "channels": "RGB", "layout": "NCHW", "dtype": "uint8"}
    assert given.items() <= model["input"].items()
    assert model["output"] == {"name": "embeddings", "dtype": "float32", "unit": True}
    assert (model["format"], model["opset"], model["dimensions"]) == (1, 18, 128)
    assert 0 < model["largest_difference"] <= CLOSE
    known = {"dataset": "sysu_mm01", "seed": 0, "setting": "semi-supervised", "rendered": True}
    assert known.items() <= model["training"].items()
    text = (folder / "model.json").read_text()
    assert text == json.dumps(model, indent=2, sort_keys=True) + "\n"


def test_the_safetensors_are_the_network_without_its_classifier(plain: Path) -> None:
    tensors, facts = load_tensors(plain / "models/network.safetensors")
    kept, same = load_tensors(plain / "models/export/network.safetensors")
    assert {name.split(".")[0] for name in kept} == {"backbone", "neck"}
    assert same == facts
    assert all(torch.equal(value, tensors[name]) for name, value in kept.items())
    Embedder(facts["architecture"], Extras.of(facts)).restore(kept)


def test_two_streams_are_two_files_and_8_bits_two_more(with_extras: Path) -> None:
    folder, model = with_extras / "models/export", model_of(with_extras)
    assert model["models"] == {"visible": "network.onnx", "infrared": "infrared.onnx"}
    assert model["models_int8"] == {
        "visible": "network.int8.onnx",
        "infrared": "infrared.int8.onnx",
    }
    assert model["extras"] == {"pooling": "gem", "two_stream": True, "non_local": True}
    assert model["flip"] is True
    for name in ("network", "infrared"):
        sizes = [(folder / f"{name}{kind}.onnx").stat().st_size for kind in ("", ".int8")]
        assert sizes[1] < sizes[0] / 3
    text = (folder / "README.md").read_text()
    assert "| mAP, % | float32 | 8 bits | loss |" in text
    assert "mirror image" in text


@pytest.mark.parametrize("place_of_run", ["plain", "with_extras"])
def test_the_ranks_of_onnx_are_those_of_pytorch(
    place_of_run: str, request: pytest.FixtureRequest
) -> None:
    """All test images of all modes and draws, ties aside; the scores are equal, too."""
    place: Path = request.getfixturevalue(place_of_run)
    changes = tiny.SMALL | ({} if place_of_run == "plain" else EXTRAS)
    settings = builders.settings("evaluate", changes)
    store = ImageStore(place / "data/images/target")
    rows = np.load(place / "data/rankings/rows.npy")
    stored = np.load(place / "data/rankings/embeddings.npy")
    folder = place / "models/export"
    files = {name: folder / file for name, file in model_of(place)["models"].items()}
    pytorch = Embeddings(rows, stored, CPU)
    by_onnx = Embeddings(rows, embed_onnx(files, store, rows, 7, 1, settings.flip), CPU)
    protocol = PROTOCOLS["sysu_mm01"]
    plans = plan_searches(protocol, store.table, settings)
    for plan in plans.values():
        searches = [
            search_galleries(protocol, store.table, each, plan, settings)
            for each in (pytorch, by_onnx)
        ]
        for one, other in zip(*searches, strict=True):
            for first, second in zip(one.blocks(), other.blocks(), strict=True):
                order = np.argsort(-first.similarity, axis=1)
                ranked = np.take_along_axis(second.similarity, order, axis=1)
                assert (np.diff(ranked, axis=1) < CLOSE).all()
    precisions = [
        mean_precisions(protocol, store.table, each, settings) for each in (pytorch, by_onnx)
    ]
    assert precisions[0] == pytest.approx(precisions[1], abs=1e-3)
    metrics = json.loads((place / "metrics/evaluate.json").read_text())
    for mode, value in precisions[0].items():
        assert round(value, 4) == metrics[mode]["map"]


def test_the_same_run_gives_the_same_bytes(with_extras: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (with_extras / "models/export").iterdir()}
    with builders.workplace(tmp_path / "again"):
        for name in ("data", "metrics", "models"):
            shutil.copytree(with_extras / name, name)
        tiny.run("export", EXTRAS)
        after = {path.name: path.read_bytes() for path in Path("models/export").iterdir()}
    assert before == after


def test_a_file_beyond_the_tolerance_is_not_written(place: None) -> None:
    with pytest.raises(SystemExit) as end:
        tiny.run("export", {"export.tolerance": 1e-12})
    assert re.fullmatch(
        r"error in export: ONNX differs from PyTorch by \S+ on 36 test images, more than "
        r"export.tolerance, 1e-12; nothing is written",
        str(end.value),
    )
    assert sorted(path.name for path in Path("models").iterdir()) == [
        "network.safetensors",
        "pseudo_label.safetensors",
    ]


@pytest.mark.parametrize("name", ["models/network.safetensors", "metrics/evaluate.json"])
def test_a_missing_file_is_one_line(place: None, name: str) -> None:
    Path(name).unlink()
    with pytest.raises(SystemExit) as end:
        tiny.run("export")
    assert str(end.value).startswith("error in export: ")
    assert name in str(end.value)
    assert "\n" not in str(end.value)


@pytest.mark.parametrize("name", ["metrics/evaluate.json", "data/rankings/protocol.json"])
@pytest.mark.parametrize("text", ["{}", "[]"])
def test_figures_of_something_else_are_one_line(place: None, name: str, text: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(SystemExit, match="is not what evaluate writes"):
        tiny.run("export")
    assert not Path("models/export").exists()


def test_at_most_so_many_images_are_checked() -> None:
    rows = np.arange(10, 30)
    assert len(export.some_of(rows, 100)) == 20
    assert export.some_of(rows, 7).tolist() == [10, 13, 16, 19, 22, 25, 28]


def test_a_difference_is_rounded_up() -> None:
    assert [rounded_up(value) for value in (0.0, 4.8e-7, 1e-6, 1.1e-6)] == [0.0, 1e-6, 1e-6, 1e-5]


# The card


@pytest.fixture
def run(plain: Path) -> tuple[dict[str, Any], Figures]:
    """The description and the figures of `plain`, to change."""
    read = [json.loads((plain / name).read_text()) for name in (export.METRICS, export.PROTOCOL)]
    table = ImageStore(plain / "data/images/target").table
    source = pd.read_csv(plain / export.SOURCE)
    return model_of(plain), Figures(*read, table, source, rendered_source=True)


def test_the_card_has_the_figures_of_the_run(
    plain: Path, run: tuple[dict[str, Any], Figures]
) -> None:
    model, figures = run
    text = card(model, figures)
    assert text == (plain / "models/export/README.md").read_text()
    scores = figures.metrics["all"]
    assert f"| {100 * scores['rank1']:.2f}" in text
    assert f"{100 * scores['map']:.2f} ± {100 * scores['map_sd']:.2f}" in text
    assert "over 2 gallery draws (agw)" in text
    assert "72 visible and 36 infrared images of 9 people" in text
    assert "**rendered images** in the folder layout of SYSU-MM01" in text
    assert "people who do not exist" in text
    for sentence in ("without a legal basis", "No identification", "No decisions about people"):
        assert sentence in text


def test_the_card_of_real_images_warns_of_no_rendered_ones(
    run: tuple[dict[str, Any], Figures],
) -> None:
    model, figures = run
    model["training"] |= {"rendered": False, "dataset": "folder", "setting": "unsupervised"}
    text = card(model, figures)
    assert "do not exist" not in text
    assert "| data set | your images |" in text
    assert "**rendered**, unless `data.root` held a real one" in text
    assert "the rights of the people on them" in text


def test_the_card_names_what_its_scores_are_of(run: tuple[dict[str, Any], Figures]) -> None:
    model, figures = run
    figures.protocol.update(features="before", flip=True, trials=1, split="val")
    text = card(model | {"flip": True}, figures)
    for sentence in (
        "validation identities, not the test set",
        "averaged with mirror images",
        "The files give the features *after* the neck",
        "There is one gallery",
        "Add the embedding of the mirror image",
    ):
        assert sentence in text
