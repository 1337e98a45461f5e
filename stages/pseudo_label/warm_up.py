"""The warm-up on a labeled source: cross-entropy and triplet loss before the first clustering.

Without a source there are no labels to learn; `spcl.py` then warms up with every image as its own
class.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.head import Embedder, IdentityNetwork, Outputs, build
from stages.parts.run import seeds
from stages.parts.run.checkpoint import Stored, optimizer_tensors, restore_optimizer
from stages.parts.run.console import progress
from stages.parts.run.shards import Shards
from stages.parts.run.tensors import with_prefix, without_prefix
from stages.parts.run.training import Figures, Means
from stages.parts.upload import upload
from stages.pseudo_label.data import WARM_UP, Method, TrainingSet, joint_batches
from stages.pseudo_label.schedule import epoch_title, learning_rate, new_optimizer, set_rate


@dataclass
class State:
    """All that the warm-up on a source changes."""

    network: IdentityNetwork
    optimizer: torch.optim.Optimizer
    history: list[Figures] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name."""
        network = with_prefix("network.", self.network.state_dict())
        return network | optimizer_tensors(self.optimizer)

    def facts(self) -> dict[str, Any]:
        """Return the rest of the state, fit for JSON."""
        return {"phase": WARM_UP}


def open_state(
    start: Embedder, data: TrainingSet, method: Method, stored: Stored | None = None
) -> State:
    """Return the stored state, or one before the first epoch.

    The network is `start`, on its device, with a classifier of the source's classes.
    """
    seed = seeds.derive(method.seed, "pseudo_label", "classifier")
    backbone = start.backbone
    classes = data.source_classes
    network = build(IdentityNetwork, seed, backbone.architecture, classes, backbone.extras)
    network.restore(start.state_dict())
    network.half_precision = start.half_precision
    network.to(start.neck.weight.device).to(memory_format=torch.channels_last)
    state = State(network, new_optimizer(network, method.spcl))
    if stored is not None:
        network.load_state_dict(without_prefix("network.", stored.tensors))
        restore_optimizer(state.optimizer, stored.tensors)
        state.history = stored.facts["history"]
    return state


def one_epoch(state: State, data: TrainingSet, method: Method) -> tuple[Figures, Figures]:
    """Train `spcl.steps` steps on the source; return the figures, and those of the clock.

    Raises:
        FloatingPointError: at the first loss that is not finite.
    """
    started = time.perf_counter()
    settings = method.spcl
    device = state.network.classifier.weight.device
    epoch = len(state.history)
    rate = learning_rate(epoch, settings)
    set_rate(state.optimizer, rate)
    means = Means()
    shards = Shards(state.network.backbone, method.shards, method.world)
    state.network.train()
    draw = ("train", epoch, settings.steps)
    batches = joint_batches(data, method, None, draw, device)
    title = epoch_title(epoch, settings)
    for images, indices in progress(batches, title, "step", settings.steps):
        labels = upload(indices[0], device)  # (B,)
        pooled = shards.forward(state.network.pooled, images, [len(images)])
        loss = source_loss(state.network.behind(pooled), labels)
        means.add({"loss_source": loss})

        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        shards.backward()
        state.optimizer.step()
    shards.share_statistics()
    losses = means.of(("loss_source", "loss_target"))
    figures = {"phase": WARM_UP, **losses, "learning_rate": rate}
    return figures, {"cluster_seconds": 0.0, "train_seconds": time.perf_counter() - started}


def source_loss(outputs: Outputs, labels: Tensor) -> Tensor:
    """Return cross-entropy plus triplet loss of logits (B, C) and pooled rows (B, D), a scalar."""
    cross_entropy = functional.cross_entropy(outputs.logits, labels)
    return cross_entropy + batch_hard_triplet(outputs.pooled, labels)
