"""What stands on the backbone: batch-norm necks, the identity classifier, the embedding."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.parts.network.backbone import build_backbone

Kind = TypeVar("Kind", bound=nn.Module)


def build(kind: Callable[..., Kind], seed: int, *arguments: object) -> Kind:
    """`kind(*arguments)` with its weights drawn from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(*arguments)


def neck(size: int) -> nn.BatchNorm1d:
    """A batch-norm neck (size,): scale 1, shift 0 and frozen there."""
    layer = nn.BatchNorm1d(size)
    layer.bias.requires_grad_(False)
    return layer


class Embedder(nn.Module):
    """Backbone and neck: an image → a unit row. What is stored, searched and evaluated."""

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.backbone = build_backbone(architecture)
        self.neck = neck(self.backbone.sizes[-1])
        self.half_precision = (
            False  # the backbone's precision; everything behind it is float32 in any case
        )

    def pooled(self, images: Tensor) -> list[Tensor]:
        """float (B, 3, H, W) → the backbone's pooled levels (B, C_0) … (B, C_4), float32."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.half_precision):
            return [level.float() for level in self.backbone(images)]

    def forward(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) → (B, D) float32 rows of length 1."""
        return functional.normalize(self.neck(self.pooled(images)[-1]))

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load `backbone.*` and `neck.*` of a stored network. ValueError names the first tensor that does not fit."""
        own = {
            name: value
            for name, value in self.state_dict().items()
            if name.startswith(("backbone.", "neck."))
        }
        for name, value in own.items():
            if name not in tensors or tensors[name].shape != value.shape:
                found = list(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(
                    f"stored network: {name}: found {found}, expected {list(value.shape)}"
                )
        self.load_state_dict({name: tensors[name] for name in own}, strict=False)


class Outputs(NamedTuple):
    """What the losses of a batch need."""

    pooled: Tensor  # (B, D) last level before its neck: triplet
    logits: Tensor  # (B, C) identity classifier: cross-entropy, alignment, transport
    levels: Tensor  # (B, F) all five levels behind their necks: modality discriminator


class IdentityNetwork(Embedder):
    """DEN without its discriminator (paper §3.2): backbone, a neck for each level, a classifier without bias.

    As in the released code: neck scales start at N(1, 0.01), shifts stay 0, the classifier at N(0, 0.001).
    """

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__(architecture)
        self.level_necks = nn.ModuleList(neck(size) for size in self.backbone.sizes[:-1])
        self.classifier = nn.Linear(self.backbone.sizes[-1], classes, bias=False)
        for layer in (*self.level_necks, self.neck):
            nn.init.normal_(layer.weight, 1.0, 0.01)
        nn.init.normal_(self.classifier.weight, 0.0, 0.001)

    def outputs(self, images: Tensor) -> Outputs:
        """float (B, 3, H, W) → Outputs in float32."""
        pooled = self.pooled(images)
        behind = [
            layer(level)
            for layer, level in zip((*self.level_necks, self.neck), pooled, strict=True)
        ]
        return Outputs(pooled[-1], self.classifier(behind[-1]), torch.cat(behind, 1))

    def predict(self, images: Tensor) -> Tensor:
        """float (B, 3, H, W) → logits (B, C) float32, without the levels' necks."""
        return self.classifier(self.neck(self.pooled(images)[-1]))
