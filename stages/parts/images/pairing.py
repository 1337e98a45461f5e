"""Cross-modal batches: P labels, and K visible and K infrared images of each."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator


class CrossModalBatches(NamedTuple):
    """The batches of an epoch: one row for each batch, K columns for each label in it.

    `visible` and `infrared` are positions in the label vectors that the batches were drawn from.
    """

    visible: np.ndarray  # (steps, P · K) int64
    infrared: np.ndarray  # (steps, P · K) int64
    labels: np.ndarray  # (steps, P · K) int64


def cross_modal_batches(
    visible_labels: np.ndarray,
    infrared_labels: np.ndarray,
    persons: int,
    images_per_person: int,
    steps: int,
    generator: Generator,
) -> CrossModalBatches:
    """Draw batches whose visible and infrared images share their labels.

    Labels are drawn without replacement from a pool of those that have images in both modalities.
    The images of a label are drawn without replacement from one pool for each modality, over the
    whole epoch. An empty pool is filled again. So the counts of any two labels, and of any two
    images of a label, differ by one at most. A label with fewer than K images repeats some.
    In OTLA's released code the refill may happen in the middle of a batch, so that a label occurs
    twice in it. Here no label does.

    Args:
        visible_labels: (N,) int64; images with label -1 are not drawn.
        infrared_labels: (M,) int64; images with label -1 are not drawn.
        persons: P, the number of labels in a batch.
        images_per_person: K, the number of images of each label and modality in a batch.
        steps: the number of batches.
        generator: the source of all draws.

    Raises:
        ValueError: if fewer than P labels have images in both modalities, or a size is below 1.

    >>> visible, infrared = np.array([7, 7, 8, 8, 9]), np.array([8, 7])
    >>> batches = cross_modal_batches(visible, infrared, 2, 2, 1, np.random.default_rng(0))
    >>> batches.labels, batches.visible, batches.infrared
    (array([[7, 7, 8, 8]]), array([[0, 1, 2, 3]]), array([[1, 1, 0, 0]]))
    """
    visible_labels, infrared_labels = np.asarray(visible_labels), np.asarray(infrared_labels)
    _check_sizes(persons, images_per_person, steps)
    labels = np.intersect1d(visible_labels, infrared_labels)
    slots = _slots(labels, persons, steps, generator, "images in both modalities")
    visible = _members(slots, visible_labels, images_per_person, generator)
    infrared = _members(slots, infrared_labels, images_per_person, generator)
    return _batches(visible, infrared, slots, steps)


def unpaired_batches(
    visible_labels: np.ndarray,
    infrared_count: int,
    persons: int,
    images_per_person: int,
    steps: int,
    generator: Generator,
) -> CrossModalBatches:
    """Draw batches for an epoch in which infrared images have no labels.

    Visible images are drawn as in `cross_modal_batches`, of all labels. Infrared images are drawn
    without replacement from one pool of all `infrared_count`, which is filled again when it is
    empty. The `labels` of the batches are those of the visible images alone.

    Args: as in `cross_modal_batches`.

    Raises:
        ValueError: if there are fewer than P labels or no infrared image, or a size is below 1.
    """
    visible_labels = np.asarray(visible_labels)
    _check_sizes(persons, images_per_person, steps)
    if infrared_count < 1:
        raise ValueError("batches: there are no infrared images to draw from")
    slots = _slots(np.unique(visible_labels), persons, steps, generator, "visible images")
    visible = _members(slots, visible_labels, images_per_person, generator)
    infrared = _endless(np.arange(infrared_count), visible.size, generator)
    return _batches(visible, infrared, slots, steps)


def class_batches(
    labels: np.ndarray, persons: int, images_per_person: int, steps: int, generator: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw batches of one modality, as `cross_modal_batches` draws its visible half.

    Args:
        labels: (N,) int64; images with label -1 are not drawn.
        persons, images_per_person, steps, generator: as in `cross_modal_batches`.

    Returns:
        Positions in `labels` (steps, P · K) int64, and their labels (steps, P · K) int64.

    Raises:
        ValueError: if there are fewer than P labels, or a size is below 1.
    """
    labels = np.asarray(labels)
    _check_sizes(persons, images_per_person, steps)
    slots = _slots(np.unique(labels), persons, steps, generator, "images")
    positions = _members(slots, labels, images_per_person, generator)
    return positions.reshape(steps, -1), slots.repeat(images_per_person).reshape(steps, -1)


def _batches(
    visible: np.ndarray, infrared: np.ndarray, slots: np.ndarray, steps: int
) -> CrossModalBatches:
    """Cut an epoch into batches; `visible` and `infrared` have K entries for each of `slots`."""
    labels = slots.repeat(visible.shape[1])
    shape = (steps, -1)
    return CrossModalBatches(visible.reshape(shape), infrared.reshape(shape), labels.reshape(shape))


def _check_sizes(persons: int, images_per_person: int, steps: int) -> None:
    if min(persons, images_per_person, steps) < 1:
        sizes = f"{steps} batches of {persons} × {images_per_person} images"
        raise ValueError(f"batches: {sizes}, expected positive numbers")


def _slots(
    labels: np.ndarray, persons: int, steps: int, generator: Generator, having: str
) -> np.ndarray:
    """Return the label of every slot, (steps · P,): permutations of `labels`, end to end.

    A permutation that starts within a batch is reordered so that no label is twice in the batch.
    `having` says in an error what the labels have.
    """
    labels = labels[labels >= 0]
    if len(labels) < persons:
        raise ValueError(
            f"batches: {len(labels)} labels have {having}, "
            f"but a batch takes persons = {persons} of them"
        )
    wanted, filled = steps * persons, 0
    slots = np.empty(wanted + len(labels), dtype=np.int64)
    while filled < wanted:
        order = generator.permutation(labels).astype(np.int64)
        begun = filled % persons  # slots of the last batch that are filled already
        if begun:
            absent = np.flatnonzero(~np.isin(order, slots[filled - begun : filled]))
            completing = absent[: persons - begun]
            order = np.concatenate([order[completing], np.delete(order, completing)])
        slots[filled : filled + len(order)] = order
        filled += len(order)
    return slots[:wanted]


def _members(
    slots: np.ndarray, labels: np.ndarray, images_per_person: int, generator: Generator
) -> np.ndarray:
    """Draw K positions in `labels` for every slot, (slots, K); without replacement in a label."""
    members = np.empty((len(slots), images_per_person), dtype=np.int64)
    # Sorted once, so that a label costs what it has, however many others there are.
    by_slot, by_label = np.argsort(slots, kind="stable"), np.argsort(labels, kind="stable")
    drawn, firsts, counts = np.unique(slots[by_slot], return_index=True, return_counts=True)
    starts, ends = (np.searchsorted(labels[by_label], drawn, side) for side in ("left", "right"))
    for first, count, start, end in zip(firsts, counts, starts, ends, strict=True):
        draws = _endless(by_label[start:end], count * images_per_person, generator)
        members[by_slot[first : first + count]] = draws.reshape(-1, images_per_person)
    return members


def _endless(pool: np.ndarray, count: int, generator: Generator) -> np.ndarray:
    """Draw `count` times without replacement from a pool that is filled again when it is empty."""
    rounds = -(-count // len(pool))
    permutations = generator.permuted(np.tile(pool, (rounds, 1)), axis=1)  # (rounds, len(pool))
    return permutations.ravel()[:count]
