"""Labels by optimal transport: laws of the plan, a slow twin and the reference's numbers, edge cases."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.parts.assignment import dual as views
from stages.parts.assignment.dual import FullDual, ThinDual
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
    logits[torch.arange(images), torch.randint(0, classes, (images,), generator=generator)] += peak
    return logits.log_softmax(dim=1)


def masses(count: int, seed: int) -> torch.Tensor:
    return (
        torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.2
    )


def twin(
    log_predictions: torch.Tensor, sharpness: float, rows=None, columns=None, steps: int = 20_000
) -> torch.Tensor:
    """Eq. 4, both scalings, in the log domain: the plan."""
    scores = sharpness * log_predictions.double()
    images, classes = scores.shape
    rows = (
        torch.full((images,), 1 / images, dtype=torch.float64)
        if rows is None
        else rows / rows.sum()
    )
    columns = (
        torch.full((classes,), 1 / classes, dtype=torch.float64)
        if columns is None
        else columns / columns.sum()
    )
    u = torch.zeros(images, dtype=torch.float64)
    for _ in range(steps):
        v = columns.log() - (scores + u[:, None]).logsumexp(dim=0)
        u = rows.log() - (scores + v).logsumexp(dim=1)
        found = (scores + u[:, None] + v).exp()
        if (found.sum(dim=0) - columns).abs().sum() < 1e-11:
            break
    return found


@st.composite
def problems(draw):
    images, classes, seed = (
        draw(st.integers(1, 30)),
        draw(st.integers(1, 9)),
        draw(st.integers(0, 10**6)),
    )
    spread, peak = draw(st.sampled_from([0.1, 1.0, 4.0])), draw(st.sampled_from([0.0, 6.0, 40.0]))
    uneven = draw(st.booleans())
    rows, columns = masses(images, seed), masses(classes, seed + 1)
    return {
        "log_predictions": predictions(images, classes, spread, peak, seed),
        "sharpness": draw(st.sampled_from([1.0, 5.0, 25.0, 200.0])),
        "rows": rows / rows.sum() if uneven else None,
        "columns": columns / columns.sum() if uneven else None,
    }


@settings(max_examples=80, deadline=None, derandomize=True)
@given(problems())
def test_newton_finds_a_plan_with_the_wanted_marginals(problem):
    log_predictions, rows, columns = problem["log_predictions"], problem["rows"], problem["columns"]
    images, classes = log_predictions.shape
    found = solve(**problem)
    dense = plan(log_predictions, problem["sharpness"], found, rows)
    wanted = [torch.full((n,), 1 / n, dtype=torch.float64) for n in (images, classes)]
    wanted = [
        w if given is None else given for w, given in zip(wanted, (rows, columns), strict=True)
    ]
    assert found.converged
    torch.testing.assert_close(dense.sum(dim=1), wanted[0], rtol=1e-12, atol=0)
    assert float((dense.sum(dim=0) - wanted[1]).abs().sum()) <= 1e-6
    assert found.error == pytest.approx(
        float((dense.sum(dim=0) - wanted[1]).abs().sum()), abs=1e-12
    )
    shares = dense / dense.sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.confidence, shares.amax(dim=1))
    assert torch.equal(found.labels, shares.argmax(dim=1))
    assert float(found.potentials.mean()) == pytest.approx(
        0, abs=1e-9 * (1 + float(found.potentials.abs().max()))
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(
    ("sharpness", "peak"), [(1.0, 4.0), (5.0, 0.0), (25.0, 0.0), (25.0, 1.0), (200.0, 0.0)]
)
def test_both_solvers_agree_with_pot(solver, uneven, sharpness, peak):
    """Python Optimal Transport's log-domain solver with cost -log P and regularisation 1 / sharpness."""
    log_predictions = predictions(
        40, 6, spread=0.3 if sharpness > 100 else 1.0, peak=peak, seed=int(sharpness)
    )
    rows = (
        masses(40, 1) / masses(40, 1).sum()
        if uneven
        else torch.full((40,), 1 / 40, dtype=torch.float64)
    )
    columns = (
        masses(6, 2) / masses(6, 2).sum()
        if uneven
        else torch.full((6,), 1 / 6, dtype=torch.float64)
    )
    expected = ot.bregman.sinkhorn_log(
        rows,
        columns,
        -log_predictions,
        1 / sharpness,
        numItermax=200_000,
        stopThr=1e-12,
        warn=False,
    )
    found = solve(log_predictions, sharpness, rows, columns, solver, tolerance=1e-9)
    assert found.converged
    torch.testing.assert_close(
        plan(log_predictions, sharpness, found, rows), expected, rtol=0, atol=1e-8
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(2, 25), st.integers(2, 6), st.sampled_from([1.0, 3.0, 10.0]), st.integers(0, 10**6)
)
def test_both_solvers_agree_with_the_slow_twin(images, classes, sharpness, seed):
    log_predictions = predictions(images, classes, 0.5, seed=seed)
    expected = twin(log_predictions, sharpness)
    for solver in SOLVERS:
        found = solve(log_predictions, sharpness, solver=solver, tolerance=1e-9)
        assert found.converged
        torch.testing.assert_close(
            plan(log_predictions, sharpness, found), expected, rtol=0, atol=1e-7
        )


