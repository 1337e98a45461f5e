"""The page's sections: each a function from the run to markup, empty where there is nothing to show."""

from stages.report import comparisons, curves, embedding, matrices, pictures, published, tables
from stages.report.embedding import Points
from stages.report.figures import grid
from stages.report.inputs import Run
from stages.report.markup import lines, paragraph, table, tag, text


def results(run: Run) -> str:
    """Tables by mode, what the pseudo-label network does among visible images, and the CMC curves."""
    notes = [
        "Full method: the network after cross-modal training. Pseudo-label network alone: that of the stage before, "
        f"which has seen no infrared image; judged by the same protocol. Checkpoint: {run.protocol['checkpoint']}; "
        "no choice by test images."
    ]
    visible = run.evaluation["pseudo_label"].get("visible")
    if visible:
        notes.append(
            "Within visible images (query and gallery visible, other cameras) the pseudo-label network reaches "
            f"Rank-1 {tables.percent(visible['rank1'])} % and mAP {tables.percent(visible['map'])} %."
        )
    notes += [said] if (said := published.note(run)) else []
    if run.rendered:
        notes.append(
            "No published number stands beside these: the pictures are synthetic, so they do not compare."
        )
    return lines(
        [
            tag("div", *[table(content) for content in tables.results(run)], class_="side"),
            *[paragraph(note, class_="note") for note in notes],
            tag("h3", "CMC curves"),
            grid(curves.cmc(run), "cmc"),
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
        parts.append(pictures.hardest(run.target, ranking))
    return lines(parts)


def label_quality(run: Run) -> str:
    """Labels against true identities, which serve these figures only."""
    visible = grid(curves.visible_labels(run), "visible")
    if run.setting != "unsupervised":
        truth = "visible and infrared" if run.setting == "supervised" else "visible"
        said = f"Setting {run.setting}: training used the true {truth} labels; what is shown was not its input."
    else:
        said = "True identities of the training images serve these figures only; no training step sees them."
    if not curves.visible_labels(run):
        visible = paragraph("Visible labels: no clustering was run.", class_="note")
    return lines(
        [
            *(paragraph(said, class_="note"), tag("h3", "Visible"), visible),
            *(tag("h3", "Infrared"), grid(curves.infrared_labels(run), "infrared")),
            label_counts(run),
        ]
    )


def label_counts(run: Run) -> str:
    """How evenly the infrared labels are given out."""
    said = "What transport and what argmax make of the same predictions; each with its largest label first."
    drawn = curves.label_counts(run)
    if not drawn:
        return ""
    both = paragraph(said, class_="note") if run.label_counts is not None else ""
    return lines([tag("h3", "Images of each infrared label"), both, grid(drawn, "counts")])


def attention(run: Run) -> str:
    """Who is who in a batch, and what prediction alignment attends to."""
    drawn = matrices.attention(run)
    said = (
        "A random batch through the network of the last epoch, in the batch's order: images of a label are "
        "together. Rows are queries, columns are keys. Left, filled: the two images show the same person; a gap in a "
        "block on the diagonal is a wrong label. Right: the attention that rebuilds predictions; a row sums to 1."
    )
    return lines([paragraph(said, class_="note"), matrices.figures(drawn)]) if drawn else ""


def embeddings(points: Points | None) -> str:
    """The test images in the plane."""
    said = (
        "Test images only, full method. Where circles and triangles of a color lie together, the person is found "
        "across modalities. Distances between far groups mean little in this kind of picture."
    )
    return lines([paragraph(said, class_="note"), embedding.figure(points)]) if points else ""


def compared(run: Run) -> str:
    """The comparisons of the experiments, where there are any."""
    said = comparisons.sections(run)
    about = "Each row is a training of its own for every seed, from the pictures to the result."
    return lines([paragraph(about, class_="note"), said]) if said else ""


def training(run: Run) -> str:
    """Losses by epoch, and what share of the time transport takes."""
    timed = curves.times(run)
    parts = [tag("h3", "Losses"), grid(curves.losses(run), "loss")]
    if timed:
        parts += [
            tag("h3", "Time of transport"),
            paragraph(time_of_transport(run)),
            grid(timed, "time"),
        ]
    return lines(parts)


def time_of_transport(run: Run) -> str:
    """Mean seconds of transport and of an epoch, the paper's beside them where the data are the same."""
    table = run.epoch_seconds
    whole = float((table["train_seconds"] + table["assign_seconds"]).mean())
    own = float(table["transport_seconds"].astype(float).mean())
    if not own > 0:
        return f"An epoch takes {whole:.1f} s; no transport was timed."
    said = f"Transport takes {own:.3g} s of the {whole:.1f} s of an epoch on average: {100 * own / whole:.2g} %."
    paper = published.transport(run)
    return said + (f" Paper: {paper[0]} s, {paper[1]} % (TITAN RTX)." if paper else "")


def data(run: Run) -> str:
    """A look at target and source, and how much there is of them."""
    source = pictures.source_sheet(run.source)
    below = source or paragraph(
        "No source: the visible labels start from the target's own images.", class_="note"
    )
    left = lines([tag("h3", "Target"), pictures.sheet(run.target)])
    right = lines([tag("h3", "Source"), below, tag("h3", "Counts"), table(tables.counts(run))])
    return tag("div", tag("div", left), tag("div", right), class_="halves")


def what_was_run(run: Run) -> str:
    """Protocol, times, versions, and every parameter in effect."""
    return lines(
        [
            tag(
                "div",
                *map(table, (tables.protocol(run), tables.times(run), tables.versions())),
                class_="columns facts",
            ),
            tag("h3", "Parameters in effect"),
            tag("div", *map(table, tables.parameters(run)), class_="columns"),
        ]
    )
