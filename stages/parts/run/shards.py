"""The images of a training step through a network, shard by shard, on one process or on several.

A batch is divided into shards. Each goes through the network on its own, forward and backward; the
rows that come out are put together for the loss, and the gradients of the weights are added up in
the order of the shards. Which process computes a shard makes no difference to any bit.

Batch normalization sees the images of one shard. Its running statistics follow the first shard, as
with `torch.nn.DataParallel`, and as in SpCL's released code on four GPUs.
"""

import gc
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from stages.parts.run.graphs import Function, graphed
from stages.parts.run.world import World, all_shares, from_first, gather_rows, own, sum_gradients

Gradients = list[Tensor | None]


class Shards:
    """A network that is trained in shards.

    In each step: `forward`, the loss and its backward pass, `backward`. After an epoch:
    `share_statistics`.

    >>> network = nn.Linear(2, 1, bias=False)
    >>> shards = Shards(network, 2, World())
    >>> (rows,) = shards.forward(lambda images, _: [network(images)], torch.ones(4, 2), [4])
    >>> rows.sum().backward()
    >>> shards.backward()
    >>> network.weight.grad
    tensor([[4., 4.]])
    """

    def __init__(self, network: nn.Module, count: int, world: World) -> None:
        """`count` is the number of shards: a power of two, so that gradients add up as a tree.

        Raises:
            ValueError: if it is not, or if the number of processes does not divide it.
        """
        if count < 1 or count & (count - 1):
            raise ValueError(f"device.shards: {count} is not a power of two")
        if count % world.size:
            raise ValueError(
                f"device.shards: {count}, but {world.size} processes were started; expected a "
                "number that they divide (docs/gpu.md)"
            )
        self.network = network
        self.count = count
        self.world = world
        self.own = own(count, world)
        self.parameters = [each for each in network.parameters() if each.requires_grad]
        self.norms = [each for each in network.modules() if isinstance(each, BatchNorm)]
        self._graphs: dict[Any, Callable[[Tensor], Sequence[Tensor]]] = {}
        # of the step that is on
        self._sizes: list[list[int]] = []  # of each block: how many images of it each shard has
        self._parts: list[Sequence[Tensor]] = []  # the rows of each own shard, with their graph
        self._rows: list[Tensor] = []  # the rows of all shards, without it

    def forward(
        self,
        function: Function,
        images: Tensor,
        blocks: Sequence[int],
        visible: int | None = None,
    ) -> list[Tensor]:
        """Return rows of all images, in their order, to compute a loss with.

        Args:
            function: applies the network to the images of a shard; its rows are (b, D_i) each.
            images: (B, 3, H, W).
            blocks: numbers of images that belong together, of a modality or a domain, sum B. Each
                shard has its share of every block.
            visible: how many images, at the front, are visible ones; whole blocks. None: unknown.

        Returns:
            What `function` returns, for all images: (B, D_i) each. Gradients end here; `backward`
            takes them on.
        """
        self._sizes = [_shares(block, self.count) for block in blocks]
        shards, seen = self._divided(images), self._visible(visible)
        self._parts = []
        for number in self.own:
            for norm in self.norms:
                norm.track_running_stats = number == 0
            self._parts.append(self._apply(function, shards[number], seen[number]))
        for norm in self.norms:
            norm.track_running_stats = True
        widths = [part.shape[1] for part in self._parts[0]]
        together = torch.cat([torch.cat(list(part), 1) for part in self._parts])  # (b, ΣD_i)
        whole = self._in_order(gather_rows(together, self._counts(), self.world))  # (B, ΣD_i)
        self._rows = [rows.contiguous().requires_grad_() for rows in whole.split(widths, 1)]
        return self._rows

    def backward(self) -> None:
        """Compute the gradients of the network's weights from those of the rows.

        They are valid until the next `forward`.
        """
        of_rows = [
            torch.zeros_like(rows) if rows.grad is None else rows.grad for rows in self._rows
        ]
        of_shards = list(zip(*(self._divided(each) for each in of_rows), strict=True))
        branches: list[tuple[int, Gradients]] = []  # of the tree: number of shards, and their sum
        for number, part in zip(self.own, self._parts, strict=True):
            size = 1
            gradients: Gradients = list(
                torch.autograd.grad(part, self.parameters, of_shards[number], allow_unused=True)
            )
            while branches and branches[-1][0] == size:
                _, earlier = branches.pop()
                gradients = [_sum(one, two) for one, two in zip(earlier, gradients, strict=True)]
                size *= 2
            branches.append((size, gradients))
        ((_, totals),) = branches
        used = [
            (weight, total)
            for weight, total in zip(self.parameters, totals, strict=True)
            if total is not None
        ]
        sums = sum_gradients([total for _, total in used], self.world)
        for (weight, _), total in zip(used, sums, strict=True):
            # A copy has the memory layout of the weight, which the optimizer's kernel relies on.
            # And a part of the sums of several processes would keep all of them.
            if self.world.size > 1 or total.stride() != weight.stride():
                total = torch.empty_like(weight).copy_(total)
            weight.grad = total
        self._parts, self._rows = [], []

    def share_statistics(self) -> None:
        """Give all processes the running statistics, which follow the first process's shard."""
        from_first(dict(self.network.named_buffers()), self.world)
        if self._graphs:  # what follows the epoch gets their memory, in which gradients lie too
            for weight in self.parameters:
                weight.grad = None
            self._graphs.clear()
            gc.collect()  # graphs are in cycles of references

    def _apply(self, function: Function, images: Tensor, visible: int | None) -> Sequence[Tensor]:
        """Return the rows of a shard's images (b, 3, H, W)."""
        # a graph holds the activations of one pass, so that it serves one shard
        if not images.is_cuda or len(self.own) > 1:
            return function(images, visible)
        key = (function, images.shape, visible)
        if key not in self._graphs:
            self._graphs[key] = graphed(self.network, function, images, visible)
        return self._graphs[key](images)

    def _divided(self, rows: Tensor) -> list[Tensor]:
        """Return the rows (b, …) of each shard, of rows (B, …): its share of each block."""
        if self.count == 1:
            return [rows]
        pieces = rows.split([size for sizes in self._sizes for size in sizes])  # block by block
        return [torch.cat(pieces[number :: self.count]) for number in range(self.count)]

    def _in_order(self, rows: Tensor) -> Tensor:
        """Return rows (B, …) in the order of the batch, of rows shard by shard."""
        if self.count == 1:
            return rows
        pieces = rows.split([size for sizes in zip(*self._sizes, strict=True) for size in sizes])
        blocks = len(self._sizes)
        return torch.cat([piece for block in range(blocks) for piece in pieces[block::blocks]])

    def _counts(self) -> list[int]:
        """Return how many images each process has."""
        of_shards = [sum(sizes) for sizes in zip(*self._sizes, strict=True)]
        shares = all_shares(self.count, self.world)
        return [sum(of_shards[number] for number in share) for share in shares]

    def _visible(self, visible: int | None) -> list[int | None]:
        """Return how many images of each shard are visible ones."""
        if visible is None:
            return [None] * self.count
        ends = accumulate(map(sum, self._sizes))
        blocks = [sizes for sizes, end in zip(self._sizes, ends, strict=True) if end <= visible]
        return [sum(sizes[number] for sizes in blocks) for number in range(self.count)]


def _shares(block: int, count: int) -> list[int]:
    """Return how many of the `block` images each of `count` shards has; the first ones have more.

    >>> _shares(10, 4)
    [3, 3, 2, 2]
    """
    size, larger = divmod(block, count)
    return [size + (number < larger) for number in range(count)]


def _sum(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    if one is None or two is None:
        return two if one is None else one
    return one + two
