"""What a program must know of the exported files: the tree of `model.json`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.evaluate.features import StoredNetwork
from stages.export.onnx_file import INPUT, OPSET, OUTPUT
from stages.parts.run.files import file_hash

FORMAT = 1  # of the tree


def describe(
    stored: StoredNetwork,
    files: Mapping[str, Path],
    flip: bool,
    difference: float,
    training: dict[str, Any],
) -> dict[str, Any]:
    """Return what is known of the network and of its ONNX files.

    Args:
        stored: the network.
        files: the ONNX file for the images of each modality.
        flip: the embeddings of an image and of its mirror image are averaged.
        difference: the largest one between embeddings of the files and those of PyTorch.
        training: how the network was trained, beyond what its own file says.
    """
    backbone = stored.network.backbone
    known = ("architecture", "height", "width", *backbone.extras._fields)
    facts = {name: value for name, value in stored.facts.items() if name not in known}
    return {
        "format": FORMAT,
        "architecture": stored.architecture,
        "extras": backbone.extras.facts(),
        "dimensions": backbone.sizes[-1],
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NCHW",
            "channels": "RGB",
            "height": stored.height,
            "width": stored.width,
            "resize": "lanczos",
            "orientation": "exif",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "unit": True},
        "flip": flip,
        "models": {modality: path.name for modality, path in files.items()},
        "opset": OPSET,
        "largest_difference": rounded_up(difference),
        "training": facts | training,
    }


def rounded_up(difference: float) -> float:
    """Return the next power of ten: the last bits of a difference are those of the processor.

    >>> rounded_up(4.8e-07)
    1e-06
    """
    return float(f"1e{math.ceil(math.log10(difference))}") if difference else 0.0


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its name."""
    return {path.name: file_hash(path) for path in sorted(folder.iterdir())}
