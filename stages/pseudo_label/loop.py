"""Stage 1 from its first network to its last: the warm-up, then SpCL."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from stages.parts.network.head import Embedder
from stages.parts.run.checkpoint import Stored
from stages.parts.run.training import Figures, State
from stages.pseudo_label import spcl, warm_up
from stages.pseudo_label.data import SPCL, WARM_UP, Method, TrainingSet

OneEpoch = Callable[[], tuple[Figures, Figures]]
Run = Callable[[State, OneEpoch, int], None]


class Result(NamedTuple):
    """What stage 1 ends with."""

    network: Embedder  # may have a classifier, and batch normalization for two domains
    labels: np.ndarray  # (N,) int64, in the order of the target's images; -1: no cluster
    history: list[Figures]


def find_labels(
    start: Embedder,
    data: TrainingSet,
    method: Method,
    epochs: int,
    stored: Stored | None,
    run: Run,
) -> Result:
    """Warm up, then run SpCL.

    Args:
        start: the network before the first epoch, on the device where it is trained.
        data: what is trained on.
        method: what is done.
        epochs: number of epochs to finish, those of the warm-up included.
        stored: the state to go on from, of either phase; None starts from the first epoch.
        run: trains a state until so many epochs are finished (`run_epochs`).
    """
    result = Result(start, np.full(len(data.target.rows), -1), [])
    warm_up_epochs = min(epochs, method.spcl.warmup_epochs)
    is_in_spcl = stored is not None and stored.facts["phase"] == SPCL
    if warm_up_epochs and not is_in_spcl:
        state: warm_up.State | spcl.State
        if data.source is None:
            state = spcl.open_state(start, data, method, stored, WARM_UP)
            run(state, partial(spcl.one_epoch, state, data, method), warm_up_epochs)
        else:
            state = warm_up.open_state(start, data, method, stored)
            run(state, partial(warm_up.one_epoch, state, data, method), warm_up_epochs)
        result = Result(state.network, result.labels, state.history)
    if epochs > warm_up_epochs:
        if is_in_spcl:
            state = spcl.open_state(start, data, method, stored)
        else:
            state = spcl.open_state(result.network, data, method)
            state.history = result.history
        run(state, partial(spcl.one_epoch, state, data, method), epochs)
        result = Result(state.network, state.labels, state.history)
    return result
