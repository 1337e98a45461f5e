"""The page: a frame of HTML and CSS around sections in a reader's order."""

from pathlib import Path
from string import Template

from stages.report.figures.drawing import CSS, Drawing, size, svg
from stages.report.inputs import PUBLISHED, Run, mode_name
from stages.report.page import published, sections
from stages.report.page.markup import lines, paragraph, percent, ratio, tag, text

SOURCES = {"market1501": "Market-1501", "dukemtmc": "DukeMTMC-reID", "msmt17": "MSMT17"}
FOLDER_OF_IMAGES = "a folder of images"
HERE = Path(__file__).parent


def page(run: Run, drawings: dict[str, list[Drawing]]) -> str:
    """Return the report: a function of the run's files, the same bytes on every machine."""
    figures = {name: grid(name, drawn) for name, drawn in drawings.items()}
    contents = {
        "Results": sections.results(run, figures),
        "Comparisons": sections.compared(run, figures),
        "Ranked lists": sections.ranked_lists(run),
        "Label quality": sections.label_quality(run, figures),
        "Attention": sections.attention(figures),
        "Embeddings": sections.embeddings(figures),
        "Training": sections.training(figures),
        "Data": sections.data(run),
        "What was run": sections.what_was_run(run),
    }
    return document(title_of(run), lead(run), contents, published.warning(run))


def document(title: str, lead: str, contents: dict[str, str], warning: str = "") -> str:
    """Return a page of sections, by their titles; empty sections are left out."""
    links, body = [], []
    for heading, content in contents.items():
        if content:
            anchor = heading.lower().replace(" ", "-")
            links.append(tag("a", text(heading), href=f"#{anchor}"))
            body.append(tag("section", tag("h2", text(heading), id=anchor), content))
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(title),
        style=CSS.read_text(encoding="utf-8") + (HERE / "page.css").read_text(encoding="utf-8"),
        warning=paragraph(warning, class_="warning") if warning else "",
        lead=text(lead),
        links="".join(links),
        body=lines(body),
    )


def grid(name: str, drawings: list[Drawing]) -> str:
    """Return drawings beside each other, as many as fit; empty if there are none."""
    figures = []
    for number, drawing in enumerate(drawings):
        width, height = size(drawing)
        body = svg(drawing, f"{name}-{number}")
        box = f"0 0 {width} {height}"
        figure = tag("svg", body, viewBox=box, role="img", aria_label=drawing.words)
        note = tag("figcaption", text(drawing.note), class_="note") if drawing.note else ""
        figures.append(tag("figure", figure, note, class_="chart"))
    return tag("div", *figures, class_="charts") if figures else ""


def title_of(run: Run) -> str:
    """Return data set, setting and source in a line."""
    name = PUBLISHED.get(run.dataset, FOLDER_OF_IMAGES)
    if run.rendered:
        name += " (rendered stand-in)"
    elif run.dataset in PUBLISHED and not run.published:
        name = f"a tree like {name}'s"
    return ", ".join(filter(None, [name, run.setting, source_of(run)]))


def source_of(run: Run) -> str:
    """Return the labeled source in words; empty if the run needs none."""
    source = run.sections["spcl"].source
    if run.setting != "unsupervised" and run.sections["network"].start == "weights":
        return ""
    if source == "none":
        return "without a source"
    names = {**SOURCES, "folder": FOLDER_OF_IMAGES}
    rendered = " (rendered)" if run.source_rendered else ""
    return f"source {names.get(source, source)}{rendered}"


def lead(run: Run) -> str:
    """Return the result in a sentence for each mode."""
    sentences = []
    for mode in run.modes:
        full = run.evaluation[mode]["rank1"]
        alone = run.evaluation["pseudo_label"].get(mode, {}).get("rank1")
        sentence = (
            f"{mode_name(mode)}: the first result is right for {percent(full, 1)} % of the queries"
        )
        if alone is not None:
            sentence += f", for {percent(alone, 1)} % with the pseudo-label network"
        if alone:
            sentence += f" ({ratio(full, alone)} times as many)"
        sentences.append(sentence + ".")
    return " ".join(sentences)
