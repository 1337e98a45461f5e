"""Diagrams as data, and their drawing on matplotlib axes in the colors that the caller names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

WIDTH, HEIGHT = 360, 216  # units of a drawing; about the pixels it gets on a phone
POINTS = 72  # matplotlib's units an inch
FEW = 32  # up to so many points each gets a dot
PLAIN: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 11, "axes.linewidth": 0.8}
DASHES = ((), (5, 2.5), (1.5, 2))


class Style(NamedTuple):
    """How a kind of line looks: the role of its color, and dashes so that it is known without color."""

    role: str
    dashes: tuple[float, ...] = ()


PERSONS = tuple(
    f"person-{letter}" for letter in "abcdef"
)  # colors that mean nothing but "another one"
NUMBERED = tuple(
    f"line-{number}" for number in range(len(PERSONS) * len(DASHES))
)  # styles without a meaning
STYLES = {
    "total": Style("ink"),
    "full": Style("full"),
    "alone": Style("alone", (5, 2.5)),
    "visible": Style("visible"),
    "infrared": Style("infrared", (5, 2.5)),
    "transport": Style("infrared"),
    "other": Style("other", (1.5, 2)),
    "reference": Style("ink", (2, 2)),
} | {
    name: Style(
        PERSONS[number % len(PERSONS)], DASHES[(number + number // len(PERSONS)) % len(DASHES)]
    )
    for number, name in enumerate(NUMBERED)
}
ROLES = ("ink", "muted", "grid", "shade", "full", "alone", "visible", "infrared", "other", *PERSONS)


@dataclass(frozen=True)
class Series:
    """A line: points (N,) with NaN where there is none, and the style it has."""

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str


@dataclass(frozen=True)
class Chart:
    """A small diagram. `level` is a horizontal line to compare with; `shaded` an interval of x and its meaning."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    top: float | None = None  # the y axis goes from 0 to here; None: as the data say
    bars: bool = False  # steps with the area below them; x (N + 1,) are their edges, the last y counts for nothing
    log: bool = False  # the y axis by powers of ten
    level: tuple[str, float] | None = None
    shaded: tuple[str, float, float] | None = None
    ticks: tuple[int, ...] = ()  # where the x axis is labeled; empty: as the data say
    note: str = ""

    @property
    def needs_legend(self) -> bool:
        """Whether the title alone does not say what is drawn."""
        return len(self.series) > 1 or self.level is not None or self.shaded is not None


def describe(chart: Chart) -> str:
    """The chart in words: of each line where it starts, where it ends."""
    parts = []
    for series in chart.series:
        known = ~np.isnan(series.y)
        x, y = series.x[known], series.y[known]
        if chart.bars:
            name = f"{series.name}: " if len(chart.series) > 1 else ""
            parts.append(f"{name}{len(y) - 1} bars from {y.max():.4g} down to {y.min():.4g}")
        else:
            parts.append(
                f"{series.name} from {y[0]:.4g} at {x[0]:.4g} to {y[-1]:.4g} at {x[-1]:.4g}"
            )
    if chart.level:
        parts.append(f"{chart.level[0]} {chart.level[1]:.4g}")
    return f"{chart.title}, by {chart.x_label}: {'; '.join(parts)}."


def plot(axes: Axes, chart: Chart, colors: Mapping[str, str]) -> None:
    """Draw the curves of `chart` on `axes`; `colors` has one for each of ROLES."""
    if chart.shaded:
        _, low, high = chart.shaded
        axes.axvspan(low, high, color=colors["shade"], linewidth=0)
    for series in chart.series:
        style = STYLES[series.style]
        dashes: Any = (0, style.dashes) if style.dashes else "solid"
        look: dict[str, Any] = {"color": colors[style.role], "linewidth": 1.8, "linestyle": dashes}
        if chart.bars:
            alone = len(chart.series) == 1
            area = {"color": look["color"], "alpha": None if alone else 0.2, "linewidth": 0}
            axes.fill_between(series.x, series.y, step="post", **area)
            if not alone:
                axes.plot(series.x, series.y, drawstyle="steps-post", label=series.name, **look)
            continue
        few = np.sum(~np.isnan(series.y)) <= FEW
        marker = "o" if few else None
        axes.plot(
            series.x,
            series.y,
            marker=marker,
            markersize=3,
            clip_on=False,
            label=series.name,
            **look,
        )
    if chart.level:
        style = STYLES["reference"]
        line: Any = {"color": colors[style.role], "linewidth": 1.2, "linestyle": (0, style.dashes)}
        axes.axhline(chart.level[1], label=chart.level[0], **line)
    _dress(axes, chart, colors)


def _dress(axes: Axes, chart: Chart, colors: Mapping[str, str]) -> None:
    """Ticks, grid and labels; no box around the curves."""
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colors["muted"])
    axes.set_xlabel(chart.x_label, color=colors["muted"], labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if chart.ticks:
        axes.set_xticks(chart.ticks)
    axes.margins(x=0.02)
    _scale(axes, chart)
    axes.tick_params(which="both", length=0, pad=5, labelcolor=colors["muted"])
    axes.grid(axis="y", color=colors["grid"], linewidth=0.8)
    axes.set_axisbelow(True)


def _scale(axes: Axes, chart: Chart) -> None:
    """The y axis: from where to where, and its labels."""
    if chart.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if chart.top is not None:
        axes.set_ylim(min(0.0, *(np.nanmin(series.y) for series in chart.series)), chart.top)
    elif axes.get_ylim()[0] > 0 or chart.bars:
        axes.set_ylim(bottom=0)
