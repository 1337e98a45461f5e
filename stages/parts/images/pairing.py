"""Cross-modal batches: P labels, and K visible and K infrared images of each."""

from typing import NamedTuple

import numpy as np


class CrossModalBatches(NamedTuple):
    """An epoch's batches, (steps, persons · images) int64 each; a batch is one block of `images` columns a label.

    `visible` and `infrared` are positions in the label vectors that the batches were drawn from.
    """

    visible: np.ndarray
    infrared: np.ndarray
    labels: np.ndarray


def cross_modal_batches(
    visible_labels: np.ndarray,
    infrared_labels: np.ndarray,
    persons: int,
    images: int,
    steps: int,
    generator: np.random.Generator,
) -> CrossModalBatches:
    """Batches whose visible and infrared images share their labels.

    Labels come from a pool of those that have images in both modalities, without replacement; the images of a label
    from a pool for each modality, without replacement over the epoch. An empty pool is filled again. So the counts of
    any two labels, and of any two images of a label, differ by one at most. A label with fewer than `images` images
    repeats some. Unlike in OTLA's released code, where the refill may fall into the middle of a batch, no label
    occurs twice in a batch.

    Args:
        visible_labels: (N,) int64; -1 = not drawn.
        infrared_labels: (M,) int64; -1 = not drawn.
        persons: labels a batch, P.
        images: images of each label and modality in a batch, K.
        steps: batches.
        generator: where all draws come from.

    Raises:
        ValueError: where fewer than `persons` labels have images in both modalities, or a size is not positive.
    """
    visible_labels, infrared_labels = np.asarray(visible_labels), np.asarray(infrared_labels)
    shared = np.intersect1d(visible_labels, infrared_labels)
    slots = _slots(
        shared[shared >= 0], persons, images, steps, generator, "images in both modalities"
    )
    return CrossModalBatches(
        _members(slots, visible_labels, images, generator).reshape(steps, -1),
        _members(slots, infrared_labels, images, generator).reshape(steps, -1),
        slots.repeat(images).reshape(steps, -1),
    )


def unpaired_batches(
    visible_labels: np.ndarray,
    infrared_count: int,
    persons: int,
    images: int,
    steps: int,
    generator: np.random.Generator,
) -> CrossModalBatches:
    """Batches for an epoch without infrared labels: infrared images are any of the `infrared_count` there are.

    Visible images as in `cross_modal_batches`, from all labels; infrared images from one pool of all, without
    replacement, filled again when empty. `labels` are those of the visible images; they say nothing of the infrared.
    """
    visible_labels = np.asarray(visible_labels)
    labels = np.unique(visible_labels)
    slots = _slots(labels[labels >= 0], persons, images, steps, generator, "visible images")
    if infrared_count < 1:
        raise ValueError("batches: there are no infrared images to draw from")
    return CrossModalBatches(
        _members(slots, visible_labels, images, generator).reshape(steps, -1),
        _endless(np.arange(infrared_count), len(slots) * images, generator).reshape(steps, -1),
        slots.repeat(images).reshape(steps, -1),
    )


def _slots(
    labels: np.ndarray,
    persons: int,
    images: int,
    steps: int,
    generator: np.random.Generator,
    of: str,
) -> np.ndarray:
    """The label of every slot, (steps · persons,): permutations of `labels` end to end, no label twice in a batch."""
    if min(persons, images, steps) < 1:
        raise ValueError(
            f"batches: {steps} batches of {persons} × {images} images, expected positive numbers"
        )
    if len(labels) < persons:
        raise ValueError(
            f"batches: {len(labels)} labels have {of}, but a batch takes persons = {persons} of them"
        )
    slots = np.empty(0, dtype=np.int64)
    rounds = [slots]
    drawn = 0
    while drawn < steps * persons:
        order = generator.permutation(labels).astype(np.int64)
        begun = drawn % persons  # slots of the running batch that the last permutation has filled
        if begun:
            free = np.flatnonzero(~np.isin(order, rounds[-1][-begun:]))[: persons - begun]
            order = np.concatenate([order[free], np.delete(order, free)])
        rounds.append(order)
        drawn += len(order)
    return np.concatenate(rounds)[: steps * persons]


def _members(
    slots: np.ndarray, labels: np.ndarray, images: int, generator: np.random.Generator
) -> np.ndarray:
    """`images` positions in `labels` for every slot, (slots · images,), each label's without replacement."""
    wanted, uses = np.unique(slots, return_counts=True)
    order = np.argsort(labels, kind="stable")
    first, past = (np.searchsorted(labels[order], wanted, side=side) for side in ("left", "right"))
    draws = [
        _endless(order[a:b], use * images, generator).reshape(-1, images)
        for a, b, use in zip(first, past, uses, strict=True)
    ]
    members = np.empty((len(slots), images), dtype=np.int64)
    members[np.argsort(slots, kind="stable")] = np.concatenate(draws)
    return members.ravel()


def _endless(pool: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` draws without replacement from a pool that is filled again when empty."""
    rounds = -(-count // len(pool))
    return generator.permuted(np.tile(pool, (rounds, 1)), axis=1).ravel()[:count]
