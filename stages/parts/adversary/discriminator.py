"""The modality discriminator of DEN (paper Eq. 1): visible or infrared, from an image's features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModalityDiscriminator(nn.Module):
    """Three linear layers and a batch normalization: features (B, F) → logit (B,) that the image is visible.

    The normalization of the single output, with its shift frozen at 0, makes the logits of a training batch sum to 0:
    the discriminator cannot win by calling everything visible. Apply `reverse_gradient` to the features first.

    Args:
        features: F, at least 2; hidden layers have F // 2 units.
        dropout: share of hidden units dropped in training; 0.5 in OTLA's released code.
        generator: what the initial weights are drawn from; None is torch's global one.
    """

    def __init__(
        self, features: int, dropout: float = 0.5, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if features < 2 or not 0 <= dropout < 1:
            raise ValueError(
                f"discriminator: {features} features and dropout {dropout}, expected from 2 and in [0, 1)"
            )
        hidden = features // 2
        self.dropout = dropout
        self.first = _linear(features, hidden)
        self.second = _linear(hidden, hidden)
        self.last = _linear(hidden, 1)
        self.norm = nn.BatchNorm1d(1)
        self.norm.bias.requires_grad_(False)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", generator=generator)
        nn.init.normal_(self.last.weight, std=0.001, generator=generator)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (B,) before the sigmoid; dropout is drawn from `generator` (a CPU one serves every device)."""
        hidden = self._drop(F.relu(self.first(features)), generator)
        hidden = self._drop(F.relu(self.second(hidden)), generator)
        logits = self.last(hidden)
        return self.norm(logits if logits.dtype == torch.float64 else logits.float()).squeeze(1)

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        if generator is None:
            return F.dropout(x, self.dropout)
        kept = torch.rand(x.shape, generator=generator, device=generator.device) >= self.dropout
        return x * kept.to(x.device) / (1 - self.dropout)


def modality_loss(visible_logits: Tensor, infrared_logits: Tensor) -> Tensor:
    """L_D of Eq. 1: binary cross-entropy, mean over all images; visible is 1, infrared 0 (either way round is equal).

    Logits (B,) each, computed in float32 or, for float64, in float64.
    """
    logits = torch.cat([visible_logits, infrared_logits])
    logits = logits if logits.dtype == torch.float64 else logits.float()
    target = torch.cat([torch.ones_like(visible_logits), torch.zeros_like(infrared_logits)]).to(
        logits.dtype
    )
    return F.binary_cross_entropy_with_logits(logits, target)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with shift 0 and weights yet to be drawn; nn.Linear would draw from the global generator."""
    layer: nn.Linear = torch.nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.zeros_(layer.bias)
    return layer
