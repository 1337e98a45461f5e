"""Curves and bars as SVG whose colours and letters are the page's: one drawing serves light, dark and paper."""

import io
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.report.markup import tag, text

WIDTH, HEIGHT = 360, 216  # units of the drawing; about the pixels it gets on a phone
POINTS = 72  # matplotlib's SVG units an inch
FEW = 32  # up to so many points each gets a dot
PLAIN: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 11, "axes.linewidth": 0.8}
METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}  # no clock, no version: equal bytes


class Style(NamedTuple):
    """How a kind of line looks: a CSS variable, and dashes so that it is known without colour."""

    variable: str
    dashes: tuple[float, ...] = ()


STYLES = {
    "total": Style("ink"),
    "full": Style("full"),
    "alone": Style("alone", (5, 2.5)),
    "visible": Style("visible"),
    "infrared": Style("infrared", (5, 2.5)),
    "other": Style("other", (1.5, 2)),
    "reference": Style("ink", (2, 2)),
}
ROLES = ("ink", "muted", "grid", "shade", "full", "alone", "visible", "infrared", "other")
# matplotlib wants colours, the page variables: each variable travels as a colour of its own.
STAND_INS = {name: f"#0000{number:02x}" for number, name in enumerate(ROLES, start=1)}


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
    bars: bool = False
    level: tuple[str, float] | None = None
    shaded: tuple[str, float, float] | None = None
    ticks: tuple[int, ...] = ()  # where the x axis is labelled; empty: as the data say
    note: str = ""


def figure(chart: Chart, name: str) -> str:
    """A `<figure>` with title, legend and drawing; `name` tells its ids from those of the page's other drawings."""
    caption = [tag("strong", text(chart.title)), *([_legend(chart)] if _needs_legend(chart) else [])]
    if chart.note:
        caption.append(tag("span", text(chart.note), class_="note"))
    return tag("figure", tag("figcaption", *caption), draw(chart, name), class_="chart")


def draw(chart: Chart, name: str) -> str:
    """The `<svg>` alone, with a text that says what is seen."""
    # Two settings of matplotlib have no other door; the context puts them back.
    with matplotlib.rc_context({**PLAIN, "svg.hashsalt": name}):
        picture = Figure(figsize=(WIDTH / POINTS, HEIGHT / POINTS))
        picture.patch.set_visible(False)
        picture.subplots_adjust(left=0.125, right=0.975, top=0.955, bottom=0.165)
        axes = picture.add_subplot()
        _plot(axes, chart)
        _dress(axes, chart)
        written = io.StringIO()
        picture.savefig(written, format="svg", metadata=METADATA)
    return _for_page(written.getvalue(), describe(chart))


def describe(chart: Chart) -> str:
    """The chart in words: of each line where it starts, where it ends."""
    parts = []
    for series in chart.series:
        known = ~np.isnan(series.y)
        x, y = series.x[known], series.y[known]
        if chart.bars:
            parts.append(f"{len(y)} bars from {y.max():.4g} down to {y.min():.4g}")
        else:
            parts.append(f"{series.name} from {y[0]:.4g} at {x[0]:.4g} to {y[-1]:.4g} at {x[-1]:.4g}")
    if chart.level:
        parts.append(f"{chart.level[0]} {chart.level[1]:.4g}")
    return f"{chart.title}, by {chart.x_label}: {'; '.join(parts)}."


def _plot(axes: Axes, chart: Chart) -> None:
    if chart.shaded:
        _, low, high = chart.shaded
        axes.axvspan(low, high, color=STAND_INS["shade"], linewidth=0)
    for series in chart.series:
        style = STYLES[series.style]
        color = STAND_INS[style.variable]
        if chart.bars:
            axes.fill_between(series.x, series.y, step="post", color=color, linewidth=0)
            continue
        axes.plot(
            series.x,
            series.y,
            color=color,
            linewidth=1.8,
            linestyle=(0, style.dashes) if style.dashes else "solid",
            marker="o" if np.sum(~np.isnan(series.y)) <= FEW else None,
            markersize=3,
            clip_on=False,
        )
    if chart.level:
        style = STYLES["reference"]
        axes.axhline(chart.level[1], color=STAND_INS[style.variable], linewidth=1.2, linestyle=(0, style.dashes))


def _dress(axes: Axes, chart: Chart) -> None:
    """Ticks, grid and labels in the page's colours; no box around the curves."""
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(STAND_INS["muted"])
    axes.tick_params(length=0, pad=5, labelcolor=STAND_INS["muted"])
    axes.grid(axis="y", color=STAND_INS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(chart.x_label, color=STAND_INS["muted"], labelpad=3)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if chart.ticks:
        axes.set_xticks(chart.ticks)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(x=0.02)
    if chart.top is not None:
        axes.set_ylim(min(0.0, *(np.nanmin(series.y) for series in chart.series)), chart.top)
    elif axes.get_ylim()[0] > 0 or chart.bars:
        axes.set_ylim(bottom=0)


def _for_page(svg: str, description: str) -> str:
    """matplotlib's file as an element of the page: no header, no ids but those that are used, variables for colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<svg[^>]*>", "", body, count=1).replace("</svg>", "")
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body).replace("xlink:href", "href")
    body = re.sub(r"\s+", " ", body).replace("> <", "><")
    for name, color in STAND_INS.items():
        body = body.replace(color, f"var(--{name})")
    return tag("svg", body.strip(), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=description)


def _needs_legend(chart: Chart) -> bool:
    return len(chart.series) > 1 or chart.level is not None or chart.shaded is not None


def _legend(chart: Chart) -> str:
    entries = [] if chart.bars else [(series.name, STYLES[series.style]) for series in chart.series]
    if chart.level:
        entries.append((chart.level[0], STYLES["reference"]))
    items = [tag("span", _sample(style), text(name)) for name, style in entries]
    if chart.shaded:
        items.append(tag("span", tag("i", class_="shade"), text(chart.shaded[0])))
    return tag("span", *items, class_="legend")


def _sample(style: Style) -> str:
    """A short piece of the line."""
    dashes = {"stroke_dasharray": " ".join(f"{1.8 * part:g}" for part in style.dashes)} if style.dashes else {}
    line = tag(
        "line", x1="0", y1="5", x2="26", y2="5", stroke_width="2.4", style=f"stroke: var(--{style.variable})", **dashes
    )
    return tag("svg", line, viewBox="0 0 26 10", width="26", height="10", aria_hidden="true")
