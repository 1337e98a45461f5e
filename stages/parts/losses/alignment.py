"""Prediction alignment (PAL, Eq. 6-10): each modality's predictions from those of the other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the attention matrix of Eq. 6 and 8: the softmax over the keys of the cosines.

    The cosines have no temperature, so no weight of a row is more than e² times another.

    Args:
        queries: (B, C).
        keys: (M, C).

    Returns:
        (B, M); each row sums to 1.

    >>> attention(torch.eye(2), 3 * torch.eye(2))
    tensor([[0.7311, 0.2689],
            [0.2689, 0.7311]])
    """
    queries = F.normalize(queries, dim=1, eps=1e-12)
    keys = F.normalize(keys, dim=1, eps=1e-12)
    return (queries @ keys.T).softmax(dim=1)


def alignment_terms(
    visible_logits: Tensor, infrared_logits: Tensor, values: str = "logits", detach: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the two terms of PAL without their weights.

    With v, r the logits, σ the softmax over classes and A the attention,

        L_vr = mean over images of KL(σ(v) ‖ σ(A_vr r))                 (Eq. 6, 7)
        L_rv = mean over images of KL(σ(A_rv v) ‖ σ(A_rr r))            (Eq. 8, 9)

    This is `values="logits"`, as in OTLA's released code: attention is of cosines and mixes raw
    logits, and the softmax comes last. With "predictions" both equations are the paper's to the
    letter: S = σ(logits) is query, key and value, S_vr = softmax(S_v S_rᵀ) S_r, and the
    divergences are of those mixtures.

    Args:
        visible_logits: (B, C), any float type; computed in float32 or, for float64, in float64.
        infrared_logits: (B, C), a batch of the same identities in the same order.
        values: logits or predictions.
        detach: no gradient flows through the target of each divergence, its left side. The
            released code lets it flow through both sides and the attention.

    Returns:
        L_vr and L_rv, scalars.

    Raises:
        ValueError: if the shapes differ, or for other `values`.
    """
    if visible_logits.ndim != 2 or visible_logits.shape != infrared_logits.shape:
        shapes = f"{tuple(visible_logits.shape)} and {tuple(infrared_logits.shape)}"
        raise ValueError(f"alignment: logits of shapes {shapes}, expected (B, C) twice")
    if values not in ("logits", "predictions"):
        raise ValueError(f"alignment: values {values!r}, expected logits or predictions")
    mixed = _mixed_logits if values == "logits" else _mixed_predictions
    with torch.autocast(visible_logits.device.type, enabled=False):
        visible, infrared = _at_least_float32(visible_logits), _at_least_float32(infrared_logits)
        target_vr = visible.log_softmax(dim=1)  # (B, C), as all of these
        mixture_vr = mixed(visible, infrared)  # Eq. 6
        target_rv = mixed(infrared, visible)  # Eq. 8
        mixture_rv = mixed(infrared, infrared)  # Eq. 8
        if detach:
            target_vr, target_rv = target_vr.detach(), target_rv.detach()
        term_vr = _divergence(target_vr, mixture_vr)  # Eq. 7
        term_rv = _divergence(target_rv, mixture_rv)  # Eq. 9
    return term_vr, term_rv


def prediction_alignment(
    visible_logits: Tensor,
    infrared_logits: Tensor,
    weight_vr: float = 0.1,
    weight_rv: float = 0.5,
    values: str = "logits",
    detach: bool = False,
) -> Tensor:
    """Return the loss of PAL, Eq. 10: `weight_vr` · L_vr + `weight_rv` · L_rv, a scalar.

    Args:
        visible_logits, infrared_logits, values, detach: as in `alignment_terms`.
        weight_vr: λ_vr.
        weight_rv: λ_rv.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> prediction_alignment(logits, logits)
    tensor(0.0079)
    """
    term_vr, term_rv = alignment_terms(visible_logits, infrared_logits, values, detach)
    return weight_vr * term_vr + weight_rv * term_rv


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _mixed_logits(queries: Tensor, keys: Tensor) -> Tensor:
    """Return log σ(A k) (B, C) for logits (B, C) of both."""
    return (attention(queries, keys) @ keys).log_softmax(dim=1)


def _mixed_predictions(queries: Tensor, keys: Tensor) -> Tensor:
    """Return log (softmax(S_q S_kᵀ) S_k) (B, C) for logits (B, C) of both."""
    similarity = queries.softmax(dim=1) @ keys.softmax(dim=1).T  # (B, M)
    log_weights = similarity.log_softmax(dim=1)[:, :, None]  # (B, M, 1)
    log_predictions = keys.log_softmax(dim=1)[None]  # (1, M, C)
    # In the log domain a class that no key predicts is a very negative number, not log 0.
    return torch.logsumexp(log_weights + log_predictions, dim=1)


def _divergence(target: Tensor, mixture: Tensor) -> Tensor:
    """Return the mean over rows of KL(target ‖ mixture), both (B, C) log-probabilities."""
    return F.kl_div(mixture, target, reduction="batchmean", log_target=True)
