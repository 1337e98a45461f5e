"""Which charts the page shows, from the tables that the stages wrote."""

import numpy as np
import pandas as pd

from stages.report.figures import Chart, Series
from stages.report.inputs import Run
from stages.report.tables import mode_name

ALONE = "{} (pseudo labels only)"  # what the curves of the label network are called in cmc.csv
TERMS = {
    "Cross-entropy": {"ce_visible": ("visible", "visible"), "ce_infrared": ("infrared", "infrared")},
    "Triplet": {"triplet_visible": ("visible", "visible"), "triplet_infrared": ("infrared", "infrared")},
    "Modality discriminator (DEN)": {"discriminator": ("cross-entropy of visible against infrared", "full")},
    "Prediction alignment (PAL)": {"alignment": ("alignment", "full")},
}


def cmc(run: Run) -> list[Chart]:
    """Share of queries with a right answer among the first k, a chart a mode."""
    charts = []
    for mode in run.modes:
        lines = []
        for name, key, style in (
            ("full method", mode, "full"),
            ("pseudo-label network alone", ALONE.format(mode), "alone"),
        ):
            part = run.cmc.loc[run.cmc["mode"] == key]
            lines += _line(part, "rank", "cmc", name, style, factor=100)
        charts.append(Chart(f"{mode_name(mode)}: CMC, %", "rank", tuple(lines), 100, ticks=(1, 5, 10, 15, 20)))
    return _drawn(charts)


def losses(run: Run) -> list[Chart]:
    """Total and terms of cross-modal training, then the losses of the pseudo-label stage."""
    epochs = run.train_epochs
    charts = [_chart("Training: weighted sum of all terms", "epoch", _line(epochs, "epoch", "loss", "total", "total"))]
    for title, terms in TERMS.items():
        lines = [line for key, (name, style) in terms.items() for line in _line(epochs, "epoch", key, name, style)]
        charts.append(_chart(f"Training: {title[0].lower() + title[1:]}", "epoch", lines))
    labels = run.label_epochs
    lines = _line(labels, "epoch", "loss_target", "target", "visible")
    lines += _line(labels, "epoch", "loss_source", "source", "other")
    charts.append(_chart("Pseudo labels: contrastive loss", "epoch", lines, shaded=_warm_up(labels)))
    return _drawn(charts)


def visible_labels(run: Run) -> list[Chart]:
    """How the clusters of visible images compare with the true identities, epoch by epoch."""
    epochs = run.label_epochs.loc[run.label_epochs["phase"] == "spcl"]
    agreement = [
        line
        for key, name, style in (("ari", "ARI", "full"), ("nmi", "NMI", "other"), ("purity", "purity", "alone"))
        for line in _line(epochs, "epoch", key, name, style)
    ]
    persons = run.metrics["pseudo_label"].get("persons")
    level = ("true identities", float(persons)) if persons else None
    return _drawn(
        [
            _chart("Visible labels: agreement", "epoch", agreement, top=1),
            _chart(
                "Visible labels: clusters",
                "epoch",
                _line(epochs, "epoch", "clusters", "clusters", "visible"),
                level=level,
            ),
            _chart(
                "Visible images outside every cluster, %",
                "epoch",
                _line(epochs, "epoch", "unclustered_share", "outside", "visible", factor=100),
                top=100,
            ),
        ]
    )


def infrared_labels(run: Run) -> list[Chart]:
    """How many infrared labels point to the right person by epoch, and how many images each label has at the end."""
    epochs = run.train_epochs
    lines = _line(epochs, "epoch", "accuracy_transport", "optimal transport", "infrared", factor=100)
    lines += _line(epochs, "epoch", "accuracy_argmax", "argmax of the prediction", "other", factor=100)
    accuracy = _chart("Infrared labels: right, %", "epoch", lines, top=100)
    return [*_drawn([accuracy]), *_distribution(run)]


def _distribution(run: Run) -> list[Chart]:
    labels = run.infrared["label"].to_numpy()
    labels = labels[labels >= 0]
    if not len(labels):
        return []
    classes = max(int(run.metrics["train"].get("labels", 0)), int(labels.max()) + 1)
    counts = np.sort(np.bincount(labels, minlength=classes))[::-1].astype(float)
    empty = int((counts == 0).sum())
    bars = Series("images", np.arange(classes + 1.0), np.append(counts, counts[-1]), "infrared")
    mean = len(labels) / classes
    note = f"{classes} labels, {empty} without an image, the largest with {counts[0]:.0f}"
    level = (f"equal shares: {mean:.1f}", mean)
    return [Chart("Infrared images of each label", "label, largest first", (bars,), bars=True, level=level, note=note)]


def _line(table: pd.DataFrame, x: str, y: str, name: str, style: str, factor: float = 1) -> list[Series]:
    """The column `y` as a list of one line, or of none where it holds no number."""
    if y not in table.columns:
        return []
    values = pd.to_numeric(table[y]).to_numpy(dtype=float)
    if not np.isfinite(values).any():
        return []
    return [Series(name, table[x].to_numpy(dtype=float), factor * values, style)]


def _chart(
    title: str,
    x_label: str,
    lines: list[Series],
    top: float | None = None,
    level: tuple[str, float] | None = None,
    shaded: tuple[str, float, float] | None = None,
) -> Chart:
    return Chart(title, x_label, tuple(lines), top, level=level, shaded=shaded)


def _drawn(charts: list[Chart]) -> list[Chart]:
    """Those that have something to show."""
    return [chart for chart in charts if chart.series]


def _warm_up(epochs: pd.DataFrame) -> tuple[str, float, float] | None:
    """The epochs before the first clustering, where clustering follows."""
    warm = epochs.loc[epochs["phase"] == "warmup", "epoch"]
    if warm.empty or len(warm) == len(epochs):
        return None
    return ("before the first clustering", float(warm.min()), float(warm.max()) + 0.5)
