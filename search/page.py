"""Ranked lists as one HTML page with the pictures in it. It loads nothing from anywhere."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from search.embedding import File, read
from search.model import Model
from search.show import NONE, Answer, shown_path
from stages import report
from stages.parts.run.files import write_text
from stages.prepare.decode import read_image
from stages.prepare.disk import escaped
from stages.report.page.markup import lines, tag, text

HEIGHT = 160  # pixels of a picture on the page
QUALITY = 82  # of JPEG
REPORT = Path(str(report.__file__)).parent
STYLES = (REPORT / "colors.css", REPORT / "page/page.css", Path(__file__).parent / "page.css")


def write_page(
    path: Path, answers: Sequence[Answer], model: Model, count: int, searched: str
) -> None:
    """Write the page, whole or not at all.

    Pictures are shown in the proportions of the network's input. One that has gone since it was
    indexed is a gray one.

    Args:
        path: of the page.
        answers: the ranked lists.
        model: gives the proportions.
        count: the number of pictures in the index.
        searched: what the filters were, in words; empty without any.
    """
    width = max(1, round(HEIGHT * model.width / model.height))
    sections = [_section(answer, width) for answer in answers]
    number = len(answers)
    queries = "1 query" if number == 1 else f"{number:,} queries"
    lead = (
        f"{queries} among {count:,} pictures{searched}. The first picture of a list is the query."
    )
    page = Template((REPORT / "page/page.html").read_text(encoding="utf-8")).substitute(
        title="Search results",
        style="".join(each.read_text(encoding="utf-8") for each in STYLES),
        warning="",
        lead=text(lead),
        links="",
        body=lines(sections),
    )
    write_text(path, page)


def _section(answer: Answer, width: int) -> str:
    """Return a query beside its results."""
    picture = _picture(_read_query(Path(answer.query), width), "Query", width)
    asked = tag("figure", picture, tag("figcaption", tag("b", "query")), class_="query")
    results = []
    for each in answer.results:
        facts = each.picture.facts
        path = escaped(shown_path(each))
        file = File(each.folder, each.picture.path, facts.infrared)
        words = f"Rank {each.rank}, similarity {each.similarity:.3f}: {path}"
        picture = _picture(_read_result(file, width), words, width)
        known = f"camera {facts.camera or NONE}"
        if facts.time:
            known += f", {facts.time}"
        rank = tag("b", text(f"{each.rank} · {each.similarity:.3f}"))
        name = tag("span", text(each.picture.path), class_="path")
        caption = tag("figcaption", rank, text(known), name)
        results.append(tag("figure", picture, caption))
    strip = tag("div", asked, tag("div", *results, class_="answers"), class_="strip")
    return tag("section", tag("h2", text(escaped(answer.query))), strip)


def _read_query(path: Path, width: int) -> np.ndarray:
    return read_image(path, HEIGHT, width, upright=True).pixels


def _read_result(file: File, width: int) -> np.ndarray | None:
    try:
        return read(file, HEIGHT, width).pixels
    except ValueError:  # it has gone, or was changed, since it was indexed
        return None


def _picture(pixels: np.ndarray | None, words: str, width: int) -> str:
    """Return an `<img>` with the picture (H, W, 3) inside; a gray one for None."""
    if pixels is None:
        words = f"{words} (cannot be read any more)"
        pixels = np.full((HEIGHT, width, 3), 128, np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=QUALITY, optimize=True)
    source = "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
    return tag("img", src=source, alt=words, width=str(width), height=str(HEIGHT))
