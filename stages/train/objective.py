"""The training loss of a batch, term by term (paper Eq. 11).

To add a term: compute it in `loss_terms`, name its weight in WEIGHTS.
"""

from operator import attrgetter

import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.adversary.discriminator import modality_loss
from stages.parts.losses.alignment import prediction_alignment
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.head import Outputs
from stages.parts.run.settings import Pal, Train
from stages.train.data import Method

# Each term and the parameter that weights it: λ1 and λ2 of Eq. 11, and those of the released code
# for the terms that the paper gives no weight. The terms are curves and columns in this order.
WEIGHTS = {
    "ce_visible": "train.weight_ce_visible",
    "triplet_visible": "train.weight_triplet_visible",
    "ce_infrared": "train.weight_ce_infrared",
    "triplet_infrared": "train.weight_triplet_infrared",
    "discriminator": "den.weight",
    "alignment": "pal.weight",
}


def loss_terms(
    outputs: Outputs,
    modality_logits: Tensor | None,
    visible_labels: Tensor,
    infrared_labels: Tensor | None,
    train: Train,
    pal: Pal,
) -> dict[str, Tensor]:
    """Return the terms of one batch, not weighted; each is a float32 scalar.

    A term that is switched off is absent.

    Args:
        outputs: of 2B images, the visible ones first.
        modality_logits: (2B,) of the discriminator, or None without DEN.
        visible_labels: (B,) int64.
        infrared_labels: (B,) int64, or None if the infrared images of this batch have no labels.
        train: margin and scope of the triplets.
        pal: the section `pal`.
    """
    terms = identity_terms(outputs, visible_labels, infrared_labels, train)
    if modality_logits is not None:
        terms["discriminator"] = modality_loss(*modality_logits.chunk(2))  # Eq. 1
    if pal.enabled:
        visible_logits, infrared_logits = outputs.logits.chunk(2)  # (B, C) each
        terms["alignment"] = prediction_alignment(  # Eq. 6-10
            visible_logits, infrared_logits, pal.lambda_vr, pal.lambda_rv, pal.values, pal.detach
        )
    return terms


def identity_terms(
    outputs: Outputs, visible_labels: Tensor, infrared_labels: Tensor | None, train: Train
) -> dict[str, Tensor]:
    """Return cross-entropy and triplet loss of each modality that has labels (Eq. 2).

    Each modality is on its own, as in the released code. With `triplet_scope: joint` the anchors
    of one modality see the images of both.

    Args:
        outputs: logits (2B, C) and pooled features (2B, D), visible images first.
        visible_labels: (B,) int64.
        infrared_labels: (B,) int64, or None.
        train: the section `train`.
    """
    count = len(visible_labels)
    modalities = {"visible": (slice(0, count), visible_labels)}
    if infrared_labels is not None:
        modalities["infrared"] = (slice(count, None), infrared_labels)
    terms = {}
    for modality, (half, labels) in modalities.items():
        terms[f"ce_{modality}"] = functional.cross_entropy(outputs.logits[half], labels)
        if train.triplet_scope == "joint" and infrared_labels is not None:
            both = torch.cat([visible_labels, infrared_labels])  # (2B,)
            triplet = batch_hard_triplet(outputs.pooled, both, train.margin, anchors=half)
        else:
            triplet = batch_hard_triplet(outputs.pooled[half], labels, train.margin)
        terms[f"triplet_{modality}"] = triplet
    return terms


def weights(method: Method) -> dict[str, float]:
    """Return the weight of each term."""
    return {term: attrgetter(parameter)(method) for term, parameter in WEIGHTS.items()}


def weighted_sum(terms: dict[str, Tensor], weight: dict[str, float]) -> Tensor:
    """Return the loss of Eq. 11: the weighted sum of the terms that are there, a scalar."""
    loss = torch.zeros_like(next(iter(terms.values())))
    for name, term in terms.items():
        loss = loss + weight[name] * term
    return loss
