"""The processes that train one network together, and what they exchange.

All of them hold the same state and draw the same random numbers; they divide what can be divided.
Results are put together in an order that does not depend on the number of processes, so that it
changes no bit of the result. Without others every function returns what it is given.

`processes.py` starts them, or `torchrun` does.
"""

import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

# The others wait for what the first process does alone, such as a clustering. One that has died
# ends the wait at once: whoever started the processes ends them all.
PATIENCE = timedelta(days=7)
CHUNK = 2**22  # gradients that are exchanged at once, 16 MB from each process


class World(NamedTuple):
    """This process among all: number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0


ALONE = World()


def open_world() -> World:
    """Join the processes that were started together, and return this process's place among them.

    The exchange is by gloo for tensors on CPUs and by nccl for those on GPUs. A second call changes
    nothing.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return World(dist.get_rank(), dist.get_world_size())


def close_world() -> None:
    """Leave the other processes, at the end of the work; no exchange is possible any more."""
    if dist.is_initialized():
        dist.destroy_process_group()


def own(count: int, world: World) -> range:
    """Return which of `count` things are this process's: consecutive ones, shares of like size.

    >>> [own(5, World(rank, 2)) for rank in range(2)]
    [range(0, 2), range(2, 5)]
    """
    return range(count * world.rank // world.size, count * (world.rank + 1) // world.size)


def all_shares(count: int, world: World) -> list[range]:
    """Return which of `count` things are each process's, as `own` divides them."""
    return [own(count, World(rank, world.size)) for rank in range(world.size)]


def gather_rows(rows: Tensor, counts: Sequence[int], world: World) -> Tensor:
    """Return the rows of all processes, one process's behind another's, in all of them.

    No gradient flows through.

    Args:
        rows: (n, …) of this process; the shape of a row is the same in all processes.
        counts: the number of rows n of each process; it may be 0.
        world: the processes.
    """
    if world.size == 1:
        return rows.detach()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    everyone = rows.new_empty(world.size, *padded.shape)
    dist.all_gather_single(everyone.view(-1, *padded.shape[1:]), padded)
    return torch.cat([part[:count] for part, count in zip(everyone, counts, strict=True)])


def divided(compute: Callable[[slice], Tensor], count: int, batch: int, world: World) -> Tensor:
    """Return what `compute` gives for `count` images: rows (count, …), the same in all processes.

    Args:
        compute: returns the rows of a slice of the images, on the CPU.
        count: number of images.
        batch: images in a batch of the network. A process computes whole batches, because a batch
            of another size may change bits.
        world: the processes that divide the batches among them.
    """
    batches = -(-count // batch)
    if batches < world.size:
        return compute(slice(0, count))
    shares = all_shares(batches, world)
    ends = [min(share.stop * batch, count) for share in shares]
    starts = [share.start * batch for share in shares]
    counts = [end - start for start, end in zip(starts, ends, strict=True)]
    return gather_rows(compute(slice(starts[world.rank], ends[world.rank])), counts, world)


def sum_gradients(gradients: Sequence[Tensor], world: World) -> list[Tensor]:
    """Return the sums over all processes, added up as a binary tree: (0 + 1) + (2 + 3) …

    A process that holds the sum of several shards holds a branch of the tree. So the sums are the
    same, to the bit, for 1, 2, 4 … processes.

    Args:
        gradients: float32 tensors, of the same shapes in all processes.
        world: a number of processes that is a power of two.
    """
    if world.size == 1:
        return list(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    for chunk in flat.split(CHUNK):
        parts = chunk.new_empty(world.size, len(chunk))
        dist.all_gather_single(parts.view(-1), chunk)
        while len(parts) > 1:
            parts = parts[0::2] + parts[1::2]
        chunk.copy_(parts[0])
    sizes = [gradient.numel() for gradient in gradients]
    return [
        total.view(gradient.shape)
        for total, gradient in zip(flat.split(sizes), gradients, strict=True)
    ]


def from_first(tensors: dict[str, Tensor], world: World) -> None:
    """Overwrite tensors with those of the first process; all processes have the same names."""
    if world.size == 1:
        return
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        dist.broadcast(value, src=0)
        tensors[name].detach().copy_(value)


def facts_from_first(facts: Any, world: World) -> Any:
    """Return what the first process passes, which JSON can hold; the others' facts are ignored."""
    if world.size == 1:
        return facts
    text = json.dumps(facts).encode() if world.is_first else b""
    length = torch.tensor([len(text)])
    dist.broadcast(length, src=0)
    letters = torch.zeros(int(length), dtype=torch.uint8)
    if world.is_first:
        letters.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    dist.broadcast(letters, src=0)
    return json.loads(letters.numpy().tobytes())


def tensors_from_first(tensors: dict[str, Tensor] | None, world: World) -> dict[str, Tensor]:
    """Return the tensors on the CPU that the first process passes; the others pass None."""
    tensors = tensors or {}
    if world.size == 1:
        return tensors
    described = {
        name: [list(value.shape), str(value.dtype).removeprefix("torch.")]
        for name, value in tensors.items()
    }
    described = facts_from_first(described, world)
    if not world.is_first:
        tensors = {
            name: torch.empty(shape, dtype=getattr(torch, kind))
            for name, (shape, kind) in described.items()
        }
    from_first(tensors, world)
    return tensors
