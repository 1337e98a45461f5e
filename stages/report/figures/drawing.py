"""A drawing: one figure of matplotlib, saved as SVG for the page and as PNG for `dvc plots`."""

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from PIL import Image

CSS = Path(__file__).parents[1] / "colors.css"
# The page's light colors by role. In an SVG each of them becomes the page's variable again, so that
# one drawing serves light, dark and paper.
COLORS = dict(
    re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", CSS.read_text(encoding="utf-8").split("@media")[0])
)
PERSONS = tuple(f"person-{letter}" for letter in "abcdef")  # colors for what has no role

WIDTH = 360  # units of a drawing: about the pixels that it gets on a phone
LEFT, RIGHT, BELOW = 42, 10, 36  # units around the axes
UNITS = 72  # an inch
FONT: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 11, "axes.linewidth": 0.8}
METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # no clock, no version: equal bytes
DOTS = 96  # pixels an inch of a PNG
PALETTE = 64  # colors of a PNG: a third of the bytes, and the files are tracked
ACROSS = (3, 2)  # drawings beside each other in a PNG: the first number that leaves no gap


@dataclass(frozen=True)
class Drawing:
    """A figure, what it shows in words for readers who do not see it, and a note below it."""

    figure: Figure
    words: str
    note: str = ""


@contextmanager
def fonts() -> Iterator[None]:
    """Draw with the project's fonts and lines; the settings of matplotlib are put back.

    A user's own matplotlibrc has no effect: everyone gets the same bytes.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(FONT)
        yield


def finish(figure: Figure, title: str, height: int, legend: dict[str, Artist]) -> None:
    """Put a title and a legend above the axes.

    `height` is that of the axes with their labels, in units. The drawing grows with the lines of
    the title and of the legend.
    """
    lines = textwrap.wrap(title, 50, break_on_hyphens=False)
    columns = _columns(list(legend))
    rows = max(1, -(-len(legend) // columns))  # one at least: axes beside each other are level
    above = 10 + 14 * len(lines) + 15 * rows
    whole = height + above
    figure.set_size_inches(WIDTH / UNITS, whole / UNITS)
    figure.patch.set_visible(False)
    figure.subplots_adjust(LEFT / WIDTH, BELOW / whole, 1 - RIGHT / WIDTH, 1 - above / whole)
    place: dict[str, Any] = {"x": 6 / WIDTH, "y": 1 - 3 / whole, "verticalalignment": "top"}
    figure.text(s="\n".join(lines), color=COLORS["ink"], fontweight="bold", **place)
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="upper left",
        bbox_to_anchor=(6 / WIDTH, 1 - (5 + 14 * len(lines)) / whole),
        ncols=columns,
        fontsize=10,
        labelcolor=COLORS["muted"],
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        labelspacing=0.3,
        columnspacing=1.2,
        handlelength=2.4,
        handletextpad=0.6,
    )


def _columns(names: list[str]) -> int:
    """Return the number of columns that a legend of these names has room for."""
    for columns in range(len(names), 1, -1):
        longest = [max(map(len, column)) for column in np.array_split(names, columns)]
        if 38 * columns + 6 * sum(longest) < WIDTH - 6:
            return columns
    return 1


def svg(drawing: Drawing, name: str) -> str:
    """Return the drawing as elements inside an `<svg>`, colors as the page's variables.

    `name` makes its ids differ from those of the other drawings on the page.
    """
    written = io.StringIO()
    with fonts(), matplotlib.rc_context({"svg.hashsalt": name}):
        drawing.figure.savefig(written, format="svg", metadata=METADATA)
    body = re.sub(r"^.*?<svg[^>]*>|</svg>\s*$", "", written.getvalue(), flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # no ids but those that something refers to
    body = re.sub(r"font-family: [^;\"]*;?", "", body).replace("xlink:href", "href")
    body = re.sub(r"\s+", " ", body).replace("> <", "><").replace("base64, ", "base64,")
    for role, color in COLORS.items():
        body = body.replace(color, f"var(--{role})")
    return body.strip()


def size(drawing: Drawing) -> tuple[int, int]:
    """Return width and height in units."""
    width, height = drawing.figure.get_size_inches() * UNITS
    return round(width), round(height)


def png(drawings: Sequence[Drawing]) -> bytes:
    """Return the drawings beside each other, on white, as a PNG file."""
    panels = [_pixels(drawing) for drawing in drawings]
    fitting = [number for number in ACROSS if len(panels) % number == 0]
    across = min((fitting or ACROSS[-1:])[0], len(panels))
    rows = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [max(panel.height for panel in row) for row in rows]
    sheet = Image.new("RGB", (across * panels[0].width, sum(heights)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            sheet.paste(panel, (number * panel.width, top), mask=panel)
        top += height
    written = io.BytesIO()
    sheet.quantize(PALETTE, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return written.getvalue()


def _pixels(drawing: Drawing) -> Image.Image:
    written = io.BytesIO()
    with fonts():
        drawing.figure.savefig(written, format="png", dpi=DOTS)
    return Image.open(written).convert("RGBA")
