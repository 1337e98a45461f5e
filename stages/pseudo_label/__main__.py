"""`python -m stages.pseudo_label`: visible images of the target → a label each, and the network that found them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.parts.agreement import agreement
from stages.parts.images.store import ImageStore
from stages.parts.network.backbone import imagenet_weights
from stages.parts.network.domain_norm import keep_target
from stages.parts.network.head import Embedder, build
from stages.parts.run import params, seeds, settings
from stages.parts.run.checkpoint import Checkpoint, fingerprint, parameters
from stages.parts.run.console import message
from stages.parts.run.curves import curves
from stages.parts.run.device import open_device, uses_bfloat16
from stages.parts.run.files import LOGS, append_line, resolve, rounded, write_json, write_text
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_tensors, save_tensors
from stages.pseudo_label import loop
from stages.pseudo_label.data import check, domain

TARGET = Path("data/images/target")
SOURCE = Path("data/images/source")
LABELS = Path("data/labels/visible.csv")
NETWORK = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/pseudo_label")
QUALITY = ("clusters", "unclustered_share", "ari", "nmi", "purity", "pair_precision", "pair_recall", "pair_f", "r_plq",
           "persons")  # fmt: skip
SERIES = ("loss_source", "loss_target", "learning_rate", *QUALITY)


@dataclass(frozen=True)
class Choice:
    """What stage 1 takes from the section `train`: whether validation identities are held out."""

    selection: str


def main() -> None:
    """Read parameters and files, find the labels, write."""
    tree = params.load()
    spcl: settings.Spcl = params.section(tree, "spcl", settings.Spcl)
    train: settings.Train = params.section(tree, "train", settings.Train)
    chosen: settings.Network = params.section(tree, "network", settings.Network)
    where: settings.Device = params.section(tree, "device", settings.Device)
    device = open_device(where.name, where.threads)
    target = domain(ImageStore(TARGET), train.selection)
    source = None if spcl.source == "none" else domain(ImageStore(SOURCE))
    task = loop.Task(spcl, target, source, device, tree["seed"])
    state = loop.State(_network(chosen, tree["seed"]), np.full(len(target.rows), -1))
    state.network.half_precision = uses_bfloat16(device, where.precision)
    last = _last_epoch(spcl, train, chosen)
    check(spcl, target, source, last)
    sections = (spcl, chosen, where, Choice(train.selection))
    checkpoint = Checkpoint(
        f"pseudo_label-{last}",
        fingerprint(sections, _inputs(chosen), tree["seed"]),
        parameters(sections, tree["seed"]),
    )
    if loop.restore(state, task, checkpoint):
        message(f"pseudo_label: going on after epoch {state.epoch} of {last} ({checkpoint.path})")
    for line in checkpoint.refused():
        message(f"pseudo_label: {line}")
    with curves(METRICS, SERIES, state.history) as log:

        def watch(figures: dict[str, Any]) -> None:
            log(figures)
            _tell(figures, last)

        loop.run(state, task, checkpoint, watch, last)
    if train.setting != "unsupervised":
        state.labels = target.persons
    _write(state, task, chosen.architecture, train.selection)
    checkpoint.delete()


def _last_epoch(spcl: settings.Spcl, train: settings.Train, chosen: settings.Network) -> int:
    """Epochs to run: all; with true labels only those that give `train` its start; none where it needs none."""
    if train.setting == "unsupervised":
        return spcl.warmup_epochs + spcl.epochs
    return spcl.warmup_epochs if chosen.start == "pseudo_label" else 0


def _inputs(chosen: settings.Network) -> list[Path]:
    """Files that a checkpoint belongs to. The pixels, because their size and resampling are in no table."""
    files = [folder / name for folder in (TARGET, SOURCE) for name in ("pixels.npy", "table.csv")]
    if chosen.weights not in ("none", "imagenet"):
        files.append(resolve(chosen.weights))
    return [*files, Path("stages/pseudo_label"), Path("stages/parts")]


def _network(chosen: settings.Network, seed: int) -> Embedder:
    """The network before the first epoch. InputError where `network.weights` does not fit."""
    network = build(Embedder, seeds.derive(seed, "pseudo_label", "weights"), chosen.architecture)
    if chosen.weights == "imagenet":
        network.backbone.load_state_dict(imagenet_weights(chosen.architecture))
    elif chosen.weights != "none":
        try:
            network.restore(load_tensors(resolve(chosen.weights))[0])
        except ValueError as error:
            raise InputError(f"network.weights: {chosen.weights}: {error}") from None
    return network


def _tell(figures: dict[str, Any], last: int) -> None:
    """One line for the person who watches; the clock's figures go to `logs/`."""
    seconds = figures["cluster_seconds"] + figures["train_seconds"]
    losses = "  ".join(
        f"{name.replace('_', ' ')} {figures[name]:.3f}"
        for name in ("loss_source", "loss_target")
        if figures[name] is not None
    )
    quality = ""
    if figures["phase"] == "spcl":
        outside = f"{figures['unclustered_share']:.0%} outside"
        quality = f"{figures['clusters']:.0f} clusters, {outside}, ARI {figures['ari']:.3f}  "
    phase = "warm-up" if figures["phase"] == "warmup" else "SpCL"
    message(
        f"pseudo_label: epoch {figures['epoch']:>3}/{last} {phase}  {losses}  {quality}{seconds:.1f} s"
    )
    times = {name: round(figures[name], 3) for name in ("cluster_seconds", "train_seconds")}
    line = {"epoch": figures["epoch"], **times}
    append_line(LOGS / "pseudo_label_epochs.jsonl", line, anew=figures["epoch"] == 1)


def _write(state: loop.State, task: loop.Task, architecture: str, selection: str) -> None:
    """Labels by row, the network with the target's batch normalization, the figures."""
    network = keep_target(loop.without_classifier(state.network))
    height, width = task.target.store.pixels.shape[1:3]
    facts = {
        "architecture": architecture,
        "height": task.settings.height or height,
        "width": task.settings.width or width,
        "selection": selection,
    }
    save_tensors(NETWORK, network.state_dict(), facts)
    labels = pd.DataFrame({"row": task.target.rows, "label": state.labels}).sort_values("row")
    write_text(LABELS, labels.to_csv(index=False, lineterminator="\n"))
    epochs = pd.DataFrame(state.history, columns=["epoch", "phase", *SERIES])
    write_text(METRICS / "epochs.csv", epochs.to_csv(index=False, lineterminator="\n"))
    quality = agreement(state.labels, task.target.persons)
    write_json(METRICS.with_suffix(".json"), rounded({name: quality[name] for name in QUALITY}))


if __name__ == "__main__":
    with run_stage("pseudo_label"):
        main()
