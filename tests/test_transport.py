"""Labels by optimal transport: laws, a slow twin, the reference's numbers, edge cases."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.parts.assignment import thin as thin_module
from stages.parts.assignment.dual import FullDual
from stages.parts.assignment.thin import ThinDual
from stages.parts.assignment.transport import plan, solve

SOLVERS = ["newton", "sinkhorn"]
CASES = [
    "nearuniform_300x17",
    "peaked_300x17",
    "peaked_1200x40",
    "degenerate_400x20",
    "multivisit_154x12",
]
BROKEN = ["underflow_400x20", "onedeadclass_300x17"]


def predictions(
    images: int, classes: int, spread: float = 1.0, peak: float = 0.0, seed: int = 0
) -> torch.Tensor:
    """log P of random logits, float64, `peak` added to one random class of each image."""
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(images, classes, generator=generator, dtype=torch.float64)
    peaks = torch.randint(0, classes, (images,), generator=generator)
    logits[torch.arange(images), peaks] += peak
    return logits.log_softmax(dim=1)


def masses(count: int, seed: int) -> torch.Tensor:
    """Random masses (count,), sum 1."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, generator=generator, dtype=torch.float64) + 0.2
    return values / values.sum()


def uniform(count: int) -> torch.Tensor:
    return torch.full((count,), 1 / count, dtype=torch.float64)


def twin(log_predictions: torch.Tensor, sharpness: float, steps: int = 20_000) -> torch.Tensor:
    """The plan by Eq. 4, both scalings, in the log domain, for uniform masses."""
    scores = sharpness * log_predictions.double()
    rows, columns = (uniform(count) for count in scores.shape)
    u = torch.zeros_like(rows)
    for _ in range(steps):
        v = columns.log() - (scores + u[:, None]).logsumexp(dim=0)
        u = rows.log() - (scores + v).logsumexp(dim=1)
        dense = (scores + u[:, None] + v).exp()
        if l1(dense.sum(dim=0), columns) < 1e-11:
            break
    return dense


def l1(mass: torch.Tensor, target: torch.Tensor) -> float:
    return float((mass - target).abs().sum())


@st.composite
def problems(draw):
    images, classes = draw(st.integers(1, 30)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 10**6))
    spread = draw(st.sampled_from([0.1, 1.0, 4.0]))
    peak = draw(st.sampled_from([0.0, 6.0, 40.0]))
    uneven = draw(st.booleans())
    return {
        "log_predictions": predictions(images, classes, spread, peak, seed),
        "sharpness": draw(st.sampled_from([1.0, 5.0, 25.0, 200.0])),
        "rows": masses(images, seed) if uneven else None,
        "columns": masses(classes, seed + 1) if uneven else None,
    }


@settings(max_examples=80, deadline=None, derandomize=True)
@given(problems())
def test_newton_finds_a_plan_with_the_wanted_marginals(problem):
    rows, columns = problem["rows"], problem["columns"]
    images, classes = problem["log_predictions"].shape
    transport = solve(**problem)
    dense = plan(problem["log_predictions"], problem["sharpness"], transport, rows)
    rows = uniform(images) if rows is None else rows
    columns = uniform(classes) if columns is None else columns
    assert transport.converged
    torch.testing.assert_close(dense.sum(dim=1), rows, rtol=1e-12, atol=0)
    error = l1(dense.sum(dim=0), columns)
    assert error <= 1e-6
    assert transport.error == pytest.approx(error, abs=1e-12)
    shares = dense / dense.sum(dim=1, keepdim=True)
    torch.testing.assert_close(transport.confidence, shares.amax(dim=1))
    assert torch.equal(transport.labels, shares.argmax(dim=1))
    rounding = 1e-9 * (1 + float(transport.potentials.abs().max()))
    assert float(transport.potentials.mean()) == pytest.approx(0, abs=rounding)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(
    ("sharpness", "peak"), [(1.0, 4.0), (5.0, 0.0), (25.0, 0.0), (25.0, 1.0), (200.0, 0.0)]
)
def test_both_solvers_agree_with_pot(solver, uneven, sharpness, peak):
    """Python Optimal Transport's log-domain solver, cost -log P, regularization 1 / sharpness."""
    spread = 0.3 if sharpness > 100 else 1.0
    log_predictions = predictions(40, 6, spread, peak, seed=int(sharpness))
    rows = masses(40, 1) if uneven else uniform(40)
    columns = masses(6, 2) if uneven else uniform(6)
    options = {"numItermax": 200_000, "stopThr": 1e-12, "warn": False}
    expected = ot.bregman.sinkhorn_log(rows, columns, -log_predictions, 1 / sharpness, **options)
    transport = solve(log_predictions, sharpness, rows, columns, solver, tolerance=1e-9)
    assert transport.converged
    dense = plan(log_predictions, sharpness, transport, rows)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(2, 25),
    st.integers(2, 6),
    st.sampled_from([1.0, 3.0, 10.0]),
    st.integers(0, 10**6),
)
def test_both_solvers_agree_with_the_slow_twin(images, classes, sharpness, seed):
    log_predictions = predictions(images, classes, 0.5, seed=seed)
    expected = twin(log_predictions, sharpness)
    for solver in SOLVERS:
        transport = solve(log_predictions, sharpness, solver=solver, tolerance=1e-9)
        assert transport.converged
        dense = plan(log_predictions, sharpness, transport)
        torch.testing.assert_close(dense, expected, rtol=0, atol=1e-7)


