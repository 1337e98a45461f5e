"""The search with what the stage `export` writes: the ranks of ONNX are those of PyTorch."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("stages.export")

from search.__main__ import main
from search.embedding import Embedder
from search.lookup import open_lookup
from search.model import open_model
from stages.evaluate.features import StoredNetwork
from stages.export import onnx_file
from stages.export.__main__ import NETWORK
from stages.export.description import describe, hashes
from stages.parts.network.backbone import Extras
from stages.parts.network.head import Embedder as Network
from stages.parts.network.head import build
from stages.parts.run.tensors import save_tensors

HEIGHT, WIDTH, COUNT = 48, 24, 200
CLEAR = 4e-6  # two similarities that differ less may change places


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for modality in ("visible", "infrared"):
        (folder / modality).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        small = generator.integers(0, 256, (6, 3, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((WIDTH * 2, HEIGHT * 2), Image.Resampling.BICUBIC)
        modality = "infrared" if number % 2 else "visible"
        picture.save(folder / modality / f"{number:03}.png")
    return folder


def write_model(folder: Path, extras: Extras) -> Path:
    """An untrained network as the stage writes it."""
    folder.mkdir()
    network = build(Network, 0, "narrow", extras).eval()
    names = {"visible": "network.onnx", "infrared": "network.onnx"}
    onnx_file.write_onnx(folder / "network.onnx", network, HEIGHT, WIDTH)
    if extras.two_stream:
        names["infrared"] = "infrared.onnx"
        onnx_file.write_onnx(folder / "infrared.onnx", network, HEIGHT, WIDTH, 0)
    save_tensors(folder / "network.safetensors", network.state_dict())
    stored = StoredNetwork(NETWORK, network, "narrow", HEIGHT, WIDTH, "", {})
    files = {modality: folder / name for modality, name in names.items()}
    model = describe(stored, files, flip=True, difference=1e-7, training={})
    (folder / "model.json").write_text(json.dumps(model | {"sha256": hashes(folder)}))
    return folder


@pytest.mark.parametrize("two_stream", [False, True])
def test_ranks_of_onnx_are_those_of_pytorch(
    tmp_path: Path, pictures: Path, two_stream: bool
) -> None:
    model = write_model(tmp_path / "model", Extras(two_stream=two_stream))
    queries = sorted(pictures.rglob("infrared/*.png"))[:20]
    images = np.stack([np.asarray(Image.open(path).resize((WIDTH, HEIGHT))) for path in queries])
    lists, rows = {}, {}
    for runtime in ("onnx", "torch"):
        index = tmp_path / runtime
        options = ["--model", str(model), "--runtime", runtime]
        words = [str(pictures), "--index", str(index), "--infrared", "^infrared/"]
        main(["index", *words, "--processes", "1", *options])
        embedder = Embedder(open_model(model), runtime)
        rows[runtime] = embedder.rows(images, infrared=True)
        lists[runtime] = open_lookup(index).find(rows[runtime], COUNT)
    np.testing.assert_allclose(rows["onnx"], rows["torch"], atol=1e-5)
    for onnx, torch in zip(lists["onnx"], lists["torch"], strict=True):
        similarity = np.array([each.similarity for each in onnx])
        np.testing.assert_allclose(similarity, [each.similarity for each in torch], atol=1e-5)
        gaps = -np.diff(similarity, prepend=np.inf, append=-np.inf)
        clear = (gaps[:-1] > CLEAR) & (gaps[1:] > CLEAR)  # whom no near neighbor can pass
        assert clear.mean() > 0.5
        pairs = zip(onnx, torch, strict=True)
        same = np.array([one.picture.path == other.picture.path for one, other in pairs])
        assert same[clear].all()
