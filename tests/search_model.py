"""What the tests of `search/` are built from: a tiny exported model, and folders of pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from search.__main__ import main
from stages.parts.run.files import file_hash

HEIGHT, WIDTH, DIMENSIONS = 16, 8, 12
CELL = 4  # pixels of a side of the squares whose means are the network's features


def write_network(path: Path, seed: int) -> None:
    """An ONNX network by the contract: means of squares, one linear layer, rows of length 1."""
    cells = 3 * (HEIGHT // CELL) * (WIDTH // CELL)
    weight = np.random.default_rng(seed).normal(size=(cells, DIMENSIONS)).astype(np.float32)
    shift = -weight.mean(0) * cells * 0.45  # gray is near zero, so that directions differ
    constants = [
        numpy_helper.from_array(np.float32(255), "white"),
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(shift, "shift"),
    ]
    square = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["shares"]),
        helper.make_node("AveragePool", ["shares"], ["means"], **square),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "shift"], ["rows"]),
        helper.make_node("LpNormalization", ["rows"], ["embeddings"], axis=1, p=2),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, HEIGHT, WIDTH])
    rows = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", DIMENSIONS])
    graph = helper.make_graph(nodes, "network", [images], [rows], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def write_model(folder: Path, seed: int = 0, two_stream: bool = False, **changes: Any) -> Path:
    """The folder of an exported model; `changes` are other facts."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"visible": "network.onnx", "infrared": "network.onnx"}
    write_network(folder / "network.onnx", seed)
    if two_stream:
        names["infrared"] = "infrared.onnx"
        write_network(folder / "infrared.onnx", seed + 1)
    facts: dict[str, Any] = {
        "format": 1,
        "architecture": "narrow",
        "extras": {"two_stream": True} if two_stream else {},
        "dimensions": DIMENSIONS,
        "input": {
            "name": "images",
            "dtype": "uint8",
            "layout": "NCHW",
            "channels": "RGB",
            "height": HEIGHT,
            "width": WIDTH,
            "resize": "lanczos",
            "orientation": "exif",
        },
        "output": {"name": "embeddings", "dtype": "float32", "unit": True},
        "flip": False,
        "models": names,
        "opset": 18,
        "sha256": {name: file_hash(folder / name) for name in set(names.values())},
    }
    (folder / "model.json").write_text(json.dumps(facts | changes, indent=2, sort_keys=True))
    return folder


def picture(number: int, side: int = 1) -> Image.Image:
    """A picture that no other number has, `side` times as large as the network's input."""
    size = (HEIGHT // CELL, WIDTH // CELL, 3)
    colors = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
    repeated = colors.repeat(CELL * side, axis=0).repeat(CELL * side, axis=1)
    return Image.fromarray(repeated)


def write_pictures(folder: Path, count: int, cameras: int = 3, first: int = 0) -> Path:
    """`cam1/000000.png …`: pictures in turn of some cameras; the name is number and time."""
    for number in range(first, first + count):
        path = folder / f"cam{number % cameras + 1}/{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return folder


PATTERN = r"cam(?P<camera>\d+)/(?P<time>\d+)"


class Workplace:
    """A folder with a model, an archive of pictures and an index, and the commands on them."""

    def __init__(self, folder: Path, count: int = 30) -> None:
        self.model = write_model(folder / "model")
        self.pictures = write_pictures(folder / "pictures", count)
        self.index = folder / "index"

    def run(self, command: str, *words: object) -> int:
        """A command with the workplace's model and index."""
        where = [] if command == "embed" else ["--index", self.index]
        model = [] if command == "forget" else ["--model", self.model]
        return main([command, *map(str, (*words, *where, *model))])

    def update(self, *words: object) -> int:
        """Index the pictures, in this process."""
        return self.run("index", self.pictures, "--processes", 1, *words)
