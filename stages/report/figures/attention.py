"""Prediction alignment's attention in one batch beside who is who in it (paper Fig. 5)."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stages.report.figures.drawing import COLORS, Drawing, finish, fonts
from stages.report.inputs import ATTENTION, Run

KINDS = {"v2i": "Visible → infrared", "i2i": "Infrared → infrared"}
HEIGHT = 208  # units of the matrices with their labels


class Matrix(NamedTuple):
    """Shades (Q, K) in [0, 1], with what they are and a note in words."""

    name: str
    note: str
    shades: np.ndarray


@dataclass(frozen=True)
class Attention:
    """One kind of attention: rows are queries, columns are keys, both in the batch's order."""

    title: str
    same: np.ndarray  # (Q, K) bool: query and key show the same person
    weight: np.ndarray  # (Q, K), a row sums to 1

    @property
    def matrices(self) -> tuple[Matrix, Matrix]:
        """The truth and the weights."""
        chance = 100 * self.same.mean()
        reached = 100 * self.weight[self.same].sum() / len(self.weight)
        low, high = self.weight.min(), self.weight.max()
        shades = (self.weight - low) / (high - low) if high > low else np.zeros(self.weight.shape)
        note = f"{reached:.1f} % on the same person,\n{low:.3f} to {high:.3f}"
        truth = Matrix("same person", f"{chance:.1f} % of the pairs", self.same.astype(float))
        return truth, Matrix("attention", note, shades)


def attention(run: Run) -> list[Attention]:
    """Return the attention of each kind; nothing if no batch was recorded.

    Raises:
        ValueError: if the file does not hold whole matrices.
    """
    if run.attention is None:
        return []
    parts = {kind: run.attention.loc[run.attention["kind"] == kind] for kind in KINDS}
    # An image may occur twice in a batch, so the rows' numbers do not tell the matrix's size.
    keys = math.isqrt(len(parts["i2i"]))
    person = run.target.table["person"].to_numpy()
    matrices = []
    for kind, part in parts.items():
        if not keys or keys**2 != len(parts["i2i"]) or not len(part) or len(part) % keys:
            raise ValueError(
                f"{ATTENTION}: {len(part)} rows of kind {kind}, expected a matrix row by row"
            )
        same = person[part["query"]] == person[part["key"]]
        weight = part["weight"].to_numpy(dtype=float)
        shape = (-1, keys)
        matrices.append(Attention(KINDS[kind], same.reshape(shape), weight.reshape(shape)))
    return matrices


def draw(pair: Attention) -> Drawing:
    """Return the truth and the weights beside each other."""
    look: dict[str, Any] = {"color": COLORS["muted"], "fontsize": 10}
    with fonts():
        figure = Figure()
        for number, (name, note, shades) in enumerate(pair.matrices, start=1):
            axes = figure.add_subplot(1, 2, number)
            ink = np.broadcast_to(to_rgb(COLORS["ink"]), (*shades.shape, 3))
            # Transparent ink, so that the page can show it on dark ground, too.
            axes.imshow(np.dstack([ink, shades]), interpolation="none", aspect="auto")
            axes.patch.set_visible(False)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(COLORS["grid"])
            axes.set_title(name, pad=4, **look)
            axes.set_xlabel(note, **look)
        finish(figure, pair.title, HEIGHT, {})
        figure.subplots_adjust(left=0.02, right=0.98, wspace=0.06)
    queries, keys = pair.same.shape
    shown = "; ".join(f"{matrix.name}: {matrix.note}" for matrix in pair.matrices)
    size = f"{queries} queries down, {keys} keys across"
    return Drawing(figure, f"{pair.title}, {size}: {' '.join(shown.split())}.")