def objective(dense: torch.Tensor, problem: dict, columns: torch.Tensor) -> float:
    """<Q, -log P> + KL(Q || uniform) / sharpness + KL(m || columns) / slack, which is minimized."""
    mass = dense.sum(dim=0)
    cost = -(dense * problem["log_predictions"]).sum()
    entropy = torch.xlogy(dense, dense).sum()
    excess = torch.xlogy(mass, mass / columns).sum()
    return float(cost + entropy / problem["sharpness"] + excess / problem["slack"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems(), st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e4]), st.integers(0, 10**6))
def test_no_plan_is_better_than_the_one_with_slack(problem, slack, seed):
    problem = problem | {"slack": slack}
    log_predictions, sharpness = problem["log_predictions"], problem["sharpness"]
    images, classes = log_predictions.shape
    columns = uniform(classes) if problem["columns"] is None else problem["columns"]
    transport = solve(**problem, tolerance=1e-9)
    dense = plan(log_predictions, sharpness, transport, problem["rows"])
    assert transport.converged
    target = columns * (-transport.potentials * slack / sharpness).exp()
    assert float(target.sum()) == pytest.approx(1, abs=1e-9)
    assert transport.error == pytest.approx(l1(dense.sum(dim=0), target), abs=1e-9)
    best = objective(dense, problem, columns)
    random_scores = masses(images * classes, seed).view(images, classes).log()
    # The objective is convex: a better plan anywhere is seen on the way to it.
    for scores in (random_scores, sharpness * log_predictions):
        other = dense.sum(dim=1, keepdim=True) * scores.softmax(dim=1)
        for part in (1e-3, 0.1):
            mixed = objective((1 - part) * dense + part * other, problem, columns)
            assert best <= mixed + 1e-9 * (1 + abs(best))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(problems())
def test_more_slack_moves_the_masses_further_from_those_wanted(problem):
    """From the plan without slack to every image's own softmax."""
    log_predictions, columns = problem["log_predictions"], problem["columns"]
    if columns is None:
        columns = uniform(log_predictions.shape[1])
    excess = []
    for slack in (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0):
        transport = solve(**problem, slack=slack, tolerance=1e-9)
        dense = plan(log_predictions, problem["sharpness"], transport, problem["rows"])
        mass = dense.sum(dim=0)
        excess.append(float(torch.xlogy(mass, mass / columns).sum()))
    np.testing.assert_array_less(excess[:-1], np.array(excess[1:]) + 1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.2, 20.0])