def objective(dense: torch.Tensor, problem: dict, columns: torch.Tensor) -> float:
    """What a plan with slack minimizes: <Q, -log P> + KL(Q || uniform) / sharpness + KL(m || columns) / slack."""
    m = dense.sum(dim=0)
    entropy, excess = torch.xlogy(dense, dense).sum(), torch.xlogy(m, m / columns).sum()
    cost = -(dense * problem["log_predictions"]).sum()
    return float(cost + entropy / problem["sharpness"] + excess / problem["slack"])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems(), st.sampled_from([1e-3, 0.1, 1.0, 30.0, 1e4]), st.integers(0, 10**6))
def test_no_plan_is_better_than_the_one_with_slack(problem, slack, seed):
    log_predictions, columns, problem = (
        problem["log_predictions"],
        problem["columns"],
        problem | {"slack": slack},
    )
    images, classes = log_predictions.shape
    if columns is None:
        columns = torch.full((classes,), 1 / classes, dtype=torch.float64)
    found = solve(**problem, tolerance=1e-9)
    dense = plan(log_predictions, problem["sharpness"], found, problem["rows"])
    assert found.converged
    wanted = columns * (-found.potentials * slack / problem["sharpness"]).exp()
    assert float(wanted.sum()) == pytest.approx(1, abs=1e-9)
    assert found.error == pytest.approx(float((dense.sum(dim=0) - wanted).abs().sum()), abs=1e-9)
    best = objective(dense, problem, columns)
    others = [
        masses(images * classes, seed).view(images, classes).log(),
        problem["sharpness"] * log_predictions,
    ]
    for other in others:  # the objective is convex: a better plan anywhere is seen on the way to it
        other = dense.sum(dim=1, keepdim=True) * other.softmax(dim=1)
        for part in (1e-3, 0.1):
            mixed = objective((1 - part) * dense + part * other, problem, columns)
            assert best <= mixed + 1e-9 * (1 + abs(best))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(problems())
def test_more_slack_moves_the_masses_further_from_those_wanted(problem):
    """From the plan without slack to every image's own softmax."""
    log_predictions, sharpness, rows = (
        problem["log_predictions"],
        problem["sharpness"],
        problem["rows"],
    )
    classes = log_predictions.shape[1]
    columns = (
        torch.full((classes,), 1 / classes).double()
        if problem["columns"] is None
        else problem["columns"]
    )
    excess = []
    for slack in (0.0, 1e-3, 1e-2, 0.1, 1.0, 10.0):
        found = solve(**problem, slack=slack, tolerance=1e-9)
        mass = plan(log_predictions, sharpness, found, rows).sum(dim=0)
        excess.append(float(torch.xlogy(mass, mass / columns).sum()))
    np.testing.assert_array_less(excess[:-1], np.array(excess[1:]) + 1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.2, 20.0])
