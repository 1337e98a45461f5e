"""Losses against prototypes, one for each class of each modality (BMIL, AAAI 2026; PoSeD, MM 2026).

f are the embeddings of a batch and p_j the prototypes of both modalities, all of unit length; the
predictions of an image are softmax_j(p_j · f / τ) over all prototypes.
"""

import torch
from torch import Tensor
from torch.nn import functional


def own_contrast(
    embeddings: Tensor, prototypes: Tensor, classes: Tensor, temperature: float = 0.05
) -> Tensor:
    """Return the mean cross-entropy of each image's own prototype, a scalar.

    Args:
        embeddings: (B, D) of one modality.
        prototypes: (C, D) of the same modality.
        classes: (B,) int64, the prototype that an image belongs to.
        temperature: τ.
    """
    return functional.cross_entropy(embeddings @ prototypes.T / temperature, classes)


def unified_contrast(
    embeddings: Tensor,
    prototypes: Tensor,
    classes: Tensor,
    identities: Tensor,
    temperature: float = 0.05,
) -> Tensor:
    """Return the multi-positive contrast over the prototypes of both modalities, a scalar.

    With P_i the prototypes of the identity of image i,

        L = mean over images of - 1/|P_i| Σ_{j in P_i} log softmax_j(p_j · f_i / τ)

    Args:
        embeddings: (B, D).
        prototypes: (C, D) of both modalities.
        classes: (B,) int64, the prototype that an image belongs to.
        identities: (C,) int64, the identity of each prototype; equal numbers belong together.
        temperature: τ.

    >>> prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> image, its_class = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> apart, joined = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 0])
    >>> unified_contrast(image, prototypes, its_class, apart, temperature=1.0)
    tensor(0.7121)
    >>> unified_contrast(image, prototypes, its_class, joined, temperature=1.0)
    tensor(0.9121)
    """
    log_shares = (embeddings @ prototypes.T / temperature).log_softmax(1)  # (B, C)
    positive = (identities[None, :] == identities[classes][:, None]).to(log_shares.dtype)  # (B, C)
    return -((positive * log_shares).sum(1) / positive.sum(1)).mean()


def self_distillation(
    embeddings: Tensor,
    prototypes: Tensor,
    classes: Tensor,
    modality: Tensor,
    temperature: float = 0.05,
    teacher_temperature: float = 0.05,
) -> Tensor:
    """Return the cross-entropy of predictions with those of image and prototype together, a scalar.

    The teacher of image i of class y compares (p_y + f_i) / 2 with all prototypes:

        Q_ij = (p_j · p_y + p_j · f_i) / 2
        t_ij = softmax_j(Q_ij / τ_t) within each modality, divided by the number of modalities
        L = mean over images of - Σ_j t_ij log softmax_j(p_j · f_i / τ)

    So half of the teacher's mass lies in the other modality, on the prototypes that look most like
    the image's own, without any association of classes. No gradient flows through the teacher.

    Args:
        embeddings: (B, D).
        prototypes: (C, D) of both modalities.
        classes: (B,) int64, the prototype that an image belongs to.
        modality: (C,) int64, a number for each prototype.
        temperature: τ.
        teacher_temperature: τ_t.
    """
    similarities = embeddings @ prototypes.T  # (B, C)
    with torch.no_grad():
        own = (prototypes @ prototypes.T)[classes]  # (B, C)
        scores = (own + similarities) / (2 * teacher_temperature)
        numbers = modality.unique()
        teacher = torch.zeros_like(scores)
        for number in numbers:
            within = modality == number
            teacher[:, within] = scores[:, within].softmax(1) / len(numbers)
    return -(teacher * (similarities / temperature).log_softmax(1)).sum(1).mean()
