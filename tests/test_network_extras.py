"""What a backbone has beyond its architecture: generalized mean, two streams, non-local blocks."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.parts.network import backbone
from stages.parts.network.backbone import Extras, build_backbone
from stages.parts.network.domain_norm import keep_target, split_domains
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.network.non_local import NonLocal
from stages.parts.network.pooling import SMALLEST, Average, GeneralizedMean

ALL = Extras("gem", two_stream=True, non_local=True)
TWO_STREAM, NON_LOCAL = Extras(two_stream=True), Extras(non_local=True)
ARCHITECTURES = ("narrow", "resnet18", "resnet50")


def random(*shape: int, seed: int = 0, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=kind)


IMAGES = random(6, 3, 32, 16)


# Generalized mean


def generalized_mean(exponent: float) -> GeneralizedMean:
    """One in float64, whose numbers have room for large powers."""
    pool = GeneralizedMean().double()
    nn.init.constant_(pool.exponent, exponent)
    return pool


def test_the_generalized_mean_lies_between_average_and_maximum() -> None:
    maps = random(4, 5, 6, 3, kind=torch.float64).abs()
    average, largest = Average()(maps), maps.amax((2, 3))
    torch.testing.assert_close(generalized_mean(1)(maps), average)
    torch.testing.assert_close(generalized_mean(300)(maps), largest, rtol=0.02, atol=0)
    means = [generalized_mean(exponent)(maps) for exponent in (1, 2, 3, 10, 300)]
    for lower, higher in itertools.pairwise(means):
        assert (lower < higher).all()
    assert (means[-1] < largest).all()


def test_the_generalized_mean_is_its_definition() -> None:
    maps = random(2, 3, 4, 2).clamp(min=0)  # as behind a ReLU: half of the values are 0
    found = GeneralizedMean()(maps)
    for image, channel in np.ndindex(2, 3):
        values = np.maximum(maps[image, channel].numpy().astype(np.float64), SMALLEST)
        expected = np.mean(values**3) ** (1 / 3)
        assert float(found[image, channel].detach()) == pytest.approx(expected, rel=1e-5)


def test_maps_and_exponent_have_the_gradient_of_the_definition() -> None:
    pool = generalized_mean(3)
    maps = (0.1 + random(2, 3, 4, 2, kind=torch.float64).abs()).requires_grad_()

    def pooled(maps: Tensor, exponent: Tensor) -> Tensor:
        return torch.func.functional_call(pool, {"exponent": exponent}, (maps,))

    assert torch.autograd.gradcheck(pooled, (maps, pool.exponent))


def test_a_map_of_zeros_has_a_finite_gradient() -> None:
    pool, maps = GeneralizedMean(), torch.zeros(1, 2, 3, 3, requires_grad=True)
    pool(maps).sum().backward()
    assert pool.exponent.grad is not None
    assert maps.grad is not None
    assert torch.isfinite(pool.exponent.grad).all()
    assert torch.isfinite(maps.grad).all()


def test_the_last_level_alone_is_pooled_by_it() -> None:
    plain = build(Embedder, 0, "narrow").eval()
    gem = build(Embedder, 0, "narrow", Extras("gem")).eval()
    with torch.no_grad():
        expected, found = plain.pooled(IMAGES), gem.pooled(IMAGES)
        last = GeneralizedMean()(plain.backbone.levels(IMAGES)[-1])
    assert all(map(torch.equal, expected[:-1], found[:-1]))
    torch.testing.assert_close(found[-1], last)


def test_an_unknown_pooling_is_named() -> None:
    with pytest.raises(ValueError, match="pooling 'max' is not one of average, gem"):
        build_backbone("narrow", Extras("max"))


# Two streams


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_streams_share_everything_but_the_stem(architecture: str) -> None:
    plain = build(build_backbone, 0, architecture)
    two = build(build_backbone, 0, architecture, TWO_STREAM)
    before, state = plain.state_dict(), two.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in before)
    own = state.keys() - before.keys()
    twins = {name.removeprefix("infrared_stem.") for name in own}
    assert twins == {name for name in before if name.split(".")[0] in ("conv1", "bn1")}
    assert all(torch.equal(state[f"infrared_stem.{name}"], before[name]) for name in twins)


@pytest.mark.parametrize("architecture", ARCHITECTURES[:2])
def test_equal_stems_give_the_output_of_one_stream(architecture: str) -> None:
    plain = build(Embedder, 0, architecture).eval()
    two = build(Embedder, 0, architecture, TWO_STREAM).eval()
    expected = plain(IMAGES)
    for visible in (None, 6, 4, 0):
        torch.testing.assert_close(two(IMAGES, visible), expected)
        torch.testing.assert_close(plain(IMAGES, visible), expected)


def test_each_image_takes_the_stem_of_its_modality() -> None:
    """With one stem changed, the images of the other modality stay as they are, bit by bit."""
    network = build(Embedder, 0, "narrow", TWO_STREAM).eval()
    before = network(IMAGES, 4)
    with torch.no_grad():
        network.backbone.infrared_stem.conv1.weight.mul_(-1)
    after = network(IMAGES, 4)
    assert torch.equal(after[:4], before[:4])
    assert not torch.isclose(after[4:], before[4:]).all(1).any()
    torch.testing.assert_close(after[4:], network(IMAGES[4:], 0))


def test_a_stem_learns_from_its_own_modality_only() -> None:
    network = build(IdentityNetwork, 0, "narrow", 3, TWO_STREAM)
    infrared = network.backbone.infrared_stem
    network.backbone.stem(IMAGES, 4)[:4].square().sum().backward()
    assert network.backbone.conv1.weight.grad.any()
    assert not infrared.conv1.weight.grad.any()
    for norm, images in ((network.backbone.bn1, IMAGES[:4]), (infrared.bn1, IMAGES[4:])):
        mean = network.backbone.conv1(images).mean((0, 2, 3))  # both stems are equal still
        torch.testing.assert_close(norm.running_mean, 0.1 * mean)


@pytest.mark.parametrize("visible", [0, 6, None])
def test_a_stem_without_images_keeps_its_statistics(visible: int | None) -> None:
    """A mean over no image would be no number."""
    network = build(Embedder, 0, "narrow", TWO_STREAM)
    idle = network.backbone.bn1 if visible == 0 else network.backbone.infrared_stem.bn1
    before = {name: value.clone() for name, value in idle.state_dict().items()}
    assert network(IMAGES, visible).isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in idle.state_dict().items())


def test_embedding_takes_the_stem_that_is_asked_for() -> None:
    network = build(Embedder, 0, "narrow", TWO_STREAM)
    with torch.no_grad():
        network.backbone.infrared_stem.conv1.weight.mul_(-1)
    infrared = embed(network, IMAGES.split(4), visible=0)
    assert torch.equal(infrared, embed(network, [IMAGES], visible=0))
    assert not torch.isclose(infrared, embed(network, [IMAGES])).all(1).any()


# Non-local blocks


def test_non_local_is_its_definition() -> None:
    """Every pair of places, written out; the norm's running mean is 0, its variance 1."""
    block = NonLocal(5).double().eval()
    assert [layer.out_channels for layer in (block.theta, block.phi, block.g)] == [1, 1, 1]  # AGW
    nn.init.constant_(block.norm.weight, 0.7)
    maps = random(2, 5, 3, 2, kind=torch.float64)
    with torch.no_grad():
        found = block(maps).flatten(2)
        theta, phi, g = (layer(maps).flatten(2) for layer in (block.theta, block.phi, block.g))
        places = maps.flatten(2)
        for image, i in np.ndindex(2, 6):
            attended = sum(
                theta[image, :, i] @ phi[image, :, j] * g[image, :, j] / 6 for j in range(6)
            )
            added = block.w(attended[:, None, None]).flatten()
            scaled = 0.7 * added / (1 + block.norm.eps) ** 0.5
            torch.testing.assert_close(found[image, :, i], places[image, :, i] + scaled)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_non_local_blocks_start_as_the_identity_where_agw_has_them(architecture: str) -> None:
    plain = build(build_backbone, 0, architecture)
    network = build(build_backbone, 1, architecture, NON_LOCAL)
    network.restore(plain.state_dict())
    for train in (False, True):
        plain.train(train)
        network.train(train)
        expected, found = plain.levels(IMAGES), network.levels(IMAGES)
        assert all(map(torch.equal, expected, found))
    counts = [len(blocks) for blocks in network.non_local]
    assert counts == ([0, 2, 3, 0] if architecture == "resnet50" else [0, 1, 1, 0])


