"""Learning rate and length of an epoch: functions of the epoch and of counts."""

from collections.abc import Iterable


def learning_rate(
    epoch: int, base: float, warmup_epochs: int, milestones: Iterable[int], decay: float
) -> float:
    """The rate of `epoch` (from 0): linear from base / warmup_epochs up to base, then × `decay` at each milestone."""
    if epoch < warmup_epochs:
        return base * (epoch + 1) / warmup_epochs
    return base * decay ** sum(milestone <= epoch for milestone in milestones)


def steps_in_epoch(visible: int, infrared: int, multiplier: int, persons: int, images: int) -> int:
    """Batches of an epoch: floor(multiplier · images of the larger modality / (persons · images)) + 1.

    `persons` × `images` is what a batch takes of each modality.
    """
    return multiplier * max(visible, infrared) // (persons * images) + 1
