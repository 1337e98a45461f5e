"""Backbones that give the pooled output of every level.

ARCHITECTURES names them all. A new backbone is one more entry there, and its name in
`stages/parts/run/settings.py`.
"""

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, WeightsEnum, get_model
from torchvision.models.resnet import BasicBlock

from stages.parts.network.non_local import NonLocal
from stages.parts.network.pooling import POOLINGS

# Modules that a backbone has by its extras only.
INFRARED_STEM, POOL, NON_LOCAL = "infrared_stem", "pool", "non_local"


class Extras(NamedTuple):
    """What a backbone has beyond its architecture, as AGW has it. By default nothing."""

    pooling: str = "average"  # of the last level: a name in POOLINGS
    two_stream: bool = False  # an own stem for infrared images
    non_local: bool = False  # non-local blocks in the middle stages

    def facts(self) -> dict[str, Any]:
        """Return what a file says about them: those that differ from the default."""
        defaults = self._field_defaults
        return {name: value for name, value in self._asdict().items() if value != defaults[name]}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Extras":
        """Return the extras of a stored network, from the facts of its file."""
        return cls(**{name: facts[name] for name in cls._fields if name in facts})


PLAIN = Extras()


class Backbone(nn.Module, ABC):
    """Base of all backbones; a subclass gives the feature maps of its levels.

    Attributes:
        architecture: the backbone's name in ARCHITECTURES.
        extras: what it has beyond that.
        sizes: C_0 … C_L, the channels of the levels.
    """

    def __init__(self, architecture: str, extras: Extras = PLAIN) -> None:
        super().__init__()
        if extras.pooling not in POOLINGS:
            raise ValueError(f"pooling {extras.pooling!r} is not one of {', '.join(POOLINGS)}")
        self.architecture = architecture
        self.extras = extras
        self.sizes = ARCHITECTURES[architecture].sizes
        self.pool = POOLINGS[extras.pooling]()

    @abstractmethod
    def levels(self, images: Tensor, visible: int | None = None) -> tuple[Tensor, ...]:
        """Return the feature maps (B, C_l, H_l, W_l) of images (B, 3, H, W), level by level.

        The first `visible` images are visible ones and the others infrared; None: all are visible.
        Backbones of one stream treat both alike.
        """

    def forward(self, images: Tensor, visible: int | None = None) -> tuple[Tensor, ...]:
        """Return the pooled levels (B, C_0) … (B, C_L) of images, which are those of `levels`.

        The last level is pooled by `extras.pooling`, the others are averaged.
        """
        *lower, last = self.levels(images, visible)
        return (*(level.mean((2, 3)) for level in lower), self.pool(last))

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load the weights of a backbone with the same extras, or without some, see `completed`."""
        self.load_state_dict(completed(tensors, self.state_dict()))


def completed(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` and what only a network with extras has, so that weights without them fit.

    An infrared stem is a copy of the visible one. The exponent of the pooling and the non-local
    blocks stay as they are in `state`.

    Args:
        tensors: stored weights by name.
        state: the state dict of the network that they are for.
    """
    added = {}
    for name, value in state.items():
        parts = name.split(".")
        if name in tensors:
            continue
        if INFRARED_STEM in parts:
            twin = ".".join(part for part in parts if part != INFRARED_STEM)
            if twin in tensors:
                added[name] = tensors[twin]
        elif POOL in parts or NON_LOCAL in parts:
            added[name] = value
    return tensors | added


class Architecture(NamedTuple):
    """What a name in ARCHITECTURES stands for.

    `build` makes a backbone from the name and the extras. It draws from torch's global generator.
    """

    build: Callable[[str, Extras], Backbone]
    sizes: tuple[int, ...]  # channels of the levels
    weights: WeightsEnum | None = None  # trained on ImageNet
    non_local: tuple[int, ...] = ()  # non-local blocks of each stage, behind its last blocks


