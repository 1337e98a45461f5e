"""A batch in shards: the same rows and gradients as by hand, in an order that is fixed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stages.parts.network.domain_norm import split_domains
from stages.parts.network.head import IdentityNetwork, build
from stages.parts.run import graphs
from stages.parts.run import shards as sharding
from stages.parts.run.graphs import Function
from stages.parts.run.shards import Shards
from stages.parts.run.world import ALONE, World


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 16, 8, generator=generator)


class Small(nn.Module):
    """A convolution with batch normalization, pooled, and a layer that no output uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.norm(self.convolution(images)).relu().mean((2, 3))


def step(network: nn.Module, count: int, batch: Tensor, blocks: list[int]) -> Tensor:
    """One step with shards; the loss weights every row differently. Returns the rows."""
    shards = Shards(network, count, ALONE)
    (rows,) = shards.forward(lambda part, _: [network(part)], batch, blocks)
    (rows * torch.arange(rows.numel()).view_as(rows)).sum().backward()
    shards.backward()
    return rows.detach()


@settings(deadline=None)
@given(st.lists(st.integers(4, 9), min_size=1, max_size=3), st.sampled_from([1, 2, 4]))
def test_rows_come_back_in_the_order_of_the_batch(blocks: list[int], count: int) -> None:
    batch = images(sum(blocks))
    shards = Shards(nn.Identity(), count, ALONE)
    visible = sum(blocks[:-1])
    seen = []

    def pixel(part: Tensor, first: int | None) -> list[Tensor]:
        seen.append((len(part), first))
        return [part[:, 0, 0, :2], part[:, 1, 1, :1]]

    two, one = shards.forward(pixel, batch, blocks, visible)
    assert torch.equal(two, batch[:, 0, 0, :2])
    assert torch.equal(one, batch[:, 1, 1, :1])
    assert sum(size for size, _ in seen) == len(batch)
    assert sum(first for _, first in seen) == visible  # type: ignore[misc]


def test_one_shard_is_the_plain_step() -> None:
    batch, plain, network = images(8), Small(), Small()
    rows = plain(batch)
    (rows * torch.arange(rows.numel()).view_as(rows)).sum().backward()
    assert torch.equal(step(network, 1, batch, [8]), rows)
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]
    assert torch.equal(network.norm.running_mean, plain.norm.running_mean)


def test_a_shard_is_normalized_by_itself_and_gradients_add_up_as_a_tree() -> None:
    batch, network = images(16), Small()
    rows = step(network, 4, batch, [8, 8])
    weights = torch.arange(rows.numel()).view_as(rows)
    gradients = []
    for number in range(4):
        alone = Small()
        members = torch.tensor([2 * number, 2 * number + 1, 8 + 2 * number, 9 + 2 * number])
        expected = alone(batch[members])
        assert torch.equal(rows[members], expected)
        (expected * weights[members]).sum().backward()
        gradients.append(alone.convolution.weight.grad)
        if number == 0:  # the running statistics are those of the first shard
            assert torch.equal(network.norm.running_var, alone.norm.running_var)
            assert int(network.norm.num_batches_tracked) == 1
    one, two, three, four = gradients
    assert torch.equal(network.convolution.weight.grad, (one + two) + (three + four))
    assert network.unused.weight.grad is None


def test_without_batch_normalization_shards_change_nothing_but_rounding() -> None:
    batch, whole, parts = images(12).double(), Small().double(), Small().double()
    for network in (whole, parts):
        network.norm.eval()
    step(whole, 1, batch, [12])
    step(parts, 4, batch, [12])
    torch.testing.assert_close(parts.convolution.weight.grad, whole.convolution.weight.grad)


def test_gradients_have_the_memory_layout_of_the_weights() -> None:
    network = Small().to(memory_format=torch.channels_last)
    step(network, 2, images(8).contiguous(memory_format=torch.channels_last), [8])
    weight = network.convolution.weight
    assert weight.grad.stride() == weight.stride()


class OnGpu(Tensor):
    """A tensor on the CPU that says it is on a GPU."""

    is_cuda = True


def test_a_gpu_runs_a_graph_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is made once, serves one shard, and ends with the epoch. tests/gpu runs real ones."""
    made = []

    def graphed(network: nn.Module, function: Function, example: Tensor, visible: int | None):
        made.append((tuple(example.shape[:1]), visible))
        return lambda batch: function(batch, visible)

    monkeypatch.setattr(sharding, "graphed", graphed)
    network = Small()
    shards = Shards(network, 1, ALONE)

    def forward(part: Tensor, _: int | None) -> list[Tensor]:
        return [network(part)]

    for count in (8, 8, 6, 8):
        shards.forward(forward, images(count).as_subclass(OnGpu), 2 * [count // 2], count // 2)
    assert made == [((8,), 4), ((6,), 3)]
    network.convolution.weight.grad = torch.ones_like(network.convolution.weight)
    shards.share_statistics()
    assert network.convolution.weight.grad is None  # it would keep the memory of a graph
    shards.forward(forward, images(8).as_subclass(OnGpu), [8], 4)
    assert len(made) == 3
    several = Shards(network, 2, ALONE)
    several.forward(forward, images(8).as_subclass(OnGpu), [8], 4)
    assert len(made) == 3


def test_making_a_graph_leaves_the_running_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(module: nn.Module, arguments: tuple[Tensor], **_: object) -> None:
        module(*arguments)  # as torch does to find out what happens

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    network, batch = Small(), images(8)
    before = [value.clone() for value in network.buffers()]
    seen = []

    def forward(part: Tensor, visible: int | None) -> list[Tensor]:
        seen.append((part.data_ptr(), visible))
        return [network(part)]

    passes = graphs.graphed(network, forward, batch, 3)
    assert all(map(torch.equal, network.buffers(), before))
    (rows,) = passes(batch)
    assert torch.equal(rows, Small()(batch))
    assert [visible for _, visible in seen] == [3, 3]
    assert seen[0][0] != batch.data_ptr()  # the graph's own pictures are none of the caller's
    assert not all(map(torch.equal, network.buffers(), before))


def test_a_graph_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: object, **__: object) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 2 GiB"):
        graphs.graphed(Small(), lambda part, _: [part], images(2), None)


def test_a_shard_has_its_share_of_both_domains() -> None:
    """As SpCL's four GPUs: each normalizes the source's and the target's images it has."""
    batch, network = images(16), split_domains(Small())
    rows = step(network, 2, batch, [8, 8])
    alone = split_domains(Small())
    members = torch.cat([torch.arange(4), 8 + torch.arange(4)])
    assert torch.equal(rows[members], alone(batch[members]))
    source, target = network.norm.source, network.norm.target
    assert torch.equal(source.running_mean, alone.norm.source.running_mean)
    assert torch.equal(target.running_mean, alone.norm.target.running_mean)


def test_a_level_that_no_loss_uses_has_no_say() -> None:
    network = build(IdentityNetwork, 0, "narrow", 3)
    shards = Shards(network.backbone, 2, ALONE)
    pooled = shards.forward(network.pooled, images(8), [4, 4], visible=4)
    network.behind(pooled).logits.sum().backward()
    shards.backward()
    assert network.backbone.conv1.weight.grad.abs().sum() > 0
    assert network.classifier.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (3, 1, "3 is not a power of two"),
        (0, 1, "0 is not a power of two"),
        (2, 4, "device.shards: 2, but 4 processes were started"),
        (4, 3, "expected a number that they divide"),
    ],
)
def test_what_cannot_be_divided_is_refused(count: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shards(nn.Identity(), count, World(0, size))