@pytest.mark.parametrize(("sharpness", "peak"), [(1.0, 4.0), (5.0, 0.0), (20.0, 0.0)])
def test_a_plan_with_slack_is_pots(solver, slack, sharpness, peak):
    """Python Optimal Transport: images' masses fixed, KL(Q || uniform) by a reference of ones."""
    spread = 0.2 if sharpness > 10 else 0.7
    log_predictions = predictions(40, 6, spread, peak, seed=3)
    rows, columns = masses(40, 1), masses(6, 2)
    expected = ot.unbalanced.sinkhorn_unbalanced(
        rows,
        columns,
        -log_predictions,
        1 / sharpness,
        (math.inf, 1 / slack),
        c=torch.ones_like(log_predictions),
        numItermax=100_000,
        stopThr=1e-13,
    )
    assert float(expected.sum()) == pytest.approx(1, abs=1e-9)
    transport = solve(log_predictions, sharpness, rows, columns, solver, 1e-10, slack=slack)
    assert transport.converged
    dense = plan(log_predictions, sharpness, transport, rows)
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_between_no_slack_and_much(solver):
    log_predictions = predictions(70, 6, peak=2.0)
    options = {"sharpness": 5.0, "solver": solver, "tolerance": 1e-10}
    balanced = solve(log_predictions, slack=0.0, **options)
    little = solve(log_predictions, slack=1e-7, **options)
    much = solve(log_predictions, slack=1e7, **options)
    plans = [plan(log_predictions, 5.0, transport) for transport in (balanced, little, much)]
    softmax = (5 * log_predictions).softmax(dim=1)
    torch.testing.assert_close(plans[1], plans[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(plans[2], softmax / 70, rtol=0, atol=1e-7)
    assert torch.equal(much.labels, log_predictions.argmax(dim=1))
    assert not torch.equal(much.labels, balanced.labels)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.0, 0.5])
def test_order_of_images_and_names_of_classes_do_not_matter(solver, slack):
    log_predictions = predictions(60, 7, peak=3.0)
    generator = torch.Generator().manual_seed(5)
    images = torch.randperm(60, generator=generator)
    classes = torch.randperm(7, generator=generator)
    options = {"sharpness": 25.0, "solver": solver, "tolerance": 1e-9, "slack": slack}
    transport = solve(log_predictions, **options)
    permuted = solve(log_predictions[images][:, classes], **options)
    potentials = transport.potentials[classes]
    assert torch.equal(classes[permuted.labels], transport.labels[images])
    torch.testing.assert_close(permuted.potentials, potentials, rtol=0, atol=1e-5)


def test_unnormalized_rows_change_nothing():
    log_predictions = predictions(50, 5)
    shifted = log_predictions + torch.linspace(-300, 300, 50, dtype=torch.float64)[:, None]
    expected = solve(log_predictions, 5.0).potentials
    torch.testing.assert_close(solve(shifted, 5.0).potentials, expected, atol=1e-6, rtol=0)


def test_equal_counts_at_high_sharpness():
    """Every class gets as many images if their number is a multiple and the plan is sharp."""
    labels = solve(predictions(120, 12, 2.0, peak=5.0), 200.0).labels
    assert torch.bincount(labels, minlength=12).tolist() == [10] * 12


def test_a_prior_moves_labels():
    columns = torch.tensor([0.7, 0.1, 0.1, 0.1])
    labels = solve(predictions(200, 4), 50.0, columns=columns).labels
    np.testing.assert_allclose(torch.bincount(labels, minlength=4) / 200, columns, atol=0.02)


@pytest.mark.parametrize("sharpness", [5, 25, 50])
@pytest.mark.parametrize("case", CASES + BROKEN)
def test_newton_equals_the_reference_and_pot(gold, case, sharpness):
    """The labels are the released code's wherever it does not crash.

    The marginals of its plan are off by 1e-4, those of POT's are not.
    """
    expected = gold(f"otla/sinkhorn_{case}_lam{sharpness}.npz")
    if str(expected["pot_cost_from"]) == "P":
        log_predictions = torch.from_numpy(expected["P"]).double().log()
    else:
        log_predictions = torch.from_numpy(expected["logits"]).double().log_softmax(dim=1)
    transport = solve(log_predictions, float(sharpness), tolerance=1e-9)
    assert transport.converged
    dense = plan(log_predictions, sharpness, transport)
    limit = 1e-6 / len(dense) if expected["pot_plan"].dtype == np.float32 else 1e-9
    np.testing.assert_allclose(dense, expected["pot_plan"], rtol=0, atol=limit)
    clear = expected["pot_label_gap"] > 1e-5
    np.testing.assert_array_equal(transport.labels[clear], expected["pot_labels"][clear])
    if expected["ref_ok"]:
        clear = expected["ref_label_gap"] > 0.02
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(transport.labels[clear], expected["ref_labels_op"][clear])


@pytest.mark.parametrize("case", ["nearuniform_300x17", "peaked_300x17", "multivisit_154x12"])
def test_sinkhorn_equals_the_reference_and_pot(gold, case):
    expected = gold(f"otla/sinkhorn_{case}_lam5.npz")
    log_predictions = torch.from_numpy(expected["P"]).double().log()
    transport = solve(log_predictions, 5.0, solver="sinkhorn", tolerance=1e-5)
    clear = expected["ref_label_gap"] > 0.02
    assert transport.converged
    np.testing.assert_array_equal(transport.labels[clear], expected["ref_labels_op"][clear])
    potentials = expected["pot_log_v"] - expected["pot_log_v"].mean()
    np.testing.assert_allclose(transport.potentials, potentials, atol=0.01 * np.ptp(potentials))


