"""The layers behind the backbone: batch-norm necks, the identity classifier, the embedding."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.parts.network.backbone import PLAIN, Extras, build_backbone, completed

Kind = TypeVar("Kind", bound=nn.Module)


def build(kind: Callable[..., Kind], seed: int, *arguments: object) -> Kind:
    """Return `kind(*arguments)`, its weights drawn from `seed`; torch itself stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(*arguments)


def neck(size: int) -> nn.BatchNorm1d:
    """Return a batch-norm neck for (B, size): scale 1, and a shift that is frozen at 0."""
    layer = nn.BatchNorm1d(size)
    layer.bias.requires_grad_(False)
    return layer


class Embedder(nn.Module):
    """Backbone and neck: an image → a row of length 1.

    This is the part of a network that is stored, searched with and evaluated.

    Attributes:
        half_precision: the backbone runs in bfloat16; all layers behind it are float32 in any case.
    """

    def __init__(self, architecture: str, extras: Extras = PLAIN) -> None:
        super().__init__()
        self.backbone = build_backbone(architecture, extras)
        self.neck = neck(self.backbone.sizes[-1])
        self.half_precision = False

    def pooled(self, images: Tensor, visible: int | None = None) -> list[Tensor]:
        """Return the pooled levels (B, C_0) … (B, C_4) float32 of images (B, 3, H, W).

        The first `visible` images are visible ones and the others infrared; None: all are visible.
        All methods take it; only a backbone of two streams uses it.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.half_precision):
            return [level.float() for level in self.backbone(images, visible)]

    def forward(self, images: Tensor, visible: int | None = None) -> Tensor:
        """Return the embeddings of images (B, 3, H, W): (B, D) float32 rows of length 1."""
        return self.embedding(self.pooled(images, visible)[-1])

    def embedding(self, pooled: Tensor) -> Tensor:
        """Return the rows (B, D) of length 1 of the last pooled level (B, D)."""
        return functional.normalize(self.neck(pooled))

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load `backbone.*` and `neck.*` of a stored network; other tensors are left out.

        A network without this one's extras fits, see `completed`.

        Raises:
            ValueError: names the first tensor that does not fit.
        """
        restored = {}
        tensors = completed(tensors, self.state_dict())
        for name, value in self.state_dict().items():
            if not name.startswith(("backbone.", "neck.")):
                continue
            stored = tensors.get(name)
            if stored is None or stored.shape != value.shape:
                found = "nothing" if stored is None else list(stored.shape)
                problem = f"{name}: found {found}, expected {list(value.shape)}"
                raise ValueError(f"stored network: {problem}")
            if not stored.isfinite().all():
                raise ValueError(f"stored network: {name} holds a value that is not finite")
            restored[name] = stored
        self.load_state_dict(restored, strict=False)


class Outputs(NamedTuple):
    """What the losses of a batch need, all float32."""

    pooled: Tensor  # (B, D), last level before its neck: triplet
    logits: Tensor  # (B, C), identity classifier: cross-entropy, alignment, transport
    levels: Tensor  # (B, F), all five levels behind their necks: modality discriminator


class IdentityNetwork(Embedder):
    """DEN without its discriminator (paper §3.2).

    It has a backbone, a neck for each level, and a classifier without bias. As in the released
    code, the scales of the necks start at N(1, 0.01), their shifts stay 0, and the weights of the
    classifier start at N(0, 0.001).
    """

    def __init__(self, architecture: str, classes: int, extras: Extras = PLAIN) -> None:
        super().__init__(architecture, extras)
        self.level_necks = nn.ModuleList(neck(size) for size in self.backbone.sizes[:-1])
        self.classifier = nn.Linear(self.backbone.sizes[-1], classes, bias=False)
        for layer in (*self.level_necks, self.neck):
            nn.init.normal_(layer.weight, 1.0, 0.01)
        nn.init.normal_(self.classifier.weight, 0.0, 0.001)

    def outputs(self, images: Tensor, visible: int | None = None) -> Outputs:
        """Return what the losses need, of images (B, 3, H, W)."""
        return self.behind(self.pooled(images, visible))

    def behind(self, pooled: list[Tensor]) -> Outputs:
        """Return what the losses need, of the pooled levels (B, C_0) … (B, C_4)."""
        necks = (*self.level_necks, self.neck)
        levels = [layer(level) for layer, level in zip(necks, pooled, strict=True)]
        logits = self.classifier(levels[-1])  # (B, C)
        return Outputs(pooled[-1], logits, torch.cat(levels, 1))

    def predict(self, images: Tensor, visible: int | None = None) -> Tensor:
        """Return the logits (B, C) of images (B, 3, H, W), without the necks of the levels."""
        logits: Tensor = self.classifier(self.neck(self.pooled(images, visible)[-1]))
        return logits
