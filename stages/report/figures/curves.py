"""Charts of one run, from the tables that the stages wrote."""

import numpy as np
import pandas as pd

from stages.report.figures.chart import (
    ALONE,
    ASSIGNED,
    FULL,
    INFRARED,
    OTHER,
    TOTAL,
    VISIBLE,
    Chart,
    Series,
    Style,
)
from stages.report.inputs import Run, method_name, mode_name
from stages.report.times import Times

LARGEST_FIRST = "label, largest first"
BY_ARGMAX = method_name("argmax")
ALONE_IN_CMC = "{} (pseudo labels only)"  # the pseudo-label network's curves in cmc.csv
# Loss terms that share a chart or have a longer name: column → name of the line, and style.
TERMS = {
    "cross-entropy": {
        "ce_visible": ("visible", VISIBLE),
        "ce_infrared": ("infrared", INFRARED),
    },
    "triplet": {
        "triplet_visible": ("visible", VISIBLE),
        "triplet_infrared": ("infrared", INFRARED),
    },
    "modality discriminator (DEN)": {"discriminator": ("visible against infrared", FULL)},
    "prediction alignment (PAL)": {"alignment": ("alignment", FULL)},
    "prototypes": {
        "own": ("own modality", OTHER),
        "unified": ("both modalities", FULL),
        "distillation": ("self-distillation", TOTAL),
    },
}
# Cosines of prototypes: column → name of the line, and style.
COSINES = {
    "similarity_associated": ("cluster and its label", TOTAL),
    "similarity_same": ("same person, across modalities", FULL),
    "similarity_across": ("other persons, across modalities", OTHER),
    "similarity_visible": ("other persons, visible", VISIBLE),
    "similarity_infrared": ("other persons, infrared", INFRARED),
}


def cmc(run: Run) -> list[Chart]:
    """Return a chart for each mode: queries with a right image among the first k results."""
    charts = []
    for mode in run.modes:
        lines = []
        for name, key, style in (
            ("full method", mode, FULL),
            ("pseudo-label network", ALONE_IN_CMC.format(mode), ALONE),
        ):
            part = run.cmc.loc[run.cmc["mode"] == key].set_index("rank")
            lines += _line(part, "cmc", name, style, factor=100)
        title = f"{mode_name(mode)}: CMC, %"
        charts.append(Chart(title, "rank", lines, top=100, ticks=(1, 5, 10, 15, 20)))
    return _not_empty(charts)


def losses(run: Run) -> list[Chart]:
    """Return charts of the losses: cross-modal training, then the pseudo-label stage.

    The terms are the columns between `loss` and `learning_rate`. A term that is not in TERMS has a
    chart of its own under its column's name.
    """
    epochs = run.train_epochs.set_index("epoch")
    total = _line(epochs, "loss", "total", TOTAL)
    charts = [Chart("Training: weighted sum of all terms", "epoch", total)]
    columns = list(epochs.columns)
    terms = columns[columns.index("loss") + 1 : columns.index("learning_rate")]
    named = {column for group in TERMS.values() for column in group}
    others = {column: {column: (column, FULL)} for column in terms if column not in named}
    for title, group in (TERMS | others).items():
        lines = []
        for column, (name, style) in group.items():
            lines += _line(epochs, column, name, style)
        charts.append(Chart(f"Training: {title}", "epoch", lines))
    labels = run.label_epochs.set_index("epoch")
    lines = _line(labels, "loss_target", "target", VISIBLE)
    lines += _line(labels, "loss_source", "source", OTHER)
    shaded = _warm_up(run.label_epochs)
    charts.append(Chart("Pseudo labels: contrastive loss", "epoch", lines, shaded=shaded))
    return _not_empty(charts)


def visible_labels(run: Run) -> list[Chart]:
    """Return charts that compare the clusters of visible images with the true identities."""
    is_clustered = run.label_epochs["phase"] == "spcl"
    epochs = run.label_epochs.loc[is_clustered].set_index("epoch")
    agreement = _line(epochs, "ari", "ARI", FULL)
    agreement += _line(epochs, "nmi", "NMI", OTHER)
    agreement += _line(epochs, "purity", "purity", ALONE)
    clusters = _line(epochs, "clusters", "clusters", VISIBLE)
    outside = _line(epochs, "unclustered_share", "outside", VISIBLE, factor=100)
    persons = run.metrics["pseudo_label"].get("persons")
    level = ("true identities", float(persons)) if persons else None
    return _not_empty(
        [
            Chart("Visible labels: agreement", "epoch", agreement, top=1),
            Chart("Visible labels: clusters", "epoch", clusters, level=level),
            Chart("Visible images outside every cluster, %", "epoch", outside, top=100),
        ]
    )


def infrared_labels(run: Run) -> list[Chart]:
    """Return charts of the infrared labels: share of right ones, and how evenly they are used."""
    epochs = run.train_epochs.set_index("epoch")
    right = []
    if run.assigns:
        right += _line(epochs, "accuracy", method_name(run.assignment), ASSIGNED, factor=100)
    right += _line(epochs, "accuracy_argmax", BY_ARGMAX, OTHER, factor=100)
    even = _line(epochs, "label_entropy", "entropy", ASSIGNED)
    largest = _line(epochs, "label_max_share", "largest", ASSIGNED, factor=100)
    return _not_empty(
        [
            Chart("Infrared labels: right, %", "epoch", right, top=100),
            Chart("Entropy of the label shares (1: all equal)", "epoch", even, top=1),
            Chart("Images with the largest label, %", "epoch", largest),
        ]
    )


