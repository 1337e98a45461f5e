"""Target masses with slack: what their definition asks, at small and at large shifts."""

import pytest
import torch
from torch import Tensor

from stages.parts.assignment.demand import Demand

MASSES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
SHIFT = torch.tensor([1.5, -0.5, 0.25], dtype=torch.float64)


def demand(elasticity: float) -> Demand:
    return Demand(MASSES, MASSES.log(), elasticity)


@pytest.mark.parametrize("elasticity", [0.01, 0.3, 1.0, 40.0])
def test_targets_are_their_definition(elasticity: float) -> None:
    wanted = MASSES * (-elasticity * SHIFT).exp()
    found = demand(elasticity).target(SHIFT)
    torch.testing.assert_close(found, wanted / wanted.sum())
    torch.testing.assert_close(demand(elasticity).log_target(SHIFT).exp(), found)


def test_without_slack_the_targets_stay() -> None:
    assert torch.equal(demand(0.0).target(SHIFT), MASSES)
    assert not demand(0.0).links(SHIFT).any()


@pytest.mark.parametrize("elasticity", [1e-9, 0.01, 0.3, 1.0, 40.0])
@pytest.mark.parametrize("length", [1e-3, 1.0, 10.0])
def test_the_soft_mean_is_its_definition(elasticity: float, length: float) -> None:
    shift = length * SHIFT
    exponents = MASSES.log() - elasticity * shift
    wanted = -float(exponents.logsumexp(0)) / elasticity
    if elasticity < 1e-6:  # where the definition loses all digits: the mean
        wanted = float(MASSES @ shift)
    assert demand(elasticity).soft_mean(shift) == pytest.approx(wanted, rel=1e-7)


def test_the_soft_mean_without_slack_is_the_mean() -> None:
    assert demand(0.0).soft_mean(SHIFT) == pytest.approx(float(MASSES @ SHIFT))
    assert demand(0.5).soft_mean(torch.zeros(3, dtype=torch.float64)) == 0


@pytest.mark.parametrize("elasticity", [0.0, 0.3, 5.0])
def test_targets_are_the_slope_of_the_soft_mean_and_links_their_slope(elasticity: float) -> None:
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    given = demand(elasticity)
    slope = [(given.soft_mean(SHIFT + e) - given.soft_mean(SHIFT - e)) / 2e-6 for e in step]
    torch.testing.assert_close(torch.tensor(slope).double(), given.target(SHIFT), rtol=1e-6, atol=0)

    def change(direction: Tensor) -> Tensor:
        return (given.target(SHIFT + direction) - given.target(SHIFT - direction)) / 2e-6

    links, target = given.links(SHIFT), given.target(SHIFT)
    expected = links - elasticity * torch.diag(target)
    found = torch.stack([change(e) for e in step])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_shifts_may_count_from_elsewhere() -> None:
    origin = torch.tensor([-2.0, 1.0, 0.5], dtype=torch.float64)
    for elasticity in (0.0, 0.3, 5.0):
        there = demand(elasticity).recentered(origin)
        torch.testing.assert_close(there.target(SHIFT), demand(elasticity).target(origin + SHIFT))
        whole = demand(elasticity).soft_mean(origin + SHIFT)
        parts = demand(elasticity).soft_mean(origin) + there.soft_mean(SHIFT)
        assert parts == pytest.approx(whole)
