"""What one stage hands to the next: every changed, cut or swapped file is noticed and named."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.evaluate.__main__ import NETWORK
from stages.parts.images.store import HASHES
from stages.parts.run.checkpoint import Checkpoint
from stages.parts.run.files import read_json
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.pseudo_label.__main__ import LABELS, SOURCE, TARGET
from stages.pseudo_label.__main__ import NETWORK as START
from stages.report import inputs
from tests import builders, tiny

PIXELS, TABLE, FILES = (TARGET / name for name in ("pixels.npy", "table.csv", "files.csv"))
OTHER = Path("other")  # the same artefacts of another target and another seed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the stages have run, and `other`, in which they have run otherwise."""
    folders = [tmp_path_factory.mktemp(name) / "here" for name in ("one", "two")]
    for number, folder in enumerate(folders):
        with builders.workplace(folder):
            tiny.write_images(first=10 + 20 * number)
            for name in tiny.STAGES:
                tiny.run(name, {"seed": number})
    shutil.copytree(folders[1], folders[0] / OTHER, symlinks=True)
    return folders[0]


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Iterator[None]:
    """A copy of `finished` as the current folder."""
    with builders.workplace(tmp_path / "place"):
        for name in ("data", "metrics", "models", "other"):
            shutil.copytree(finished / name, name, symlinks=True)
        yield


def line_of(stage: str) -> str:
    """The line with which a stage ends."""
    with pytest.raises(SystemExit) as end:
        tiny.run(stage)
    line = str(end.value)
    assert line.startswith(f"error in {stage}: ")
    assert "\n" not in line
    return line


def flip_a_bit(path: Path) -> None:
    """In the middle, where the data is."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    shutil.copy(OTHER / path, path)


READ = [
    ("pseudo_label", PIXELS),
    ("pseudo_label", TABLE),
    ("pseudo_label", SOURCE / "pixels.npy"),
    ("pseudo_label", SOURCE / "table.csv"),
    ("train", PIXELS),
    ("train", TABLE),
    ("train", LABELS),
    ("train", START),
    ("evaluate", PIXELS),
    ("evaluate", TABLE),
    ("evaluate", FILES),
    ("evaluate", START),
    ("evaluate", NETWORK),
    ("export", PIXELS),
    ("export", TABLE),
    ("export", START),
    ("export", NETWORK),
]


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
@pytest.mark.parametrize(("stage", "path"), READ, ids=str)
def test_a_damaged_file_is_named(
    place: None, stage: str, path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    assert str(path) in line_of(stage)


@pytest.mark.parametrize(
    ("stage", "path"), [pair for pair in READ if SOURCE not in pair[1].parents], ids=str
)
def test_a_file_of_another_run_is_noticed(place: None, stage: str, path: Path) -> None:
    """The other target has as many images of the same size, the other run another seed."""
    if path == FILES:
        FILES.write_text((OTHER / FILES).read_text() + "0,1,ab\n")
    elif path == LABELS:  # of another clustering
        table = pd.read_csv(LABELS)
        table.assign(label=table["label"].to_numpy()[::-1]).to_csv(LABELS, index=False)
    else:
        swap(path)
    assert str(path) in line_of(stage)


def test_images_of_another_data_set_are_noticed(place: None) -> None:
    """The whole folder, with its own hashes."""
    for name in ("pixels.npy", "table.csv", "files.csv", HASHES):
        swap(TARGET / name)
    assert f"{START} belongs to other images" in line_of("train")
    for stage in ("evaluate", "export"):
        assert f"{NETWORK} belongs to other images" in line_of(stage)


def test_labels_and_network_of_another_seed_are_noticed(place: None) -> None:
    tiny.run("pseudo_label", {"seed": 1})
    assert f"{START} belongs to other seed: 1, here 0" in line_of("train")
    assert f"{NETWORK} belongs to other pseudo_label" in line_of("evaluate")
    assert f"{START} belongs to other seed: 1, here 0" in line_of("export")


def test_labels_with_another_number_of_rows_are_noticed(place: None) -> None:
    table = pd.read_csv(LABELS)
    table.iloc[:-1].to_csv(LABELS, index=False)
    assert f"{LABELS}: its rows are not the " in line_of("train")


@pytest.mark.parametrize(
    ("stage", "path"), [("train", START), ("evaluate", START), ("evaluate", NETWORK)]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(
    place: None, stage: str, path: Path, value: float
) -> None:
    tensors, facts = load_tensors(path)
    tensors["backbone.conv1.weight"][0, 0, 0, 0] = value
    save_tensors(path, tensors, facts)
    expected = f"{path}: stored network: backbone.conv1.weight holds a value that is not finite"
    assert expected in line_of(stage)


def test_a_changed_weight_is_noticed(place: None) -> None:
    """Also if the file was written again as it should be, with its facts."""
    tensors = load_file(NETWORK)
    tensors["neck.weight"] = tensors["neck.weight"] + 1e-3
    save_file(tensors, "changed.safetensors", metadata=builders.metadata(NETWORK))
    shutil.move("changed.safetensors", NETWORK)
    assert f"{NETWORK} has changed since it was written" in line_of("evaluate")


@pytest.mark.parametrize("stage", ["pseudo_label", "train"])
@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_a_damaged_checkpoint_is_named(
    place: None, monkeypatch: pytest.MonkeyPatch, stage: str, damage: Callable[[Path], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "finish", lambda self: None)
        tiny.run(stage)
    (path,) = Path(".ckpt").glob(f"{stage}-*.safetensors")
    damage(path)
    assert f"{path} " in line_of(stage)
    assert "delete it to start afresh" in line_of(stage)


def test_the_hash_covers_types_shapes_and_facts(tmp_path: Path) -> None:
    """The same bytes under another name, type or shape are another content."""
    path = tmp_path / "a.safetensors"
    tensors = {"a": torch.zeros(2, 3), "empty": torch.zeros(0, 2), "one": torch.tensor(1.5)}
    facts = {"x": [1, 0.1, None, "é"]}
    others = [
        {**tensors, "a": torch.zeros(3, 2)},
        {**tensors, "a": torch.zeros(2, 3, dtype=torch.int32)},
        {"b": tensors["a"], "empty": tensors["empty"], "one": tensors["one"]},
    ]
    save_tensors(path, tensors, facts)
    metadata = builders.metadata(path)
    assert load_tensors(path)[1] == facts
    for other in others:
        save_file(other, path, metadata=metadata)
        with pytest.raises(ValueError, match="has changed since it was written"):
            load_tensors(path)
    save_file(tensors, path, metadata={"stored": metadata["stored"].replace("0.1", "0.2")})
    with pytest.raises(ValueError, match="has changed since it was written"):
        load_tensors(path)


@pytest.mark.parametrize("name", ["rows.npy", "embeddings.npy"])
@pytest.mark.parametrize("at", [0, 5, 30, -7])
def test_the_report_names_arrays_that_were_cut(tmp_path: Path, name: str, at: int) -> None:
    np.save(tmp_path / "rows.npy", np.arange(3))
    np.save(tmp_path / "embeddings.npy", np.zeros((3, 2), np.float32))
    assert inputs.read_embeddings(tmp_path, 3) is not None
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:at])
    with pytest.raises(ValueError, match=rf"{name} is not a whole array"):
        inputs.read_embeddings(tmp_path, 3)


def test_the_report_names_texts_that_were_cut(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("")
    for read in (read_json, partial(inputs.read_csv, columns=("x",))):
        with pytest.raises(ValueError, match=str(path)):
            read(path)
