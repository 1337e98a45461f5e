"""Training identities without any infrared image, from a labeled data set (the protocol of SMC)."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.parts.run.stage import InputError
from stages.prepare.counts import TRAINING


def with_unpaired(
    table: pd.DataFrame, root: Path, others: pd.DataFrame, other_root: Path, share: float
) -> tuple[pd.DataFrame, list[Path]]:
    """Replace the visible training images of a share of the identities by those of other people.

    The infrared images stay, so these identities have infrared images only, and the people in their
    place have visible ones only. Replaced are identities evenly over their numbers. The one with
    the most images gets the other person with the most images in its place, with as many images or,
    if the person has fewer, with all of them.

    Args:
        table: of the target.
        root: the target's folder.
        others: the training images of a labeled data set.
        other_root: its folder.
        share: of the identities with visible training images, below 1.

    Returns:
        The table (N rows; the new images are the last ones, under new numbers of persons and
        cameras), and where each of its images is (N,).

    Raises:
        InputError: if there are fewer other people than identities to replace.
    """
    visible = table[table["split"].isin(TRAINING) & (table["modality"] == "visible")]
    sizes = visible["person"].value_counts(sort=False).sort_index()  # of each person
    count = round(share * len(sizes))
    replaced = sizes.iloc[_evenly(count, len(sizes))].sort_values(ascending=False, kind="stable")
    people = others["person"].value_counts(sort=False).sort_index()
    people = people.sort_values(ascending=False, kind="stable").iloc[:count]
    if len(people) < count:
        raise InputError(
            f"data.unpaired: {share:g} of {len(sizes)} training identities are {count}, but "
            f"{other_root} has {len(people)}"
        )
    splits = visible.drop_duplicates("person").set_index("person")["split"]
    parts = []
    for number, (person, other) in enumerate(zip(replaced.index, people.index, strict=True)):
        images = others[others["person"] == other].sort_values("path")
        few = images.iloc[_evenly(min(sizes[person], len(images)), len(images))]
        parts.append(few.assign(person=table["person"].max() + 1 + number, split=splits[person]))
    kept = table.drop(visible.index[visible["person"].isin(replaced.index)])
    files = [root / path for path in kept["path"]]
    for part in parts:
        files += [other_root / path for path in part["path"]]
        part["path"] = f"{other_root.name}/" + part["path"]
        part["camera"] += table["camera"].max()
    whole = pd.concat([kept, *parts], ignore_index=True)
    return whole.assign(row=whole.index), files


def _evenly(count: int, length: int) -> np.ndarray:
    """Return `count` positions below `length`, ascending and evenly apart."""
    return np.arange(count) * length // max(count, 1)
