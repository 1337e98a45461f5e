"""The order in which stage 1 draws images: SpCL's camera-aware order, and endless batches."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def camera_aware_order(
    labels: Integers, cameras: Integers, instances: int, generator: Generator
) -> Integers:
    """Draw one pass over the labels, so that images of a label come from several cameras.

    Labels come in random order. A label gives a random image, the anchor, and then
    `instances` - 1 of its images from other cameras than the anchor's. If no other camera has
    seen the label, they are drawn from its other images. They are drawn without repetition if
    there are `instances` or more to draw from, and with repetition otherwise, as in SpCL's
    released code. A label with a single image gives this image once.

    Args:
        labels: (N,) int64; images with a negative label are not drawn.
        cameras: (N,) int64, the camera of each image.
        instances: the number of images of a label, the anchor included.
        generator: the source of all draws.

    Returns:
        (M,) int64 positions in `labels`; those of a label are side by side.

    Raises:
        ValueError: for less than one instance, or for lengths that differ.

    >>> labels, cameras = np.array([0, 0, 0, 1, -1]), np.array([1, 2, 2, 1, 1])
    >>> camera_aware_order(labels, cameras, 2, np.random.default_rng(0))
    array([1, 0, 3])
    """
    if instances < 1 or len(labels) != len(cameras):
        problem = f"{instances} instances of {len(labels)} labels and {len(cameras)} cameras"
        raise ValueError(f"{problem}; expected 1 or more, and as many")
    positions = np.lexsort((cameras, labels))
    positions = positions[labels[positions] >= 0]
    if not len(positions):
        return positions
    # The positions of a label are a run, and within it those of each of its cameras are a run.
    label_starts, label_sizes, _ = _runs(labels[positions])
    camera_starts, camera_sizes, camera_of = _runs(labels[positions], cameras[positions])

    order = generator.permutation(len(label_starts))  # L labels
    starts, sizes = label_starts[order], label_sizes[order]
    anchors = starts + _below(sizes, generator)
    camera = camera_of[anchors]
    # If the run of a label is closed to a ring, its images of other cameras are one run, too: the
    # one that begins behind the anchor's camera.
    behind_camera = camera_starts[camera] + camera_sizes[camera]
    others = sizes - camera_sizes[camera]
    first = np.where(others > 0, behind_camera, anchors + 1)
    candidates = np.where(others > 0, others, sizes - 1)
    draws = first[:, None] + _draw(candidates, instances, generator)  # (L, instances - 1)
    picked = starts[:, None] + (draws - starts[:, None]) % sizes[:, None]
    rows = np.concatenate([anchors[:, None], picked], axis=1)  # (L, instances)

    present = np.ones(rows.shape, dtype=bool)
    present[:, 1:] = (candidates > 0)[:, None]
    order_of_images: Integers = positions[rows[present]]
    return order_of_images


def endless_batches(draw: Callable[[], Integers], batch: int) -> Iterator[Integers]:
    """Yield batches (batch,) int64, cut from pass after pass, without end.

    The rest of a pass, less than a batch, is dropped. If passes are shorter than a batch (few
    clusters), as many are joined as a batch needs.

    Args:
        draw: returns the positions of a new pass, (M,) int64.
        batch: the number of images in a batch.

    Raises:
        ValueError: for an empty pass.
    """
    while True:
        order = draw()
        if not len(order):
            problem = "a pass over the labels gives no image"
            raise ValueError(f"{problem}; expected at least one label from 0")
        while len(order) < batch:
            order = np.concatenate([order, draw()])
        for start in range(0, len(order) - batch + 1, batch):
            yield order[start : start + batch]


def epoch_batches(draw: Callable[[], Integers], batch: int, steps: int) -> Iterator[Integers]:
    """Yield `steps` batches of `endless_batches`; the first one begins a new pass."""
    batches = endless_batches(draw, batch)
    for _ in range(steps):
        yield next(batches)


def _runs(*keys: Integers) -> tuple[Integers, Integers, Integers]:
    """Return the start and the length of each run of equal keys, and the run of each entry."""
    new = np.zeros(len(keys[0]), dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    starts = np.flatnonzero(new)
    return starts, np.diff(starts, append=len(new)), np.cumsum(new) - 1


def _below(limits: Integers, generator: Generator) -> Integers:
    """Draw a whole number from 0 to below each limit; 0 if the limit is 0."""
    return generator.integers(0, np.maximum(limits, 1))


def _draw(candidates: Integers, instances: int, generator: Generator) -> Integers:
    """Draw `instances` - 1 numbers below each entry of `candidates` (L,): (L, instances - 1).

    They differ from each other if the entry is `instances` or more.
    """
    draws = np.empty((len(candidates), instances - 1), dtype=np.int64)
    distinct = candidates >= instances
    for column in range(instances - 1):
        draw = _below(candidates - column * distinct, generator)
        # Turn it into the draw-th of the numbers that are left: pass over each earlier number, in
        # ascending order.
        for earlier in np.sort(draws[:, :column], axis=1).T:
            draw += distinct & (draw >= earlier)
        draws[:, column] = draw
    return draws