def released_loop(kernel: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """OTLA's released code, from its description: scalings of the classes and number of updates."""
    images, classes = kernel.shape
    of_images = np.full(images, 1 / images)
    step, change = 0, math.inf
    while change > tolerance:
        of_classes = (1 / classes) / (of_images @ kernel)
        new_of_images = (1 / images) / (kernel @ of_classes)
        if step % 10 == 0:
            change = np.abs(of_images / new_of_images - 1).sum()
        of_images = new_of_images
        step += 1
    return of_classes, step


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([0.0, 3.0]), st.integers(0, 10**6))
def test_released_stops_where_the_released_code_does(images, classes, peak, seed):
    log_predictions = predictions(images, classes, 0.5, peak, seed)
    of_classes, steps = released_loop((5 * log_predictions).exp().numpy(), 0.1)
    transport = solve(log_predictions, 5.0, solver="released", tolerance=0.1)
    assert (transport.iterations, transport.converged) == (steps, True)
    potentials = np.log(of_classes) - np.log(of_classes).mean()
    np.testing.assert_allclose(transport.potentials, potentials, atol=1e-9)
    mass = plan(log_predictions, 5.0, transport).sum(dim=0)
    assert transport.error == pytest.approx(l1(mass, uniform(classes)), abs=1e-12)


@pytest.mark.parametrize("sharpness", [5, 25])
@pytest.mark.parametrize("case", CASES + BROKEN)
def test_released_takes_the_references_steps(gold, case, sharpness):
    """Where a class's kernel underflows and the released code crashes, the log domain goes on."""
    expected = gold(f"otla/sinkhorn_{case}_lam{sharpness}.npz")
    log_predictions = torch.from_numpy(expected["P"]).double().log()
    transport = solve(log_predictions, float(sharpness), solver="released", tolerance=0.1)
    assert transport.converged
    assert transport.iterations % 10 == 1
    if expected["ref_ok"]:
        assert transport.iterations == expected["ref_steps"]
        np.testing.assert_array_equal(transport.labels, expected["ref_labels_op"])
        scalings = np.log(expected["ref_alpha"])
        np.testing.assert_allclose(transport.potentials, scalings - scalings.mean(), atol=1e-7)
        mass = plan(log_predictions, sharpness, transport).sum(dim=0)
        np.testing.assert_allclose(mass, expected["ref_class_mass"], rtol=1e-7)
    else:
        assert transport.iterations > expected["ref_steps"]


def test_released_leads_to_the_same_plan():
    """Also with slack and uneven masses, some of them 0."""
    log_predictions, rows, columns = predictions(30, 5), masses(30, 1), masses(5, 2)
    rows[3] = columns[2] = 0.0
    rows, columns = rows / rows.sum(), columns / columns.sum()
    problem = log_predictions, 5.0, rows, columns
    for slack in (0.0, 0.3):
        transport = solve(*problem, solver="released", tolerance=1e-9, slack=slack)
        expected = solve(*problem, tolerance=1e-10, slack=slack)
        assert transport.converged
        assert transport.potentials[2] == -math.inf
        dense = plan(log_predictions, 5.0, transport, rows)
        expected_dense = plan(log_predictions, 5.0, expected, rows)
        torch.testing.assert_close(dense, expected_dense, rtol=0, atol=1e-8)


@pytest.mark.parametrize("limit", [1, 10, 21])
def test_released_reports_a_limit(limit):
    log_predictions = predictions(80, 8, peak=5.0)
    transport = solve(log_predictions, 25.0, solver="released", max_iterations=limit)
    assert (transport.iterations, transport.converged) == (limit, False)
    assert transport.error > 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_predictions_give_the_same_labels(solver):
    log_predictions = predictions(80, 8, peak=2.0).float()
    single = solve(log_predictions, 5.0, solver=solver)
    double = solve(log_predictions.double(), 5.0, solver=solver)
    assert torch.equal(single.labels, double.labels)
    assert torch.equal(single.potentials, double.potentials)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("images", "classes"), [(1, 1), (7, 1), (1, 5), (3, 11)])
