"""Prediction alignment (PAL, paper Eq. 6-10): predictions of one modality rebuilt from those of the other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """The row-stochastic matrix of Eq. 6 and 8: softmax over the keys of the cosines, (B, C) × (M, C) → (B, M).

    Cosines have no temperature, so no weight of a row is more than e² times another.
    """
    return (F.normalize(queries, dim=1, eps=1e-12) @ F.normalize(keys, dim=1, eps=1e-12).T).softmax(
        dim=1
    )


def alignment_terms(
    visible_logits: Tensor, infrared_logits: Tensor, values: str = "logits", detach: bool = False
) -> tuple[Tensor, Tensor]:
    """The two terms of PAL without their weights.

    With v, r the logits, σ the softmax over classes and A the attention,

        L_vr = mean over images of KL(σ(v) ‖ σ(A_vr r))                 (Eq. 6, 7)
        L_rv = mean over images of KL(σ(A_rv v) ‖ σ(A_rr r))            (Eq. 8, 9)

    That is `values="logits"`, OTLA's released code: attention is of cosines and mixes raw logits, the softmax comes
    last. With "predictions" both equations are the paper's to the letter: S = σ(logits) is query, key and value,
    S_vr = softmax(S_v S_rᵀ) S_r, and the divergences are of those mixtures.

    Args:
        visible_logits: (B, C), any float type; computed in float32 or, for float64, in float64.
        infrared_logits: (B, C), a batch of the same identities in the same order.
        values: logits or predictions.
        detach: no gradient through the target of each divergence, its left side; the released code lets it flow
            through both sides and the attention.

    Returns:
        L_vr and L_rv, scalars.

    Raises:
        ValueError: where the shapes differ, or for other `values`.
    """
    if visible_logits.ndim != 2 or visible_logits.shape != infrared_logits.shape:
        shapes = f"{tuple(visible_logits.shape)} and {tuple(infrared_logits.shape)}"
        raise ValueError(f"alignment: logits of shapes {shapes}, expected (B, C) twice")
    if values not in ("logits", "predictions"):
        raise ValueError(f"alignment: values {values!r}, expected logits or predictions")
    with torch.autocast(visible_logits.device.type, enabled=False):
        visible, infrared = (
            x if x.dtype == torch.float64 else x.float() for x in (visible_logits, infrared_logits)
        )
        rebuilt = _mixed_logits if values == "logits" else _mixed_predictions
        pairs = (
            (visible.log_softmax(dim=1), rebuilt(visible, infrared)),
            (rebuilt(infrared, visible), rebuilt(infrared, infrared)),
        )
        first, second = (
            _divergence(target.detach() if detach else target, given) for target, given in pairs
        )
        return first, second


def prediction_alignment(
    visible_logits: Tensor,
    infrared_logits: Tensor,
    weight_vr: float = 0.1,
    weight_rv: float = 0.5,
    values: str = "logits",
    detach: bool = False,
) -> Tensor:
    """PAL, Eq. 10: `weight_vr` · L_vr + `weight_rv` · L_rv (λ_vr and λ_rv), see `alignment_terms`."""
    term_vr, term_rv = alignment_terms(visible_logits, infrared_logits, values, detach)
    return weight_vr * term_vr + weight_rv * term_rv


def _mixed_logits(queries: Tensor, keys: Tensor) -> Tensor:
    """log σ(A k) for logits (B, C) of both."""
    return (attention(queries, keys) @ keys).log_softmax(dim=1)


def _mixed_predictions(queries: Tensor, keys: Tensor) -> Tensor:
    """log (softmax(S_q S_kᵀ) S_k) for logits (B, C) of both; its rows are mixtures of distributions."""
    weight = (queries.softmax(dim=1) @ keys.softmax(dim=1).T).log_softmax(dim=1)  # (B, M), its log
    # in the log domain: a class that no key predicts is a very negative number, not log 0
    return torch.logsumexp(weight[:, :, None] + keys.log_softmax(dim=1)[None], dim=1)


def _divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """Mean over rows of KL(wanted ‖ given), both (B, C) log-probabilities."""
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True)
