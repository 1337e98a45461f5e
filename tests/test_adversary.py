"""Gradient reversal and discriminator: laws, the reference implementation's numbers, edge cases."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from stages.parts.adversary.discriminator import ModalityDiscriminator, modality_loss
from stages.parts.adversary.reversal import coefficient, reverse_gradient


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_coefficient_rises_from_0_to_1():
    values = [coefficient(step, max_steps=100) for step in range(0, 400, 10)]
    assert values[0] == 0
    assert all(a < b or b == pytest.approx(1) for a, b in pairwise(values))
    assert values[-1] == pytest.approx(1)
    assert coefficient(10**9) == 1


def test_one_step_is_a_schedule_too():
    assert coefficient(0, max_steps=1) == 0
    assert coefficient(1, max_steps=1, steepness=2.0) == pytest.approx(np.tanh(1))


def test_coefficient_equals_the_reference(gold):
    """The released code counts a batch before it computes the coefficient.

    It counts it as 1 on SYSU-MM01 and as 5 on RegDB.
    """
    expected = gold("otla/grl.npz")
    np.testing.assert_allclose(
        [coefficient(int(i)) for i in expected["iters"]], expected["coeff"], atol=1e-12
    )
    for add in (1, 5):
        values = [coefficient(add * batch) for batch in range(1, 21)]
        np.testing.assert_allclose(values, expected[f"coeff_first20_calls_add{add}"], atol=1e-12)


@pytest.mark.parametrize(("step", "max_steps"), [(-1, 10), (0, 0)])
def test_coefficient_refuses_what_is_no_step(step, max_steps):
    with pytest.raises(ValueError, match=f"step {step} of {max_steps}"):
        coefficient(step, max_steps)


def test_reversal_equals_the_reference(gold):
    expected = gold("otla/grl.npz")
    x = torch.from_numpy(expected["x"]).requires_grad_()
    out = reverse_gradient(x, coefficient(int(expected["iter_for_grad"])))
    out.backward(torch.from_numpy(expected["upstream"]))
    np.testing.assert_array_equal(out.detach(), expected["out"])
    np.testing.assert_allclose(x.grad, expected["grad"], atol=1e-12)


def test_reversal_at_zero_cuts_the_gradient():
    x = torch.ones(3, requires_grad=True)
    reverse_gradient(x, 0.0).sum().backward()
    assert not x.grad.any()


def test_discriminator_learns_while_what_feeds_it_unlearns():
    """One step against the gradients lowers the loss in the head and raises it in the features."""
    x = torch.randn(16, 12, generator=generator()).requires_grad_()
    head = ModalityDiscriminator(12, dropout=0.0, generator=generator(1))

    def loss(x: torch.Tensor) -> torch.Tensor:
        logits = head(reverse_gradient(x, 1.0))
        return modality_loss(logits[:8], logits[8:])

    before = loss(x)
    before.backward()
    assert loss((x - 0.05 * x.grad / x.grad.norm()).detach()) > before
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
    assert loss(x) < before


def test_training_logits_sum_to_zero():
    head = ModalityDiscriminator(10, generator=generator())
    head.last.weight.data *= 1000  # away from the size at which the norm's epsilon counts
    logits = head(torch.randn(20, 10, generator=generator(1)), generator(2))
    assert logits.shape == (20,)
    assert float(logits.detach().mean()) == pytest.approx(0, abs=1e-5)
    assert not head.norm.bias.requires_grad


def test_initial_weights_are_those_of_the_released_code():
    head = ModalityDiscriminator(3904, generator=generator())
    assert [tuple(layer.weight.shape) for layer in (head.first, head.second, head.last)] == [
        (1952, 3904),
        (1952, 1952),
        (1, 1952),
    ]
    assert float(head.first.weight.detach().std()) == pytest.approx(np.sqrt(2 / 1952), rel=0.01)
    assert float(head.second.weight.detach().std()) == pytest.approx(np.sqrt(2 / 1952), rel=0.01)
    assert float(head.last.weight.detach().std()) == pytest.approx(0.001, rel=0.1)
    assert not any(layer.bias.any() for layer in (head.first, head.second, head.last))


def test_equal_generators_give_equal_discriminators_and_equal_dropout():
    a, b = (ModalityDiscriminator(8, generator=generator(3)) for _ in range(2))
    x = torch.randn(6, 8, generator=generator())
    assert torch.equal(a(x, generator(4)), b(x, generator(4)))
    assert not torch.equal(a(x, generator(4)), a(x, generator(5)))
    assert torch.equal(a.eval()(x, generator(8)), a(x))


def test_dropout_takes_its_share_and_keeps_the_mean():
    head, ones = ModalityDiscriminator(8, dropout=0.3), torch.ones(100, 200)
    for draws in (generator(), None):
        dropped = head._drop(ones, draws)
        assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.015)
    assert head.eval()._drop(ones, generator()) is ones
    none = ModalityDiscriminator(8, dropout=0.0)
    draws = generator()
    assert none._drop(ones, draws) is ones
    assert torch.equal(draws.get_state(), generator().get_state())
    assert ModalityDiscriminator(8).dropout == 0.5


def test_the_smallest_discriminator_has_one_hidden_unit():
    head = ModalityDiscriminator(2, generator=generator())
    assert head.first.weight.shape == (1, 2)
    assert head(torch.randn(4, 2, generator=generator()), generator()).shape == (4,)


def test_modality_loss_equals_the_reference(gold):
    expected = gold("otla/total_loss.npz")
    share = torch.from_numpy(expected["dis"]).double()[:, 0]
    logits = share.logit().requires_grad_()
    loss = modality_loss(logits[:32], logits[32:])
    loss.backward()
    position = list(expected["parts_order"]).index("modality_bce")
    reference = float(expected["semi_supervised_parts"][position])
    assert float(loss.detach()) == pytest.approx(reference, rel=1e-6)
    slope = expected["semi_supervised_grad_dis"][:, 0] * (share * (1 - share)).numpy()
    np.testing.assert_allclose(logits.grad, slope, atol=1e-8)


def reference_weight(
    expected: np.lib.npyio.NpzFile, name: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """A parameter of the golden network, by the rule that its description gives."""
    position = list(expected["param_names"]).index(name)
    draw = np.random.RandomState(1000 + position)
    if name.endswith("running_var"):
        value = 0.5 + draw.rand(*shape)
    elif len(shape) == 2:
        value = draw.randn(*shape) / np.sqrt(shape[1])
    elif name.endswith("weight"):
        value = 1 + 0.1 * draw.randn(*shape)
    else:
        value = 0.1 * draw.randn(*shape)
    return torch.from_numpy(value.astype(np.float32))


def test_discriminator_equals_the_reference(gold):
    """Output, loss and gradients from the pooled features on: necks, reversal, three layers."""
    expected = gold("otla/network.npz")
    head = ModalityDiscriminator(3904, dropout=0.0)
    names = {"first": "ad_layer1", "second": "ad_layer2", "last": "ad_layer3", "norm": "bn"}
    for ours, theirs in names.items():
        for kind in ("weight", "bias"):
            parameter = getattr(getattr(head, ours), kind)
            shape = tuple(parameter.shape)
            parameter.data = reference_weight(expected, f"disnet.{theirs}.{kind}", shape)
    levels, scale = [], None
    necks = ["bottleneck_0", "bottleneck_1", "bottleneck_2", "bottleneck_3", "bottleneck"]
    for level, name in enumerate(necks):
        pooled = torch.from_numpy(expected[f"pool{level}" if level < 4 else "train_pool4"])
        size = pooled.shape[1]
        norm = torch.nn.BatchNorm1d(size)
        for kind in ("weight", "bias"):
            getattr(norm, kind).data = reference_weight(expected, f"{name}.{kind}", (size,))
        scale = norm.weight if level == 0 else scale
        levels.append(norm(pooled))
    strength = coefficient(int(expected["iter_num"]))
    assert strength == pytest.approx(float(expected["coeff"]))
    logits = head(reverse_gradient(torch.cat(levels, dim=1), strength))
    loss = modality_loss(logits[:4], logits[4:])
    loss.backward()
    np.testing.assert_allclose(logits.sigmoid().detach(), expected["train_dis"][:, 0], atol=2e-4)
    assert float(loss.detach()) == pytest.approx(float(expected["bce"]), rel=1e-4)
    assert float(head.first.weight.grad.abs().sum()) == pytest.approx(
        float(expected["grad_ad1_abs_sum"]), rel=1e-3
    )
    limit = 1e-3 * np.abs(expected["grad_ad3"]).max()
    np.testing.assert_allclose(head.last.weight.grad, expected["grad_ad3"], atol=limit)
    limit = 1e-3 * np.abs(expected["grad_bn0_weight"]).max()
    np.testing.assert_allclose(scale.grad, expected["grad_bn0_weight"], atol=limit)


def test_loss_is_float32_for_bfloat16_input_under_autocast():
    head = ModalityDiscriminator(8, generator=generator())
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(6, 8, generator=generator()).bfloat16())
        loss = modality_loss(logits[:3].bfloat16(), logits[3:].bfloat16())
    assert logits.dtype == loss.dtype == torch.float32


@pytest.mark.parametrize(("features", "dropout"), [(1, 0.5), (8, 1.0), (8, -0.1)])
def test_discriminator_refuses_sizes_that_make_no_sense(features, dropout):
    with pytest.raises(ValueError, match=f"{features} features and dropout {dropout}"):
        ModalityDiscriminator(features, dropout)