class ResNet(Backbone):
    """Stem and four residual stages: five levels.

    The last stage has stride 1, which doubles its map (18 × 9 for images of 288 × 144). Level 0 is
    taken behind the stem's pooling, as in OTLA's released code. Parameters have torchvision's names
    (`conv1`, `bn1`, `layer1` …), so its weights fit. With two streams the infrared stem is one more
    module, which starts as a copy of the visible one.
    """

    def __init__(self, architecture: str, network: Any, extras: Extras = PLAIN) -> None:
        super().__init__(architecture, extras)
        self.conv1: nn.Module = network.conv1
        self.bn1: nn.Module = network.bn1
        self.relu: nn.Module = network.relu
        self.maxpool: nn.Module = network.maxpool
        self.layer1: nn.Sequential = network.layer1
        self.layer2: nn.Sequential = network.layer2
        self.layer3: nn.Sequential = network.layer3
        self.layer4: nn.Sequential = network.layer4
        _keep_resolution(self.layer4[0])
        self.infrared_stem = self._copy_of_stem() if extras.two_stream else None
        counts = ARCHITECTURES[architecture].non_local if extras.non_local else (0, 0, 0, 0)
        self.non_local = nn.ModuleList(
            nn.ModuleList(NonLocal(size) for _ in range(count))
            for count, size in zip(counts, self.sizes[1:], strict=True)
        )

    def _copy_of_stem(self) -> nn.Sequential:
        names = ("conv1", "bn1", "relu", "maxpool")
        return nn.Sequential(
            OrderedDict((name, copy.deepcopy(getattr(self, name))) for name in names)
        )

    def levels(self, images: Tensor, visible: int | None = None) -> tuple[Tensor, ...]:
        """Return five feature maps (B, C_l, H_l, W_l)."""
        maps = self.stem(images, visible)
        levels = [maps]
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        for stage, non_local in zip(stages, self.non_local, strict=True):
            maps = _through(stage, non_local, maps)
            levels.append(maps)
        return tuple(levels)

    def stem(self, images: Tensor, visible: int | None = None) -> Tensor:
        """Return level 0 (B, C_0, H_0, W_0), each modality through its own stem."""
        if self.infrared_stem is None or visible is None or visible >= len(images):
            maps: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
            return maps
        infrared: Tensor = self.infrared_stem(images[visible:])
        return torch.cat([self.stem(images[:visible]), infrared]) if visible else infrared


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


def _through(stage: nn.Sequential, non_local: Any, maps: Tensor) -> Tensor:
    """Apply the blocks of a stage; the last ones are followed by a non-local block each."""
    first = len(stage) - len(non_local)
    for number, block in enumerate(stage):
        maps = block(maps)
        if number >= first:
            maps = non_local[number - first](maps)
    return maps


def _keep_resolution(block: Any) -> None:
    """Set stride 1 in the first block of a stage, in its 3 × 3 convolution and its shortcut."""
    strided = block.conv1 if isinstance(block, BasicBlock) else block.conv2
    strided.stride = (1, 1)
    block.downsample[0].stride = (1, 1)


def _narrow(name: str, extras: Extras) -> Backbone:
    return ResNet(name, _NarrowNetwork(), extras)


def _resnet(name: str, extras: Extras) -> Backbone:
    return ResNet(name, get_model(name, weights=None), extras)


# AGW has its non-local blocks in ResNet-50 only. The smaller ones have one at the end of the same
# two stages.
ARCHITECTURES = {
    "narrow": Architecture(_narrow, (16, 16, 32, 64, 128), None, (0, 1, 1, 0)),
    "resnet18": Architecture(
        _resnet, (64, 64, 128, 256, 512), ResNet18_Weights.IMAGENET1K_V1, (0, 1, 1, 0)
    ),
    "resnet50": Architecture(
        _resnet, (64, 256, 512, 1024, 2048), ResNet50_Weights.IMAGENET1K_V1, (0, 2, 3, 0)
    ),
}


def build_backbone(architecture: str, extras: Extras = PLAIN) -> Backbone:
    """Return the backbone of a name in ARCHITECTURES, with weights from torch's global generator.

    Raises:
        ValueError: for any other name, also of a pooling.

    >>> build_backbone("narrow").sizes
    (16, 16, 32, 64, 128)
    """
    if architecture not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture {architecture!r} is not one of {names}")
    return ARCHITECTURES[architecture].build(architecture, extras)


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
