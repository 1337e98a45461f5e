"""The page's sections: each a function to markup, empty if there is nothing to show.

`figures` are the drawings as markup, by name.
"""

from stages.report.inputs import Run, method_name, mode_name
from stages.report.page import comparisons, pictures, published, tables
from stages.report.page.markup import lines, note, percent, table, tag, text

Figures = dict[str, str]
TIMES = "../../logs/times.html"  # from metrics/report


def results(run: Run, figures: Figures) -> str:
    """Return tables by mode, the pseudo-label network among visible images, CMC curves."""
    notes = [
        "Full method: the network after cross-modal training. Pseudo-label network: that of the "
        "stage before, which has seen no infrared image; same protocol. "
        f"Checkpoint: {run.protocol['checkpoint']}; no choice by test images."
    ]
    visible = run.evaluation["pseudo_label"].get("visible")
    if visible:
        notes.append(
            "Within visible images (query and gallery visible, other cameras) the pseudo-label "
            f"network reaches Rank-1 {percent(visible['rank1'])} % "
            f"and mAP {percent(visible['map'])} %."
        )
    if run.rendered:
        notes.append("No published number stands beside these: the images are synthetic.")
    remark = published.remark(run)
    if remark:
        notes.append(remark)
    side = tag("div", *map(table, tables.results(run)), class_="side")
    return lines([side, *map(note, notes), tag("h3", "CMC curves"), figures["cmc"]])


def compared(run: Run, figures: Figures) -> str:
    """Return the comparisons of the experiments."""
    if not run.comparisons:
        return ""
    parts = [note("Each row is a training of its own for every seed, from images to result.")]
    for plan, content in run.comparisons.items():
        parts.append(comparisons.comparison(content, figures[f"comparison_{plan}"]))
    return lines(parts)


def ranked_lists(run: Run) -> str:
    """Return some queries with their first ten results."""
    about = (
        "Queries are spread evenly over the identities, not chosen by success. A solid frame and "
        "✓: the right person; a dashed frame and ✗: another person. Below each image: rank, "
        "person, camera. Full method, first gallery draw."
    )
    parts = [note(about)]
    for mode, ranking in run.rankings.items():
        parts += [tag("h3", text(mode_name(mode))), pictures.rankings(run.target, ranking)]
        parts.append(pictures.hardest(run.target, ranking))
    return lines(parts)


def label_quality(run: Run, figures: Figures) -> str:
    """Return labels against true identities, which serve these figures only."""
    about = "True identities of the training images serve these figures only, no training step."
    if run.setting != "unsupervised":
        modalities = "visible and infrared" if run.setting == "supervised" else "visible"
        about = (
            f"Setting {run.setting}: training used the true {modalities} labels; "
            "what is shown was not its input."
        )
    visible = figures["visible_labels"] or note("Visible labels: no clustering was run.")
    parts = [note(about), tag("h3", "Visible"), visible]
    parts += [tag("h3", "Infrared"), figures["infrared_labels"]]
    if figures["infrared_clusters"]:
        parts += [tag("h3", "Infrared clusters"), figures["infrared_clusters"]]
    if figures["label_counts"]:
        parts.append(tag("h3", "Images of each infrared label"))
        if run.label_counts is not None:
            methods = " and of ".join([method_name(run.assignment)] * run.assigns + ["argmax"])
            parts.append(note(f"Labels of {methods}, from the same predictions, largest first."))
        parts.append(figures["label_counts"])
    return lines(parts)


def attention(figures: Figures) -> str:
    """Return who is who in a batch, and what prediction alignment attends to."""
    about = (
        "A random batch through the network of the last epoch; images of a label are together. "
        "Rows are queries, columns are keys. Left, filled: the two images show the same person; "
        "a gap in a block on the diagonal is a wrong label. Right: the attention that rebuilds "
        "predictions; a row sums to 1."
    )
    return lines([note(about), figures["attention"]]) if figures["attention"] else ""


def embeddings(figures: Figures) -> str:
    """Return the test images in the plane."""
    about = (
        "Test images only, full method. Where circles and triangles of a color lie together, the "
        "person is found across modalities. Distances between far groups mean little."
    )
    return lines([note(about), figures["embeddings"]]) if figures["embeddings"] else ""


def training(figures: Figures) -> str:
    """Return losses by epoch."""
    return lines([tag("h3", "Losses"), figures["losses"]])


def data(run: Run) -> str:
    """Return a look at target and source, and how much there is of them."""
    none = note("No source: the visible labels start from the target's own images.")
    source = pictures.source_sheet(run.source) or none
    left = lines([tag("h3", "Target"), pictures.sheet(run.target)])
    right = lines([tag("h3", "Source"), source, tag("h3", "Counts"), table(tables.counts(run))])
    return tag("div", tag("div", left), tag("div", right), class_="halves")


def what_was_run(run: Run) -> str:
    """Return protocol, every parameter in effect, and where the run times are."""
    parameters = map(table, tables.parameters(run))
    elsewhere = text(
        "Run times, the time of the assignment (paper Fig. 4) and versions of packages are not on "
        "this page, because they differ between machines. Where the run was made, they are in "
    )
    link = tag("a", text("logs/times.html"), href=TIMES)
    times = tag("p", elsewhere, link, ".")
    return lines(
        [
            tag("div", table(tables.protocol(run)), times, class_="columns facts"),
            tag("h3", "Parameters in effect"),
            tag("div", *parameters, class_="columns"),
        ]
    )
