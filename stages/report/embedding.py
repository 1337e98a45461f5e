"""The test images' embeddings in the plane: do the two modalities of a person lie together?"""

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from stages.report.charts import PERSONS
from stages.report.inputs import Run
from stages.report.markup import tag, text
from stages.report.pictures import spread

IMAGES = 600  # points: more take longer and show no more
SHOWN = 2 * len(PERSONS)  # identities with a color: each color once filled, once hollow
FEWEST = 8  # with fewer points there is nothing to lay out
PERPLEXITY = 20.0
SIZE, RADIUS, MARGIN = (480, 360), 3.4, 8
OTHERS = -1


@dataclass(frozen=True)
class Points:
    """A place in the unit square for each of N test images; `look` (N,) numbers the shown identities, else OTHERS."""

    places: np.ndarray  # (N, 2)
    infrared: np.ndarray  # (N,) bool
    person: np.ndarray  # (N,)
    camera: np.ndarray  # (N,)
    look: np.ndarray  # (N,)
    total: int  # test images that these were drawn from

    @property
    def shown(self) -> list[int]:
        """The identities with a color, in the order of their numbers."""
        return [int(self.person[self.look == number][0]) for number in range(self.look.max() + 1)]


def points(run: Run) -> Points | None:
    """t-SNE of up to IMAGES test images, drawn evenly over identities and modalities; None without embeddings.

    One thread and a fixed seed: the same embeddings give the same places on the same machine.
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
        found = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(
            values[chosen]
        )
    low, high = found.min(axis=0), found.max(axis=0)
    persons, infrared = table["person"].to_numpy(), (table["modality"] == "infrared").to_numpy()
    both = np.intersect1d(persons[infrared], persons[~infrared])
    shown = both[spread(len(both), SHOWN)]
    look = np.full(len(persons), OTHERS)
    for number, person in enumerate(shown):
        look[persons == person] = number
    places = (found - low) / np.maximum(high - low, 1e-12)
    return Points(places, infrared, persons, table["camera"].to_numpy(), look, len(rows))


def figure(drawn: Points) -> str:
    """The `<figure>` with a legend of modalities and identities."""
    modalities = tag("span", _key("circle", "mark"), "visible") + tag(
        "span", _key("triangle", "mark"), "infrared"
    )
    persons = "".join(
        tag("span", _key("circle", _look(number)), text(person))
        for number, person in enumerate(drawn.shown)
    )
    others = tag("span", _key("circle", "others"), "everybody else")
    title = tag("strong", text(f"{len(drawn.places)} of {drawn.total:,} test images, by t-SNE"))
    legends = tag("span", modalities, others, class_="legend") + tag(
        "span", "person", persons, class_="legend"
    )
    return tag("figure", tag("figcaption", title, legends), _svg(drawn), class_="chart scatter")


def _svg(drawn: Points) -> str:
    words = (
        f"Scatter plot of {np.sum(~drawn.infrared)} visible and {np.sum(drawn.infrared)} infrared test images by "
        f"t-SNE; persons {', '.join(map(str, drawn.shown))} in colors."
    )
    order = np.argsort(drawn.look != OTHERS, kind="stable")  # those with a color on top
    marks = [_mark(drawn, int(number)) for number in order]
    return tag("svg", *marks, viewBox=f"0 0 {SIZE[0]} {SIZE[1]}", role="img", aria_label=words)


def _mark(drawn: Points, number: int) -> str:
    x, y = (MARGIN + drawn.places[number] * (np.array(SIZE) - 2 * MARGIN)).round(1)
    kind = "triangle" if drawn.infrared[number] else "circle"
    if drawn.look[number] == OTHERS:
        return _shape(kind, x, y, "others")
    modality = "infrared" if drawn.infrared[number] else "visible"
    title = tag(
        "title", text(f"person {drawn.person[number]}, {modality} camera {drawn.camera[number]}")
    )
    return _shape(kind, x, y, _look(int(drawn.look[number])), title)


def _look(number: int) -> str:
    """The CSS class of a shown identity: a color, filled for the first half and hollow for the second."""
    hollow = " hollow" if number >= len(PERSONS) else ""
    return f"mark {PERSONS[number % len(PERSONS)]}{hollow}"


def _shape(kind: str, x: float, y: float, look: str, *children: str) -> str:
    if kind == "circle":
        return tag("circle", *children, cx=f"{x:g}", cy=f"{y:g}", r=f"{RADIUS:g}", class_=look)
    side = 1.25 * RADIUS
    path = f"M{x:g} {y - side:.1f}l{side:g} {1.75 * side:.1f}h{-2 * side:g}z"
    return tag("path", *children, d=path, class_=look)


def _key(kind: str, look: str) -> str:
    return tag(
        "svg",
        _shape(kind, 6, 6, look),
        viewBox="0 0 12 12",
        width="12",
        height="12",
        aria_hidden="true",
    )
