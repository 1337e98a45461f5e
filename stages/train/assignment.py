"""Assignment methods: from predictions of the infrared images to a label for each.

To add a method: write its function, enter it in ASSIGNMENTS, add its name to
`settings.ASSIGNMENTS`. Its name stands in the report; the columns are the same for all methods.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from stages.parts.assignment.transport import solve
from stages.parts.run.console import message
from stages.parts.run.settings import Otla


class Assignment(NamedTuple):
    """A label for each image (or group of images), on the CPU."""

    labels: Tensor  # (M,) int64
    confidence: Tensor  # (M,) float, 0 to 1
    iterations: int | None  # None: the method has none


def by_transport(
    log_predictions: Tensor, masses: Tensor | None, prior: Tensor | None, settings: Otla
) -> Assignment:
    """Assign by optimal transport (Eq. 3-5): each label gets its share of the images.

    The confidence is the label's share of the image's row of the plan.

    Args:
        log_predictions: (M, C) log P of the images.
        masses: (M,) float, the share of each row, sum 1; None is uniform.
        prior: (C,) float, the share of the images that each label gets; None is uniform.
        settings: the section `otla`.
    """
    transport = solve(
        log_predictions,
        settings.delta,
        rows=masses,
        columns=prior,
        solver=settings.solver,
        tolerance=settings.tolerance,
        max_iterations=settings.max_iterations,
        slack=settings.label_slack,
    )
    if not transport.converged:
        message(
            f"train: transport ({settings.solver}) stopped after {transport.iterations} iterations "
            f"without reaching otla.tolerance {settings.tolerance:.1e}; the error of the label "
            f"marginal is {transport.error:.1e}"
        )
    confidence = transport.confidence.cpu()
    return Assignment(transport.labels.cpu(), confidence, transport.iterations)


def by_argmax(
    log_predictions: Tensor, masses: Tensor | None, prior: Tensor | None, settings: Otla
) -> Assignment:
    """Assign the most likely label, without masses and prior: the self-training of Fig. 4.

    The confidence is the label's probability. Arguments as for `by_transport`.
    """
    largest, labels = log_predictions.max(1)  # before exp, which would copy log P
    return Assignment(labels.cpu(), largest.exp().cpu(), iterations=None)


AssignmentMethod = Callable[[Tensor, Tensor | None, Tensor | None, Otla], Assignment]
ASSIGNMENTS: dict[str, AssignmentMethod] = {"transport": by_transport, "argmax": by_argmax}
