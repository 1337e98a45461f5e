"""Which images come next: SpCL's camera-aware order of labels, and batches without end."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def camera_aware_order(
    labels: Integers, cameras: Integers, instances: int, generator: np.random.Generator
) -> Integers:
    """One pass over the labels: positions of images, each label's side by side, (M,) int64.

    Labels come in random order, negative ones are left out. A label gives a random image, the anchor, and then
    `instances` - 1 of its images from other cameras than the anchor's; where it has none, of its other images. They
    are drawn without repetition where there are `instances` or more to draw from, with repetition otherwise (as in
    SpCL's released code). A label with a single image gives that image once, not `instances` times.

    labels, cameras (N,). ValueError for less than one instance or lengths that differ.
    """
    if instances < 1 or len(labels) != len(cameras):
        raise ValueError(
            f"{instances} instances of {len(labels)} labels and {len(cameras)} cameras; expected 1 or more, and as many"
        )
    positions = np.lexsort((cameras, labels))
    positions = positions[labels[positions] >= 0]
    if not len(positions):
        return positions
    # A label is a stretch of `positions`, and each of its cameras a stretch within.
    label_starts, label_sizes, _ = _stretches(labels[positions])
    camera_starts, camera_sizes, camera_of = _stretches(labels[positions], cameras[positions])

    order = generator.permutation(len(label_starts))
    starts, sizes = label_starts[order], label_sizes[order]
    anchors = starts + _below(sizes, generator)
    camera = camera_of[anchors]
    # Seen as a ring, the label's images of other cameras are one stretch too: the one after the anchor's camera.
    others = sizes - camera_sizes[camera]
    elsewhere = others > 0
    first = np.where(elsewhere, camera_starts[camera] + camera_sizes[camera], anchors + 1)
    candidates = np.where(elsewhere, others, sizes - 1)
    draws = _draw(candidates, instances, generator)  # (labels, instances - 1)
    picked = starts[:, None] + (first[:, None] + draws - starts[:, None]) % sizes[:, None]
    rows = np.concatenate([anchors[:, None], picked], axis=1)
    present = np.broadcast_to((candidates > 0)[:, None], rows.shape).copy()
    present[:, 0] = True
    return positions[rows[present]]


def endless_batches(draw: Callable[[], Integers], batch: int) -> Iterator[Integers]:
    """Slices of `batch` positions from pass after pass of `draw()`; the rest of a pass, less than a batch, is dropped.

    Passes shorter than a batch (few clusters) are strung together until they fill one. ValueError for an empty pass.
    """
    while True:
        order = draw()
        if not len(order):
            raise ValueError(
                "a pass over the labels gives no image; expected at least one label from 0"
            )
        while len(order) < batch:
            order = np.concatenate([order, draw()])
        for start in range(0, len(order) - batch + 1, batch):
            yield order[start : start + batch]


def epoch_batches(draw: Callable[[], Integers], batch: int, steps: int) -> Iterator[Integers]:
    """Exactly `steps` batches, from as many passes as it takes; the first one starts a new pass."""
    batches = endless_batches(draw, batch)
    for _ in range(steps):
        yield next(batches)


def _stretches(*keys: Integers) -> tuple[Integers, Integers, Integers]:
    """Runs of equal keys: start and length of each run, and the run of each entry."""
    new = np.ones(len(keys[0]), dtype=bool)
    new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    starts = np.flatnonzero(new)
    return starts, np.diff(starts, append=len(new)), np.cumsum(new) - 1


def _below(limits: Integers, generator: np.random.Generator) -> Integers:
    """A random whole number from 0 to below each limit; 0 where the limit is 0."""
    return generator.integers(0, np.maximum(limits, 1))


def _draw(candidates: Integers, instances: int, generator: np.random.Generator) -> Integers:
    """`instances` - 1 numbers below each entry of `candidates`: (len(candidates), instances - 1)."""
    draws = np.empty((len(candidates), instances - 1), dtype=np.int64)
    distinct = candidates >= instances
    for column in range(instances - 1):
        draw = _below(candidates - column * distinct, generator)
        # The draw-th number that is not among the earlier ones: step over each of them in ascending order.
        for earlier in np.sort(draws[:, :column], axis=1).T:
            draw += distinct & (draw >= earlier)
        draws[:, column] = draw
    return draws
