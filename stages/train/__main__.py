"""`python -m stages.train`: visible labels and images of both modalities → network and infrared labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.parts.images.store import ImageStore
from stages.parts.network.backbone import imagenet_weights
from stages.parts.network.head import IdentityNetwork, build
from stages.parts.run import params, seeds, settings
from stages.parts.run.checkpoint import Checkpoint, fingerprint, parameters
from stages.parts.run.console import message
from stages.parts.run.curves import curves
from stages.parts.run.device import open_device, uses_bfloat16
from stages.parts.run.files import LOGS, append_line, resolve, rounded, write_json, write_text
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.train import loop
from stages.train.attention import attention_of_a_batch
from stages.train.data import TrainingSet, training_set

IMAGES = Path("data/images/target")
VISIBLE_LABELS = Path("data/labels/visible.csv")
INFRARED_LABELS = Path("data/labels/infrared.csv")
PSEUDO_LABEL_NETWORK = Path("models/pseudo_label.safetensors")
NETWORK = Path("models/network.safetensors")
COUNTS = Path("data/labels/infrared_counts.csv")
ATTENTION = Path("data/attention.csv")
METRICS = Path("metrics/train")
CODE = tuple(Path("stages") / name for name in ("train", "parts"))


def main() -> None:
    """Read parameters and files, train, write."""
    tree = params.load()
    kinds = params.SECTIONS
    method = loop.Method(**{name: params.section(tree, name, kinds[name]) for name in ("train", "den", "otla", "pal")},
                         seed=tree["seed"])  # fmt: skip
    network_settings: settings.Network = params.section(tree, "network", settings.Network)
    where: settings.Device = params.section(tree, "device", settings.Device)
    device = open_device(where.name, where.threads)
    data = training_set(ImageStore(IMAGES), VISIBLE_LABELS, method.train)
    state = loop.new_state(
        _network(network_settings, data, method.seed), len(data.infrared_rows), method, device
    )
    state.network.half_precision = uses_bfloat16(device, where.precision)
    inputs = [
        IMAGES / "files.csv",
        IMAGES / "table.csv",
        VISIBLE_LABELS,
        PSEUDO_LABEL_NETWORK,
        *CODE,
    ]
    inputs += _given_weights(network_settings)
    size = settings.Images(
        *data.store.pixels.shape[1:3]
    )  # the files above are the same at every size
    sections = (method.train, method.den, method.otla, method.pal, network_settings, where, size)
    checkpoint = Checkpoint(
        "train", fingerprint(sections, inputs, method.seed), parameters(sections, method.seed)
    )
    if state.restore(checkpoint):
        message(
            f"train: going on after epoch {state.epoch} of {method.train.epochs} ({checkpoint.path})"
        )
    for line in checkpoint.refused():
        message(f"train: {line}")
    with curves(METRICS, SERIES, state.history) as log:

        def watch(figures: dict[str, Any]) -> None:
            log(figures)
            _tell(figures, method.train.epochs)

        loop.run(state, data, method, checkpoint, watch)
    _write(state, data, method, network_settings.architecture)
    checkpoint.delete()


def _network(chosen: settings.Network, data: TrainingSet, seed: int) -> IdentityNetwork:
    """The network before the first epoch, from the pseudo-label stage's or from `network.weights`."""
    network = build(
        IdentityNetwork, seeds.derive(seed, "train", "weights"), chosen.architecture, data.classes
    )
    if chosen.start == "weights" and chosen.weights == "imagenet":
        network.backbone.load_state_dict(imagenet_weights(chosen.architecture))
    for path in (
        [PSEUDO_LABEL_NETWORK] if chosen.start == "pseudo_label" else _given_weights(chosen)
    ):
        tensors, _ = load_tensors(path)
        try:
            network.restore(tensors)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
    return network


def _given_weights(chosen: settings.Network) -> list[Path]:
    """The file that `network.weights` names, if it names one."""
    return [] if chosen.weights in ("none", "imagenet") else [resolve(chosen.weights)]