def test_non_local_blocks_follow_the_last_blocks_of_a_stage() -> None:
    network = build(build_backbone, 0, "resnet50", NON_LOCAL)
    order: list[str] = []
    for name, module in network.named_modules():
        if name.count(".") == 1 and name.startswith("layer3"):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
        if name.count(".") == 2 and name.startswith("non_local.2"):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    network.eval()(IMAGES)
    blocks = [f"layer3.{number}" for number in range(3)]
    for number in range(3):
        blocks += [f"layer3.{number + 3}", f"non_local.2.{number}"]
    assert order == blocks


def test_a_non_local_block_learns() -> None:
    block = NonLocal(5)
    block(random(4, 5, 3, 2)).square().sum().backward()
    assert block.norm.weight.grad is not None
    assert block.norm.weight.grad.any()
    nn.init.ones_(block.norm.weight)
    block(random(4, 5, 3, 2)).square().sum().backward()
    assert all(
        layer.weight.grad is not None and layer.weight.grad.any()
        for layer in (block.theta, block.phi, block.g, block.w)
    )


# Stored networks


@pytest.mark.parametrize("extras", [Extras("gem"), TWO_STREAM, NON_LOCAL, ALL])
def test_a_stored_network_without_extras_fits(extras: Extras) -> None:
    """The stems are equal, and the other extras are at their start."""
    stored = build(Embedder, 3, "narrow").state_dict()
    network = build(Embedder, 4, "narrow", extras)
    start = dict(network.state_dict())
    network.restore(stored)
    state = network.state_dict()
    assert all(torch.equal(state[name], stored[name]) for name in stored)
    for name in state.keys() - stored.keys():
        twin = name.replace("infrared_stem.", "")
        assert torch.equal(state[name], stored.get(twin, start[name])), name


