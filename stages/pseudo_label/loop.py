"""Stage 1 from its first network to its last: the warm-up, then SpCL."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from stages.parts.network.head import Embedder
from stages.parts.run.checkpoint import Checkpoint
from stages.parts.run.training import Figures, run_epochs
from stages.pseudo_label import spcl, warm_up
from stages.pseudo_label.data import SPCL, WARM_UP, Method, TrainingSet

OnEpochEnd = Callable[[Figures], None]


class Result(NamedTuple):
    """What stage 1 ends with."""

    network: Embedder  # may have a classifier, and batch normalization for two domains
    labels: np.ndarray  # (N,) int64, in the order of the target's images; -1: no cluster
    history: list[Figures]


def find_labels(
    start: Embedder,
    data: TrainingSet,
    method: Method,
    last: int,
    checkpoint: Checkpoint,
    on_epoch_end: OnEpochEnd,
) -> Result:
    """Warm up, then run SpCL, until `last` epochs are finished.

    Args:
        start: the network before the first epoch, on the device where it is trained.
        data: what is trained on.
        method: what is done.
        last: number of epochs, those of the warm-up included.
        checkpoint: the state to go on from, if there is one; written after each epoch.
        on_epoch_end: gets all figures of each epoch.
    """
    stored = checkpoint.load()
    stored_phase = None if stored is None else stored.facts["phase"]
    warm_up_last = min(last, method.spcl.warmup_epochs)
    run = partial(run_epochs, checkpoint=checkpoint, on_epoch_end=on_epoch_end)
    result = Result(start, np.full(len(data.target.rows), -1), [])
    if warm_up_last and stored_phase != SPCL:
        state: warm_up.State | spcl.State
        if data.source is None:
            state = spcl.open_state(start, data, method, stored, WARM_UP)
            run(state, partial(spcl.one_epoch, state, data, method), warm_up_last)
        else:
            state = warm_up.open_state(start, data, method, stored)
            run(state, partial(warm_up.one_epoch, state, data, method), warm_up_last)
        result = Result(state.network, result.labels, state.history)
    if last > warm_up_last:
        to_go_on = stored if stored_phase == SPCL else None
        state = spcl.open_state(result.network, data, method, to_go_on)
        state.history = state.history or result.history
        run(state, partial(spcl.one_epoch, state, data, method), last)
        result = Result(state.network, state.labels, state.history)
    return result