@pytest.mark.parametrize(("sharpness", "peak"), [(1.0, 4.0), (5.0, 0.0), (20.0, 0.0)])
def test_a_plan_with_slack_is_pots(solver, slack, sharpness, peak):
    """Python Optimal Transport with the images' masses held; KL(Q || uniform) is asked for by a reference of ones."""
    log_predictions = predictions(40, 6, spread=0.2 if sharpness > 10 else 0.7, peak=peak, seed=3)
    rows, columns = masses(40, 1) / masses(40, 1).sum(), masses(6, 2) / masses(6, 2).sum()
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
    found = solve(log_predictions, sharpness, rows, columns, solver, 1e-10, slack=slack)
    assert found.converged
    torch.testing.assert_close(
        plan(log_predictions, sharpness, found, rows), expected, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_between_no_slack_and_much(solver):
    log_predictions = predictions(70, 6, peak=2.0)
    options = {"sharpness": 5.0, "solver": solver, "tolerance": 1e-10}
    balanced, little, much = (
        solve(log_predictions, slack=slack, **options) for slack in (0.0, 1e-7, 1e7)
    )
    dense = [plan(log_predictions, 5.0, found) for found in (balanced, little, much)]
    torch.testing.assert_close(dense[1], dense[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(
        dense[2], (5 * log_predictions).softmax(dim=1) / 70, rtol=0, atol=1e-7
    )
    assert torch.equal(much.labels, log_predictions.argmax(dim=1))
    assert not torch.equal(much.labels, balanced.labels)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.0, 0.5])
def test_order_of_images_and_names_of_classes_do_not_matter(solver, slack):
    log_predictions = predictions(60, 7, peak=3.0)
    generator = torch.Generator().manual_seed(5)
    images, classes = (
        torch.randperm(60, generator=generator),
        torch.randperm(7, generator=generator),
    )
    found = solve(log_predictions, 25.0, solver=solver, tolerance=1e-9, slack=slack)
    moved = solve(
        log_predictions[images][:, classes], 25.0, solver=solver, tolerance=1e-9, slack=slack
    )
    assert torch.equal(classes[moved.labels], found.labels[images])
    torch.testing.assert_close(moved.potentials, found.potentials[classes], rtol=0, atol=1e-5)


def test_unnormalized_rows_change_nothing():
    log_predictions = predictions(50, 5)
    shifted = log_predictions + torch.linspace(-300, 300, 50, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        solve(shifted, 5.0).potentials, solve(log_predictions, 5.0).potentials, atol=1e-6, rtol=0
    )


def test_equal_counts_at_high_sharpness():
    """With as many images as a multiple of the classes and a sharp plan, every class gets the same number."""
    found = solve(predictions(120, 12, 2.0, peak=5.0), 200.0)
    assert torch.bincount(found.labels, minlength=12).tolist() == [10] * 12


def test_a_prior_moves_labels():
    columns = torch.tensor([0.7, 0.1, 0.1, 0.1])
    found = solve(predictions(200, 4), 50.0, columns=columns)
    np.testing.assert_allclose(torch.bincount(found.labels, minlength=4) / 200, columns, atol=0.02)


@pytest.mark.parametrize("sharpness", [5, 25, 50])
@pytest.mark.parametrize("case", CASES + BROKEN)
def test_newton_equals_the_reference_and_pot(gold, case, sharpness):
    """The released code's labels wherever it does not crash; its plan's marginals are off by 1e-4, POT's are not."""
    expected = gold(f"otla/sinkhorn_{case}_lam{sharpness}.npz")
    if str(expected["pot_cost_from"]) == "P":
        log_predictions = torch.from_numpy(expected["P"]).double().log()
    else:
        log_predictions = torch.from_numpy(expected["logits"]).double().log_softmax(dim=1)
    found = solve(log_predictions, float(sharpness), tolerance=1e-9)
    assert found.converged
    dense = plan(log_predictions, sharpness, found)
    limit = 1e-6 / len(dense) if expected["pot_plan"].dtype == np.float32 else 1e-9
    np.testing.assert_allclose(dense, expected["pot_plan"], rtol=0, atol=limit)
    clear = expected["pot_label_gap"] > 1e-5
    np.testing.assert_array_equal(found.labels[clear], expected["pot_labels"][clear])
    if expected["ref_ok"]:
        clear = expected["ref_label_gap"] > 0.02
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(found.labels[clear], expected["ref_labels_op"][clear])


@pytest.mark.parametrize("case", ["nearuniform_300x17", "peaked_300x17", "multivisit_154x12"])
def test_sinkhorn_equals_the_reference_and_pot(gold, case):
    expected = gold(f"otla/sinkhorn_{case}_lam5.npz")
    found = solve(
        torch.from_numpy(expected["P"]).double().log(), 5.0, solver="sinkhorn", tolerance=1e-5
    )
    clear = expected["ref_label_gap"] > 0.02
    assert found.converged
    np.testing.assert_array_equal(found.labels[clear], expected["ref_labels_op"][clear])
    potentials = expected["pot_log_v"] - expected["pot_log_v"].mean()
    np.testing.assert_allclose(found.potentials, potentials, atol=0.01 * np.ptp(potentials))


def released_loop(kernel: np.ndarray, tolerance: float) -> tuple[np.ndarray, int]:
    """OTLA's released code in words of its description: scalings of the classes and the number of updates."""
    images, classes = kernel.shape
    of_images, step, change = np.full(images, 1 / images), 0, math.inf
    while change > tolerance:
        of_classes = (1 / classes) / (of_images @ kernel)
        new = (1 / images) / (kernel @ of_classes)
        if step % 10 == 0:
            change = np.abs(of_images / new - 1).sum()
        of_images, step = new, step + 1
    return of_classes, step


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 8), st.sampled_from([0.0, 3.0]), st.integers(0, 10**6))
def test_the_rule_change_stops_where_the_released_code_does(images, classes, peak, seed):
    log_predictions = predictions(images, classes, 0.5, peak, seed)
    of_classes, steps = released_loop((5 * log_predictions).exp().numpy(), 0.1)
    found = solve(log_predictions, 5.0, solver="sinkhorn", stop="change", tolerance=0.1)
    assert (found.iterations, found.converged) == (steps, True)
    np.testing.assert_allclose(
        found.potentials, np.log(of_classes) - np.log(of_classes).mean(), atol=1e-9
    )
    dense = plan(log_predictions, 5.0, found)
    assert found.error == pytest.approx(
        float((dense.sum(dim=0) - 1 / classes).abs().sum()), abs=1e-12
    )


