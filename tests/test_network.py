"""Backbones, necks, classifier: shapes and laws, then the reference network tensor for tensor."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.parts.network import backbone
from stages.parts.network.backbone import build_backbone
from stages.parts.network.embed import embed, gather
from stages.parts.network.head import Embedder, IdentityNetwork, build


@pytest.mark.parametrize("architecture", ["narrow", "resnet18"])
def test_levels_have_the_stated_sizes(architecture: str) -> None:
    network = build(IdentityNetwork, 0, architecture, 7)
    outputs = network.outputs(torch.randn(4, 3, 96, 48))
    sizes = network.backbone.sizes
    assert [level.shape for level in network.pooled(torch.randn(4, 3, 96, 48))] == [
        (4, size) for size in sizes
    ]
    assert outputs.pooled.shape == (4, sizes[-1])
    assert outputs.logits.shape == (4, 7)
    assert outputs.levels.shape == (4, sum(sizes))


def test_an_unknown_architecture_is_named() -> None:
    names = "narrow, resnet18, resnet50"
    with pytest.raises(ValueError, match=f"architecture 'vgg' is not one of {names}"):
        backbone.build_backbone("vgg")


def test_one_entry_in_the_table_is_a_new_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is no ResNet: it has two levels and none of torchvision's names."""

    class Patches(backbone.Backbone):
        def __init__(self, architecture: str, extras: backbone.Extras) -> None:
            super().__init__(architecture, extras)
            self.patches = nn.Conv2d(3, 8, 16, stride=16)
            self.mixing = nn.Conv2d(8, 12, 1)

        def levels(self, images: Tensor, visible: int | None = None) -> tuple[Tensor, ...]:
            patches = self.patches(images)
            return patches, self.mixing(patches)

    entry = backbone.Architecture(Patches, (8, 12))
    monkeypatch.setitem(backbone.ARCHITECTURES, "patches", entry)
    network = build(IdentityNetwork, 0, "patches", 7)
    outputs = network.outputs(torch.randn(4, 3, 96, 48))
    assert [tuple(output.shape) for output in outputs] == [(4, 12), (4, 7), (4, 20)]
    assert embed(network, [torch.randn(4, 3, 96, 48)]).shape == (4, 12)
    with pytest.raises(ValueError, match="there are no imagenet weights for patches"):
        backbone.imagenet_weights("patches")


