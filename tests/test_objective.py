"""The loss of a batch: the reference implementation's numbers, and what switches take away."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.parts.losses.triplet import batch_hard_triplet
from stages.parts.network.head import Outputs
from stages.train.data import Method
from stages.train.objective import WEIGHTS, loss_terms, weighted_sum, weights
from tests import builders

ORDER = (
    "ce_visible",
    "triplet_visible",
    "ce_infrared",
    "triplet_infrared",
    "discriminator",
    "alignment",
)


@pytest.fixture(scope="module")
def paper() -> Method:
    """The paper's setting."""
    names = ("train", "den", "otla", "pal", "clusters", "prototypes")
    return Method(*[builders.settings(name, {"scale": "paper"}) for name in names], seed=0)


def batch(count: int = 6, seed: int = 0) -> tuple[Outputs, Tensor, Tensor]:
    """Outputs of 2 · `count` images, their modality logits, labels of one half."""
    generator = torch.Generator().manual_seed(seed)
    pooled, logits, levels = (
        torch.randn(2 * count, size, generator=generator) for size in (8, 5, 20)
    )
    return (
        Outputs(pooled, logits, levels),
        torch.randn(2 * count, generator=generator),
        torch.arange(count) // 2,
    )


@pytest.mark.parametrize("setting", ["semi_supervised", "unsupervised", "supervised"])
def test_the_whole_loss_is_the_reference_s(gold, paper, setting):
    """Value, terms, and gradients of features, logits and discriminator output, in float64."""
    expected = gold("otla/total_loss.npz")
    train, pal = paper.train, paper.pal
    feat, cls, dis = (torch.from_numpy(expected[name]).double() for name in ("feat", "cls", "dis"))
    modality = torch.logit(dis.squeeze(1))
    for leaf in (feat, cls, modality):
        leaf.requires_grad_()
    visible = torch.from_numpy(expected["label_rgb"])
    infrared = torch.from_numpy(expected["label_ir"]) if setting == "supervised" else visible
    terms = loss_terms(Outputs(feat, cls, feat), modality, visible, infrared, train, pal)
    loss = weighted_sum(terms, weights(paper))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected[f"{setting}_loss"]), rel=1e-9)
    parts = [float(terms[name].detach()) for name in ORDER]
    np.testing.assert_allclose(parts, expected[f"{setting}_parts"], rtol=1e-7)
    np.testing.assert_allclose(feat.grad, expected[f"{setting}_grad_feat"], atol=1e-9)
    np.testing.assert_allclose(cls.grad, expected[f"{setting}_grad_cls"], atol=1e-9)
    through_sigmoid = expected[f"{setting}_grad_dis"][:, 0] * (dis * (1 - dis))[:, 0].numpy()
    np.testing.assert_allclose(modality.grad, through_sigmoid, atol=1e-9)


def test_weights_of_the_paper_s_setting(paper):
    """1, 1, 0.1, 0.5 as in the released code; λ1 = λ2 = 1 of Eq. 11."""
    assert weights(paper) == dict(zip(ORDER, (1.0, 1.0, 0.1, 0.5, 1.0, 1.0), strict=True))


def test_every_weight_comes_from_its_own_parameter(paper):
    numbers = {f"weight_{name}": float(number) for number, name in enumerate(ORDER[:4], 2)}
    changed = replace(
        paper,
        train=replace(paper.train, **numbers),
        den=replace(paper.den, weight=6.0),
        pal=replace(paper.pal, weight=7.0),
    )
    expected = dict(zip(ORDER, (2.0, 3.0, 4.0, 5.0, 6.0, 7.0), strict=True))
    assert weights(changed) == expected


