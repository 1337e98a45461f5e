"""Triplet and alignment loss: laws, the reference implementation's numbers, edge cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.parts.losses.alignment import alignment_terms, attention, prediction_alignment
from stages.parts.losses.triplet import batch_hard_triplet


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triplet_by_loop(x: torch.Tensor, labels: torch.Tensor, margin: float) -> float:
    terms = []
    for i in range(len(x)):
        distances = [max(float((x[i] - x[j]).norm()), 1e-6) for j in range(len(x))]
        positive = max(d for j, d in enumerate(distances) if labels[j] == labels[i])
        negative = min(d for j, d in enumerate(distances) if labels[j] != labels[i])
        terms.append(max(0.0, positive - negative + margin))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("margin", [0.0, 0.3, 5.0])
def test_triplet_is_the_loop(margin):
    x, labels = random(15, 4), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 1, 1, 0, 4, 4])
    assert float(batch_hard_triplet(x, labels, margin)) == pytest.approx(
        triplet_by_loop(x, labels, margin), rel=1e-9
    )


def test_triplet_ignores_order_and_the_names_of_labels():
    x, labels = random(12, 4), torch.arange(12) // 3
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    expected = batch_hard_triplet(x, labels)
    torch.testing.assert_close(batch_hard_triplet(x[order], 7 - labels[order]), expected)


def test_triplet_is_zero_for_well_separated_identities():
    x = torch.eye(4).repeat_interleave(3, dim=0) * 10
    assert batch_hard_triplet(x, torch.arange(12) // 3) == 0


@pytest.mark.parametrize("case", ["12x8", "24x16", "32x64"])
def test_triplet_equals_the_reference(gold, case):
    expected = gold(f"otla/triplet_{case}.npz")
    labels = torch.from_numpy(expected["label"])
    x = torch.from_numpy(expected["feat"]).double().requires_grad_()
    loss = batch_hard_triplet(x, labels, float(expected["margin"]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected["loss_f64"]), rel=1e-9)
    np.testing.assert_allclose(x.grad, expected["grad"], atol=1e-9)
    single = batch_hard_triplet(torch.from_numpy(expected["feat"]), labels)
    assert float(single) == pytest.approx(float(expected["loss_f32"]), rel=1e-5)


def test_triplet_needs_a_second_label():
    with pytest.raises(ValueError, match="all 6 images of the batch have one label"):
        batch_hard_triplet(random(6, 3), torch.zeros(6, dtype=torch.int64))


def test_triplet_needs_a_label_an_image():
    with pytest.raises(ValueError, match="do not fit"):
        batch_hard_triplet(random(6, 3), torch.zeros(5, dtype=torch.int64))


def test_attention_rows_are_distributions_over_directions():
    queries, keys = random(5, 7), random(9, 7, seed=1)
    weights = attention(queries, keys)
    assert weights.shape == (5, 9)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(attention(3 * queries, keys / 2), weights)
    assert weights.max() / weights.min() <= np.e**2


def test_alignment_of_one_image_with_itself_is_zero():
    """With one image, mixing is the identity, so equal predictions have nothing to align."""
    logits = random(1, 6)
    assert float(prediction_alignment(logits, logits)) == pytest.approx(0, abs=1e-12)


def test_alignment_is_not_negative_and_shifts_with_neither_order_of_the_images():
    visible, infrared = random(8, 5), random(8, 5, seed=1)
    terms = alignment_terms(visible, infrared)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    assert all(term > 0 for term in terms)
    torch.testing.assert_close(alignment_terms(visible[order], infrared[order]), terms)


def test_alignment_weights_its_two_terms():
    visible, infrared = random(8, 5), random(8, 5, seed=1)
    term_vr, term_rv = alignment_terms(visible, infrared)
    torch.testing.assert_close(
        prediction_alignment(visible, infrared, 2.0, 3.0), 2 * term_vr + 3 * term_rv
    )


@pytest.mark.parametrize("case", ["8x11", "16x40", "32x395"])
def test_alignment_equals_the_reference(gold, case):
    expected = gold(f"otla/pal_{case}.npz")
    visible = torch.from_numpy(expected["logits_v"]).double().requires_grad_()
    infrared = torch.from_numpy(expected["logits_r"]).double().requires_grad_()
    loss = prediction_alignment(visible, infrared)
    loss.backward()
    terms = [float(term.detach()) for term in alignment_terms(visible, infrared)]
    assert float(loss.detach()) == pytest.approx(float(expected["loss_f64"]), rel=1e-9)
    assert terms == pytest.approx(
        [float(expected["term_vr_f64"]), float(expected["term_rv_f64"])], rel=1e-9
    )
    np.testing.assert_allclose(visible.grad, expected["grad_v"], atol=1e-9)
    np.testing.assert_allclose(infrared.grad, expected["grad_r"], atol=1e-9)
    np.testing.assert_allclose(attention(visible, infrared).detach(), expected["att_vr"], atol=1e-9)
    np.testing.assert_allclose(attention(infrared, visible).detach(), expected["att_rv"], atol=1e-9)
    single = prediction_alignment(
        torch.from_numpy(expected["logits_v"]), torch.from_numpy(expected["logits_r"])
    )
    assert float(single) == pytest.approx(float(expected["loss_f32"]), rel=1e-4)


def test_alignment_needs_equal_shapes():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        prediction_alignment(torch.zeros(3, 4), torch.zeros(2, 4))


@pytest.mark.parametrize("loss", ["triplet", "alignment"])
def test_losses_are_float32_for_bfloat16_input_under_autocast(loss):
    """The value is exactly that of the upcast input: nothing inside was computed in bfloat16."""
    x, labels = random(8, 16).bfloat16(), torch.arange(8) // 2

    def value(x: torch.Tensor) -> torch.Tensor:
        return (
            batch_hard_triplet(x, labels)
            if loss == "triplet"
            else prediction_alignment(x, x.flip(0))
        )

    with torch.autocast("cpu", torch.bfloat16):
        low = value(x)
    assert low.dtype == torch.float32
    assert low == value(x.float())


@pytest.mark.parametrize(
    ("setting", "infrared"), [("semi_supervised", "label_rgb"), ("supervised", "label_ir")]
)
def test_whole_objective_equals_the_reference(gold, setting, infrared):
    """The six terms of one training batch with the released code's weights, and their gradients."""
    expected = gold("otla/total_loss.npz")
    pooled, logits = (
        torch.from_numpy(expected[name]).double().requires_grad_() for name in ("feat", "cls")
    )
    half = len(pooled) // 2
    visible_labels, infrared_labels = (
        torch.from_numpy(expected[name]) for name in ("label_rgb", infrared)
    )
    loss = (
        F.cross_entropy(logits[:half], visible_labels)
        + batch_hard_triplet(pooled[:half], visible_labels)
        + 0.1 * F.cross_entropy(logits[half:], infrared_labels)
        + 0.5 * batch_hard_triplet(pooled[half:], infrared_labels)
        + prediction_alignment(logits[:half], logits[half:])
    )
    loss.backward()
    is_visible = torch.arange(len(pooled)) < half
    adversary = F.binary_cross_entropy(
        torch.from_numpy(expected["dis"]).double()[:, 0], is_visible.double()
    )
    assert float(loss.detach() + adversary) == pytest.approx(
        float(expected[f"{setting}_loss"]), rel=1e-6
    )
    np.testing.assert_allclose(pooled.grad, expected[f"{setting}_grad_feat"], atol=1e-8)
    np.testing.assert_allclose(logits.grad, expected[f"{setting}_grad_cls"], atol=1e-8)