def test_a_network_with_extras_comes_back_as_it_was() -> None:
    network = build(IdentityNetwork, 3, "narrow", 5, ALL)
    network.outputs(IMAGES, 3)  # moves the running statistics of the two stems apart
    nn.init.constant_(network.backbone.pool.exponent, 2.5)
    again = build(Embedder, 4, "narrow", Extras.of(ALL.facts()))
    again.restore(network.state_dict())
    for visible in (None, 0):
        expected = embed(network, [IMAGES], visible)
        assert torch.equal(embed(again, [IMAGES], visible), expected)


def test_imagenet_weights_fill_both_stems(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build(build_backbone, 5, "resnet18")
    network = build(build_backbone, 6, "resnet18", ALL)
    known = backbone.ARCHITECTURES["resnet18"].weights
    monkeypatch.setattr(type(known), "get_state_dict", lambda *_, **__: plain.state_dict())
    network.restore(backbone.imagenet_weights("resnet18"))
    expected, found = plain.eval().levels(IMAGES), network.eval().levels(IMAGES, 3)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_missing_tensor_is_named_all_the_same() -> None:
    tensors = dict(build(Embedder, 0, "narrow").state_dict())
    del tensors["backbone.conv1.weight"]
    with pytest.raises(ValueError, match=r"stored network: backbone\.conv1\.weight: found nothing"):
        build(Embedder, 0, "narrow", TWO_STREAM).restore(tensors)


def test_facts_name_what_differs_from_the_plain_network() -> None:
    assert Extras().facts() == {}
    assert TWO_STREAM.facts() == {"two_stream": True}
    assert ALL.facts() == {"pooling": "gem", "two_stream": True, "non_local": True}
    for extras in (Extras(), TWO_STREAM, ALL):
        assert Extras.of({"architecture": "narrow"} | extras.facts()) == extras


def test_batch_norms_of_non_local_blocks_are_split_by_domain_too() -> None:
    network = build(Embedder, 0, "narrow", Extras("gem", non_local=True))
    names = set(network.state_dict())
    split_domains(network)(IMAGES)
    assert "backbone.non_local.1.0.norm.source.weight" in network.state_dict()
    assert set(keep_target(network).state_dict()) == names
