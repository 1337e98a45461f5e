"""What tests are built from: parameters, image stores, networks, a folder to run a stage in."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load

from stages.parts.images import table as tables
from stages.parts.images.store import ImageStore, create_pixels, seal
from stages.parts.run import checkpoint, files, params
from stages.parts.run.settings import SECTIONS

ROOT = Path(__file__).parents[1]
TREE: dict[str, Any] = params.parse((ROOT / "params.yaml").read_text())
Images = Iterable[tuple[int, int, str, str]]  # person, camera, modality, split


def parameters(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The tree of the repository's params.yaml with other leaves, `{"otla.delta": 5, "seed": 1}`.

    A leaf `...` is deleted.
    """
    tree = copy.deepcopy(TREE)
    for name, value in (changes or {}).items():
        set_leaf(tree, name, value)
    return tree


def set_leaf(tree: dict[str, Any], name: str, value: Any) -> None:
    """Set one leaf of a tree, `otla.delta`; the value `...` deletes it."""
    *way, leaf = name.split(".")
    node = tree
    for key in way:
        node = node[key]
    if value is ...:
        del node[leaf]
    else:
        node[leaf] = value


def write_parameters(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """`parameters` as params.yaml in `folder`."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(parameters(changes), sort_keys=False))
    return path


def settings(name: str, changes: dict[str, Any] | None = None) -> Any:
    """The section `name` of `parameters`, as its dataclass."""
    return params.section(parameters(changes), name, SECTIONS[name])


def store(folder: Path, images: Images, height: int = 32, width: int = 16) -> ImageStore:
    """An image store in `folder`: a person has the same two colors in all stores.

    The upper half of a picture has one color, the lower half the other; infrared ones are gray.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [
        {
            "row": row,
            "path": f"cam{camera}/{person:04d}/{row:04d}.jpg",
            "person": person,
            "camera": camera,
            "modality": modality,
            "split": split,
        }
        for row, (person, camera, modality, split) in enumerate(images)
    ]
    columns = ["row", "path", "person", "camera", "modality", "split"]
    tables.write_table(pd.DataFrame(lines, columns=columns), folder / "table.csv")
    colors = np.random.default_rng(7).integers(30, 220, (200, 2, 3))
    noise = np.random.default_rng(len(lines))
    pixels = create_pixels(folder / "pixels.npy", len(lines), height, width)
    for line in lines:
        halves = np.repeat(colors[line["person"]], height // 2, axis=0)  # (H, 3)
        picture = halves[:, None, :] + noise.normal(0, 12, (height, width, 3))
        if line["modality"] == "infrared":
            picture = picture.mean(2, keepdims=True)
        pixels[line["row"]] = picture.clip(0, 255)
    pixels.flush()
    (folder / "files.csv").write_text("row,bytes,sha256\n")
    seal(folder)
    return ImageStore(folder)


def same_weights(one: bytes, other: bytes) -> bool:
    """Whether two network files hold the same tensors; they may belong to other images."""
    first, second = load(one), load(other)
    return set(first) == set(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Give the store of `path` another table, as if it had been prepared so."""
    tables.write_table(table, path)
    seal(path.parent)


@contextmanager
def workplace(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """`folder` as the current one, with the code, checkpoints inside, torch's threads put back."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    for name in ("stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(files, "ROOT", Path("."))
        patch.setattr(checkpoint, "CHECKPOINTS", Path(".ckpt"))
        yield patch
    torch.set_num_threads(threads)


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file holds beside its tensors."""
    with safe_open(path, framework="pt") as opened:
        return dict(opened.metadata())
