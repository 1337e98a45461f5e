"""The learning rate of stage 1 as a function of the epoch."""

from stages.parts.run.settings import Spcl


def learning_rate(epoch: int, settings: Spcl) -> float:
    """Return the rate of an epoch.

    The warm-up has `warmup_rate`, multiplied by `decay` in its last quarter. SpCL starts from
    `learning_rate` and multiplies it by `decay` every `decay_every` epochs.

    Args:
        epoch: counted from 0, the epochs of the warm-up included.
        settings: the section `spcl`.
    """
    if epoch < settings.warmup_epochs:
        is_last_quarter = 4 * epoch >= 3 * settings.warmup_epochs
        return settings.warmup_rate * (settings.decay if is_last_quarter else 1)
    decays = (epoch - settings.warmup_epochs) // settings.decay_every
    return float(settings.learning_rate * settings.decay**decays)