def test_triplet_of_some_anchors_sees_all_images():
    """The means over the two halves of the anchors make the mean over all."""
    x, labels = random(12, 4), torch.arange(12) % 3
    halves = [batch_hard_triplet(x, labels, 2.0, half) for half in (slice(0, 6), slice(6, None))]
    torch.testing.assert_close(sum(halves) / 2, batch_hard_triplet(x, labels, 2.0))
    assert halves[0] != batch_hard_triplet(x[:6], labels[:6], 2.0)


def test_alignment_of_predictions_is_the_papers_text():
    """Eq. 6 to 9 written out with S = softmax of the logits."""
    visible, infrared = random(6, 5), random(6, 5, seed=1)
    v, r = visible.softmax(1), infrared.softmax(1)
    s_vr = (v @ r.T).softmax(1) @ r
    s_rr, s_rv = (r @ r.T).softmax(1) @ r, (r @ v.T).softmax(1) @ v
    expected = [(a * (a.log() - b.log())).sum(1).mean() for a, b in ((v, s_vr), (s_rv, s_rr))]
    torch.testing.assert_close(list(alignment_terms(visible, infrared, "predictions")), expected)


def test_alignment_of_predictions_stays_finite_where_nothing_predicts_a_class():
    logits = torch.zeros(3, 4)
    logits[:, 0] = 500.0
    for values in ("logits", "predictions"):
        assert all(torch.isfinite(term) for term in alignment_terms(-logits, logits, values))


@pytest.mark.parametrize("values", ["logits", "predictions"])
def test_a_detached_target_has_no_gradient_of_its_own(values):
    """The visible logits reach L_vr through the attention only; the value is unchanged."""
    visible, infrared = random(6, 5).requires_grad_(), random(6, 5, seed=1)
    free = alignment_terms(visible, infrared, values)
    held = alignment_terms(visible, infrared, values, detach=True)
    torch.testing.assert_close([term.detach() for term in free], [term.detach() for term in held])
    gradients = [
        torch.autograd.grad(term, visible, retain_graph=True)[0] for term in (free[0], held[0])
    ]
    assert not torch.allclose(*gradients)
    assert free[1].requires_grad
    assert not held[1].requires_grad  # of the visible logits, S_rv alone is in it


def test_alignment_knows_two_forms():
    with pytest.raises(ValueError, match="values 'cosines', expected logits or predictions"):
        prediction_alignment(torch.zeros(3, 4), torch.zeros(3, 4), values="cosines")
