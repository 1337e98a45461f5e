"""The page's main figures as PNG, for `dvc plots` and readers of the repository; nothing in them is of the clock."""

import io
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from stages.report import comparisons, curves, matrices
from stages.report.charts import HEIGHT, PERSONS, PLAIN, POINTS, WIDTH, Chart, plot
from stages.report.embedding import OTHERS, Points
from stages.report.inputs import Run
from stages.report.matrices import Matrix

CSS = Path(__file__).parent / "page.css"
ACROSS = (3, 2)  # diagrams beside each other: the first that leaves no gap
DOTS = 96  # pixels an inch
COLORS = 64  # a palette: a third of the bytes, and the files are tracked


def all_figures(run: Run, points: Points | None) -> dict[str, bytes]:
    """PNG files by name; without those that have nothing to show."""
    colors = light()
    charts = {
        "cmc": curves.cmc(run),
        "visible_labels": curves.visible_labels(run),
        "infrared_labels": curves.infrared_labels(run),
        "label_counts": curves.label_counts(run),
        "losses": curves.losses(run),
    } | {f"comparison_{plan}": comparisons.charts(tree) for plan, tree in run.comparisons.items()}
    files = {name: of_charts(drawn, colors) for name, drawn in charts.items() if drawn}
    if drawn := matrices.attention(run):
        files["attention"] = of_matrices(drawn, colors)
    if points is not None:
        files["embeddings"] = of_points(points, colors)
    return files


def light() -> dict[str, str]:
    """The page's colors on white ground, by role."""
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", CSS.read_text().split("@media")[0]))


def of_charts(drawn: list[Chart], colors: Mapping[str, str]) -> bytes:
    """Diagrams with titles and legends, two a row."""

    def draw(chart: Chart, axes: Axes) -> None:
        plot(axes, chart, colors)
        if chart.needs_legend:
            axes.legend(frameon=False, fontsize=8)

    return _sheet([(chart.title, partial(draw, chart)) for chart in drawn], (WIDTH, HEIGHT))


def of_matrices(drawn: list[Matrix], colors: Mapping[str, str]) -> bytes:
    """Who is who, and the weights beside it."""

    def draw(matrix: Matrix, axes: Axes) -> None:
        axes.imshow(matrix.values, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(matrix.note, color=colors["muted"], fontsize=7)

    return _sheet([(matrix.title, partial(draw, matrix)) for matrix in drawn], (300, 320))


def of_points(points: Points, colors: Mapping[str, str]) -> bytes:
    """Test images in the plane: circles are visible, triangles infrared, colors identities."""

    def draw(axes: Axes) -> None:
        for modality, marker in ((False, "o"), (True, "^")):
            for look in [OTHERS, *range(points.look.max() + 1)]:
                chosen = (points.infrared == modality) & (points.look == look)
                color = colors["grid"] if look == OTHERS else colors[PERSONS[look % len(PERSONS)]]
                filled = look < len(PERSONS)
                places = points.places[chosen]
                axes.scatter(
                    places[:, 0],
                    -places[:, 1],
                    s=28,
                    marker=marker,
                    facecolors=color if filled else "none",
                    edgecolors=color,
                    linewidths=1.0,
                )
        axes.set_axis_off()

    title = f"{len(points.places)} of {points.total:,} test images by t-SNE: ● visible, ▲ infrared, a color a person"
    return _sheet([(title, draw)], (600, 450))


def _sheet(panels: list[tuple[str, Callable[[Axes], None]]], size: tuple[int, int]) -> bytes:
    """Panels of `size` units each, on white."""
    across = min(
        next((number for number in ACROSS if len(panels) % number == 0), ACROSS[-1]), len(panels)
    )
    down = -(-len(panels) // across)
    width, height = across * size[0], down * (size[1] + 24)
    with matplotlib.rc_context(PLAIN):
        figure = Figure(figsize=(width / POINTS, height / POINTS))
        left, right, top, bottom = 40 / width, 1 - 12 / width, 1 - 28 / height, 36 / height
        figure.subplots_adjust(left, bottom, right, top, wspace=0.16, hspace=0.34)
        axes = np.atleast_1d(figure.subplots(down, across)).ravel()
        for place, (title, draw) in zip(axes, panels, strict=False):
            place.set_title(title, fontsize=10, loc="left")
            draw(place)
        for place in axes[len(panels) :]:
            place.set_axis_off()
        drawn, written = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", dpi=DOTS)
    # written anew: matplotlib would sign with its version
    Image.open(drawn).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(
        written, "PNG", optimize=True
    )
    return written.getvalue()
