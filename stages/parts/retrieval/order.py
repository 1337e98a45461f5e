"""The order of a gallery by similarity, without a full sort of (similarity, position) pairs.

Similarities become *levels*: unsigned integers that are small where the similarity is large. They
sort faster than floats, and one value is left over for excluded pairs. `ranking.py` makes all its
scores from levels.

**Ties.** Of two gallery images with equal similarity, the one with the lower position ranks first.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 19  # similarities that are ranked at a time: 2 MiB for each working array
EXCLUDED = np.uint32(0xFFFFFFFF)  # a level behind that of every similarity, minus infinity included
POSITION_BITS = np.uint64(32)


def level_blocks(
    similarity: np.ndarray, excluded: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of the queries and their levels (b, G) uint32, so that memory stays bounded.

    `similarity` (Q, G) is float32 or float64 without NaN. Pairs in `excluded` (Q, G) bool get the
    level EXCLUDED.
    """
    size = max(1, BLOCK // similarity.shape[1])
    for start in range(0, len(similarity), size):
        block = slice(start, start + size)
        levels = _levels(similarity[block])
        if excluded is not None:
            np.maximum(levels, excluded[block] * EXCLUDED, out=levels)
        yield block, levels


def list_places(levels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the places (P,) int64, from 0, of gallery images in the lists of their queries.

    The pairs are `rows` (P,) and `columns` (P,) of `levels` (b, G). The place of an image is the
    number of smaller levels in its row. A binary search in the sorted row finds it, for all pairs
    at once, without the list. Ties are counted only where there are any.
    """
    gallery = levels.shape[1]
    targets = levels[rows, columns]
    ranked = np.sort(levels, axis=1).ravel()
    begins = rows * gallery
    places = np.zeros(len(rows), dtype=np.int64)
    for bit in reversed(range(gallery.bit_length())):
        ahead = np.minimum(places + (1 << bit), gallery)  # not all are smaller: one is the image
        smaller = ranked[begins + ahead - 1] < targets
        places = np.where(smaller, ahead, places)
    # The image's own level is at its place. If the next one is equal, images at lower positions
    # with this level rank before it.
    following = np.minimum(places + 1, gallery - 1)
    tied = (ranked[begins + following] == targets) & (places + 1 < gallery)
    for pair in np.flatnonzero(tied):
        lower_positions = levels[rows[pair], : columns[pair]]
        places[pair] += np.count_nonzero(lower_positions == targets[pair])
    return places


def first_positions(levels: np.ndarray, count: int) -> np.ndarray:
    """Return the first positions in each list, (b, min(count, G)) int64, and -1 behind its end."""
    # A key is a level followed by a position: all keys of a row differ, and of equal levels the
    # lower position has the smaller key.
    gallery = levels.shape[1]
    positions = np.arange(gallery, dtype=np.uint64)
    keys = levels.astype(np.uint64) << POSITION_BITS | positions
    if count < gallery:
        keys = np.partition(keys, count, axis=1)[:, :count]
    keys.sort(axis=1)
    positions = keys & np.uint64(0xFFFFFFFF)
    listed = keys >> POSITION_BITS < EXCLUDED
    return np.where(listed, positions.view(np.int64), -1)


def _levels(similarity: np.ndarray) -> np.ndarray:
    """Return (b, G) uint32 that falls where the similarity rises, below EXCLUDED without NaN."""
    if similarity.dtype != np.float32:
        order = np.argsort(-similarity, axis=1, kind="stable")
        levels = np.empty(similarity.shape, dtype=np.uint32)
        ranks = np.arange(similarity.shape[1], dtype=np.uint32)
        np.put_along_axis(levels, order, ranks[None], axis=1)
        return levels
    bits = (similarity + np.float32(0)).view(np.uint32)  # + 0 makes -0.0 equal to 0.0
    # Read as integers, the bits of negative floats fall where the float rises, as they should.
    # Those of the others rise, so all of their bits but the sign are inverted.
    not_negative = ~(bits.view(np.int32) >> 31)
    bits ^= not_negative.view(np.uint32) >> np.uint32(1)
    return bits
