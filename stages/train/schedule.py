"""Learning rate and length of an epoch."""

from collections.abc import Iterable

from stages.parts.run.settings import Train
from stages.train.data import TrainingSet


def learning_rate(
    epoch: int, base: float, warmup_epochs: int, milestones: Iterable[int], decay: float
) -> float:
    """Return the rate of an epoch (from 0).

    It rises linearly from base / warmup_epochs to base, then is multiplied by `decay` at each
    milestone.

    >>> [learning_rate(epoch, 0.1, 2, (3,), 0.1) for epoch in range(4)]
    [0.05, 0.1, 0.1, 0.010000000000000002]
    """
    if epoch < warmup_epochs:
        return base * (epoch + 1) / warmup_epochs
    return base * decay ** sum(milestone <= epoch for milestone in milestones)


def steps_of(data: TrainingSet, train: Train) -> int:
    """Return the steps of an epoch: `train.steps`, or those that `steps_in_epoch` counts."""
    visible, infrared = len(data.visible_rows), len(data.infrared_rows)
    return train.steps or steps_in_epoch(
        visible, infrared, train.epoch_multiplier, train.persons, train.images
    )


def steps_in_epoch(
    visible: int, infrared: int, multiplier: int, persons: int, images_per_person: int
) -> int:
    """Return the batches of an epoch.

    That is floor(multiplier · images of the larger modality / images of a modality in a batch) + 1.

    >>> steps_in_epoch(visible=100, infrared=70, multiplier=1, persons=4, images_per_person=8)
    4
    """
    return multiplier * max(visible, infrared) // (persons * images_per_person) + 1
