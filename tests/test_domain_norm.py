"""Batch norms of two domains: halves, groups, running statistics, and back to plain ones."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stages.parts.network.domain_norm import (
    DomainNorm,
    group_statistics,
    keep_target,
    split_domains,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))
    )
    for norm in (net[1], net[2][1]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return net


def images(batch: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 6, 5, generator=torch.Generator().manual_seed(seed)) * 2 + 1


@pytest.mark.parametrize("batch", [4, 16])
def test_halves_are_two_plain_networks(batch: int):
    plain_source, plain_target, both = network(), network(), split_domains(network())
    source, target = images(batch), images(batch, 2) * 5
    out = both(torch.cat([source, target]))
    torch.testing.assert_close(out, torch.cat([plain_source(source), plain_target(target)]))
    both.eval(), plain_target.eval()
    torch.testing.assert_close(both(source), plain_target(source))


def test_groups_are_normalized_apart_and_the_first_one_is_remembered():
    plain, grouped = nn.BatchNorm2d(3), DomainNorm(nn.BatchNorm2d(3), group=4)
    batch = images(12) * torch.arange(1, 13).view(-1, 1, 1, 1)
    out = grouped(batch)
    for group, result in zip(batch.split(4), out.split(4), strict=True):
        torch.testing.assert_close(result, nn.BatchNorm2d(3)(group))
    plain(batch[:4])
    torch.testing.assert_close(grouped.target.state_dict(), plain.state_dict())


def test_one_group_is_the_plain_batch_norm():
    batch = images(8)
    assert torch.equal(DomainNorm(nn.BatchNorm2d(3), group=8)(batch), nn.BatchNorm2d(3)(batch))


def test_groups_within_domains():
    pair = split_domains(nn.BatchNorm1d(5), group=2)
    batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        pair(batch), torch.cat([nn.BatchNorm1d(5)(group) for group in batch.split(2)])
    )


def test_back_to_plain_has_the_target_and_the_plain_names():
    plain, both = network(), split_domains(network(), group=2)
    for _ in range(3):
        both(torch.cat([images(4), images(4, 2) * 3]))
    target = {k: v.clone() for k, v in both.state_dict().items() if ".target." in k}
    both.eval()
    before = both(images(5))
    kept = keep_target(both)
    assert list(kept.state_dict()) == list(plain.state_dict())
    assert type(kept[1]) is nn.BatchNorm2d
    assert torch.equal(kept[1].running_mean, target["1.target.running_mean"])
    assert torch.equal(kept(images(5)), before)


def test_back_from_grouped_statistics():
    grouped = group_statistics(network(), 2)
    grouped(images(4))
    assert list(keep_target(grouped).state_dict()) == list(network().state_dict())


def test_a_single_batch_norm_is_replaced_too():
    assert isinstance(keep_target(split_domains(nn.BatchNorm1d(4))), nn.BatchNorm1d)


def test_copies_are_equal_but_not_shared():
    pair = split_domains(network())[1]
    assert torch.equal(pair.source.weight, pair.target.weight)
    pair.source.weight.data += 1
    assert not torch.equal(pair.source.weight, pair.target.weight)


def test_frozen_weights_are_freed_unless_asked_to_stay():
    norm = nn.BatchNorm1d(4)
    norm.bias.requires_grad_(False)
    kept = split_domains(copy.deepcopy(norm), keep_frozen=True)
    assert [kept.source.bias.requires_grad, kept.target.bias.requires_grad] == [False, False]
    freed = split_domains(copy.deepcopy(norm))
    assert [freed.source.bias.requires_grad, freed.target.bias.requires_grad] == [True, True]
    assert not keep_target(group_statistics(norm, 2)).bias.requires_grad


def test_training_mode_is_kept():
    assert not split_domains(network().eval())[1].training
    assert split_domains(network())[1].training


@pytest.mark.parametrize(("kind", "norm"), [("bn2d", nn.BatchNorm2d), ("bn1d", nn.BatchNorm1d)])
def test_golden_layers(gold, kind: str, norm: type[nn.Module]):
    g = {
        k.removeprefix(f"{kind}_"): torch.from_numpy(v)
        for k, v in gold("spcl/dsbn.npz").items()
        if k.startswith(kind)
    }
    plain = norm(len(g["weight"]))
    plain.load_state_dict(
        {
            "weight": g["weight"],
            "bias": g["bias"],
            "running_mean": g["running_mean0"],
            "running_var": g["running_var0"],
            "num_batches_tracked": torch.tensor(0),
        }
    )
    pair = split_domains(plain)
    np.testing.assert_allclose(pair(g["x"]).detach(), g["train_out"], atol=2e-6, rtol=0)
    for domain, branch in (("S", pair.source), ("T", pair.target)):
        np.testing.assert_allclose(
            branch.running_mean, g[f"running_mean_{domain}"], atol=1e-6, rtol=0
        )
        np.testing.assert_allclose(
            branch.running_var, g[f"running_var_{domain}"], atol=1e-6, rtol=0
        )
    np.testing.assert_allclose(pair.eval()(g["x"]).detach(), g["eval_out"], atol=2e-6, rtol=0)


def test_two_images_are_the_smallest_group():
    norm, x = nn.BatchNorm1d(4), images(4).flatten(1)[:, :4]
    grouped = DomainNorm(copy.deepcopy(norm), group=2)(x)
    torch.testing.assert_close(grouped, torch.cat([norm(x[:2]), norm(x[2:])]))


def test_batches_that_do_not_divide():
    with pytest.raises(ValueError, match="a batch of 5 images has no halves"):
        split_domains(nn.BatchNorm1d(4))(torch.ones(5, 4))
    with pytest.raises(ValueError, match="6 images of a domain do not divide into groups of 4"):
        DomainNorm(nn.BatchNorm1d(4), group=4)(torch.ones(6, 4))
    with pytest.raises(ValueError, match="a group of 1 images has no variance"):
        group_statistics(nn.BatchNorm1d(4), 1)
