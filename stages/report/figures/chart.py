"""Line and step charts as data, and how they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from stages.report.figures.drawing import COLORS, PERSONS, Drawing, finish, fonts

HEIGHT = 205  # units of the axes with their labels
FEW = 32  # up to so many points each point gets a dot
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2.5), (1.5, 2))


class Style(NamedTuple):
    """The look of a line: the role of its color, and dashes to know it by without color."""

    role: str
    dashes: tuple[float, ...] = DASHES[0]


TOTAL = Style("ink")
FULL = Style("full")  # the full method
ALONE = Style("alone", DASHES[1])  # the pseudo-label network
VISIBLE = Style("visible")
INFRARED = Style("infrared", DASHES[1])
ASSIGNED = Style("infrared")  # by the assignment method
OTHER = Style("other", DASHES[2])
REFERENCE = Style("ink", (2, 2))


def numbered(number: int) -> Style:
    """Return the style of line `number` where lines have no role; 18 differ."""
    count = len(PERSONS)
    return Style(PERSONS[number % count], DASHES[(number + number // count) % len(DASHES)])


@dataclass(frozen=True)
class Series:
    """A line: points (N,), with NaN where there is none."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: Style


@dataclass(frozen=True)
class Chart:
    """A small diagram."""

    title: str
    x_label: str
    series: Sequence[Series]
    top: float | None = None  # the y axis ends here; None: where the data end
    # Steps with the area below them. x (N + 1,) are their edges; the last y is not shown.
    bars: bool = False
    log: bool = False  # the y axis is logarithmic
    level: tuple[str, float] | None = None  # a horizontal line to compare with
    shaded: tuple[str, float, float] | None = None  # an interval of x
    ticks: Sequence[int] = ()  # of the x axis; empty: as the data say
    note: str = ""

    @property
    def needs_legend(self) -> bool:
        """Whether the title alone does not say what is drawn."""
        return len(self.series) > 1 or self.level is not None or self.shaded is not None


def describe(chart: Chart) -> str:
    """Return the chart in words: where each line starts and ends."""
    parts = []
    for series in chart.series:
        known = ~np.isnan(series.y)
        x, y = series.x[known], series.y[known]
        if chart.bars:
            parts.append(
                f"{series.name}: {len(y) - 1} bars from {y.max():.4g} down to {y.min():.4g}"
            )
        else:
            ends = f"from {y[0]:.4g} at {x[0]:.4g} to {y[-1]:.4g} at {x[-1]:.4g}"
            parts.append(f"{series.name} {ends}")
    if chart.level:
        parts.append(f"{chart.level[0]} {chart.level[1]:.4g}")
    return f"{chart.title}, by {chart.x_label}: {'; '.join(parts)}."


def draw(chart: Chart) -> Drawing:
    """Return the chart as a drawing."""
    with fonts():
        figure = Figure()
        axes = figure.add_subplot()
        if chart.shaded:
            name, low, high = chart.shaded
            axes.axvspan(low, high, color=COLORS["shade"], linewidth=0, label=name)
        for series in chart.series:
            _draw_series(axes, chart, series)
        if chart.level:
            name, y = chart.level
            axes.axhline(y, label=name, linewidth=1.2, **_line(REFERENCE))
        _dress(axes, chart)
        handles, labels = axes.get_legend_handles_labels()
        legend = dict(zip(labels, handles, strict=True)) if chart.needs_legend else {}
        finish(figure, chart.title, HEIGHT, legend)
    return Drawing(figure, describe(chart), chart.note)


def _line(style: Style) -> dict[str, Any]:
    linestyle = (0, style.dashes) if style.dashes else "solid"
    return {"color": COLORS[style.role], "linestyle": linestyle}


def _draw_series(axes: Axes, chart: Chart, series: Series) -> None:
    line = {"linewidth": 1.8, "label": series.name, **_line(series.style)}
    if not chart.bars:
        is_few = np.sum(~np.isnan(series.y)) <= FEW
        marker = "o" if is_few else None
        axes.plot(series.x, series.y, marker=marker, markersize=3, clip_on=False, **line)
        return
    is_alone = len(chart.series) == 1
    alpha = 1 if is_alone else 0.2
    color = COLORS[series.style.role]
    axes.fill_between(series.x, series.y, step="post", color=color, alpha=alpha, linewidth=0)
    if not is_alone:
        axes.plot(series.x, series.y, drawstyle="steps-post", **line)


def _dress(axes: Axes, chart: Chart) -> None:
    """Set ticks, grid and labels, without a box around the curves."""
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(COLORS["muted"])
    axes.set_xlabel(chart.x_label, color=COLORS["muted"], labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if chart.ticks:
        axes.set_xticks(chart.ticks)
    axes.margins(x=0.02)
    _scale(axes, chart)
    axes.tick_params(which="both", length=0, pad=5, labelcolor=COLORS["muted"])
    axes.grid(axis="y", color=COLORS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)


def _scale(axes: Axes, chart: Chart) -> None:
    """Set the limits and the labels of the y axis."""
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if chart.top is not None:
        lowest = min(np.nanmin(series.y) for series in chart.series)
        axes.set_ylim(min(0.0, lowest), chart.top)
    elif axes.get_ylim()[0] > 0 or chart.bars:
        axes.set_ylim(bottom=0)
