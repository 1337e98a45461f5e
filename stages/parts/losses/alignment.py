"""Prediction alignment (PAL, paper Eq. 6-10): predictions of one modality rebuilt from those of the other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """The row-stochastic matrix of Eq. 6 and 8: softmax over the keys of the cosines, (B, C) × (M, C) → (B, M).

    Cosines have no temperature, so no weight of a row is more than e² times another.
    """
    return (F.normalize(queries, dim=1, eps=1e-12) @ F.normalize(keys, dim=1, eps=1e-12).T).softmax(dim=1)


def alignment_terms(visible_logits: Tensor, infrared_logits: Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of PAL without their weights.

    With v, r the logits, σ the softmax over classes and A the attention,

        L_vr = mean over images of KL(σ(v) ‖ σ(A_vr r))                 (Eq. 6, 7)
        L_rv = mean over images of KL(σ(A_rv v) ‖ σ(A_rr r))            (Eq. 8, 9)

    As in OTLA's released code, attention mixes raw logits and the softmax comes last (the paper writes one normalised
    prediction for all of it), and gradients flow through both sides of each divergence and through the attention.

    Args:
        visible_logits: (B, C), any float type; computed in float32 or, for float64, in float64.
        infrared_logits: (B, C), a batch of the same identities in the same order.

    Returns:
        L_vr and L_rv, scalars.

    Raises:
        ValueError: where the shapes differ.
    """
    if visible_logits.ndim != 2 or visible_logits.shape != infrared_logits.shape:
        shapes = f"{tuple(visible_logits.shape)} and {tuple(infrared_logits.shape)}"
        raise ValueError(f"alignment: logits of shapes {shapes}, expected (B, C) twice")
    with torch.autocast(visible_logits.device.type, enabled=False):
        visible, infrared = (x if x.dtype == torch.float64 else x.float() for x in (visible_logits, infrared_logits))
        from_infrared = attention(visible, infrared) @ infrared
        from_visible = attention(infrared, visible) @ visible
        from_itself = attention(infrared, infrared) @ infrared
        return _divergence(visible, from_infrared), _divergence(from_visible, from_itself)


def prediction_alignment(
    visible_logits: Tensor, infrared_logits: Tensor, weight_vr: float = 0.1, weight_rv: float = 0.5
) -> Tensor:
    """PAL, Eq. 10: `weight_vr` · L_vr + `weight_rv` · L_rv (λ_vr and λ_rv), see `alignment_terms`."""
    term_vr, term_rv = alignment_terms(visible_logits, infrared_logits)
    return weight_vr * term_vr + weight_rv * term_rv


def _divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """Mean over rows of KL(σ(wanted) ‖ σ(given)), both (B, C) logits."""
    return F.kl_div(given.log_softmax(dim=1), wanted.log_softmax(dim=1), reduction="batchmean", log_target=True)