def infrared_clusters(run: Run) -> list[Chart]:
    """Return charts of infrared clusters and, of prototypes, which labels they have got.

    There are none for a run without such clusters.
    """
    epochs = run.train_epochs.set_index("epoch")
    clusters = _line(epochs, "infrared_clusters", "clusters", INFRARED)
    agreement = _line(epochs, "infrared_ari", "ARI", INFRARED)
    labels = _line(epochs, "matched_share", "images whose cluster has a label", OTHER, factor=100)
    labels += _line(epochs, "associations_right", "labels of the right person", FULL, factor=100)
    cosines = []
    for column, (name, style) in COSINES.items():
        cosines += _line(epochs, column, name, style)
    return _not_empty(
        [
            Chart("Infrared clusters", "epoch", clusters),
            Chart("Infrared clusters: agreement (ARI)", "epoch", agreement, top=1),
            Chart("Infrared clusters with a visible label, %", "epoch", labels, top=100),
            Chart("Prototypes: mean cosine", "epoch", cosines, top=1),
        ]
    )


def label_counts(run: Run) -> list[Chart]:
    """Return the images of each infrared label in the first, the middle and the last epoch.

    Paper Fig. 4, bottom: by the assignment method and by argmax of the same predictions, each with
    its largest label first. Without counts by epoch: the labels of the last epoch.
    """
    if run.label_counts is None:
        return _last_labels(run)
    epochs = np.unique(run.label_counts["epoch"].to_numpy())
    shown = epochs[np.unique([0, (len(epochs) - 1) // 2, len(epochs) - 1])]
    counts = run.label_counts.loc[run.label_counts["epoch"].isin(shown)]
    methods = {"argmax": (BY_ARGMAX, OTHER)}
    if run.assigns:
        methods = {"assigned": (method_name(run.assignment), ASSIGNED)} | methods
    top = 1.05 * float(np.nanmax(counts[[*methods]].to_numpy(dtype=float)))
    charts = []
    for epoch, part in counts.groupby("epoch"):
        steps, notes = [], []
        for column, (name, style) in methods.items():
            images = part[column].dropna().to_numpy(dtype=float)
            if len(images):
                steps.append(_steps(images, name, style))
                empty = np.sum(images == 0)
                notes.append(f"{name}: largest {images.max():.0f}, {empty} empty")
        title = f"Epoch {epoch}: images of each label"
        note = f"{len(part)} labels; {'; '.join(notes)}"
        level = _equal_shares(steps[0])
        charts.append(Chart(title, LARGEST_FIRST, steps, top, True, level=level, note=note))
    return charts


def _last_labels(run: Run) -> list[Chart]:
    labels = run.infrared["label"].to_numpy()
    labels = labels[labels >= 0]
    if not len(labels):
        return []
    classes = max(int(run.metrics["train"].get("labels", 0)), int(labels.max()) + 1)
    counts = np.bincount(labels, minlength=classes).astype(float)
    bars = _steps(counts, "images", ASSIGNED)
    empty = np.sum(counts == 0)
    note = f"{classes} labels, {empty} without an image, the largest with {counts.max():.0f}"
    title, level = "Infrared images of each label", _equal_shares(bars)
    return [Chart(title, LARGEST_FIRST, [bars], bars=True, level=level, note=note)]


def _steps(counts: np.ndarray, name: str, style: Style) -> Series:
    """Return counts (C,) as steps of width one, the largest first."""
    ordered = np.sort(counts)[::-1]
    return Series(name, np.arange(len(counts) + 1.0), np.append(ordered, ordered[-1]), style)


def _equal_shares(steps: Series) -> tuple[str, float]:
    mean = float(steps.y[:-1].mean())
    return f"equal shares: {mean:.1f}", mean


def times(run: Run, times: Times) -> list[Chart]:
    """Return seconds of an epoch and of the assignment in it, by powers of ten (paper Fig. 4)."""
    table = times.epochs.set_index("epoch")
    table["whole"] = table["train_seconds"] + table["label_seconds"]
    lines = _line(table, "whole", "whole epoch", TOTAL)
    lines += _line(table, "label_seconds", "prediction and assignment", OTHER)
    if (table["assignment_seconds"] > 0).any():
        name = f"{method_name(run.assignment)} alone"
        lines += _line(table, "assignment_seconds", name, ASSIGNED)
    return _not_empty([Chart("Seconds an epoch, by powers of ten", "epoch", lines, log=True)])


def _line(
    table: pd.DataFrame, column: str, name: str, style: Style, factor: float = 1
) -> list[Series]:
    """Return a column over the table's index as a list of one line; of none without numbers."""
    if column not in table.columns:
        return []
    values = pd.to_numeric(table[column]).to_numpy(dtype=float)
    if not np.isfinite(values).any():
        return []
    return [Series(name, table.index.to_numpy(dtype=float), factor * values, style)]


def _not_empty(charts: list[Chart]) -> list[Chart]:
    return [chart for chart in charts if chart.series]


def _warm_up(epochs: pd.DataFrame) -> tuple[str, float, float] | None:
    """Return the epochs before the first clustering, if clustering follows."""
    warm = epochs.loc[epochs["phase"] == "warmup", "epoch"]
    if warm.empty or len(warm) == len(epochs):
        return None
    return ("before the first clustering", float(warm.min()), float(warm.max()) + 0.5)
