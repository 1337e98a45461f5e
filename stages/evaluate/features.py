"""A stored network and the test images → embeddings."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.evaluate.score import Embeddings
from stages.parts.images.augment import normalize, resize
from stages.parts.images.store import ImageStore
from stages.parts.network.backbone import Extras
from stages.parts.network.embed import gather
from stages.parts.network.head import Embedder
from stages.parts.run.console import progress
from stages.parts.run.settings import Evaluate
from stages.parts.run.stage import InputError
from stages.parts.run.tensors import load_tensors, require_facts
from stages.parts.run.world import ALONE, World, divided


class StoredNetwork(NamedTuple):
    """A network of an earlier stage and what its file says about it."""

    path: Path
    network: Embedder
    architecture: str
    height: int  # of its input images
    width: int
    checkpoint: str  # which epoch's network it is, in words
    facts: dict[str, Any]  # all that its file says


def open_network(path: Path, split: str, origin: dict[str, Any], stage: str) -> StoredNetwork:
    """Return the network stored at `path`, which will be evaluated on `split`.

    Args:
        path: its file.
        split: `test` or `val`.
        origin: the facts that it must have: what it was made from.
        stage: the stage that made it.

    Raises:
        InputError: There is no file, it does not hold a network, it was made from something else,
            or the network was trained on the identities of `split`.
    """
    tensors, facts = load_tensors(path)
    if not isinstance(facts, dict) or not {"architecture", "height", "width"} <= set(facts):
        raise InputError(
            f"{path}: expected the facts architecture, height and width, found {facts}"
        )
    require_facts(path, facts, origin, stage)
    selection = facts.get("selection", "last")
    if split == "val" and selection != "validation":
        raise InputError(
            f"{path} was trained on the validation identities (train.selection: {selection}); "
            "evaluate.split: val needs a network of train.selection: validation"
        )
    architecture = facts["architecture"]
    try:
        network = Embedder(architecture, Extras.of(facts))
        network.restore(tensors)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    checkpoint = "last epoch"
    if selection == "validation":
        checkpoint = f"best validation mAP, epoch {facts.get('epoch')}"
    height, width = facts["height"], facts["width"]
    return StoredNetwork(path, network, architecture, height, width, checkpoint, facts)


def embed_images(
    stored: StoredNetwork,
    store: ImageStore,
    rows: np.ndarray,
    settings: Evaluate,
    device: torch.device,
    world: World = ALONE,
) -> Embeddings:
    """Return the embeddings of the images `rows` (N,) of the store.

    With `evaluate.flip` the features of an image and of its mirror image are averaged. A network of
    two streams gets the visible and the infrared images one after the other. The processes of
    `world` divide the images among them.

    Raises:
        InputError: Names the first image whose output is not finite.
    """
    network = stored.network.to(device)
    embed = network if settings.features == "after" else partial(_features_before_neck, network)
    values = torch.empty(len(rows), network.backbone.sizes[-1])  # (N, D)
    for positions, visible in _streams(network, store, rows):
        function = partial(embed, visible=visible)

        def compute(part: slice, function: Any = function, rows: Any = rows[positions]) -> Tensor:
            batches = partial(_batches, stored, store, rows[part], settings.batch, device)
            return _features(network, function, batches, settings)

        values[positions] = divided(compute, len(positions), settings.batch, world)
    not_finite = ~torch.isfinite(values).all(1)  # (N,)
    if not_finite.any():
        first = int(not_finite.nonzero()[0])
        image = store.table["path"].iloc[rows[first]]
        raise InputError(f"{stored.path}: the network's output for {image} is not finite")
    return Embeddings(rows, values.numpy(), device)


def _streams(
    network: Embedder, store: ImageStore, rows: np.ndarray
) -> list[tuple[np.ndarray, int | None]]:
    """Return which of the images `rows` (N,) go through together: their positions (n,), `visible`.

    All do in a network of one stream.
    """
    if not network.backbone.extras.two_stream:
        return [(np.arange(len(rows)), None)]
    is_infrared = store.table["modality"].to_numpy()[rows] == "infrared"
    streams = ((np.flatnonzero(~is_infrared), None), (np.flatnonzero(is_infrared), 0))
    return [(positions, visible) for positions, visible in streams if len(positions)]


def _batches(
    stored: StoredNetwork, store: ImageStore, rows: np.ndarray, size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield the images `rows` in the size that the network takes, in batches (size, 3, H, W)."""
    starts = range(0, len(rows), size)
    for start in progress(starts, f"images through {stored.path.name}", "batch"):
        images = store.batch(rows[start : start + size], device)
        yield normalize(resize(images.float(), stored.height, stored.width))


def _features(
    network: Embedder,
    embed: Callable[[Tensor], Tensor],
    batches: Callable[[], Iterator[Tensor]],
    settings: Evaluate,
) -> Tensor:
    """Return the features (N, D) of all batches; with `evaluate.flip`, of mirror images too."""
    values = gather(network, embed, batches())
    if settings.flip:
        mirrored = gather(network, embed, (images.flip(3) for images in batches()))
        values = functional.normalize(values + mirrored)
    return values


def _features_before_neck(network: Embedder, images: Tensor, visible: int | None) -> Tensor:
    """Return the pooled features (B, D) as unit rows, without the batch-norm neck."""
    return functional.normalize(network.pooled(images, visible)[-1])