@pytest.mark.parametrize("sharpness", [5, 25])
@pytest.mark.parametrize("case", CASES + BROKEN)
def test_the_rule_change_takes_the_references_steps(gold, case, sharpness):
    """Where the released code's kernel underflows for a whole class and it crashes, the log domain goes on."""
    expected = gold(f"otla/sinkhorn_{case}_lam{sharpness}.npz")
    log_predictions = torch.from_numpy(expected["P"]).double().log()
    found = solve(
        log_predictions, float(sharpness), solver="sinkhorn", stop="change", tolerance=0.1
    )
    assert found.converged
    assert found.iterations % 10 == 1
    if expected["ref_ok"]:
        assert found.iterations == expected["ref_steps"]
        np.testing.assert_array_equal(found.labels, expected["ref_labels_op"])
        scalings = np.log(expected["ref_alpha"])
        np.testing.assert_allclose(found.potentials, scalings - scalings.mean(), atol=1e-7)
        mass = plan(log_predictions, sharpness, found).sum(dim=0)
        np.testing.assert_allclose(mass, expected["ref_class_mass"], rtol=1e-7)
    else:
        assert found.iterations > expected["ref_steps"]


def test_the_rule_change_leads_to_the_same_plan():
    """Also with slack and uneven masses, some of them 0."""
    log_predictions, rows, columns = predictions(30, 5), masses(30, 1), masses(5, 2)
    rows[3] = columns[2] = 0.0
    problem = log_predictions, 5.0, rows / rows.sum(), columns / columns.sum()
    for slack in (0.0, 0.3):
        found = solve(*problem, solver="sinkhorn", stop="change", tolerance=1e-9, slack=slack)
        expected = solve(*problem, tolerance=1e-10, slack=slack)
        assert found.converged
        assert found.potentials[2] == -math.inf
        dense = [plan(log_predictions, 5.0, each, problem[2]) for each in (found, expected)]
        torch.testing.assert_close(dense[0], dense[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("limit", [1, 10, 21])
def test_the_rule_change_reports_a_limit(limit):
    found = solve(
        predictions(80, 8, peak=5.0), 25.0, solver="sinkhorn", stop="change", max_iterations=limit
    )
    assert (found.iterations, found.converged) == (limit, False)
    assert found.error > 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_predictions_give_the_same_labels(solver):
    log_predictions = predictions(80, 8, peak=2.0).float()
    single, double = (
        solve(x, 5.0, solver=solver) for x in (log_predictions, log_predictions.double())
    )
    assert torch.equal(single.labels, double.labels)
    assert torch.equal(single.potentials, double.potentials)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("images", "classes"), [(1, 1), (7, 1), (1, 5), (3, 11)])
def test_tiny_problems(solver, images, classes):
    """More classes than images included: the plan splits an image, and its label is the largest part."""
    log_predictions = predictions(images, classes, 2.0)
    found = solve(log_predictions, 25.0, solver=solver)
    assert found.converged
    assert found.labels.shape == found.confidence.shape == (images,)
    assert torch.isfinite(found.potentials).all()
    assert float(found.confidence.min()) >= 1 / classes - 1e-9


def test_ties_go_to_the_lowest_class():
    found = solve(torch.zeros(6, 4), 25.0)
    assert found.labels.tolist() == [0] * 6
    torch.testing.assert_close(found.confidence, torch.full((6,), 0.25, dtype=torch.float64))


@pytest.mark.parametrize("solver", SOLVERS)
def test_exact_zeros_count_as_the_smallest_float(solver):
    """One-hot predictions on two of four classes: half of each group's images must go where nobody wants to."""
    probabilities = torch.zeros(8, 4)
    probabilities[torch.arange(8), torch.arange(8) % 2] = 1.0
    found = solve(probabilities.log(), 1.0, solver=solver)
    floored = solve(probabilities.clamp(min=2.0**-149).double().log(), 1.0, solver=solver)
    assert found.converged
    assert torch.isfinite(found.potentials).all()
    torch.testing.assert_close(found.potentials, floored.potentials, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        found.confidence, torch.full((8,), 0.5, dtype=torch.float64), rtol=0, atol=1e-5
    )


def test_a_class_or_an_image_of_zeros_only_is_served_all_the_same():
    log_predictions = predictions(40, 4)
    log_predictions[:, 2] = -math.inf
    log_predictions[7] = -math.inf
    found = solve(log_predictions, 25.0)
    assert found.converged
    assert float(plan(log_predictions, 25.0, found).sum(dim=0)[2]) == pytest.approx(0.25, abs=1e-6)


def test_zero_is_never_above_a_probability_that_occurs():
    """With finite log P below float32's smallest, -inf is floored at their minimum, not above them."""
    log_predictions = torch.tensor(
        [[0.0, -400.0], [0.0, -math.inf], [0.0, -math.inf], [0.0, -300.0]]
    )
    assert solve(log_predictions.double(), 1.0, tolerance=1e-9).labels.tolist()[3] == 1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("slack", [0.0, 0.1])
def test_a_class_that_is_to_get_nothing_gets_nothing(solver, slack):
    columns = torch.tensor([0.5, 0.0, 0.5])
    log_predictions = torch.tensor(
        [[0.0, 5.0, 1.0], [2.0, 5.0, 0.0], [0.0, 9.0, 0.5], [1.0, 9.0, 0.0]]
    )
    found = solve(log_predictions, 5.0, columns=columns, solver=solver, slack=slack)
    assert found.converged
    assert found.potentials[1] == -math.inf
    assert not plan(log_predictions, 5.0, found)[:, 1].any()
    assert found.labels.tolist() == [2, 0, 2, 0]


def test_too_few_iterations_are_reported_not_hidden():
    found = solve(predictions(100, 10, peak=8.0), 25.0, solver="sinkhorn", max_iterations=3)
    assert (found.iterations, found.converged) == (3, False)
    assert found.error > 1e-6
    assert torch.isfinite(found.potentials).all()


def test_a_distant_group_of_classes_is_reached():
    """Two classes thousands apart: nearly all of the way the dual is a straight line, which plain Newton overshoots."""
    log_predictions = predictions(3000, 2, 3.0, peak=100.0)
    found = solve(log_predictions, 200.0)
    assert found.converged
    assert found.iterations < 150


@pytest.mark.parametrize(("images", "classes"), [(1500, 60), (9000, 70)])
@pytest.mark.parametrize("slack", [0.0, 0.2])
def test_entries_left_out_and_rows_sampled_on_the_way_do_not_show(images, classes, slack):
    """Large enough for the sparse view, and in the second case for the start on a part of the rows."""
    log_predictions = predictions(images, classes, peak=8.0)
    found = solve(log_predictions, 25.0, tolerance=1e-9, slack=slack)
    exact = (25 * log_predictions + found.potentials).softmax(dim=1).mean(dim=0)
    wanted = (-found.potentials * slack / 25).exp() / classes
    assert found.converged
    assert found.iterations < 60
    assert float((exact - wanted).abs().sum()) <= 1e-9


@pytest.mark.parametrize("slack", [0.0, 0.2])
def test_entries_worked_on_piece_by_piece_do_not_show(monkeypatch, slack):
    log_predictions = predictions(3000, 80, peak=8.0)
    expected = solve(log_predictions, 25.0, slack=slack)
    monkeypatch.setattr(views, "PIECE", 500)
    found = solve(log_predictions, 25.0, slack=slack)
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.potentials, expected.potentials, rtol=0, atol=1e-6)


