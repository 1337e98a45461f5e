"""The hybrid memory against its formula, a loop twin and the released code's numbers."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.parts.clustering.memory import HybridMemory, class_rows
from stages.parts.network.domain_norm import split_domains

CASES = ("usl", "dup", "far", "opp", "t1", "inst")


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def twin_loss(
    rows: torch.Tensor,
    labels: torch.Tensor,
    embeddings: torch.Tensor,
    indices: torch.Tensor,
    t: float,
):
    """The formula over every label number up to the largest, empty ones masked, in float64."""
    one_hot = F.one_hot(labels).double()  # (L, numbers)
    counts = one_hot.sum(0)
    logits = (embeddings.double() @ rows.double().T / t) @ one_hot / counts.clamp(min=1)
    scores = logits.exp() * (counts > 0)
    p = scores / (scores.sum(1, keepdim=True) + 1e-6)
    return -torch.log(p[range(len(indices)), labels[indices]] + 1e-6).mean()


@pytest.fixture
def memory() -> HybridMemory:
    labels = torch.randint(0, 9, (40,), generator=torch.Generator().manual_seed(1)) * 3  # gaps
    return HybridMemory(unit(40, 16), labels)


def test_loss_and_derivative_are_the_formulas(memory: HybridMemory):
    embeddings, indices = unit(12, 16, seed=2).requires_grad_(), torch.arange(12) * 3
    loss = memory.loss(embeddings, indices)
    twin = twin_loss(memory.rows, memory.labels, embeddings, indices, 0.05)
    assert loss.item() == pytest.approx(twin.item(), abs=2e-6)
    (slope,) = torch.autograd.grad(loss, embeddings)
    (expected,) = torch.autograd.grad(twin, embeddings)
    torch.testing.assert_close(slope, expected, atol=2e-6, rtol=0)


def test_names_of_labels_do_not_matter(memory: HybridMemory):
    embeddings, indices = unit(12, 16, seed=2), torch.arange(12)
    loss = memory.loss(embeddings, indices)
    memory.labels = 1000 - memory.labels * 7
    assert memory.loss(embeddings, indices).item() == pytest.approx(loss.item(), abs=1e-6)


def test_update_goes_one_by_one_and_keeps_unit_length(memory: HybridMemory):
    embeddings, indices = unit(10, 16, seed=3), torch.tensor([5, 0, 5, 5, 7, 0, 39, 5, 1, 2])
    expected = memory.rows.clone()
    for embedding, index in zip(embeddings, indices, strict=True):
        row = 0.2 * expected[index] + 0.8 * embedding
        expected[index] = row / row.norm()
    memory.update(embeddings, indices)
    torch.testing.assert_close(memory.rows, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(memory.rows.norm(dim=1), torch.ones(40))


def test_means_follow_updates_and_new_labels(memory: HybridMemory):
    embeddings, indices = unit(12, 16, seed=4), torch.arange(12)
    for seed in range(5):
        memory.update(unit(12, 16, seed=seed), torch.randint(0, 40, (12,)))
    fresh = HybridMemory(memory.rows, memory.labels)
    assert torch.equal(memory.loss(embeddings, indices), fresh.loss(embeddings, indices))
    memory.labels = torch.arange(40)
    fresh = HybridMemory(memory.rows, memory.labels)
    assert torch.equal(memory.loss(embeddings, indices), fresh.loss(embeddings, indices))


def test_loss_leaves_the_memory_and_no_gradient_reaches_it(memory: HybridMemory):
    before = memory.rows.clone()
    memory.loss(unit(4, 16).requires_grad_(), torch.arange(4)).backward()
    assert torch.equal(memory.rows, before)
    assert memory.rows.grad is None


def test_an_aligned_singleton_has_next_to_no_loss():
    memory = HybridMemory(torch.eye(8), torch.arange(8))
    assert memory.loss(torch.eye(8), torch.arange(8)).item() == pytest.approx(0, abs=1e-4)
    assert memory.loss(-torch.eye(8), torch.arange(8)).item() == pytest.approx(
        -np.log(1e-6), abs=1e-2
    )


def test_autocast_does_not_reach_the_loss(memory: HybridMemory):
    embeddings, indices = unit(12, 16, seed=2), torch.arange(12)
    with torch.autocast("cpu", torch.bfloat16):
        inside = memory.loss(embeddings, indices)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, memory.loss(embeddings, indices))


def test_one_batch_step_is_loss_backward_update(memory: HybridMemory):
    other = copy.deepcopy(memory)
    layer, twin = nn.Linear(6, 16), nn.Linear(6, 16)
    twin.load_state_dict(layer.state_dict())
    images, indices = unit(10, 6, seed=5), torch.arange(10)
    embeddings = F.normalize(layer(images), dim=1)
    (loss,) = memory.step([(embeddings, indices)])
    embeddings = F.normalize(twin(images), dim=1)
    other.loss(embeddings, indices).backward()
    other.update(embeddings, indices)
    assert torch.equal(layer.weight.grad, twin.weight.grad)
    assert torch.equal(memory.rows, other.rows)
    assert not loss.requires_grad


@pytest.mark.parametrize("case", CASES)
def test_golden_single_calls(gold, case: str):
    arrays = gold("spcl/hybrid_memory.npz").items()
    g = {k.removeprefix(f"{case}_"): v for k, v in arrays if k.startswith(f"{case}_")}
    rows, labels = torch.from_numpy(g["features_before"]), torch.from_numpy(g["labels"])
    memory = HybridMemory(rows, labels, float(g["momentum"]), float(g["temp"]))
    embeddings = torch.from_numpy(g["inputs"]).requires_grad_()
    indices = torch.from_numpy(g["indexes"])
    (loss,) = memory.step([(embeddings, indices)])
    assert loss.item() == pytest.approx(float(g["loss"]), abs=2e-6)
    np.testing.assert_allclose(embeddings.grad, g["grad_inputs"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(memory.rows, g["features_after"], atol=5e-7, rtol=0)


def test_golden_sequence(gold):
    g = gold("spcl/hybrid_memory.npz")
    rows, labels = torch.from_numpy(g["seq_features_before"]), torch.from_numpy(g["seq_labels"])
    memory = HybridMemory(rows, labels)
    for step in range(3):
        embeddings = torch.from_numpy(g["seq_inputs"][step]).requires_grad_()
        (loss,) = memory.step([(embeddings, torch.from_numpy(g["seq_indexes"][step]))])
        assert loss.item() == pytest.approx(float(g["seq_loss"][step]), abs=2e-6)
        np.testing.assert_allclose(embeddings.grad, g["seq_grad_inputs"][step], atol=2e-6, rtol=0)
    np.testing.assert_allclose(memory.rows, g["seq_features_after"], atol=5e-7, rtol=0)


def test_golden_two_domains_in_one_step(gold):
    g = gold("spcl/hybrid_memory.npz")
    start = [torch.from_numpy(g[f"uda_{name}"]) for name in ("features_before", "labels")]
    batches = []
    for domain in "st":
        embeddings = torch.from_numpy(g[f"uda_inputs_{domain}"]).requires_grad_()
        batches.append((embeddings, torch.from_numpy(g[f"uda_indexes_{domain}"])))
    memory = HybridMemory(*start)
    losses = memory.step(batches)
    for loss, (embeddings, _), domain in zip(losses, batches, "st", strict=True):
        assert loss.item() == pytest.approx(float(g[f"uda_loss_{domain}"]), abs=2e-6)
        np.testing.assert_allclose(embeddings.grad, g[f"uda_grad_{domain}"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(memory.rows, g["uda_features_after"], atol=5e-7, rtol=0)
    untouched = HybridMemory(*start)
    for embeddings, indices in batches:
        embeddings.grad = None
        untouched.loss(embeddings, indices).backward()
    for (embeddings, _), domain in zip(batches, "st", strict=True):
        np.testing.assert_allclose(
            embeddings.grad, g[f"uda_grad_{domain}_isolated"], atol=2e-6, rtol=0
        )


def test_golden_first_rows(gold):
    g = gold("spcl/memory_init.npz")
    source = class_rows(torch.from_numpy(g["source_features"]), torch.from_numpy(g["source_pids"]))
    rows = torch.cat([source, F.normalize(torch.from_numpy(g["target_features"]), dim=1)])
    np.testing.assert_allclose(rows, g["memory_features"], atol=5e-7, rtol=0)


def tiny_encoder(g) -> tuple[nn.Linear, nn.Module]:
    """Linear and a neck with a frozen bias, as in the released code's network."""
    layer, neck = nn.Linear(24, 32), nn.BatchNorm1d(32)
    layer.weight.data = torch.from_numpy(g["fc_weight0"])
    layer.bias.data = torch.from_numpy(g["fc_bias0"])
    neck.bias.requires_grad_(False)
    return layer, neck


