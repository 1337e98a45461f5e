"""Diagrams as SVG whose colors and letters are the page's: one drawing serves light, dark and paper."""

import io
import re

import matplotlib
from matplotlib.figure import Figure

from stages.report.charts import (
    HEIGHT,
    PLAIN,
    POINTS,
    ROLES,
    STYLES,
    WIDTH,
    Chart,
    Style,
    describe,
    plot,
)
from stages.report.markup import tag, text

METADATA = {
    "Date": None,
    "Creator": None,
    "Format": None,
    "Type": None,
}  # no clock, no version: equal bytes
# matplotlib wants colors, the page variables: each variable travels as a color of its own.
STAND_INS = {name: f"#0000{number:02x}" for number, name in enumerate(ROLES, start=1)}


def grid(drawn: list[Chart], name: str) -> str:
    """Small diagrams beside each other; `name` makes their ids differ from those of other grids."""
    return tag(
        "div",
        *[figure(chart, f"{name}-{number}") for number, chart in enumerate(drawn)],
        class_="charts",
    )


def figure(chart: Chart, name: str) -> str:
    """A `<figure>` with title, legend and drawing; `name` tells its ids from those of the page's other drawings."""
    caption = [tag("strong", text(chart.title)), *([_legend(chart)] if chart.needs_legend else [])]
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
        plot(picture.add_subplot(), chart, STAND_INS)
        written = io.StringIO()
        picture.savefig(written, format="svg", metadata=METADATA)
    return _for_page(written.getvalue(), describe(chart))


def _for_page(svg: str, description: str) -> str:
    """matplotlib's file as an element of the page: no header, no ids but those that are used, variables for colors."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<svg[^>]*>", "", body, count=1).replace("</svg>", "")
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body).replace("xlink:href", "href")
    body = re.sub(r"\s+", " ", body).replace("> <", "><")
    for name, color in STAND_INS.items():
        body = body.replace(color, f"var(--{name})")
    return tag(
        "svg", body.strip(), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=description
    )


def _legend(chart: Chart) -> str:
    alone = chart.bars and len(chart.series) == 1  # the title says what they are
    entries = [] if alone else [(series.name, STYLES[series.style]) for series in chart.series]
    if chart.level:
        entries.append((chart.level[0], STYLES["reference"]))
    items = [tag("span", _sample(style), text(name)) for name, style in entries]
    if chart.shaded:
        items.append(tag("span", tag("i", class_="shade"), text(chart.shaded[0])))
    return tag("span", *items, class_="legend")


def _sample(style: Style) -> str:
    """A short piece of the line."""
    dashes = (
        {"stroke_dasharray": " ".join(f"{1.8 * part:g}" for part in style.dashes)}
        if style.dashes
        else {}
    )
    line = tag(
        "line",
        x1="0",
        y1="5",
        x2="26",
        y2="5",
        stroke_width="2.4",
        style=f"stroke: var(--{style.role})",
        **dashes,
    )
    return tag("svg", line, viewBox="0 0 26 10", width="26", height="10", aria_hidden="true")
