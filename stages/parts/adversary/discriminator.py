"""The modality discriminator of DEN (paper Eq. 1): is an image visible or infrared?"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from stages.parts.upload import upload


class ModalityDiscriminator(nn.Module):
    """Three linear layers and a batch normalization: features (B, F) → logits (B,).

    The logit is that of the image being visible. The normalization of the single output has its
    shift frozen at 0, so the logits of a training batch sum to 0: the discriminator cannot win by
    calling every image visible. Apply `reverse_gradient` to the features first.

    Args:
        features: F, at least 2; hidden layers have F // 2 units.
        dropout: fraction of hidden units dropped in training; 0.5 in OTLA's released code.
        generator: draws the initial weights; None stands for torch's global generator.
    """

    def __init__(
        self, features: int, dropout: float = 0.5, generator: Generator | None = None
    ) -> None:
        super().__init__()
        if features < 2 or not 0 <= dropout < 1:
            sizes = f"{features} features and dropout {dropout}"
            raise ValueError(f"discriminator: {sizes}, expected from 2 and in [0, 1)")
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

    def forward(self, features: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the logits (B,) before the sigmoid, of features (B, F).

        The dropout is drawn from `generator`; a CPU generator serves every device.
        """
        hidden = self._drop(F.relu(self.first(features)), generator)  # (B, F // 2)
        hidden = self._drop(F.relu(self.second(hidden)), generator)  # (B, F // 2)
        logits = _at_least_float32(self.last(hidden))  # (B, 1)
        normalized: Tensor = self.norm(logits)
        return normalized.squeeze(1)

    def _drop(self, x: Tensor, generator: Generator | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return x
        if generator is None:
            return F.dropout(x, self.dropout)
        draws = torch.rand(x.shape, generator=generator, device=generator.device)
        kept = draws >= self.dropout
        return x * upload(kept, x.device) / (1 - self.dropout)


def modality_loss(visible_logits: Tensor, infrared_logits: Tensor) -> Tensor:
    """Return L_D of Eq. 1, a scalar: the mean binary cross-entropy of logits (B,) each.

    The target of visible images is 1, that of infrared images 0; the reverse would do as well.
    The loss is computed in float32 or, for float64, in float64.

    >>> modality_loss(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.0]))  # log 2: chance
    tensor(0.6931)
    """
    logits = _at_least_float32(torch.cat([visible_logits, infrared_logits]))  # (2B,)
    targets = torch.zeros_like(logits)
    targets[: len(visible_logits)] = 1
    return F.binary_cross_entropy_with_logits(logits, targets)  # Eq. 1


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer with bias 0 whose weights are not drawn yet.

    nn.Linear would draw them from torch's global generator.
    """
    layer: nn.Linear = torch.nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.zeros_(layer.bias)
    return layer