def test_total_is_the_weighted_sum_of_what_is_there(paper):
    outputs, modality, labels = batch()
    terms = loss_terms(outputs, modality, labels, labels, paper.train, paper.pal)
    weight = {name: float(number) for number, name in enumerate(terms, 1)}
    whole = float(weighted_sum(terms, weight))
    assert whole == pytest.approx(
        sum(weight[name] * float(term) for name, term in terms.items()), rel=1e-6
    )
    left = terms.pop("triplet_visible")
    assert float(weighted_sum(terms, weight)) == pytest.approx(
        whole - weight["triplet_visible"] * float(left), rel=1e-5
    )
    assert weighted_sum({"a": torch.tensor(3.0)}, {"a": 0.0, "b": 1.0}) == 0


def test_a_term_that_is_switched_off_is_absent_and_the_others_stay(paper):
    train, pal = paper.train, paper.pal
    outputs, modality, labels = batch()
    everything = loss_terms(outputs, modality, labels, labels, train, pal)
    assert tuple(everything) == tuple(WEIGHTS) == ORDER
    without = {
        ("discriminator",): loss_terms(outputs, None, labels, labels, train, pal),
        ("alignment",): loss_terms(
            outputs, modality, labels, labels, train, replace(pal, enabled=False)
        ),
        ("ce_infrared", "triplet_infrared"): loss_terms(
            outputs, modality, labels, None, train, pal
        ),
    }
    for gone, terms in without.items():
        assert terms == {name: term for name, term in everything.items() if name not in gone}


def test_each_modality_has_its_own_triplets(paper):
    """Infrared images that move do not change the visible triplet loss."""
    train, pal = paper.train, paper.pal
    outputs, modality, labels = batch()
    before = loss_terms(outputs, modality, labels, labels, train, pal)
    moved = outputs.pooled.clone()
    moved[6:] *= 3
    after = loss_terms(outputs._replace(pooled=moved), modality, labels, labels, train, pal)
    assert after["triplet_visible"] == before["triplet_visible"]
    assert after["triplet_infrared"] != before["triplet_infrared"]


def test_joint_triplets_see_the_other_modality(paper):
    """Each modality's anchors against both; without infrared labels there is nothing to join."""
    train, pal = paper.train, paper.pal
    joint = replace(train, triplet_scope="joint")
    outputs, modality, labels = batch()
    found = loss_terms(outputs, modality, labels, labels, joint, pal)
    whole = batch_hard_triplet(outputs.pooled, torch.cat([labels, labels]), train.margin)
    halves = found["triplet_visible"] + found["triplet_infrared"]
    assert float(halves) / 2 == pytest.approx(float(whole), rel=1e-6)
    assert (
        found["triplet_visible"]
        != loss_terms(outputs, modality, labels, labels, train, pal)["triplet_visible"]
    )
    alone = [
        loss_terms(outputs, modality, labels, None, given, pal)["triplet_visible"]
        for given in (train, joint)
    ]
    assert alone[0] == alone[1]


def test_the_form_of_pal_reaches_its_term(paper):
    train, pal = paper.train, paper.pal
    outputs, modality, labels = batch()
    found = [
        loss_terms(outputs, modality, labels, labels, train, replace(pal, values=values))[
            "alignment"
        ]
        for values in ("logits", "predictions")
    ]
    assert found[0] != found[1]


def test_margin_reaches_both_triplet_terms(paper):
    """Far beyond all distances every anchor counts, so a margin of 1 more costs 1 more."""
    train, pal = paper.train, paper.pal
    outputs, modality, labels = batch()
    wide, wider = (
        loss_terms(outputs, modality, labels, labels, replace(train, margin=m), pal)
        for m in (50.0, 51.0)
    )
    for name in ("triplet_visible", "triplet_infrared"):
        assert float(wider[name] - wide[name]) == pytest.approx(1.0, abs=1e-4)


def test_infrared_labels_may_differ_from_the_visible_ones(paper):
    train, pal = paper.train, paper.pal
    outputs, modality, labels = batch()
    same, other = (
        loss_terms(outputs, modality, labels, given, train, pal)
        for given in (labels, labels.flip(0))
    )
    changed = {name for name in ORDER if same[name] != other[name]}
    assert changed == {"ce_infrared"}  # the triplet sees the same partition under other names
