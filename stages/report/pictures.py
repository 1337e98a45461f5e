"""Images of the store as pictures of the page: ranked lists, and a look at the data."""

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from stages.parts.images.store import ImageStore
from stages.report.markup import lines, paragraph, tag, text

QUERIES = 4  # ranked lists a mode
HARDEST = 6  # lists of failures a mode
SHOWN = 10  # answers of a list
PERSONS = 6  # identities on the sheet of the target
CAMERAS = 4  # cameras of a modality on that sheet
SOURCE_IMAGES = 12
HEIGHT = 128  # pixels; larger images are made smaller
QUALITY = 82


def data_uri(pixels: np.ndarray) -> str:
    """An image (H, W, 3) uint8 as a JPEG inside a URI."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.height > HEIGHT:
        picture = picture.resize(
            (round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS
        )
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def rankings(store: ImageStore, ranking: pd.DataFrame) -> str:
    """Ranked lists of a few queries, spread evenly over the identities that are searched."""
    rows = np.sort(ranking["query"].unique())
    persons, first = np.unique(store.table["person"].to_numpy()[rows], return_index=True)
    return _strips(store, ranking, rows[first[spread(len(persons), QUERIES)]])


def hardest(store: ImageStore, ranking: pd.DataFrame) -> str:
    """Ranked lists of the worst failures, one an identity, folded up until somebody asks."""
    rows = hardest_queries(ranking)
    if not len(rows):
        return paragraph("Every first answer is right.", class_="note")
    _, first = np.unique(store.table["person"].to_numpy()[rows], return_index=True)
    shown = rows[np.sort(first)[:HARDEST]]
    what = f"{len(shown)} persons, from {len(rows):,} queries whose first answer is wrong"
    summary = f"Hardest failures first: {what}"
    return tag("details", tag("summary", text(summary)), _strips(store, ranking, shown))


def hardest_queries(ranking: pd.DataFrame) -> np.ndarray:
    """Queries (M,) whose first answer is wrong: the deeper the first right one, the harder.

    Those without a right answer in the list come before all; among equals the one that is surer of its first answer.
    """
    listed = ranking.sort_values(["query", "rank"])
    hard = listed.drop_duplicates("query").set_index("query", drop=False)
    right = listed.loc[listed["correct"] == 1].drop_duplicates("query").set_index("query")["rank"]
    hard = hard.assign(depth=right.reindex(hard.index).fillna(np.inf)).reset_index(drop=True)
    hard = hard.loc[hard["correct"] == 0]
    return hard.sort_values(["depth", "similarity", "query"], ascending=[False, False, True])[
        "query"
    ].to_numpy()


def _strips(store: ImageStore, ranking: pd.DataFrame, queries: np.ndarray) -> str:
    return lines(
        _strip(store, int(query), ranking.loc[ranking["query"] == query]) for query in queries
    )


def _strip(store: ImageStore, query: int, ranking: pd.DataFrame) -> str:
    """A query and the head of its list."""
    ranking = ranking.sort_values("rank")
    right = ranking.loc[ranking["correct"] == 1, "rank"]
    found = (
        f"first right at rank {right.iloc[0]}" if len(right) else f"none right in {len(ranking)}"
    )
    person, camera = _whose(store, query)
    heading = paragraph(f"Person {person}, camera {camera}: {found}", class_="found")
    picture = _picture(store, query, f"Query: person {person}, camera {camera}")
    asked = tag(
        "figure",
        picture,
        tag("figcaption", tag("b", "query"), f" {person} · c{camera}"),
        class_="query",
    )
    answers = [
        _answer(store, int(row.gallery), int(row.rank), bool(row.correct))
        for row in ranking.head(SHOWN).itertuples()
    ]
    return tag(
        "div",
        heading,
        tag("div", asked, tag("div", *answers, class_="answers"), class_="strip"),
        class_="list",
    )


def _answer(store: ImageStore, row: int, rank: int, correct: bool) -> str:
    person, camera = _whose(store, row)
    word, mark = ("right", "✓") if correct else ("wrong", "✗")
    picture = _picture(store, row, f"Rank {rank}, {word}: person {person}, camera {camera}")
    caption = tag("figcaption", tag("b", f"{mark} {rank}"), f" {person} · c{camera}")
    return tag("figure", picture, caption, class_=word)


def sheet(store: ImageStore) -> str:
    """Some training identities (rows) as each camera (columns) sees them; at most CAMERAS of a modality."""
    table = store.table.loc[store.table["split"].isin(("train", "val"))]
    cameras = [
        (modality, int(camera))
        for modality in ("visible", "infrared")
        for camera in sorted(table.loc[table["modality"] == modality, "camera"].unique())[:CAMERAS]
    ]
    first = table.drop_duplicates(["person", "modality", "camera"]).set_index(
        ["modality", "camera"]
    )
    seen = {key: first.loc[[key]].set_index("person")["row"] for key in cameras}
    views = pd.concat(list(seen.values())).groupby(level=0).size()
    most = views.index[views == views.max()].sort_values()
    chosen = most[spread(len(most), PERSONS)]
    body = []
    for person in chosen:
        cells = [
            tag(
                "td",
                _picture(
                    store, int(seen[key][person]), f"Person {person}, {key[0]} camera {key[1]}"
                ),
            )
            if person in seen[key].index
            else tag("td", "–")
            for key in cameras
        ]
        body.append(tag("tr", tag("th", str(person), scope="row"), *cells))
    heads = [
        tag("th", f"{modality} {camera}", scope="col", class_=modality)
        for modality, camera in cameras
    ]
    head = tag("tr", tag("th", "person", scope="col"), *heads)
    caption = tag(
        "caption",
        text(
            f"{len(chosen)} of {table['person'].nunique():,} training identities, one image of each camera"
        ),
    )
    return tag(
        "div",
        tag("table", caption, tag("thead", head), tag("tbody", *body), class_="sheet"),
        class_="table",
    )


def source_sheet(store: ImageStore) -> str:
    """An image each of some training identities of the source; nothing where there is no source."""
    table = (
        store.table.loc[store.table["split"] == "train"]
        .drop_duplicates("person")
        .sort_values("person")
    )
    chosen = table.iloc[spread(len(table), SOURCE_IMAGES)]
    cells = []
    for row in chosen["row"]:
        person, camera = _whose(store, int(row))
        picture = _picture(store, int(row), f"Source: person {person}, camera {camera}")
        cells.append(tag("figure", picture, tag("figcaption", f"{person} · c{camera}")))
    return tag("div", *cells, class_="row") if cells else ""


def spread(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` whole numbers (M,) below `count`, ascending, as evenly apart as they can be."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, wanted)).round().astype(np.int64))


def _whose(store: ImageStore, row: int) -> tuple[int, int]:
    return int(store.table["person"].iloc[row]), int(store.table["camera"].iloc[row])


def _picture(store: ImageStore, row: int, alt: str) -> str:
    height, width = store.pixels.shape[1:3]
    return tag(
        "img", src=data_uri(store.pixels[row]), alt=alt, width=str(width), height=str(height)
    )
