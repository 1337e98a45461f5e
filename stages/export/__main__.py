"""Write the trained network as files for other programs, check them, describe them.

Reads   params.yaml (seed, dataset, data, device, train, evaluate, export), data/images/target/,
        data/images/source/table.csv, models/network.safetensors, models/pseudo_label.safetensors,
        metrics/evaluate.json, data/rankings/protocol.json
Writes  models/export/: network.onnx (and infrared.onnx for a network of two streams),
        network.int8.onnx if export.int8 is true, network.safetensors, model.json, README.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.evaluate.features import StoredNetwork, open_network
from stages.evaluate.protocol import Protocol, apply_split, evaluated_rows
from stages.evaluate.protocols import PROTOCOLS
from stages.evaluate.score import Embeddings
from stages.export.card import Figures, card
from stages.export.description import describe, hashes
from stages.export.int8 import write_int8
from stages.export.measure import CPU, largest_difference, mean_precisions
from stages.export.onnx_file import batches, embed_onnx, write_onnx
from stages.parts.images.store import ImageStore
from stages.parts.images.table import MODALITIES, read_table
from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.device import open_device
from stages.parts.run.files import file_hash, read_json, rounded, whole_folder, write_text
from stages.parts.run.rendered import is_rendered
from stages.parts.run.settings import Data, Device, Evaluate, Export, Train
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_tensors, require_facts, save_tensors

FOLDER = Path("models/export")
TARGET = Path("data/images/target")
SOURCE = Path("data/images/source/table.csv")
NETWORK = Path("models/network.safetensors")
PSEUDO_LABEL_NETWORK = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/evaluate.json")
PROTOCOL = Path("data/rankings/protocol.json")
CHECKED = 2000  # test images at most: all of SYSU-MM01's would take half an hour
CALIBRATED = 256  # training images at most

Files = Mapping[str, Path]  # the file for the images of each modality


@dataclass(frozen=True)
class TestSet:
    """The test images, and how they are searched."""

    protocol: Protocol
    store: ImageStore
    table: pd.DataFrame
    rows: np.ndarray  # (N,) of the table
    settings: Evaluate
    threads: int  # of the CPU


def main() -> None:
    """Write `models/export`, or nothing if a file is not what the network is."""
    with run_stage("export", "evaluate.batch"):
        tree = params.load()
        data = params.section(tree, "data", Data)
        device = params.section(tree, "device", Device)
        train = params.section(tree, "train", Train)
        evaluate = params.section(tree, "evaluate", Evaluate)
        settings = params.section(tree, "export", Export)
        open_device(replace(device, name="cpu", precision="float32"))
        test = open_test_set(PROTOCOLS[tree["dataset"]], evaluate, device.threads)
        stored = open_origin(test, tree["seed"], train)
        training = {
            "dataset": tree["dataset"],
            "rendered": is_rendered(data.root),
            "objective": train.objective,
            "seed": tree["seed"],
            "setting": train.setting,
        }
        roots = (data.root, data.source_root)
        figures = Figures(
            metrics=read_json(METRICS),
            protocol=read_json(PROTOCOL),
            table=test.store.table,
            source=read_table(SOURCE),
            rendered_source=any(is_rendered(root) for root in roots if root is not None),
        )
        with whole_folder(FOLDER) as folder:
            files = write_float32(folder, stored)
            difference = check_float32(files, stored, test, settings.tolerance)
            model = describe(stored, files, evaluate.flip, difference, training)
            if settings.int8:
                model |= write_8_bits(folder, files, test)
            model["sha256"] = hashes(folder)
            write_text(folder / "model.json", json.dumps(model, indent=2, sort_keys=True) + "\n")
            write_text(folder / "README.md", filled_card(model, figures))
        message(f"export: {FOLDER} is written; {FOLDER / 'README.md'} says what it is for")


def open_test_set(protocol: Protocol, settings: Evaluate, threads: int) -> TestSet:
    """Return the images that the network was evaluated on."""
    store = ImageStore(TARGET)
    table = apply_split(protocol.name, store.table, settings.split)
    return TestSet(protocol, store, table, evaluated_rows(table), settings, threads)


def open_origin(test: TestSet, seed: int, train: Train) -> StoredNetwork:
    """Return the trained network.

    Raises:
        InputError: it, or the network that it started from, is missing or is of another run.
    """
    images = {"images": test.store.identity}
    stored = open_network(NETWORK, test.settings.split, images, "train")
    _, facts = load_tensors(PSEUDO_LABEL_NETWORK)
    known = {"seed": seed, "setting": train.setting, "selection": train.selection}
    require_facts(PSEUDO_LABEL_NETWORK, facts, known, "pseudo_label")
    start = {"pseudo_label": file_hash(PSEUDO_LABEL_NETWORK)}
    require_facts(NETWORK, stored.facts, start, "train")
    return stored


def write_float32(folder: Path, stored: StoredNetwork) -> dict[str, Path]:
    """Write the network as safetensors and as ONNX; return the ONNX file of each modality."""
    tensors, facts = load_tensors(stored.path)
    kept = {
        name: value for name, value in tensors.items() if name.startswith(("backbone.", "neck."))
    }
    save_tensors(folder / "network.safetensors", kept, facts)
    network, size = stored.network, (stored.height, stored.width)
    files = dict.fromkeys(MODALITIES, folder / "network.onnx")
    write_onnx(files["visible"], network, *size)
    if network.backbone.extras.two_stream:
        files["infrared"] = folder / "infrared.onnx"
        write_onnx(files["infrared"], network, *size, visible=0)
    return files


def check_float32(files: Files, stored: StoredNetwork, test: TestSet, tolerance: float) -> float:
    """Return the largest difference between the ONNX files and PyTorch; print it.

    Raises:
        InputError: it is larger than the tolerance.
    """
    rows = some_of(test.rows, CHECKED)
    difference = largest_difference(files, stored, test.store, rows, test.settings, test.threads)
    found = f"ONNX differs from PyTorch by {difference:.1e} on {len(rows)} test images"
    if not difference <= tolerance:  # also if it is NaN
        raise InputError(f"{found}, more than export.tolerance, {tolerance}; nothing is written")
    message(f"export: {found}")
    return difference


def write_8_bits(folder: Path, files: Files, test: TestSet) -> dict[str, Any]:
    """Write each ONNX file in 8 bits, too; return what `model.json` says about them.

    Ranges of activations come from training images.
    """
    small = {path: path.with_suffix(".int8.onnx") for path in files.values()}
    modality = test.store.table["modality"]
    training = test.store.rows("train")
    for path, written in small.items():
        own = modality.isin([name for name, file in files.items() if file == path]).to_numpy()
        rows = some_of(training[own[training]], CALIBRATED)
        write_int8(path, written, batches(test.store, rows, test.settings.batch, path.name))
    small_files = {name: small[path] for name, path in files.items()}
    before, after = mean_precision(files, test), mean_precision(small_files, test)
    losses = {mode: rounded({"float32": before[mode], "int8": after[mode]}) for mode in before}
    for mode, loss in losses.items():
        message(f"export: mAP {mode} {loss['float32']:.2%}, in 8 bits {loss['int8']:.2%}")
    return {
        "models_int8": {name: path.name for name, path in small_files.items()},
        "map_int8": losses,
    }


def mean_precision(files: Files, test: TestSet) -> dict[str, float]:
    """Return the mAP of ONNX files in each mode."""
    settings, threads = test.settings, test.threads
    values = embed_onnx(files, test.store, test.rows, settings.batch, threads, settings.flip)
    embeddings = Embeddings(test.rows, values, CPU)
    return mean_precisions(test.protocol, test.table, embeddings, settings)


def filled_card(model: dict[str, Any], figures: Figures) -> str:
    """Return the card; InputError if the figures are not those that `evaluate` writes."""
    try:
        return card(model, figures)
    except (KeyError, TypeError) as error:
        line = f"{METRICS} or {PROTOCOL} is not what evaluate writes: {error}; run dvc repro"
        raise InputError(line) from None


def some_of(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the rows (N,), evenly apart."""
    return rows[:: max(1, -(-len(rows) // count))]


if __name__ == "__main__":
    main()
