"""`python -m stages.train`: visible labels and both modalities → network and infrared labels."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from stages.parts.images.store import HASHES, ImageStore
from stages.parts.network.backbone import Extras, imagenet_weights
from stages.parts.network.head import IdentityNetwork, build
from stages.parts.run import params, seeds
from stages.parts.run.checkpoint import parameters
from stages.parts.run.console import message
from stages.parts.run.curves import curves
from stages.parts.run.device import open_for_stage, uses_bfloat16
from stages.parts.run.files import file_hash, rounded, write_csv, write_json
from stages.parts.run.processes import run
from stages.parts.run.settings import (
    Clusters,
    Den,
    Device,
    Images,
    Network,
    Otla,
    Pal,
    Prototypes,
    Train,
)
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_facts, require_facts, save_tensors
from stages.parts.run.training import (
    Figures,
    load_state,
    load_weights,
    log_times,
    open_checkpoint,
    restore,
    run_epochs,
    weight_files,
)
from stages.parts.run.world import open_world
from stages.train import loop, prototypes
from stages.train.data import Method, TrainingSet, training_set
from stages.train.diagnostics import (
    LABEL_FIGURES,
    PROTOTYPE_FIGURES,
    attention_of_a_batch,
    counts_table,
)
from stages.train.loop import State, new_state
from stages.train.objective import WEIGHTS

IMAGES = Path("data/images/target")
VISIBLE_LABELS = Path("data/labels/visible.csv")
INFRARED_LABELS = Path("data/labels/infrared.csv")
PSEUDO_LABEL_NETWORK = Path("models/pseudo_label.safetensors")
NETWORK = Path("models/network.safetensors")
COUNTS = Path("data/labels/infrared_counts.csv")
ATTENTION = Path("data/attention.csv")
METRICS = Path("metrics/train")
TERMS = (*WEIGHTS, *prototypes.TERMS)
SERIES = ("loss", *TERMS, "learning_rate", "reversal", *LABEL_FIGURES, "validation_map")
OBJECTIVES = {"otla": loop.one_epoch, "prototypes": prototypes.one_epoch}
SERIES_OF = {"otla": SERIES, "prototypes": (*SERIES, *PROTOTYPE_FIGURES)}
TIMES = (
    "train_seconds",
    "label_seconds",
    "assignment_seconds",
    "assignment_share",
    "images_per_second",
)


def main() -> None:
    """Read parameters and files, train, write."""
    tree = params.load()
    device, device_settings = open_for_stage("train", params.section(tree, "device", Device))
    world = open_world()
    method = Method(
        train=params.section(tree, "train", Train),
        den=params.section(tree, "den", Den),
        otla=params.section(tree, "otla", Otla),
        pal=params.section(tree, "pal", Pal),
        clusters=params.section(tree, "clusters", Clusters),
        prototypes=params.section(tree, "prototypes", Prototypes),
        seed=tree["seed"],
        shards=device_settings.shards,
        world=world,
    )
    network_settings = params.section(tree, "network", Network)
    data = training_set(ImageStore(IMAGES), VISIBLE_LABELS, method.train)
    check_origin(data, method)
    data.store.keep(np.concatenate([data.visible_rows, data.infrared_rows]), device)
    network = start_network(network_settings, data, method.seed)
    network.half_precision = uses_bfloat16(device, device_settings.precision)
    state = new_state(network, data, method, device)

    # named, so that a message can say that a state is of images of another size
    size = Images(*data.store.pixels.shape[1:3])
    sections = (method.train, method.den, method.otla, method.pal)
    beyond = (method.clusters, method.prototypes)
    used = parameters((*sections, *beyond, network_settings, device_settings, size), method.seed)
    inputs = [IMAGES / HASHES, VISIBLE_LABELS, PSEUDO_LABEL_NETWORK]
    checkpoint = open_checkpoint("train", used, inputs + weight_files(network_settings.weights))
    stored = load_state(checkpoint, method.train.epochs, world)
    if stored is not None:
        state.restore(stored)
    series = SERIES_OF[method.train.objective]
    with curves(METRICS, series, list(state.history)) as log:

        def on_epoch_end(figures: Figures) -> None:
            log(figures)
            print_summary(figures, method.train.epochs)
            log_times("train", figures, TIMES)

        one_epoch = partial(OBJECTIVES[method.train.objective], state, data, method)
        run_epochs(state, one_epoch, method.train.epochs, checkpoint, on_epoch_end)
    if not world.is_first:
        return
    write_attention(state, data, method)
    epoch = write_network(state, data, method.train.selection)
    write_labels(state, data)
    write_figures(state, data, epoch, series)
    checkpoint.finish()


def check_origin(data: TrainingSet, method: Method) -> None:
    """Refuse images, visible labels or a seed that are not those of the pseudo-label network.

    Raises:
        InputError: names the file and what differs.
    """
    expected = {
        "images": data.store.identity,
        "seed": method.seed,
        "setting": method.train.setting,
        "selection": method.train.selection,
    }
    facts = load_facts(PSEUDO_LABEL_NETWORK)
    require_facts(PSEUDO_LABEL_NETWORK, facts, expected, again="pseudo_label")
    if facts.get("labels") != file_hash(VISIBLE_LABELS):
        raise InputError(
            f"{VISIBLE_LABELS} is not the file that was written with {PSEUDO_LABEL_NETWORK}; "
            "run the stage pseudo_label again"
        )


def start_network(chosen: Network, data: TrainingSet, seed: int) -> IdentityNetwork:
    """Return the network before the first epoch.

    It starts from the pseudo-label network, or from what `network.weights` names.
    """
    weights_seed = seeds.derive(seed, "train", "weights")
    extras = Extras(chosen.pooling, chosen.two_stream, chosen.non_local)
    network = build(IdentityNetwork, weights_seed, chosen.architecture, data.classes, extras)
    if chosen.start == "pseudo_label":
        restore(network, PSEUDO_LABEL_NETWORK)
    else:
        load_weights(network, chosen.weights, partial(imagenet_weights, chosen.architecture))
    return network


def print_summary(figures: Figures, epochs: int) -> None:
    """Print one line about an epoch for the person who watches."""
    seconds = figures["train_seconds"] + figures["label_seconds"]
    accuracy = figures["accuracy"]
    if accuracy is None:
        accuracy = figures["accuracy_argmax"]
    message(
        f"train: epoch {figures['epoch']:>3}/{epochs}  loss {figures['loss']:.3f}  "
        f"infrared labels {accuracy:.1%} right  {figures['images_per_second']:.0f} images/s  "
        f"{seconds:.1f} s, {figures['assignment_share']:.1%} of it assignment"
    )


def write_attention(state: State, data: TrainingSet, method: Method) -> None:
    """Write what prediction alignment attends to in one batch."""
    labels = data.infrared_truth
    if labels is None:
        labels = state.labels.bank.labels.numpy()
    write_csv(ATTENTION, attention_of_a_batch(state.network, data, labels, method), digits=6)


def write_network(state: State, data: TrainingSet, selection: str) -> int:
    """Write the last network, or the one that validation chooses; return its epoch."""
    tensors: dict[str, Tensor] = state.network.state_dict()
    epoch = state.epoch
    if selection == "validation":
        scores = [figures["validation_map"] for figures in state.history]
        tensors, epoch = state.best, 1 + int(np.argmax(scores))
        message(f"train: validation chose the network of epoch {epoch}")
    kept = {
        name: value
        for name, value in tensors.items()
        if name.startswith(("backbone.", "neck.", "classifier."))
    }
    height, width = data.store.pixels.shape[1:3]
    facts = {
        "architecture": state.network.backbone.architecture,
        "height": height,
        "width": width,
        "selection": selection,
        "epoch": epoch,
        "images": data.store.identity,
        "pseudo_label": file_hash(PSEUDO_LABEL_NETWORK),
        **state.network.backbone.extras.facts(),
    }
    save_tensors(NETWORK, kept, facts)
    return epoch


def write_labels(state: State, data: TrainingSet) -> None:
    """Write the infrared labels, and how many images each label had in each epoch."""
    bank = state.labels.bank
    confidence = np.round(bank.confidence.numpy().astype(np.float64), 6)
    columns = {
        "row": data.infrared_rows,
        "label": bank.labels.numpy(),
        "confidence": confidence,
        "age": bank.age.numpy(),
    }
    write_csv(INFRARED_LABELS, pd.DataFrame(columns))
    write_csv(COUNTS, counts_table(state.labels.counts.numpy()))


def write_figures(state: State, data: TrainingSet, epoch: int, series: tuple[str, ...]) -> None:
    """Write the figures `series` of all epochs, and the last ones; `epoch` is the network's."""
    table = pd.DataFrame(state.history, columns=["epoch", *series])
    write_csv(METRICS / "epochs.csv", table)
    last = {name: value for name, value in state.history[-1].items() if value is not None}
    extra = {"labels": data.classes, "network_epoch": epoch}
    write_json(METRICS.with_suffix(".json"), rounded(last | extra, 6))


if __name__ == "__main__":
    with run_stage("train", "train.persons × train.images"):
        run(main)
