"""Images of the store as pictures of the page: ranked lists, and a look at the data."""

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from stages.parts.images.store import ImageStore
from stages.report.inputs import spread
from stages.report.page.markup import lines, note, paragraph, row, tag, text

QUERIES = 4  # ranked lists of a mode
HARDEST = 6  # lists of failures of a mode
SHOWN = 10  # results of a list
PERSONS = 6  # identities on the sheet of the target
CAMERAS = 4  # cameras of a modality on that sheet
SOURCE_IMAGES = 12
HEIGHT = 128  # pixels; larger images are made smaller
QUALITY = 82


def data_uri(pixels: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as a JPEG inside a URI."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.height > HEIGHT:
        width = round(picture.width * HEIGHT / picture.height)
        picture = picture.resize((width, HEIGHT), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def rankings(store: ImageStore, ranking: pd.DataFrame) -> str:
    """Return ranked lists of a few queries, spread evenly over the query identities."""
    rows = np.sort(ranking["query"].unique())
    persons, first = np.unique(store.table["person"].to_numpy()[rows], return_index=True)
    return _strips(store, ranking, rows[first[spread(len(persons), QUERIES)]])


def hardest(store: ImageStore, ranking: pd.DataFrame) -> str:
    """Return ranked lists of the worst failures, one for each identity, folded up."""
    rows = hardest_queries(ranking)
    if not len(rows):
        return note("Every first result is right.")
    _, first = np.unique(store.table["person"].to_numpy()[rows], return_index=True)
    shown = rows[np.sort(first)[:HARDEST]]
    what = f"{len(shown)} persons, from {len(rows):,} queries whose first result is wrong"
    summary = tag("summary", text(f"Hardest failures first: {what}"))
    return tag("details", summary, _strips(store, ranking, shown))


def hardest_queries(ranking: pd.DataFrame) -> np.ndarray:
    """Return the queries (M,) whose first result is wrong, the hardest first.

    The deeper the first right result, the harder; those without a right one in the list come
    before all. Among equals the query with the higher similarity of its first result comes first.
    """
    listed = ranking.sort_values(["query", "rank"])
    first = listed.drop_duplicates("query").set_index("query", drop=False)
    right = listed.loc[listed["correct"] == 1].drop_duplicates("query").set_index("query")["rank"]
    depth = right.reindex(first.index).fillna(np.inf)
    failed = first.assign(depth=depth).reset_index(drop=True)
    failed = failed.loc[failed["correct"] == 0]
    order = ["depth", "similarity", "query"]
    hardest = failed.sort_values(order, ascending=[False, False, True])
    queries: np.ndarray = hardest["query"].to_numpy()
    return queries


def _strips(store: ImageStore, ranking: pd.DataFrame, queries: np.ndarray) -> str:
    strips = []
    for query in queries:
        results = ranking.loc[ranking["query"] == query].sort_values("rank")
        strips.append(_strip(store, int(query), results))
    return lines(strips)


def _strip(store: ImageStore, query: int, results: pd.DataFrame) -> str:
    """Return a query beside the first of its results."""
    right = results.loc[results["correct"] == 1, "rank"]
    outcome = f"none right in {len(results)}"
    if len(right):
        outcome = f"first right at rank {right.iloc[0]}"
    person, camera = _whose(store, query)
    heading = paragraph(f"Person {person}, camera {camera}: {outcome}", class_="found")
    picture = _picture(store, query, f"Query: person {person}, camera {camera}")
    caption = tag("figcaption", tag("b", "query"), f" {person} · c{camera}")
    asked = tag("figure", picture, caption, class_="query")
    answers = [
        _answer(store, int(each.gallery), int(each.rank), bool(each.correct))
        for each in results.head(SHOWN).itertuples()
    ]
    strip = tag("div", asked, tag("div", *answers, class_="answers"), class_="strip")
    return tag("div", heading, strip, class_="list")


def _answer(store: ImageStore, number: int, rank: int, correct: bool) -> str:
    person, camera = _whose(store, number)
    word, mark = ("right", "✓") if correct else ("wrong", "✗")
    picture = _picture(store, number, f"Rank {rank}, {word}: person {person}, camera {camera}")
    caption = tag("figcaption", tag("b", f"{mark} {rank}"), f" {person} · c{camera}")
    return tag("figure", picture, caption, class_=word)


def sheet(store: ImageStore) -> str:
    """Return some training identities (rows) as the cameras (columns) see them."""
    table = store.table.loc[store.table["split"].isin(("train", "val"))]
    cameras = []
    for modality in ("visible", "infrared"):
        numbers = sorted(table.loc[table["modality"] == modality, "camera"].unique())
        cameras += [(modality, int(number)) for number in numbers[:CAMERAS]]
    first = table.drop_duplicates(["person", "modality", "camera"])
    first = first.set_index(["modality", "camera"])
    seen = {key: first.loc[[key]].set_index("person")["row"] for key in cameras}
    persons, views = np.unique(pd.concat(list(seen.values())).index, return_counts=True)
    most = persons[views == views.max()]
    chosen = most[spread(len(most), PERSONS)]
    rows = []
    for person in chosen:
        cells = []
        for (modality, camera), images in seen.items():
            alt = f"Person {person}, {modality} camera {camera}"
            is_seen = person in images.index
            cells.append(_picture(store, int(images[person]), alt) if is_seen else "–")
        rows.append(row(str(person), cells))
    heads = [tag("th", "person", scope="col")]
    for modality, camera in cameras:
        heads.append(tag("th", f"{modality} {camera}", scope="col", class_=modality))
    count = f"{len(chosen)} of {table['person'].nunique():,} training identities"
    caption = tag("caption", f"{count}, one image of each camera")
    head, body = tag("thead", tag("tr", *heads)), tag("tbody", *rows)
    return tag("div", tag("table", caption, head, body, class_="sheet"), class_="table")


def source_sheet(store: ImageStore) -> str:
    """Return an image of each of some training identities; empty if there is no source."""
    table = store.table.loc[store.table["split"] == "train"]
    table = table.drop_duplicates("person").sort_values("person")
    figures = []
    for number in table["row"].iloc[spread(len(table), SOURCE_IMAGES)]:
        person, camera = _whose(store, int(number))
        picture = _picture(store, int(number), f"Source: person {person}, camera {camera}")
        figures.append(tag("figure", picture, tag("figcaption", f"{person} · c{camera}")))
    return tag("div", *figures, class_="row") if figures else ""


def _whose(store: ImageStore, number: int) -> tuple[int, int]:
    """Return person and camera of the image in row `number`."""
    return int(store.table["person"].iloc[number]), int(store.table["camera"].iloc[number])


def _picture(store: ImageStore, number: int, alt: str) -> str:
    height, width = store.pixels.shape[1:3]
    source = data_uri(store.pixels[number])
    return tag("img", src=source, alt=alt, width=str(width), height=str(height))
