"""The test images' embeddings in the plane: do the two modalities of a person lie together?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from stages.report.figures.drawing import COLORS, PERSONS, Drawing, finish, fonts
from stages.report.inputs import Run, spread

IMAGES = 600  # points: more take longer and show no more
SHOWN = 2 * len(PERSONS)  # identities with a color: each color once filled, once hollow
FEWEST = 8  # with fewer points there is nothing to lay out
PERPLEXITY = 20.0
HEIGHT = 290  # units of the plane
OTHERS = -1


@dataclass(frozen=True)
class Points:
    """A place in the unit square for each of N test images."""

    places: np.ndarray  # (N, 2)
    infrared: np.ndarray  # (N,) bool
    person: np.ndarray  # (N,)
    look: np.ndarray  # (N,) number of the identity if it has a color, else OTHERS
    total: int  # test images that these were drawn from

    @property
    def shown(self) -> list[int]:
        """The identities with a color, in the order of their numbers."""
        return [int(self.person[self.look == number][0]) for number in range(self.look.max() + 1)]


def points(run: Run) -> Points | None:
    """Return the t-SNE of up to IMAGES test images; None without embeddings.

    The images are drawn evenly over identities and modalities. One thread and a fixed seed: the
    same embeddings give the same places.
    """
    if run.embeddings is None or len(run.embeddings.rows) < FEWEST:
        return None
    rows, values = run.embeddings
    table = run.target.table.iloc[rows].reset_index(drop=True)
    order = table.sort_values(["person", "modality", "row"]).index.to_numpy()
    chosen = order[spread(len(order), IMAGES)]
    table = table.iloc[chosen]
    perplexity = min(PERPLEXITY, (len(chosen) - 1) / 3)
    with threadpool_limits(limits=1):
        layout = TSNE(perplexity=perplexity, init="pca", random_state=0)
        places = layout.fit_transform(values[chosen])  # (N, 2)
    low, high = places.min(axis=0), places.max(axis=0)
    persons = table["person"].to_numpy()
    infrared = (table["modality"] == "infrared").to_numpy()
    in_both = np.intersect1d(persons[infrared], persons[~infrared])
    look = np.full(len(persons), OTHERS)
    for number, person in enumerate(in_both[spread(len(in_both), SHOWN)]):
        look[persons == person] = number
    places = (places - low) / np.maximum(high - low, 1e-12)
    return Points(places, infrared, persons, look, len(rows))


def draw(points: Points) -> Drawing:
    """Return the scatter plot: circles are visible, triangles infrared, a color is a person."""
    with fonts():
        figure = Figure()
        axes = figure.add_subplot()
        axes.set_axis_off()
        legend: dict[str, Artist] = {
            "visible": Line2D([], [], color=COLORS["muted"], marker="o", linestyle="none"),
            "infrared": Line2D([], [], color=COLORS["muted"], marker="^", linestyle="none"),
        }
        names = {OTHERS: "others", **dict(enumerate(map(str, points.shown)))}
        for look, name in names.items():  # those with a color on top
            for marker, is_infrared in (("^", True), ("o", False)):
                x, y = points.places[(points.look == look) & (points.infrared == is_infrared)].T
                (legend[name],) = axes.plot(x, -y, clip_on=False, **_marker(marker, look))
        title = f"{len(points.places)} of {points.total:,} test images, by t-SNE; a color a person"
        finish(figure, title, HEIGHT, legend)
        figure.subplots_adjust(left=0.03, right=0.97, bottom=0.03)
    visible, infrared = np.sum(~points.infrared), np.sum(points.infrared)
    persons = ", ".join(map(str, points.shown))
    words = (
        f"Scatter plot of {visible} visible and {infrared} infrared test images by t-SNE; "
        f"persons {persons} in colors."
    )
    return Drawing(figure, words)


def _marker(marker: str, look: int) -> dict[str, Any]:
    """Return the look of a person's points: filled, hollow in the second half of the colors."""
    color = COLORS["line" if look == OTHERS else PERSONS[look % len(PERSONS)]]
    fill = "none" if look >= len(PERSONS) else color
    shape = {"linestyle": "none", "marker": marker, "markersize": 5}
    return {"color": color, "markerfacecolor": fill, **shape}