SERIES = ("loss", "ce_visible", "triplet_visible", "ce_infrared", "triplet_infrared", "discriminator", "alignment",
          "learning_rate", "reversal", "accuracy_transport", "accuracy_argmax", "label_entropy", "label_max_share",
          "empty_labels", "transport_iterations", "predicted_share", "validation_map")  # fmt: skip


TIMES = (
    "train_seconds",
    "assign_seconds",
    "transport_seconds",
    "transport_share",
    "images_per_second",
)


def _tell(figures: dict[str, Any], epochs: int) -> None:
    """One line for the person who watches; the clock's figures go to `logs/`."""
    seconds = figures["train_seconds"] + figures["assign_seconds"]
    accuracy = (
        figures["accuracy_argmax"]
        if figures["accuracy_transport"] is None
        else figures["accuracy_transport"]
    )
    message(
        f"train: epoch {figures['epoch']:>3}/{epochs}  loss {figures['loss']:.3f}  "
        f"infrared labels {accuracy:.1%} right  {figures['images_per_second']:.0f} images/s  "
        f"{seconds:.1f} s, {figures['transport_share']:.1%} of it transport"
    )
    times = {name: round(figures[name], 4) for name in TIMES}
    line = {"epoch": figures["epoch"], **times}
    append_line(LOGS / "train_epochs.jsonl", line, anew=figures["epoch"] == 1)


def _write(state: loop.State, data: TrainingSet, method: loop.Method, architecture: str) -> None:
    """The network (the best one where validation chooses), the infrared labels, what the report draws, the figures."""
    bank = state.labels.bank
    given = bank.labels.numpy() if data.infrared_truth is None else data.infrared_truth
    attention = attention_of_a_batch(state.network, data, given, method.train, method.seed)
    write_text(ATTENTION, attention.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    tensors, epoch = state.network.state_dict(), state.epoch
    if method.train.selection == "validation":
        tensors = state.best
        epoch = 1 + int(np.argmax([figures["validation_map"] for figures in state.history]))
        message(f"train: validation chose the network of epoch {epoch}")
    kept = {
        name: value
        for name, value in tensors.items()
        if name.startswith(("backbone.", "neck.", "classifier."))
    }
    height, width = data.store.pixels.shape[1:3]
    facts = {"architecture": architecture, "height": height, "width": width}
    save_tensors(NETWORK, kept, facts | {"selection": method.train.selection, "epoch": epoch})
    labels = pd.DataFrame(
        {
            "row": data.infrared_rows,
            "label": bank.labels.numpy(),
            "confidence": np.round(bank.confidence.numpy().astype(np.float64), 6),
            "age": bank.age.numpy(),
        }
    )
    write_text(INFRARED_LABELS, labels.to_csv(index=False, lineterminator="\n"))
    write_text(
        COUNTS, _counts(state.labels.counts.numpy()).to_csv(index=False, lineterminator="\n")
    )
    epochs = pd.DataFrame(state.history, columns=["epoch", *SERIES])
    write_text(METRICS / "epochs.csv", epochs.to_csv(index=False, lineterminator="\n"))
    last = {name: value for name, value in state.history[-1].items() if value is not None}
    extra = {"labels": data.classes, "network_epoch": epoch}
    write_json(METRICS.with_suffix(".json"), rounded(last | extra, 6))


def _counts(counts: np.ndarray) -> pd.DataFrame:
    """Columns epoch, label, transport, argmax of counts (epochs, 2, C); transport is empty where there was none."""
    epochs, _, classes = counts.shape
    table = pd.DataFrame(
        {
            "epoch": np.repeat(np.arange(1, epochs + 1), classes),
            "label": np.tile(np.arange(classes), epochs),
        }
    )
    table["transport"] = pd.Series(counts[:, 0].ravel(), dtype="Int64").replace(-1, pd.NA)
    table["argmax"] = counts[:, 1].ravel()
    return table


if __name__ == "__main__":
    with run_stage("train"):
        main()