def train(g, layer: nn.Linear, neck: nn.Module, batches) -> tuple[HybridMemory, list[float]]:
    """Three steps of Adam; `batches(step)` gives [(images, memory indices) of each domain]."""
    rows, labels = torch.from_numpy(g["memory_before"]), torch.from_numpy(g["labels"])
    memory = HybridMemory(rows, labels, float(g["momentum"]), float(g["temp"]))
    weights = [p for part in (layer, neck) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=float(g["lr"]), weight_decay=float(g["weight_decay"]))
    losses = []
    for step in range(3):
        pairs = [(torch.from_numpy(a), torch.from_numpy(i)) for a, i in batches(step)]
        images, indices = zip(*pairs, strict=True)
        embeddings = F.normalize(neck(layer(torch.cat(images).flatten(1))), dim=1)
        optimizer.zero_grad()
        losses += memory.step(list(zip(embeddings.chunk(len(images)), indices, strict=True)))
        optimizer.step()
    return memory, [loss.item() for loss in losses]


def check_training(g, layer: nn.Linear, memory: HybridMemory, losses: list[float]) -> None:
    np.testing.assert_allclose(losses, g["losses"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(layer.weight.detach(), g["fc_weight"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(layer.bias.detach(), g["fc_bias"], atol=5e-6, rtol=0)
    np.testing.assert_allclose(memory.rows, g["memory_after"], atol=5e-7, rtol=0)


def check_norm(g, norm: nn.Module, domain: str) -> None:
    arrays = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for array, name in zip(arrays, ("weight", "bias", "mean", "var"), strict=True):
        np.testing.assert_allclose(array.detach(), g[f"bn_{name}{domain}"], atol=1e-6, rtol=0)


def test_golden_training_steps_with_a_source(gold):
    g = gold("spcl/train_steps_uda.npz")
    layer, neck = tiny_encoder(g)
    neck = split_domains(neck)
    offset = int(g["source_classes"])

    def batches(step):
        source = g["images_source"][step], g["pid_source"][step]
        return [source, (g["images_target"][step], g["index_target"][step] + offset)]

    memory, losses = train(g, layer, neck, batches)
    check_training(g, layer, memory, losses)
    check_norm(g, neck.source, "_S")
    check_norm(g, neck.target, "_T")


def test_golden_training_steps_without_a_source(gold):
    g = gold("spcl/train_steps_usl.npz")
    layer, neck = tiny_encoder(g)

    def batches(step):
        return [(g["images_target"][step], g["index_target"][step])]

    memory, losses = train(g, layer, neck, batches)
    check_training(g, layer, memory, losses)
    check_norm(g, neck, "")


def test_new_labels_between_loss_and_backward_are_an_error(memory: HybridMemory):
    loss = memory.loss(unit(4, 16).requires_grad_(), torch.arange(4))
    memory.labels = torch.arange(40)
    with pytest.raises(RuntimeError, match="labels changed between loss and backward"):
        loss.backward()


@pytest.mark.parametrize(
    "labels", [torch.arange(5), -torch.ones(4, dtype=torch.int64), torch.ones(4)]
)
def test_labels_that_do_not_fit(labels: torch.Tensor):
    with pytest.raises(ValueError, match=r"expected \(4,\) whole numbers from 0"):
        HybridMemory(unit(4, 3), labels)


def test_rows_and_numbers_that_do_not_fit():
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(L, D\)"):
        HybridMemory(torch.ones(3), torch.arange(3))
    with pytest.raises(ValueError, match=r"momentum 1\.0 must be in"):
        HybridMemory(unit(4, 3), torch.arange(4), momentum=1.0)