def test_equal_seeds_give_equal_weights_and_leave_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (build(Embedder, seed, "narrow").state_dict() for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch() -> None:
    network = build(Embedder, 0, "narrow")
    images = torch.randn(7, 3, 96, 48)
    together = embed(network, [images])
    apart = embed(network, images.split(2))
    assert torch.allclose(together.norm(dim=1), torch.ones(7), atol=1e-6)
    assert torch.allclose(together, apart, atol=1e-5)
    assert network.training
    assert embed(network, []).shape == (0,)


def test_a_stored_network_fits_both_kinds() -> None:
    network = build(IdentityNetwork, 3, "narrow", 5)
    embedder = build(Embedder, 4, "narrow")
    embedder.restore(network.state_dict())
    again = build(IdentityNetwork, 5, "narrow", 9)
    again.restore(embedder.state_dict())
    images = torch.randn(3, 3, 96, 48)
    assert torch.equal(embed(network, [images]), embed(again, [images]))


def test_a_stored_network_of_another_shape_is_refused() -> None:
    tensors = build(Embedder, 0, "resnet18").state_dict()
    message = r"stored network: backbone.conv1.weight: found \[64, 3, 7, 7\], expected \[16"
    with pytest.raises(ValueError, match=message):
        build(Embedder, 0, "narrow").restore(tensors)


def test_bfloat16_changes_the_backbone_only() -> None:
    network = build(IdentityNetwork, 0, "narrow", 5).eval()
    images = torch.randn(4, 3, 96, 48)
    exact = network.predict(images)
    network.half_precision = True
    half = network.predict(images)
    assert half.dtype == exact.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.allclose(half, exact, atol=0.05)


def test_imagenet_weights_are_for_known_architectures() -> None:
    with pytest.raises(ValueError, match="there are no imagenet weights for narrow"):
        backbone.imagenet_weights("narrow")


def test_a_failed_download_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    weights = backbone.ARCHITECTURES["resnet18"].weights
    monkeypatch.setattr(type(weights), "get_state_dict", fail)
    message = "imagenet weights of resnet18 cannot be downloaded: no route to host"
    with pytest.raises(ValueError, match=message):
        backbone.imagenet_weights("resnet18")


@pytest.fixture(scope="module")
def reference(
    gold: Callable[[str], np.lib.npyio.NpzFile],
) -> tuple[IdentityNetwork, np.lib.npyio.NpzFile]:
    """Our ResNet-50 with the weights of the reference network."""
    arrays = gold("otla/network.npz")
    ours = {"bottleneck": "neck", "classifier": "classifier"} | {
        f"bottleneck_{i}": f"level_necks.{i}" for i in range(4)
    }
    network = IdentityNetwork("resnet50", int(arrays["class_num"]))
    state = network.state_dict()
    filled = set()
    for number, name in enumerate(arrays["param_names"].tolist()):
        head, _, leaf = name.rpartition(".")
        place = f"{ours[head]}.{leaf}" if head in ours else f"backbone.{name}"
        if head.startswith("disnet") or place not in state:
            continue
        random, shape = np.random.RandomState(1000 + number), tuple(state[place].shape)
        state[place] = torch.from_numpy(_weight(random, leaf, shape).astype(np.float32))
        filled.add(place)
    assert {name for name in state if not name.endswith("num_batches_tracked")} == filled
    network.load_state_dict(state)
    return network, arrays


def _weight(random: np.random.RandomState, leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    if leaf == "running_var":
        return 0.5 + random.rand(*shape)
    if len(shape) == 4:
        return random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
    if len(shape) == 2:
        return random.randn(*shape) / np.sqrt(shape[1])
    return 1 + 0.1 * random.randn(*shape) if leaf == "weight" else 0.1 * random.randn(*shape)


def close(ours: Tensor, theirs: np.ndarray, tolerance: float = 2e-4) -> bool:
    """Agreement relative to the largest entry: fifty layers of float32 on another order of sums."""
    difference = float((ours - torch.from_numpy(theirs)).abs().max())
    return difference <= tolerance * float(np.abs(theirs).max())


def test_test_features_agree_with_the_reference(
    reference: tuple[IdentityNetwork, np.lib.npyio.NpzFile],
) -> None:
    network, arrays = reference
    for modality in ("rgb", "ir"):
        ours = embed(network, [torch.from_numpy(arrays[f"x_{modality}"])])
        assert close(ours, arrays[f"eval_feat_{modality}"])


def test_training_outputs_agree_with_the_reference(
    reference: tuple[IdentityNetwork, np.lib.npyio.NpzFile],
) -> None:
    network, arrays = reference
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.from_numpy(np.concatenate([arrays["x_rgb"], arrays["x_ir"]]))
    network.train()
    with torch.no_grad():
        pooled, outputs = network.pooled(images), None
        network.load_state_dict(before)  # the pass above moved the running statistics
        outputs = network.outputs(images)
    for level in range(4):
        assert close(pooled[level], arrays[f"pool{level}"])
    assert close(outputs.pooled, arrays["train_pool4"])
    assert close(outputs.logits, arrays["train_logits"], 1e-3)
    assert close(network.neck.running_mean, arrays["run_mean_bottleneck_after"])
    assert close(network.neck.running_var, arrays["run_var_bottleneck_after"])
    network.load_state_dict(before)


def test_parameters_and_their_start_agree_with_the_reference(
    reference: tuple[IdentityNetwork, np.lib.npyio.NpzFile],
) -> None:
    _, arrays = reference
    network = build(IdentityNetwork, 0, "resnet50", 13)
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert fixed == {"neck.bias", *(f"level_necks.{i}.bias" for i in range(4))}
    reference_learning = set(arrays["learn_names"][arrays["learn_requires_grad"].astype(bool)])
    theirs = [name for name in reference_learning if not name.startswith("disnet")]
    assert len(learning) == len(theirs)
    assert network.neck.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert network.classifier.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_gather_restores_the_mode_after_an_error() -> None:
    network = build(Embedder, 0, "narrow")
    with pytest.raises(RuntimeError):
        gather(network, network, [torch.zeros(1, 5, 8, 8)])
    assert network.training


def test_without_a_batch_there_are_no_rows() -> None:
    network = Embedder("narrow")
    assert embed(network, []).shape == (0,)
    assert network.training


def test_the_narrow_network_starts_as_residual_networks_do() -> None:
    """He's rule for the number of outputs: each convolution has the deviation sqrt(2 / fan out)."""
    backbone = build(build_backbone, 0, "narrow")
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 2 + 3 * 3
    assert all(convolution.bias is None for convolution in convolutions)
    for convolution in convolutions:
        height, width = convolution.kernel_size
        expected = (2 / (convolution.out_channels * height * width)) ** 0.5
        few = 4 / convolution.weight.numel() ** 0.5
        assert float(convolution.weight.detach().std()) == pytest.approx(expected, rel=few)
