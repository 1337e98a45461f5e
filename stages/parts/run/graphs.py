"""A pass of images through a network and back as CUDA graphs: one launch for a thousand kernels.

The host starts the kernels of a network one by one. A fast GPU is done with each of them before
the next one comes. A graph starts them all at once, with the same kernels and so the same bits.
"""

import gc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# Images (b, 3, H, W), and how many of them, at the front, are visible → rows (b, …)
Function = Callable[[Tensor, int | None], Sequence[Tensor]]
WARM_UP = 1  # passes before the graphs are made, in which CUDA's libraries get ready


def graphed(
    network: nn.Module, function: Function, images: Tensor, visible: int | None
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return `function` for images of this shape, its forward and backward pass as graphs.

    For this the passes run once and are then recorded; the network's buffers stay as they are. All
    calls use the same memory: one may overwrite the rows and the gradients of those before. It is
    kept as long as the function is, and longer if a gradient in it is held.

    Args:
        network: in training mode, on a GPU; what `function` has its weights from.
        function: waits for nothing, and takes the same way for all images.
        images: (b, 3, H, W) on the GPU, an example.
        visible: the second argument of `function`, the same in each call.

    Raises:
        torch.OutOfMemoryError: if the GPU has too little.
    """
    # An older graph that nobody holds any more must not be freed while this one is made.
    gc.collect()
    buffers = list(network.buffers())
    before = [buffer.clone() for buffer in buffers]
    one_pass = _Pass(network, function, visible)
    # For the rest of the process. Torch warns that weights would accumulate gradients on another
    # stream; but `torch.autograd.grad` returns them, and nothing is accumulated.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        torch.cuda.make_graphed_callables(
            one_pass, (images.clone(),), num_warmup_iters=WARM_UP, allow_unused_input=True
        )
    except RuntimeError as error:
        # what is raised when the recording ends hides why it could not go on
        if isinstance(error.__context__, torch.OutOfMemoryError):
            raise error.__context__ from None
        raise
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)
    return one_pass


class _Pass(nn.Module):
    """`function` as a module of images, whose parameters are those of the network."""

    def __init__(self, network: nn.Module, function: Function, visible: int | None) -> None:
        super().__init__()
        self.network = network
        self.function = function
        self.visible = visible

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.function(images, self.visible))
