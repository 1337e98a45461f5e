"""What the GPU computes is what the CPU computes, up to rounding."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.parts.adversary.discriminator import ModalityDiscriminator, modality_loss
from stages.parts.assignment.transport import solve
from stages.parts.clustering.memory import HybridMemory
from stages.parts.clustering.neighbours import jaccard_similarity
from stages.parts.images import augment
from stages.parts.losses.alignment import prediction_alignment
from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.head import Embedder, IdentityNetwork, build
from stages.parts.retrieval.index import inner_product_blocks
from stages.train.data import Method, training_set
from stages.train.loop import new_state, one_epoch
from tests.builders import settings, store

CPU = torch.device("cpu")


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def predictions(images: int, labels: int) -> Tensor:
    """log P (images, labels) with one likely label an image."""
    logits = torch.randn(images, labels, generator=seeded())
    likely = torch.randint(labels, (images,), generator=seeded(1))
    logits[torch.arange(images), likely] += 6
    return logits.log_softmax(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 0.1),
        ({"slack": 0.5}, 0.1),
        ({"columns": torch.linspace(1, 3, 100) / 200}, 0.1),
        ({"solver": "sinkhorn", "tolerance": 1e-5}, 1.0),
        ({"solver": "released", "tolerance": 0.1}, 1e-8),
    ],
    ids=["uniform", "slack", "shares", "sinkhorn", "released"],
)
def test_transport(
    gpu: torch.device, dtype: torch.dtype, options: dict[str, Any], tolerance: float
) -> None:
    """The CPU solves it on fewer entries, so solvers stop at other potentials within tolerance."""
    log_p = predictions(1500, 100).to(dtype)
    expected = solve(log_p, 25.0, **options)
    found = solve(log_p.to(gpu), 25.0, **options)
    assert found.converged
    assert torch.equal(found.labels.cpu(), expected.labels)
    torch.testing.assert_close(found.potentials.cpu(), expected.potentials, atol=tolerance, rtol=0)


def test_memory(gpu: torch.device) -> None:
    def unit_rows(count: int, number: int) -> Tensor:
        return functional.normalize(torch.randn(count, 64, generator=seeded(number)), dim=1)

    def stepped(device: torch.device) -> list[Tensor]:
        """Losses, gradients and rows after two steps, on the CPU."""
        labels = torch.randint(60, (300,), generator=seeded(2))
        memory = HybridMemory(unit_rows(300, 0).to(device), labels)
        results = []
        for number in range(2):
            embeddings = unit_rows(32, 3 + number).to(device).requires_grad_()
            indices = torch.randint(300, (2, 16), generator=seeded(5 + number))
            halves = list(zip(embeddings.split(16), indices, strict=True))
            losses = memory.step(halves)
            results += [torch.stack(losses), embeddings.grad]
        return [value.detach().cpu() for value in [*results, memory.rows]]

    for found, expected in zip(stepped(gpu), stepped(CPU), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_augmentation(gpu: torch.device) -> None:
    pixels = torch.randint(256, (8, 96, 48, 3), dtype=torch.uint8, generator=seeded())

    def augmented(device: torch.device) -> Tensor:
        draws = seeded(1)
        images = augment.resize(pixels.permute(0, 3, 1, 2).to(device).float(), 64, 32)
        images = augment.flip(augment.grayscale(images, 0.5, draws), 0.5, draws)
        images = augment.normalize(augment.pad_and_crop(images, 5, draws))
        images = augment.erase(images, 0.5, draws)
        return augment.erase(
            images, 0.5, draws, (0.02, 0.4), uniform_ratio=True, value=augment.MEAN
        ).cpu()

    torch.testing.assert_close(augmented(gpu), augmented(CPU), atol=1e-4, rtol=0)


def triplet(features: Tensor) -> Tensor:
    labels = torch.arange(8, device=features.device).repeat_interleave(4)
    return batch_hard_triplet(features, labels)


def aligned(values: str) -> Callable[[Tensor], Tensor]:
    return lambda logits: prediction_alignment(*logits.chunk(2), values=values)


def discriminated(features: Tensor) -> Tensor:
    discriminator = ModalityDiscriminator(64, 0.5, seeded(3)).to(features.device)
    return modality_loss(*discriminator(features, seeded(4)).chunk(2))


@pytest.mark.parametrize(
    "loss",
    [triplet, aligned("logits"), aligned("predictions"), discriminated],
    ids=["triplet", "alignment of logits", "alignment of predictions", "discriminator"],
)
def test_losses_and_their_gradients(gpu: torch.device, loss: Callable[[Tensor], Tensor]) -> None:
    def both(device: torch.device) -> tuple[Tensor, Tensor]:
        features = torch.randn(32, 64, generator=seeded(9)).to(device).requires_grad_()
        value = loss(features)
        (slope,) = torch.autograd.grad(value, features)
        return value.detach().cpu(), slope.cpu()

    for found, expected in zip(both(gpu), both(CPU), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["narrow", "resnet50"])
def test_network(gpu: torch.device, architecture: str) -> None:
    images = torch.randn(4, 3, 96, 48, generator=seeded())
    network = build(Embedder, 0, architecture).eval()
    with torch.no_grad():
        expected = network(images)
        found = copy.deepcopy(network).to(gpu)(images.to(gpu)).cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.fixture
def epoch(tmp_path: Path) -> Callable[[torch.device], dict[str, Any]]:
    """A function: the figures of the first epoch of cross-modal training on a device."""
    images = [
        (person, camera, modality, "train")
        for person in range(12)
        for camera, modality in ((1, "visible"), (3, "infrared"))
        for _ in range(6)
    ]
    images_of = store(tmp_path / "images", images)
    labels = tmp_path / "visible.csv"
    rows = images_of.rows("train", "visible")
    lines = [f"{row},{images_of.table['person'][row]}" for row in rows.tolist()]
    labels.write_text("\n".join(["row,label", *lines, ""]))
    changes = {
        "train.epochs": 1,
        "train.steps": 3,
        "train.persons": 4,
        "train.images": 4,
        "otla.infrared_from_epoch": 0,
    }
    sections = {
        name: settings(name, changes)
        for name in ("train", "den", "otla", "pal", "clusters", "prototypes")
    }
    method = Method(**sections, seed=0)
    data = training_set(images_of, labels, method.train)

    def run(device: torch.device) -> dict[str, Any]:
        network = build(IdentityNetwork, 0, "narrow", data.classes)
        state = new_state(network, data, method, device)
        return one_epoch(state, data, method)[0]

    return run


def test_an_epoch_of_training(
    gpu: torch.device, epoch: Callable[[torch.device], dict[str, Any]]
) -> None:
    found, expected = epoch(gpu), epoch(CPU)
    for name in ("loss", "ce_visible", "triplet_infrared", "discriminator", "alignment"):
        assert found[name] == pytest.approx(expected[name], rel=1e-2), name


def test_search(gpu: torch.device) -> None:
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("faiss sees no GPU here")
    rows = np.random.default_rng(0).standard_normal((500, 64), dtype=np.float32)
    for block, found in inner_product_blocks(rows, rows, size=50_000, device=gpu):
        np.testing.assert_allclose(found, rows[block] @ rows.T, atol=1e-4)


def test_similarity_of_neighbours(gpu: torch.device) -> None:
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("faiss sees no GPU here")
    rows = np.random.default_rng(1).standard_normal((500, 64), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = jaccard_similarity(rows, 20, 4, device=gpu)
    assert abs(found - jaccard_similarity(rows, 20, 4)).max() < 1e-4
