"""Residual backbones that give the pooled output of every level."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, get_model
from torchvision.models.resnet import BasicBlock, ResNet18_Weights

IMAGENET = {"resnet18": ResNet18_Weights.IMAGENET1K_V1, "resnet50": ResNet50_Weights.IMAGENET1K_V1}


class Backbone(nn.Module):
    """Stem and four residual stages, the last one with stride 1 (twice the map: 18 × 9 for 288 × 144).

    Parameters carry torchvision's names (`conv1`, `bn1`, `layer1` …), so its weights fit.
    `sizes` are the channels of the five levels.
    """

    def __init__(self, architecture: str, network: Any, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.architecture = architecture
        self.conv1: nn.Module = network.conv1
        self.bn1: nn.Module = network.bn1
        self.relu: nn.Module = network.relu
        self.maxpool: nn.Module = network.maxpool
        self.layer1: nn.Module = network.layer1
        self.layer2: nn.Module = network.layer2
        self.layer3: nn.Module = network.layer3
        self.layer4: nn.Sequential = network.layer4
        self.sizes = sizes
        _keep_resolution(self.layer4[0])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """float (B, 3, H, W) → global averages of the levels, (B, C_0) … (B, C_4).

        Level 0 is taken behind the stem's pooling, as in OTLA's released code.
        """
        levels = [self.maxpool(self.relu(self.bn1(self.conv1(images))))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            levels.append(layer(levels[-1]))
        return tuple(level.mean((2, 3)) for level in levels)


class _Narrow(nn.Module):
    """A residual network for small pictures and a CPU: 16-32-64-128 channels, one block a stage."""

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
    shortcut = nn.Sequential(nn.Conv2d(narrow, wide, 1, stride=2, bias=False), nn.BatchNorm2d(wide))
    return BasicBlock(narrow, wide, 2, shortcut)


def _keep_resolution(block: Any) -> None:
    """Stride 1 in a stage's first block: the 3 × 3 convolution that carries the stride, and the shortcut."""
    strided = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    strided.stride = (1, 1)
    block.downsample[0].stride = (1, 1)


def build_backbone(architecture: str) -> Backbone:
    """`narrow`, `resnet18` or `resnet50`, initialized at random from torch's global generator."""
    if architecture == "narrow":
        return Backbone(architecture, _Narrow(), (16, 16, 32, 64, 128))
    sizes = {"resnet18": (64, 64, 128, 256, 512), "resnet50": (64, 256, 512, 1024, 2048)}
    if architecture not in sizes:
        raise ValueError(f"architecture {architecture!r} is not one of narrow, {', '.join(sizes)}")
    return Backbone(architecture, get_model(architecture, weights=None), sizes[architecture])


def imagenet_weights(architecture: str) -> dict[str, Tensor]:
    """torchvision's IMAGENET1K_V1 weights without the classifier; downloaded to torch's cache on first use.

    Raises ValueError for an architecture that has none, or when the download fails.
    """
    if architecture not in IMAGENET:
        raise ValueError(
            f"network.weights: there are no imagenet weights for {architecture}; use none or a path"
        )
    try:
        tensors = IMAGENET[architecture].get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise ValueError(
            f"network.weights: imagenet weights of {architecture} cannot be downloaded: {error}"
        ) from None
    return {name: value for name, value in tensors.items() if not name.startswith("fc.")}
