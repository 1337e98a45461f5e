"""The page: a frame of HTML and CSS, which lie beside this file, around sections in a reader's order."""

from pathlib import Path
from string import Template

from stages.report import published, sections, tables
from stages.report.embedding import Points
from stages.report.inputs import Run
from stages.report.markup import lines, paragraph, tag, text

SOURCES = {"market1501": "Market-1501", "dukemtmc": "DukeMTMC-reID", "msmt17": "MSMT17"}
HERE = Path(__file__).parent


def page(run: Run, points: Points | None = None) -> str:
    """The whole document; `points` are the embeddings laid out, where there are any. Empty sections are left out."""
    content = {
        "Results": sections.results(run),
        "Comparisons": sections.compared(run),
        "Ranked lists": sections.ranked_lists(run),
        "Label quality": sections.label_quality(run),
        "Attention": sections.attention(run),
        "Embeddings": sections.embeddings(points),
        "Training": sections.training(run),
        "Data": sections.data(run),
        "What was run": sections.what_was_run(run),
    }
    anchors = {
        title: title.lower().replace(" ", "-") for title, inside in content.items() if inside
    }
    body = lines(
        tag("section", tag("h2", text(title), id=anchor), content[title])
        for title, anchor in anchors.items()
    )
    links = "".join(tag("a", text(title), href=f"#{anchor}") for title, anchor in anchors.items())
    warning = published.warning(run)
    return Template((HERE / "page.html").read_text()).substitute(
        title=text(title_of(run)),
        style=(HERE / "page.css").read_text(),
        warning=paragraph(warning, class_="warning") if warning else "",
        lead=text(lead(run)),
        links=links,
        body=body,
    )


def title_of(run: Run) -> str:
    """Data set, setting and source in a line."""
    layout = run.sections["data"].layout
    name = published.DATASETS.get(layout, "a folder of pictures")
    if run.rendered:
        name += " (rendered stand-in)"
    elif run.dataset != layout:
        name = f"a tree like {name}'s"
    return ", ".join(filter(None, [name, run.setting, source_of(run)]))


def source_of(run: Run) -> str:
    """Where the visible labels or the first weights come from, in words; empty where they need no source."""
    source = run.sections["spcl"].source
    if run.setting != "unsupervised" and run.sections["network"].start == "weights":
        return ""
    if source == "none":
        return "without a source"
    return f"source {SOURCES.get(source, 'a folder of pictures')}{' (rendered)' if run.source_rendered else ''}"


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
