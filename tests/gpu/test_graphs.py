"""A network's passes as CUDA graphs: the same bits as kernel by kernel."""

import pytest
import torch

from stages.parts.network.backbone import Extras
from stages.parts.network.domain_norm import split_domains
from stages.parts.network.head import Embedder, build
from stages.parts.run.graphs import Function
from stages.parts.run.shards import Shards
from stages.parts.run.world import ALONE


class KernelByKernel(Shards):
    """Shards that make no graph."""

    def _apply(self, function: Function, images: torch.Tensor, visible: int | None):
        return function(images, visible)


def trained(gpu: torch.device, kind: type[Shards], network: Embedder) -> dict[str, torch.Tensor]:
    """The state of a network after two epochs of four steps, one of them with fewer images."""
    network.to(gpu).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=5e-4, fused=True)
    shards = kind(network, 1, ALONE)

    def forward(images: torch.Tensor, visible: int | None) -> list[torch.Tensor]:
        return network.pooled(images, visible)

    for number, count in enumerate(2 * (16, 16, 8, 16)):
        draws = torch.Generator().manual_seed(number)
        images = torch.randn(count, 3, 96, 48, generator=draws).to(gpu)
        images = images.contiguous(memory_format=torch.channels_last)
        rows = shards.forward(forward, images, [count // 2, count // 2], count // 2)
        optimizer.zero_grad(set_to_none=True)
        sum(level.square().mean() for level in rows).backward()
        shards.backward()
        optimizer.step()
        if number % 4 == 3:
            assert len(shards._graphs) == (2 if kind is Shards else 0)
            shards.share_statistics()
    return {name: value.cpu() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("half_precision", [False, True])
@pytest.mark.parametrize("kind", ["narrow", "resnet50", "extras", "domains"])
def test_graphs_change_no_bit(gpu: torch.device, kind: str, half_precision: bool) -> None:
    """Weights and running statistics, which making the graphs must not touch."""

    def network() -> Embedder:
        extras = Extras("gem", two_stream=True, non_local=True)
        name = "narrow" if kind in ("narrow", "domains") else "resnet50"
        made = build(Embedder, 0, name, *([extras] if kind == "extras" else []))
        made.half_precision = half_precision
        if kind == "domains":
            split_domains(made, 4)
        return made

    graphs, kernels = (trained(gpu, each, network()) for each in (Shards, KernelByKernel))
    assert graphs.keys() == kernels.keys()
    for name, value in graphs.items():
        assert torch.equal(value, kernels[name]), name
