"""Charts of a comparison: how right and how even the infrared labels are by epoch."""

import numpy as np

from stages.report.figures.chart import Chart, Series, numbered
from stages.report.inputs import Comparison

# Title, columns of which the first one with values is drawn, factor, top (paper Fig. 4).
CURVES: tuple[tuple[str, tuple[str, ...], float, float | None], ...] = (
    ("Infrared labels: right, %", ("accuracy", "accuracy_argmax"), 100, None),
    ("Entropy of the label shares (1: all equal)", ("label_entropy",), 1, 1),
)


def charts(comparison: Comparison) -> list[Chart]:
    """Return charts with a line for each row, the mean over its seeds.

    Each `group: …` of rows has charts of its own.
    """
    drawn = []
    for title, columns, factor, top in CURVES:
        for group, means in _by_group(comparison, columns).items():
            lines = []
            for number, (name, mean) in enumerate(means.items()):
                epochs = np.arange(1.0, len(mean) + 1)
                lines.append(Series(name, epochs, factor * mean, numbered(number)))
            whole = f"{title}, {group}" if group else title
            drawn.append(Chart(whole, "epoch", lines, top, note="mean over seeds"))
    return drawn


def _by_group(comparison: Comparison, columns: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Return group → row → mean curve (E,), without the rows that have no values."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for row in comparison.rows:
        means = [mean_curve(row.epochs.get(column) or []) for column in columns]
        mean = next((mean for mean in means if len(mean)), None)
        if mean is not None:
            group, _, name = row.name.rpartition(": ")
            groups.setdefault(group, {})[name] = mean
    return groups


def mean_curve(by_seed: list[list[float | None]]) -> np.ndarray:
    """Return the mean over seeds (E,) of curves that may end early or have gaps.

    NaN where no seed has a value; (0,) if there is none at all.
    """
    curves = np.full((len(by_seed), max(map(len, by_seed), default=0)), np.nan)  # (S, E)
    for number, curve in enumerate(by_seed):
        curves[number, : len(curve)] = np.array(curve, dtype=float)  # None becomes NaN
    counts = np.isfinite(curves).sum(axis=0)  # (E,)
    if not counts.any():
        return np.empty(0)
    means = np.nansum(curves, axis=0) / np.maximum(counts, 1)
    return np.where(counts > 0, means, np.nan)
