"""`python -m stages.pseudo_label`: a label for each visible image of the target, by SpCL."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages.parts.agreement import agreement
from stages.parts.images.checks import check_training
from stages.parts.images.store import HASHES, ImageStore
from stages.parts.network.backbone import Extras, imagenet_weights
from stages.parts.network.domain_norm import keep_target
from stages.parts.network.head import Embedder, build
from stages.parts.run import params, seeds
from stages.parts.run.checkpoint import parameters
from stages.parts.run.console import message
from stages.parts.run.curves import curves
from stages.parts.run.device import open_for_stage, uses_bfloat16
from stages.parts.run.files import file_hash, rounded, write_csv, write_json
from stages.parts.run.processes import run
from stages.parts.run.settings import Device, Network, Spcl, Train
from stages.parts.run.stage import run_stage
from stages.parts.run.tensors import save_tensors
from stages.parts.run.training import (
    Figures,
    load_state,
    load_weights,
    log_times,
    open_checkpoint,
    run_epochs,
    weight_files,
)
from stages.parts.run.world import open_world
from stages.pseudo_label.data import SPCL, Method, TrainingSet, check, visible_images
from stages.pseudo_label.loop import find_labels

TARGET = Path("data/images/target")
SOURCE = Path("data/images/source")
LABELS = Path("data/labels/visible.csv")
NETWORK = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/pseudo_label")
QUALITY = (
    "clusters",
    "unclustered_share",
    "ari",
    "nmi",
    "purity",
    "pair_precision",
    "pair_recall",
    "pair_f",
    "r_plq",
    "persons",
)
SERIES = ("loss_source", "loss_target", "learning_rate", *QUALITY)
TIMES = ("cluster_seconds", "train_seconds")


def main() -> None:
    """Read parameters and files, find the labels, write."""
    tree = params.load()
    train = params.section(tree, "train", Train)
    network_settings = params.section(tree, "network", Network)
    chosen = params.section(tree, "device", Device)
    device, device_settings = open_for_stage("pseudo_label", chosen)
    world = open_world()
    spcl = params.section(tree, "spcl", Spcl)
    method = Method(spcl, tree["seed"], device_settings.shards, world)
    data = _training_set(method.spcl.source, train)
    for images in filter(None, (data.source, data.target)):
        images.store.keep(images.rows, device)
    start = _start(network_settings, method.seed)
    start.half_precision = uses_bfloat16(device, device_settings.precision)
    start.to(device)
    epochs = _epochs(method.spcl, train, network_settings)
    check(method.spcl, data, epochs)

    sections = (method.spcl, network_settings, device_settings)
    used = parameters(sections, method.seed)
    used |= {"train.selection": train.selection, "epochs in all": epochs}
    checkpoint = open_checkpoint("pseudo_label", used, _inputs(network_settings))
    stored = load_state(checkpoint, epochs, world)
    history = stored.facts["history"] if stored else []
    with curves(METRICS, SERIES, history) as log:

        def on_epoch_end(figures: Figures) -> None:
            log(figures)
            print_summary(figures, epochs)
            log_times("pseudo_label", figures, TIMES)

        run_phase = partial(run_epochs, checkpoint=checkpoint, on_epoch_end=on_epoch_end)
        result = find_labels(start, data, method, epochs, stored, run_phase)
    if not world.is_first:
        return
    labels = result.labels if train.setting == "unsupervised" else data.target.persons
    _write_labels(labels, result.history, data)
    _write_network(result.network, data, method, train)
    checkpoint.finish()


def _training_set(source: str, train: Train) -> TrainingSet:
    """Return the images of this stage. ValueError if `train` could not train on the target."""
    store = ImageStore(TARGET)
    check_training(
        store.table,
        str(TARGET / "table.csv"),
        train.setting,
        train.selection,
        train.persons,
        train.keep_outliers,
    )
    target = visible_images(store, train.selection)
    if source == "none":
        return TrainingSet(target, source=None)
    return TrainingSet(target, visible_images(ImageStore(SOURCE)))


def _start(chosen: Network, seed: int) -> Embedder:
    """Return the network before the first epoch. InputError if `network.weights` does not fit.

    It has one stream, because this stage sees visible images only.
    """
    weights_seed = seeds.derive(seed, "pseudo_label", "weights")
    extras = Extras(pooling=chosen.pooling, non_local=chosen.non_local)
    network = build(Embedder, weights_seed, chosen.architecture, extras)
    load_weights(network, chosen.weights, partial(imagenet_weights, chosen.architecture))
    return network


def _epochs(settings: Spcl, train: Train, chosen: Network) -> int:
    """Return how many epochs are needed, those of the warm-up included.

    With true labels only the warm-up is needed, and only if `train` starts from its network.
    """
    if train.setting == "unsupervised":
        return settings.warmup_epochs + settings.epochs
    return settings.warmup_epochs if chosen.start == "pseudo_label" else 0


def _inputs(chosen: Network) -> list[Path]:
    """Return the files that a checkpoint belongs to; the hashes stand for pixels and table."""
    return [TARGET / HASHES, SOURCE / HASHES, *weight_files(chosen.weights)]


def print_summary(figures: Figures, epochs: int) -> None:
    """Print one line about an epoch for the person who watches."""
    seconds = figures["cluster_seconds"] + figures["train_seconds"]
    losses = [
        f"{name.replace('_', ' ')} {figures[name]:.3f}"
        for name in ("loss_source", "loss_target")
        if figures[name] is not None
    ]
    phase, quality = "warm-up", ""
    if figures["phase"] == SPCL:
        phase = "SpCL"
        quality = (
            f"{figures['clusters']:.0f} clusters, {figures['unclustered_share']:.0%} outside, "
            f"ARI {figures['ari']:.3f}  "
        )
    message(
        f"pseudo_label: epoch {figures['epoch']:>3}/{epochs} {phase}  {'  '.join(losses)}  "
        f"{quality}{seconds:.1f} s"
    )


def _write_network(network: Embedder, data: TrainingSet, method: Method, train: Train) -> None:
    """Write the network without classifier, with the target's batch normalization.

    Its facts say which images, labels and seed it belongs to, so that `train` notices others.
    """
    tensors = {
        name: value
        for name, value in keep_target(network).state_dict().items()
        if name.startswith(("backbone.", "neck."))
    }
    height, width = data.target.store.pixels.shape[1:3]
    facts = {
        "architecture": network.backbone.architecture,
        "height": method.spcl.height or height,
        "width": method.spcl.width or width,
        "setting": train.setting,
        "selection": train.selection,
        "seed": method.seed,
        "images": data.target.store.identity,
        "labels": file_hash(LABELS),
        **network.backbone.extras.facts(),
    }
    save_tensors(NETWORK, tensors, facts)


def _write_labels(labels: np.ndarray, history: list[Figures], data: TrainingSet) -> None:
    """Write labels by row, and the figures."""
    table = pd.DataFrame({"row": data.target.rows, "label": labels}).sort_values("row")
    write_csv(LABELS, table)
    write_csv(METRICS / "epochs.csv", pd.DataFrame(history, columns=["epoch", "phase", *SERIES]))
    quality = agreement(labels, data.target.persons)
    write_json(METRICS.with_suffix(".json"), rounded({name: quality[name] for name in QUALITY}))


if __name__ == "__main__":
    with run_stage("pseudo_label", "spcl.batch"):
        run(main)
