"""A network over many images: embeddings and predictions in evaluation mode."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def gather(
    network: nn.Module, call: Callable[[Tensor], Tensor], batches: Iterable[Tensor]
) -> Tensor:
    """`call` on each batch (B, 3, H, W) with `network` in evaluation mode, rows stacked: (N, …) float32 on the CPU.

    The network is left in the mode it came in. An empty iterable gives (0,).
    """
    mode = network.training
    network.eval()
    try:
        rows = [call(batch).float().cpu() for batch in batches]
    finally:
        network.train(mode)
    return torch.cat(rows) if rows else torch.empty(0)


def embed(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Unit rows (N, D) float32 of all images; `batches` are normalized images on the network's device."""
    return gather(network, network, batches)
