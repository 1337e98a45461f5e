"""The page: sections in the order of a reader's questions, in a frame of HTML and CSS that lie beside this file."""

from pathlib import Path
from string import Template

from stages.report import curves, pictures, tables
from stages.report.figures import Chart, figure
from stages.report.inputs import Run
from stages.report.markup import lines, paragraph, table, tag, text

HERE = Path(__file__).parent
RENDERED = "Rendered data, not comparable with published numbers."


def page(run: Run) -> str:
    """The whole document."""
    sections = {
        "Results": results(run),
        "Ranked lists": ranked_lists(run),
        "Label quality": label_quality(run),
        "Losses": charts(curves.losses(run), "loss"),
        "Data": data(run),
        "What was run": what_was_run(run),
    }
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    body = lines(
        tag("section", tag("h2", text(title), id=anchors[title]), content) for title, content in sections.items()
    )
    links = "".join(tag("a", text(title), href=f"#{anchor}") for title, anchor in anchors.items())
    return Template((HERE / "page.html").read_text()).substitute(
        title=text(title_of(run)),
        style=(HERE / "page.css").read_text(),
        warning=paragraph(RENDERED, class_="warning") if run.rendered else "",
        lead=text(lead(run)),
        links=links,
        body=body,
    )


def title_of(run: Run) -> str:
    """Data set, setting and source in a line."""
    layout = run.sections["data"].layout
    stand_in = " (rendered stand-in)" if run.rendered else ""
    return ", ".join(filter(None, [tables.DATASETS.get(layout, layout) + stand_in, run.setting, source_of(run)]))


def source_of(run: Run) -> str:
    """Where the visible labels or the first weights come from, in words; empty where they need no source."""
    source = run.sections["spcl"].source
    if run.setting != "unsupervised" and run.sections["network"].start == "weights":
        return ""
    if source == "none":
        return "without a source"
    return f"source {tables.SOURCES.get(source, source)}{' (rendered)' if run.rendered else ''}"


def lead(run: Run) -> str:
    """The result in a sentence a mode."""
    sentences = []
    for mode in run.modes:
        full = run.evaluation[mode]["rank1"]
        alone = run.evaluation["pseudo_label"].get(mode, {}).get("rank1")
        sentence = f"{tables.mode_name(mode)}: the first answer is right for {tables.percent(full, 1)} % of the queries"
        if alone is not None:
            sentence += f", {tables.percent(alone, 1)} % with the pseudo-label network alone"
        if alone:
            sentence += f" ({tables.ratio(full, alone)} times as many)"
        sentences.append(sentence + ".")
    return " ".join(sentences)


def charts(drawn: list[Chart], name: str) -> str:
    """A grid of small diagrams; `name` makes their ids differ from those of other grids."""
    return tag("div", *[figure(chart, f"{name}-{number}") for number, chart in enumerate(drawn)], class_="charts")


def results(run: Run) -> str:
    """Tables by mode, what the pseudo-label network does among visible images, and the CMC curves."""
    notes = [
        "Full method: the network after cross-modal training. Pseudo-label network alone: that of the stage before, "
        "which has seen no infrared image; judged by the same protocol. Both as they are after the last epoch; "
        "no choice by test images."
    ]
    visible = run.evaluation["pseudo_label"].get("visible")
    if visible:
        notes.append(
            "Within visible images (query and gallery visible, other cameras) the pseudo-label network reaches "
            f"Rank-1 {tables.percent(visible['rank1'])} % and mAP {tables.percent(visible['map'])} %."
        )
    if any(tables.published(run, mode) for mode in run.modes):
        notes.append("Paper: OTLA (ECCV 2022), ResNet-50; on RegDB the mean of ten trainings, one a split.")
    return lines(
        [
            tag("div", *[table(content) for content in tables.results(run)], class_="side"),
            *[paragraph(note, class_="note") for note in notes],
            tag("h3", "CMC curves"),
            charts(curves.cmc(run), "cmc"),
        ]
    )


def ranked_lists(run: Run) -> str:
    """Some queries with their first ten answers."""
    parts = [
        paragraph(
            "Queries are spread evenly over the identities, not chosen by success. A solid frame and ✓: the right "
            "person; a dashed frame and ✗: somebody else. Below each picture: rank, person, camera. "
            "Full method, first gallery draw.",
            class_="note",
        )
    ]
    for mode, ranking in run.rankings.items():
        parts += [tag("h3", text(tables.mode_name(mode))), pictures.rankings(run.target, ranking)]
    return lines(parts)


def label_quality(run: Run) -> str:
    """Labels against true identities, which serve these figures only."""
    visible = charts(curves.visible_labels(run), "visible")
    if run.setting != "unsupervised":
        truth = "visible and infrared" if run.setting == "supervised" else "visible"
        said = f"Setting {run.setting}: training used the true {truth} labels; what is shown was not its input."
    else:
        said = "True identities serve these figures only; no training step and no choice sees them."
    if not curves.visible_labels(run):
        visible = paragraph("Visible labels: no clustering was run.", class_="note")
    infrared = charts(curves.infrared_labels(run), "infrared")
    return lines([paragraph(said, class_="note"), tag("h3", "Visible"), visible, tag("h3", "Infrared"), infrared])


def data(run: Run) -> str:
    """A look at target and source, and how much there is of them."""
    source = pictures.source_sheet(run.source)
    below = source or paragraph("No source: the visible labels start from the target's own images.", class_="note")
    left = lines([tag("h3", "Target"), pictures.sheet(run.target)])
    right = lines([tag("h3", "Source"), below, tag("h3", "Counts"), table(tables.counts(run))])
    return tag("div", tag("div", left), tag("div", right), class_="halves")


def what_was_run(run: Run) -> str:
    """Protocol, times, versions, and every parameter in effect."""
    return lines(
        [
            tag(
                "div", *map(table, (tables.protocol(run), tables.times(run), tables.versions())), class_="columns facts"
            ),
            tag("h3", "Parameters in effect"),
            tag("div", *map(table, tables.parameters(run)), class_="columns"),
        ]
    )
