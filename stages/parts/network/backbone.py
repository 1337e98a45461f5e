"""Backbones that give the pooled output of every level.

ARCHITECTURES names them all. A new backbone is one more entry there, and its name in
`stages/parts/run/settings.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, WeightsEnum, get_model
from torchvision.models.resnet import BasicBlock


class Backbone(nn.Module, ABC):
    """Base of all backbones; a subclass gives the feature maps of its levels.

    Attributes:
        architecture: the backbone's name in ARCHITECTURES.
        sizes: C_0 … C_L, the channels of the levels.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.architecture = architecture
        self.sizes = ARCHITECTURES[architecture].sizes

    @abstractmethod
    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps (B, C_l, H_l, W_l) of images (B, 3, H, W), level by level."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the global averages (B, C_0) … (B, C_L) of the levels of images (B, 3, H, W)."""
        return tuple(level.mean((2, 3)) for level in self.levels(images))


class Architecture(NamedTuple):
    """What a name in ARCHITECTURES stands for."""

    build: Callable[[str], Backbone]  # from the name; draws from torch's global generator
    sizes: tuple[int, ...]  # channels of the levels
    weights: WeightsEnum | None = None  # trained on ImageNet


class ResNet(Backbone):
    """Stem and four residual stages: five levels.

    The last stage has stride 1, which doubles its map (18 × 9 for images of 288 × 144). Level 0 is
    taken behind the stem's pooling, as in OTLA's released code. Parameters have torchvision's names
    (`conv1`, `bn1`, `layer1` …), so its weights fit.
    """

    def __init__(self, architecture: str, network: Any) -> None:
        super().__init__(architecture)
        self.conv1: nn.Module = network.conv1
        self.bn1: nn.Module = network.bn1
        self.relu: nn.Module = network.relu
        self.maxpool: nn.Module = network.maxpool
        self.layer1: nn.Module = network.layer1
        self.layer2: nn.Module = network.layer2
        self.layer3: nn.Module = network.layer3
        self.layer4: nn.Sequential = network.layer4
        _keep_resolution(self.layer4[0])

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return five feature maps (B, C_l, H_l, W_l)."""
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        stage1 = self.layer1(stem)
        stage2 = self.layer2(stage1)
        stage3 = self.layer3(stage2)
        stage4 = self.layer4(stage3)
        return stem, stage1, stage2, stage3, stage4


class _NarrowNetwork(nn.Module):
    """A residual network for small images and a CPU, with one block in each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()
        self.layer1 = nn.Sequential(BasicBlock(16, 16))
        self.layer2 = nn.Sequential(_block(16, 32))
        self.layer3 = nn.Sequential(_block(32, 64))
        self.layer4 = nn.Sequential(_block(64, 128))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _block(narrow: int, wide: int) -> BasicBlock:
    convolution = nn.Conv2d(narrow, wide, 1, stride=2, bias=False)
    shortcut = nn.Sequential(convolution, nn.BatchNorm2d(wide))
    return BasicBlock(narrow, wide, 2, shortcut)


def _keep_resolution(block: Any) -> None:
    """Set stride 1 in the first block of a stage, in its 3 × 3 convolution and its shortcut."""
    strided = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    strided.stride = (1, 1)
    block.downsample[0].stride = (1, 1)


def _narrow(name: str) -> Backbone:
    return ResNet(name, _NarrowNetwork())


def _resnet(name: str) -> Backbone:
    return ResNet(name, get_model(name, weights=None))


ARCHITECTURES = {
    "narrow": Architecture(_narrow, (16, 16, 32, 64, 128)),
    "resnet18": Architecture(_resnet, (64, 64, 128, 256, 512), ResNet18_Weights.IMAGENET1K_V1),
    "resnet50": Architecture(_resnet, (64, 256, 512, 1024, 2048), ResNet50_Weights.IMAGENET1K_V1),
}


def build_backbone(architecture: str) -> Backbone:
    """Return the backbone of a name in ARCHITECTURES, with weights from torch's global generator.

    Raises:
        ValueError: for any other name.

    >>> build_backbone("narrow").sizes
    (16, 16, 32, 64, 128)
    """
    if architecture not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture {architecture!r} is not one of {names}")
    return ARCHITECTURES[architecture].build(architecture)


def imagenet_weights(architecture: str) -> dict[str, Tensor]:
    """Return a backbone's weights from training on ImageNet, without the classifier.

    They are torchvision's IMAGENET1K_V1, downloaded to torch's cache when they are first used.

    Raises:
        ValueError: for an architecture that has none, or if the download fails.
    """
    known = ARCHITECTURES.get(architecture)
    if known is None or known.weights is None:
        problem = f"there are no imagenet weights for {architecture}"
        raise ValueError(f"network.weights: {problem}; use none or a path")
    try:
        # Torchvision's files are pickles; of these, torch reads tensors only.
        tensors = known.weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        problem = f"imagenet weights of {architecture} cannot be downloaded"
        raise ValueError(f"network.weights: {problem}: {error}") from None
    return {name: value for name, value in tensors.items() if not name.startswith("fc.")}