def dual(log_predictions: torch.Tensor, slack: float = 0.0) -> FullDual:
    count = [torch.full((n,), 1 / n, dtype=torch.float64) for n in log_predictions.shape]
    return FullDual(log_predictions, 1.0, *count, slack)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("piece", [200, 2**22])
@pytest.mark.parametrize("slack", [0.0, 1e-9, 0.3, 50.0])
def test_gradient_and_hessian_are_those_of_the_dual(monkeypatch, thin, piece, slack):
    """Against autograd, with rows of few and of many entries."""
    monkeypatch.setattr(views, "PIECE", piece)
    log_predictions = torch.cat([predictions(30, 45, 0.3), predictions(60, 45, 3.0, peak=9.0)])
    full, potentials = dual(log_predictions, slack), 0.1 * predictions(1, 45)[0]
    view = ThinDual(full, potentials, full.evaluate(potentials)[1], 60.0) if thin else full

    def value(w: torch.Tensor) -> torch.Tensor:
        share = -w.mean() if slack == 0 else (-slack * w).expm1().mean().log1p() / slack
        return (log_predictions + w).logsumexp(dim=1).mean() + share

    there = potentials + 0.01 * predictions(1, 45, seed=3)[0]
    gradient = torch.autograd.functional.jacobian(value, there)
    hessian = torch.autograd.functional.hessian(value, there)
    difference = view.evaluate(there)[0] - view.evaluate(potentials)[0]
    assert difference == pytest.approx(float(value(there) - value(potentials)), abs=1e-12)
    torch.testing.assert_close(
        view.evaluate(there)[1] - view.wanted(there), gradient, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(view.laplacian(there), hessian, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sharpness": 0.0}, "sharpness 0.0, expected a positive number"),
        ({"sharpness": math.nan}, "sharpness nan"),
        ({"sharpness": math.inf}, "sharpness inf"),
        ({"tolerance": 0.0}, "tolerance 0.0"),
        ({"solver": "simplex"}, "solver 'simplex', expected newton or sinkhorn"),
        ({"max_iterations": 0}, "max_iterations 0"),
        ({"slack": -0.1}, "slack -0.1, expected a number of at least 0"),
        ({"slack": math.nan}, "slack nan"),
        ({"slack": math.inf}, "slack inf"),
        ({"stop": "never"}, "stop 'never', expected marginal or change"),
        ({"stop": "change"}, "stop 'change' is a rule for the solver sinkhorn, not for newton"),
        ({"log_predictions": torch.zeros(0, 3)}, r"log_predictions \(0, 3\)"),
        ({"log_predictions": torch.zeros(3)}, r"log_predictions \(3,\)"),
        (
            {"log_predictions": torch.zeros(4, 3, dtype=torch.bfloat16)},
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