def test_tiny_problems(solver, images, classes):
    """With more classes than images the plan splits an image; its label is the largest part."""
    log_predictions = predictions(images, classes, 2.0)
    transport = solve(log_predictions, 25.0, solver=solver)
    assert transport.converged
    assert transport.labels.shape == transport.confidence.shape == (images,)
    assert torch.isfinite(transport.potentials).all()
    assert float(transport.confidence.min()) >= 1 / classes - 1e-9


def test_ties_go_to_the_lowest_class():
    transport = solve(torch.zeros(6, 4), 25.0)
    quarters = torch.full((6,), 0.25, dtype=torch.float64)
    assert transport.labels.tolist() == [0] * 6
    torch.testing.assert_close(transport.confidence, quarters)


@pytest.mark.parametrize("solver", SOLVERS)
def test_exact_zeros_count_as_the_smallest_float(solver):
    """One-hot predictions on two of four classes: half of each group must go to the other two."""
    probabilities = torch.zeros(8, 4)
    probabilities[torch.arange(8), torch.arange(8) % 2] = 1.0
    transport = solve(probabilities.log(), 1.0, solver=solver)
    floored = solve(probabilities.clamp(min=2.0**-149).double().log(), 1.0, solver=solver)
    halves = torch.full((8,), 0.5, dtype=torch.float64)
    assert transport.converged
    assert torch.isfinite(transport.potentials).all()
    torch.testing.assert_close(transport.potentials, floored.potentials, rtol=0, atol=1e-4)
    torch.testing.assert_close(transport.confidence, halves, rtol=0, atol=1e-5)


def test_a_class_or_an_image_of_zeros_only_is_served_all_the_same():
    log_predictions = predictions(40, 4)
    log_predictions[:, 2] = -math.inf
    log_predictions[7] = -math.inf
    transport = solve(log_predictions, 25.0)
    mass = plan(log_predictions, 25.0, transport).sum(dim=0)
    assert transport.converged
    assert float(mass[2]) == pytest.approx(0.25, abs=1e-6)


def test_zero_is_never_above_a_probability_that_occurs():
    """If log P is finite below float32's smallest, -inf counts as the minimum, not as more."""
    inf = math.inf
    log_predictions = torch.tensor([[0.0, -400.0], [0.0, -inf], [0.0, -inf], [0.0, -300.0]])
    assert solve(log_predictions.double(), 1.0, tolerance=1e-9).labels.tolist()[3] == 1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.0, 0.1])
def test_a_class_that_is_to_get_nothing_gets_nothing(solver, slack):
    columns = torch.tensor([0.5, 0.0, 0.5])
    log_predictions = torch.tensor(
        [[0.0, 5.0, 1.0], [2.0, 5.0, 0.0], [0.0, 9.0, 0.5], [1.0, 9.0, 0.0]]
    )
    transport = solve(log_predictions, 5.0, columns=columns, solver=solver, slack=slack)
    assert transport.converged
    assert transport.potentials[1] == -math.inf
    assert not plan(log_predictions, 5.0, transport)[:, 1].any()
    assert transport.labels.tolist() == [2, 0, 2, 0]


def test_newton_needs_some_tens_of_steps_where_the_plan_is_nearly_an_assignment():
    """30 and 37. Without continuation in the sharpness it would need 107 and 79, without longer
    strides 38 and 47, for the same labels.
    """
    steps = 0
    for images, classes, peak, sharpness in ((2000, 40, 20.0, 200.0), (1200, 60, 40.0, 25.0)):
        transport = solve(predictions(images, classes, 1.0, peak, seed=1), sharpness)
        assert transport.converged
        steps += transport.iterations
    assert steps < 76


def test_too_few_iterations_are_reported_not_hidden():
    log_predictions = predictions(100, 10, peak=8.0)
    transport = solve(log_predictions, 25.0, solver="sinkhorn", max_iterations=3)
    assert (transport.iterations, transport.converged) == (3, False)
    assert transport.error > 1e-6
    assert torch.isfinite(transport.potentials).all()


def test_a_distant_group_of_classes_is_reached():
    """The potentials of two classes are thousands apart.

    Nearly all of the way the dual is a straight line, so plain Newton steps go too far.
    """
    transport = solve(predictions(3000, 2, 3.0, peak=100.0), 200.0)
    assert transport.converged
    assert transport.iterations < 150


