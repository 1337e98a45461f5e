"""Apply a network to many images in evaluation mode: embeddings and predictions."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn


@torch.no_grad()
def gather(
    network: nn.Module, function: Callable[[Tensor], Tensor], batches: Iterable[Tensor]
) -> Tensor:
    """Apply `function` to each batch, with `network` in evaluation mode, and stack the rows.

    The network is left in the mode that it was in.

    Args:
        network: the network that `function` uses.
        function: (B, 3, H, W) → (B, …).
        batches: normalized images on the network's device.

    Returns:
        (N, …) float32 on the CPU; (0,) if there is no batch.
    """
    training = network.training
    network.eval()
    try:
        rows = [function(batch).float().cpu() for batch in batches]
    finally:
        network.train(training)
    return torch.cat(rows) if rows else torch.empty(0)


def embed(network: nn.Module, batches: Iterable[Tensor], visible: int | None = None) -> Tensor:
    """Return the embeddings of all images: (N, D) float32 rows of length 1 on the CPU.

    `visible` is how many images of a batch are visible ones, for a network of two streams: None for
    batches of visible images, 0 for batches of infrared ones.
    """
    return gather(network, partial(network, visible=visible), batches)
