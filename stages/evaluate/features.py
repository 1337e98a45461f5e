"""A stored network and the test images → embeddings."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.evaluate.score import Embeddings
from stages.parts.images.augment import normalize, resize
from stages.parts.images.store import ImageStore
from stages.parts.network.embed import gather
from stages.parts.network.head import Embedder
from stages.parts.run.console import progress
from stages.parts.run.device import open_device, uses_bfloat16
from stages.parts.run.settings import Device, Evaluate
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors


class Stored(NamedTuple):
    """A network of an earlier stage and what its file says about it."""

    path: Path
    network: Embedder
    architecture: str
    height: int  # of the images that it takes
    width: int
    checkpoint: str  # how its epoch was chosen, in words


def open_network(path: Path, split: str) -> Stored:
    """The network stored at `path`.

    InputError where there is none, for a file that is not one, and for a network that was trained on the identities
    that `split` (`test` or `val`) would judge it by.
    """
    tensors, facts = load_tensors(path)
    if not isinstance(facts, dict) or not {"architecture", "height", "width"} <= set(facts):
        raise InputError(
            f"{path}: expected the facts architecture, height and width, found {facts}"
        )
    selection = facts.get("selection", "last")
    if split == "val" and selection != "validation":
        raise InputError(
            f"{path} was trained on the validation identities (train.selection: {selection}); "
            "evaluate.split: val needs a network of train.selection: validation"
        )
    try:
        network = Embedder(facts["architecture"])
        network.restore(tensors)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    checkpoint = (
        f"best validation mAP, epoch {facts.get('epoch')}"
        if selection == "validation"
        else "last epoch"
    )
    return Stored(path, network, facts["architecture"], facts["height"], facts["width"], checkpoint)


def embeddings_of(
    stored: Stored, store: ImageStore, rows: np.ndarray, settings: Evaluate, device: Device
) -> Embeddings:
    """The images `rows` (N,) of the store, each once through the network (`evaluate.flip`: and its mirror image).

    InputError names the first image that the network has no finite output for.
    """
    where = open_device(device.name, device.threads)
    network = stored.network.to(where)
    network.half_precision = uses_bfloat16(where, device.precision)

    def batches(mirrored: bool) -> Iterator[Tensor]:
        starts = range(0, len(rows), settings.batch)
        for start in progress(starts, f"images through {stored.path.name}", "batch"):
            images = store.batch(rows[start : start + settings.batch], where).float()
            images = normalize(resize(images, stored.height, stored.width))
            yield images.flip(3) if mirrored else images

    def before_the_neck(images: Tensor) -> Tensor:
        return functional.normalize(network.pooled(images)[-1])

    call = network if settings.features == "after" else before_the_neck
    values = gather(network, call, batches(mirrored=False))
    if settings.flip:
        values = functional.normalize(values + gather(network, call, batches(mirrored=True)))
    wrong = ~torch.isfinite(values).all(1)
    if wrong.any():
        image = store.table["path"].iloc[rows[int(wrong.nonzero()[0])]]
        raise InputError(f"{stored.path}: the network's output for {image} is not finite")
    return Embeddings(rows, values.numpy())
