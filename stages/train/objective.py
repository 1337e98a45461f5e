"""The training loss of a batch, term by term (paper Eq. 11)."""

import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.adversary.discriminator import modality_loss
from stages.parts.losses.alignment import prediction_alignment
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.head import Outputs
from stages.parts.run.settings import Den, Pal, Train


def loss_terms(
    outputs: Outputs,
    modality_logits: Tensor | None,
    visible_labels: Tensor,
    infrared_labels: Tensor | None,
    train: Train,
    pal: Pal,
) -> dict[str, Tensor]:
    """The terms of one batch, not yet weighted; each a float32 scalar.

    outputs: of 2B images, the visible ones first. modality_logits (2B,) or None without DEN.
    visible_labels, infrared_labels (B,) int64; None: the infrared images have no labels in this batch.
    Cross-entropy and triplet (Eq. 2) stand for each modality on its own, as in the released code; with
    `triplet_scope: joint` a modality's anchors see the images of both. Discriminator is Eq. 1, alignment Eq. 10. A term
    that is switched off is absent.
    """
    count = len(visible_labels)
    visible, infrared = slice(0, count), slice(count, None)
    halves = {"visible": (visible, visible_labels)}
    if infrared_labels is not None:
        halves["infrared"] = (infrared, infrared_labels)
    joint = train.triplet_scope == "joint" and len(halves) == 2
    both = torch.cat([labels for _, labels in halves.values()])
    terms = {}
    for name, (half, labels) in halves.items():
        terms[f"ce_{name}"] = functional.cross_entropy(outputs.logits[half], labels)
        terms[f"triplet_{name}"] = (
            batch_hard_triplet(outputs.pooled, both, train.margin, anchors=half)
            if joint
            else batch_hard_triplet(outputs.pooled[half], labels, train.margin)
        )
    if modality_logits is not None:
        terms["discriminator"] = modality_loss(modality_logits[:count], modality_logits[count:])
    if pal.enabled:
        terms["alignment"] = prediction_alignment(
            outputs.logits[visible],
            outputs.logits[infrared],
            pal.lambda_vr,
            pal.lambda_rv,
            pal.values,
            pal.detach,
        )
    return terms


def weights(train: Train, den: Den, pal: Pal) -> dict[str, float]:
    """The weight of each term: λ1 and λ2 of Eq. 11, and those of the released code where the paper names none."""
    return {
        "ce_visible": train.weight_ce_visible,
        "triplet_visible": train.weight_triplet_visible,
        "ce_infrared": train.weight_ce_infrared,
        "triplet_infrared": train.weight_triplet_infrared,
        "discriminator": den.weight,
        "alignment": pal.weight,
    }


def total(terms: dict[str, Tensor], weight: dict[str, float]) -> Tensor:
    """The weighted sum of the terms that are there."""
    return sum(
        (weight[name] * term for name, term in terms.items()),
        start=next(iter(terms.values())).new_zeros(()),
    )