@pytest.mark.parametrize(("images", "classes"), [(1500, 60), (9000, 70)])
@pytest.mark.parametrize("slack", [0.0, 0.2])
def test_entries_left_out_and_rows_sampled_on_the_way_do_not_show(images, classes, slack):
    """Large enough for a ThinDual and, in the second case, for a start on a part of the rows."""
    log_predictions = predictions(images, classes, peak=8.0)
    transport = solve(log_predictions, 25.0, tolerance=1e-9, slack=slack)
    mass = (25 * log_predictions + transport.potentials).softmax(dim=1).mean(dim=0)
    target = (-transport.potentials * slack / 25).exp() / classes
    assert transport.converged
    assert transport.iterations < 60
    assert l1(mass, target) <= 1e-9


@pytest.mark.parametrize("slack", [0.0, 0.2])
def test_entries_worked_on_piece_by_piece_do_not_show(monkeypatch, slack):
    log_predictions = predictions(3000, 80, peak=8.0)
    expected = solve(log_predictions, 25.0, slack=slack)
    monkeypatch.setattr(thin_module, "PIECE", 500)
    transport = solve(log_predictions, 25.0, slack=slack)
    assert torch.equal(transport.labels, expected.labels)
    torch.testing.assert_close(transport.potentials, expected.potentials, rtol=0, atol=1e-6)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("piece", [200, 2**22])
@pytest.mark.parametrize("slack", [0.0, 1e-9, 0.3, 50.0])
def test_gradient_and_hessian_are_those_of_the_dual(monkeypatch, thin, piece, slack):
    """Against autograd, with rows of few and of many entries."""
    monkeypatch.setattr(thin_module, "PIECE", piece)
    log_predictions = torch.cat([predictions(30, 45, 0.3), predictions(60, 45, 3.0, peak=9.0)])
    potentials = 0.1 * predictions(1, 45)[0]
    full = FullDual(log_predictions, 1.0, uniform(90), uniform(45), slack)
    dual = ThinDual(full, full.evaluate(potentials), 60.0) if thin else full

    def value(w: torch.Tensor) -> torch.Tensor:
        share = -w.mean() if slack == 0 else (-slack * w).expm1().mean().log1p() / slack
        return (log_predictions + w).logsumexp(dim=1).mean() + share

    moved = potentials + 0.01 * predictions(1, 45, seed=3)[0]
    gradient = torch.autograd.functional.jacobian(value, moved)
    hessian = torch.autograd.functional.hessian(value, moved)
    point = dual.evaluate(moved)
    difference = point.value - dual.evaluate(potentials).value
    assert difference == pytest.approx(float(value(moved) - value(potentials)), abs=1e-12)
    torch.testing.assert_close(point.gradient, gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(dual.laplacian(moved), hessian, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharpness": 0.0}, "sharpness 0.0, expected a positive number"),
        ({"sharpness": math.nan}, "sharpness nan"),
        ({"sharpness": math.inf}, "sharpness inf"),
        ({"tolerance": 0.0}, "tolerance 0.0"),
        ({"solver": "simplex"}, "solver 'simplex', expected one of newton, sinkhorn, released"),
        ({"max_iterations": 0}, "max_iterations 0"),
        ({"slack": -0.1}, "slack -0.1, expected a number of at least 0"),
        ({"slack": math.nan}, "slack nan"),
        ({"slack": math.inf}, "slack inf"),
        ({"log_predictions": torch.zeros(0, 3)}, r"log_predictions \(0, 3\)"),
        ({"log_predictions": torch.zeros(3)}, r"log_predictions \(3,\)"),
        (
            {"log_predictions": torch.zeros(4, 3).bfloat16()},
            "bfloat16, expected float32 or float64",
        ),
        ({"log_predictions": torch.full((4, 3), math.nan)}, "contain NaN or"),
        ({"log_predictions": torch.full((4, 3), math.inf)}, "contain NaN or"),
        ({"rows": torch.ones(5)}, r"rows has shape \(5,\), expected \(4,\)"),
        ({"columns": torch.tensor([1.0, -1.0, 1.0])}, "columns must be finite, not negative"),
        ({"columns": torch.zeros(3)}, "columns must be finite, not negative, and not all 0"),
        ({"rows": torch.ones(4), "columns": torch.ones(3)}, "rows add up to 4, columns to 3"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        solve(**({"log_predictions": torch.zeros(4, 3), "sharpness": 25.0} | change))
