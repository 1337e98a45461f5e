"""Prototypes of both modalities: their memory, and the losses against them."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.clustering.prototypes import PrototypeMemory
from stages.parts.losses.prototypes import own_contrast, self_distillation, unified_contrast


def unit(rows: int, size: int = 16, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, size, generator=draw, dtype=torch.float64))


EMBEDDINGS, PROTOTYPES = unit(12, seed=1), unit(9, seed=2)
CLASSES = torch.arange(12) % 9
MODALITY = (torch.arange(9) >= 5).long()
IDENTITIES = torch.tensor([0, 1, 2, 3, 4, 0, 0, 3, 8])


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def test_unified_contrast_is_its_definition() -> None:
    total = 0.0
    for image, its_class in zip(EMBEDDINGS.numpy(), CLASSES.tolist(), strict=True):
        shares = softmax(PROTOTYPES.numpy() @ image / 0.05)
        positives = [j for j in range(9) if IDENTITIES[j] == IDENTITIES[its_class]]
        total -= sum(np.log(shares[j]) for j in positives) / len(positives)
    found = unified_contrast(EMBEDDINGS, PROTOTYPES, CLASSES, IDENTITIES)
    assert float(found) == pytest.approx(total / 12)


def test_unified_contrast_of_lonely_classes_is_cross_entropy() -> None:
    found = unified_contrast(EMBEDDINGS, PROTOTYPES, CLASSES, torch.arange(9))
    torch.testing.assert_close(found, own_contrast(EMBEDDINGS, PROTOTYPES, CLASSES))


def test_self_distillation_is_its_definition() -> None:
    rows, total = PROTOTYPES.numpy(), 0.0
    for image, its_class in zip(EMBEDDINGS.numpy(), CLASSES.tolist(), strict=True):
        scores = (rows @ rows[its_class] + rows @ image) / 2
        teacher = np.zeros(9)
        for number in (0, 1):
            within = MODALITY.numpy() == number
            teacher[within] = softmax(scores[within] / 0.1) / 2
        total -= (teacher * np.log(softmax(rows @ image / 0.05))).sum()
    found = self_distillation(EMBEDDINGS, PROTOTYPES, CLASSES, MODALITY, teacher_temperature=0.1)
    assert float(found) == pytest.approx(total / 12)


def test_the_teacher_has_no_gradient() -> None:
    """The gradient is that of cross-entropy with a constant teacher: it sums with the softmax."""
    embeddings = EMBEDDINGS.clone().requires_grad_()
    prototypes = PROTOTYPES.clone().requires_grad_()
    self_distillation(embeddings, prototypes, CLASSES, MODALITY).backward()
    with torch.no_grad():
        similarities = EMBEDDINGS @ PROTOTYPES.T
        scores = ((PROTOTYPES @ PROTOTYPES.T)[CLASSES] + similarities) / 0.1
        halves = [scores[:, m == MODALITY].softmax(1) / 2 for m in (0, 1)]
        teacher = torch.cat(halves, 1)  # visible prototypes come first here
        slope = ((similarities / 0.05).softmax(1) - teacher) @ PROTOTYPES / 0.05 / 12
    torch.testing.assert_close(embeddings.grad, slope)


@pytest.mark.parametrize("loss", [unified_contrast, self_distillation])
def test_the_order_of_prototypes_does_not_matter(loss) -> None:
    groups = IDENTITIES if loss is unified_contrast else MODALITY
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    found = loss(EMBEDDINGS, PROTOTYPES[order], place[CLASSES], groups[order])
    torch.testing.assert_close(found, loss(EMBEDDINGS, PROTOTYPES, CLASSES, groups))


def test_memory_is_its_definition() -> None:
    memory = PrototypeMemory(PROTOTYPES, momentum=0.3)
    centroids, hard = PROTOTYPES.float().numpy().copy(), PROTOTYPES.float().numpy().copy()
    for seed in (3, 4):
        batch = unit(10, seed=seed).float()
        classes = torch.tensor([0, 0, 0, 4, 4, 8, 8, 8, 8, 2])
        memory.update(batch, classes)
        for c in (0, 2, 4, 8):
            own = batch.numpy()[classes.numpy() == c]
            worst = own[(own @ hard[c]).argmin()]
            for rows, towards in ((centroids, own.mean(0)), (hard, worst)):
                moved = 0.3 * rows[c] + 0.7 * towards
                rows[c] = moved / np.linalg.norm(moved)
    np.testing.assert_allclose(memory.centroids, centroids, atol=1e-6)
    np.testing.assert_allclose(memory.hard, hard, atol=1e-6)


def test_classes_without_an_image_stay_to_the_bit() -> None:
    memory = PrototypeMemory(PROTOTYPES)
    before = memory.centroids.clone()
    memory.update(unit(4, seed=5).float(), torch.tensor([1, 1, 3, 3]))
    others = [0, 2, 4, 5, 6, 7, 8]
    assert torch.equal(memory.centroids[others], before[others])
    assert torch.equal(memory.hard[others], before[others])
    assert not torch.equal(memory.centroids[1], before[1])


def test_momentum_1_keeps_all() -> None:
    memory = PrototypeMemory(PROTOTYPES, momentum=1.0)
    before = memory.centroids.clone()
    memory.update(unit(4, seed=5).float(), torch.arange(4))
    torch.testing.assert_close(memory.centroids, before)


def test_momentum_0_forgets_all_and_the_default_keeps_a_tenth() -> None:
    batch = unit(1, seed=5).float()
    memory = PrototypeMemory(PROTOTYPES, momentum=0.0)
    memory.update(batch, torch.tensor([3]))
    torch.testing.assert_close(memory.centroids[3], batch[0])
    torch.testing.assert_close(memory.hard[3], batch[0])
    assert PrototypeMemory(PROTOTYPES).momentum == 0.1


@pytest.mark.parametrize("momentum", [-0.1, 1.1, 2])
def test_a_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=f"momentum {momentum}"):
        PrototypeMemory(PROTOTYPES, momentum=momentum)


def test_prototypes_are_rows() -> None:
    with pytest.raises(ValueError, match=r"prototypes \(16,\)"):
        PrototypeMemory(PROTOTYPES[0])


def test_a_memory_is_a_copy() -> None:
    rows = PROTOTYPES.float()
    memory = PrototypeMemory(rows, momentum=0.0)
    assert memory.hard is not memory.centroids
    memory.update(unit(1, seed=5).float(), torch.tensor([3]))
    torch.testing.assert_close(rows, PROTOTYPES.float(), rtol=0, atol=0)
