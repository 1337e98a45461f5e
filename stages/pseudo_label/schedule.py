"""The optimizer of stage 1, and its learning rate as a function of the epoch."""

import torch

from stages.parts.network.head import Embedder
from stages.parts.run.settings import Spcl


def learning_rate(epoch: int, settings: Spcl) -> float:
    """Return the rate of an epoch.

    The warm-up has `warmup_rate`, multiplied by `decay` in its last quarter. SpCL starts from
    `learning_rate` and multiplies it by `decay` every `decay_every` epochs.

    Args:
        epoch: counted from 0, the epochs of the warm-up included.
        settings: the section `spcl`.
    """
    if epoch < settings.warmup_epochs:
        is_last_quarter = 4 * epoch >= 3 * settings.warmup_epochs
        return settings.warmup_rate * (settings.decay if is_last_quarter else 1)
    decays = (epoch - settings.warmup_epochs) // settings.decay_every
    return float(settings.learning_rate * settings.decay**decays)


def new_optimizer(network: Embedder, settings: Spcl) -> torch.optim.Optimizer:
    """Return Adam over everything that learns, with L2 decay on all of it, as in SpCL."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def epoch_title(epoch: int, settings: Spcl) -> str:
    """Return what the progress bar of an epoch (from 0) says."""
    return f"pseudo_label: epoch {epoch + 1}/{settings.warmup_epochs + settings.epochs}"
