"""Which charts the page shows, from the tables that the stages wrote."""

import numpy as np
import pandas as pd

from stages.report.charts import Chart, Series
from stages.report.inputs import Run
from stages.report.tables import mode_name

LARGEST_FIRST = "label, largest first"
ALONE = "{} (pseudo labels only)"  # what the curves of the label network are called in cmc.csv
TERMS = {
    "Cross-entropy": {
        "ce_visible": ("visible", "visible"),
        "ce_infrared": ("infrared", "infrared"),
    },
    "Triplet": {
        "triplet_visible": ("visible", "visible"),
        "triplet_infrared": ("infrared", "infrared"),
    },
    "Modality discriminator (DEN)": {
        "discriminator": ("cross-entropy of visible against infrared", "full")
    },
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
        charts.append(
            Chart(f"{mode_name(mode)}: CMC, %", "rank", tuple(lines), 100, ticks=(1, 5, 10, 15, 20))
        )
    return _drawn(charts)


def losses(run: Run) -> list[Chart]:
    """Total and terms of cross-modal training, then the losses of the pseudo-label stage."""
    epochs = run.train_epochs
    charts = [
        _chart(
            "Training: weighted sum of all terms",
            "epoch",
            _line(epochs, "epoch", "loss", "total", "total"),
        )
    ]
    for title, terms in TERMS.items():
        lines = [
            line
            for key, (name, style) in terms.items()
            for line in _line(epochs, "epoch", key, name, style)
        ]
        charts.append(_chart(f"Training: {title[0].lower() + title[1:]}", "epoch", lines))
    labels = run.label_epochs
    lines = _line(labels, "epoch", "loss_target", "target", "visible")
    lines += _line(labels, "epoch", "loss_source", "source", "other")
    charts.append(
        _chart("Pseudo labels: contrastive loss", "epoch", lines, shaded=_warm_up(labels))
    )
    return _drawn(charts)


def visible_labels(run: Run) -> list[Chart]:
    """How the clusters of visible images compare with the true identities, epoch by epoch."""
    epochs = run.label_epochs.loc[run.label_epochs["phase"] == "spcl"]
    agreement = [
        line
        for key, name, style in (
            ("ari", "ARI", "full"),
            ("nmi", "NMI", "other"),
            ("purity", "purity", "alone"),
        )
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
    """How many infrared labels point to the right person, and how evenly they are given out, epoch by epoch."""
    epochs = run.train_epochs
    right = _line(
        epochs, "epoch", "accuracy_transport", "optimal transport", "transport", factor=100
    )
    right += _line(
        epochs, "epoch", "accuracy_argmax", "argmax of the prediction", "other", factor=100
    )
    even = _line(epochs, "epoch", "label_entropy", "entropy", "transport")
    largest = _line(epochs, "epoch", "label_max_share", "largest", "transport", factor=100)
    return _drawn(
        [
            _chart("Infrared labels: right, %", "epoch", right, top=100),
            _chart("Entropy of the label shares (1: all equal)", "epoch", even, top=1),
            _chart("Images with the largest label, %", "epoch", largest),
        ]
    )


def label_counts(run: Run) -> list[Chart]:
    """Images of each infrared label by transport and by argmax, in the first, the middle and the last epoch.

    Paper Fig. 4, bottom. Both of the same predictions, each with its largest label first. Where no stage counted, the
    labels of the last epoch alone.
    """
    if run.label_counts is None:
        return _last_labels(run)
    counts, drawn = run.label_counts, []
    epochs = np.unique(counts["epoch"].to_numpy())
    chosen = epochs[np.unique([0, (len(epochs) - 1) // 2, len(epochs) - 1])]
    top = float(
        np.nanmax(
            counts.loc[counts["epoch"].isin(chosen), ["transport", "argmax"]].to_numpy(dtype=float)
        )
    )
    for epoch in chosen:
        part = counts.loc[counts["epoch"] == epoch]
        steps, notes = [], []
        for key, name, style in (
            ("transport", "optimal transport", "transport"),
            ("argmax", "argmax of the prediction", "other"),
        ):
            images = part[key].dropna().to_numpy(dtype=float)
            if len(images):
                steps.append(_steps(images, name, style))
                notes.append(f"{key}: largest {images.max():.0f}, {np.sum(images == 0)} empty")
        level = _equal_shares(steps)
        note = f"{len(part)} labels; {'; '.join(notes)}"
        title = f"Epoch {epoch}: images of each label"
        drawn.append(
            Chart(title, LARGEST_FIRST, tuple(steps), 1.05 * top, bars=True, level=level, note=note)
        )
    return drawn


def _last_labels(run: Run) -> list[Chart]:
    labels = run.infrared["label"].to_numpy()
    labels = labels[labels >= 0]
    if not len(labels):
        return []
    classes = max(int(run.metrics["train"].get("labels", 0)), int(labels.max()) + 1)
    counts = np.bincount(labels, minlength=classes).astype(float)
    bars = _steps(counts, "images", "infrared")
    note = f"{classes} labels, {np.sum(counts == 0)} without an image, the largest with {counts.max():.0f}"
    title = "Infrared images of each label"
    return [Chart(title, LARGEST_FIRST, (bars,), bars=True, level=_equal_shares([bars]), note=note)]


def _steps(counts: np.ndarray, name: str, style: str) -> Series:
    """Counts (C,) as steps of width one, the largest first."""
    ordered = np.sort(counts)[::-1]
    return Series(name, np.arange(len(counts) + 1.0), np.append(ordered, ordered[-1]), style)


def _equal_shares(steps: list[Series]) -> tuple[str, float]:
    mean = float(steps[0].y[:-1].mean())
    return f"equal shares: {mean:.1f}", mean


def times(run: Run) -> list[Chart]:
    """Seconds of an epoch, and of transport in it, by powers of ten (paper Fig. 4, right)."""
    table = run.epoch_seconds
    whole = table.assign(epoch_seconds=table["train_seconds"] + table["assign_seconds"])
    lines = _line(whole, "epoch", "epoch_seconds", "whole epoch", "total")
    lines += _line(whole, "epoch", "assign_seconds", "prediction and labels", "other")
    if (table["transport_seconds"] > 0).any():
        lines += _line(whole, "epoch", "transport_seconds", "transport alone", "transport")
    return _drawn([Chart("Seconds an epoch, by powers of ten", "epoch", tuple(lines), log=True)])


def _line(
    table: pd.DataFrame, x: str, y: str, name: str, style: str, factor: float = 1
) -> list[Series]:
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
