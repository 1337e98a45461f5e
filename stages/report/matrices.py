"""Prediction alignment's attention in one batch beside who is who in it (paper Fig. 5)."""

import math
from dataclasses import dataclass

import numpy as np

from stages.report.inputs import ATTENTION, Run
from stages.report.markup import tag, text

KINDS = {"v2i": "Visible → infrared", "i2i": "Infrared → infrared"}
LEVELS = 24  # shades; more cannot be told apart


@dataclass(frozen=True)
class Matrix:
    """Weights (Q, K) in [0, 1] to be shaded: nothing at 0, full at 1."""

    title: str
    note: str
    values: np.ndarray


def attention(run: Run) -> list[Matrix]:
    """Of each kind who is who, then the weights; nothing where no batch was looked at.

    Rows and columns keep the order of the batch. Raises ValueError where the file is not whole matrices.
    """
    if run.attention is None:
        return []
    parts = {kind: run.attention.loc[run.attention["kind"] == kind] for kind in KINDS}
    infrared = math.isqrt(
        len(parts["i2i"])
    )  # an image may occur twice, so the rows' numbers do not tell
    person = run.target.table["person"].to_numpy()
    drawn = []
    for kind, part in parts.items():
        if (
            not infrared
            or infrared**2 != len(parts["i2i"])
            or not len(part)
            or len(part) % infrared
        ):
            raise ValueError(
                f"{ATTENTION}: {len(part)} rows of kind {kind}, expected a matrix row by row"
            )
        query, key = (
            person[part[name].to_numpy()].reshape(-1, infrared) for name in ("query", "key")
        )
        drawn += _pair(
            KINDS[kind], query == key, part["weight"].to_numpy(dtype=float).reshape(-1, infrared)
        )
    return drawn


def _pair(name: str, same: np.ndarray, weight: np.ndarray) -> list[Matrix]:
    """The binary matrix and the learned one, with the share of the weight that falls on the same person."""
    low, high = float(weight.min()), float(weight.max())
    reached, chance = 100 * float(weight[same].sum()) / len(weight), 100 * float(same.mean())
    shades = (weight - low) / (high - low) if high > low else np.zeros_like(weight)
    return [
        Matrix(f"{name}: same person", f"{chance:.1f} % of the pairs", same.astype(float)),
        Matrix(
            f"{name}: attention",
            f"{reached:.1f} % of the weight on the same person; light {low:.3f}, dark {high:.3f}",
            shades,
        ),
    ]


def figures(drawn: list[Matrix]) -> str:
    """The matrices beside each other."""
    return tag("div", *map(_figure, drawn), class_="matrices")


def _figure(matrix: Matrix) -> str:
    caption = tag(
        "figcaption",
        tag("strong", text(matrix.title)),
        tag("span", text(matrix.note), class_="note"),
    )
    return tag("figure", caption, draw(matrix), class_="chart")


def draw(matrix: Matrix) -> str:
    """An `<svg>` of unit squares: cells of a shade are one path, so that large matrices stay small files."""
    rows, columns = matrix.values.shape
    level = np.ceil(matrix.values * LEVELS).astype(int).clip(0, LEVELS)
    paths = []
    for shade in range(1, LEVELS + 1):
        cells = "".join(f"M{x} {y}{_run_of(length)}" for y, x, length in _runs(level == shade))
        if cells:
            paths.append(tag("path", d=cells, opacity=f"{shade / LEVELS:.3f}"))
    words = f"{matrix.title}, {rows} queries down, {columns} keys across: {matrix.note}."
    return tag(
        "svg",
        *paths,
        viewBox=f"0 0 {columns} {rows}",
        role="img",
        aria_label=words,
        class_="matrix",
    )


def _run_of(length: int) -> str:
    return f"h{length}v1h-{length}z"


def _runs(chosen: np.ndarray) -> list[tuple[int, int, int]]:
    """Horizontal runs of True in (Q, K): row, first column, length."""
    found = []
    for y, row in enumerate(chosen):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        found += [
            (y, int(start), int(end - start))
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        ]
    return found
