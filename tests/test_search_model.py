"""The folder of an exported model: what is refused, and what the search does without."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from search.embedding import Embedder
from search.model import open_model
from stages.parts.images.augment import normalize
from stages.parts.network.head import Embedder as Network
from stages.parts.run.files import file_hash
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import save_tensors
from tests.builders import ROOT, set_leaf
from tests.search_model import HEIGHT, WIDTH, write_model


def change(folder: Path, where: str, value: Any) -> None:
    """Set one fact of model.json, `input.height`; `...` deletes it."""
    path = folder / "model.json"
    facts = json.loads(path.read_text())
    set_leaf(facts, where, value)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("where", "value", "line"),
    [
        ("format", 2, "format 2; expected 1"),
        ("input", ..., "input None; expected a section"),
        ("input.resize", "bicubic", "input.resize 'bicubic'; this search can do 'lanczos'"),
        ("input.layout", "NHWC", "input.layout 'NHWC'"),
        ("input.height", "16", "height '16'; expected a whole number"),
        ("output.unit", False, "output.unit False"),
        ("dimensions", True, "dimensions True; expected a whole number"),
        ("models", {"visible": "../n.onnx", "infrared": "n.onnx"}, "expected file names"),
        ("models", None, "models None"),
        ("sha256", {}, "has no sha256 of network.onnx"),
    ],
)
def test_facts_that_cannot_be_followed_are_refused(
    tmp_path: Path, where: str, value: Any, line: str
) -> None:
    change(write_model(tmp_path), where, value)
    with pytest.raises(InputError, match=line) as error:
        open_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(InputError, match="is not a JSON file"):
        open_model(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(InputError, match="format 'list'"):
        open_model(tmp_path)


def test_the_networks_must_be_those_of_the_facts(tmp_path: Path) -> None:
    write_model(tmp_path, dimensions=5)
    with pytest.raises(InputError, match=r"the output is float32 \(1, 12\); expected"):
        Embedder(open_model(tmp_path), "onnx").check()
    write_model(tmp_path)
    change(tmp_path, "input.height", HEIGHT * 2)
    with pytest.raises(InputError, match=r"network.onnx: onnxruntime cannot run it"):
        Embedder(open_model(tmp_path), "onnx").check()
    with pytest.raises(InputError, match="no int8 networks"):
        open_model(tmp_path, int8=True)
    (tmp_path / "network.onnx").unlink()
    with pytest.raises(InputError, match=r"network.onnx is not here"):
        Embedder(open_model(tmp_path), "onnx").check()


def test_int8_networks_are_others(tmp_path: Path) -> None:
    names = {"visible": "network.int8.onnx", "infrared": "network.int8.onnx"}
    write_model(tmp_path, models_int8=names)
    facts = json.loads((tmp_path / "model.json").read_text())
    change(tmp_path, "sha256", facts["sha256"] | {"network.int8.onnx": "0" * 64})
    assert open_model(tmp_path).identity != open_model(tmp_path, int8=True).identity


def test_pytorch_gives_the_rows_of_its_own_network(tmp_path: Path) -> None:
    """`--runtime torch` reads the safetensors by the facts of model.json."""
    network = Network("narrow").eval()
    save_tensors(tmp_path / "network.safetensors", network.state_dict())
    write_model(tmp_path, dimensions=network.backbone.sizes[-1])
    facts = json.loads((tmp_path / "model.json").read_text())
    sha256 = file_hash(tmp_path / "network.safetensors")
    change(tmp_path, "sha256", facts["sha256"] | {"network.safetensors": sha256})
    images = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    rows = Embedder(open_model(tmp_path), "torch").rows(images, infrared=True)
    with torch.no_grad():
        expected = network(normalize(torch.from_numpy(images).permute(0, 3, 1, 2)))
    np.testing.assert_allclose(rows, expected.numpy(), atol=1e-6)
    for name, value in (("architecture", "resnet18"), ("architecture", []), ("extras", 5)):
        before = json.loads((tmp_path / "model.json").read_text())[name]
        change(tmp_path, name, value)
        with pytest.raises(InputError, match=r"network.safetensors does not fit model.json"):
            Embedder(open_model(tmp_path), "torch").check()
        change(tmp_path, name, before)
    change(tmp_path, "models_int8", facts["models"])
    with pytest.raises(InputError, match="--int8 names networks of ONNX"):
        Embedder(open_model(tmp_path, int8=True), "torch").check()


def test_the_search_imports_no_package_for_training() -> None:
    """It must run where only requirements-search.txt is installed."""
    code = """if True:
        import sys, search.__main__, search.runtime
        import onnxruntime
        heavy = {"torch", "torchvision", "pandas", "scipy", "sklearn", "dvc", "matplotlib",
                 "lancedb", "pyarrow", "safetensors"}
        print(*sorted(heavy & set(sys.modules)))
    """
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_onnxruntime_reports_nothing(tmp_path: Path) -> None:
    """With its telemetry it would leave a number of the machine in the home folder."""
    write_model(tmp_path / "model")
    (tmp_path / "home").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    code = """if True:
        import sys
        from pathlib import Path
        from search.embedding import Embedder
        from search.model import open_model
        Embedder(open_model(Path(sys.argv[1])), "onnx").check()
    """
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    environment = kept | {"HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert list((tmp_path / "home").rglob("*")) == []


def test_the_packages_of_the_search_are_pinned_as_everywhere() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        words = [line.lstrip("# ").split(";")[0].strip() for line in lines if "==" in line]
        return dict(word.split("==") for word in words)

    everywhere, search = pins("requirements.txt"), pins("requirements-search.txt")
    assert {"numpy", "onnxruntime", "faiss-cpu", "pillow", "lancedb"} <= set(search)
    assert {name: search[name] for name in set(search) & set(everywhere)} == {
        name: everywhere[name] for name in set(search) & set(everywhere)
    }
