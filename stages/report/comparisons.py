"""What the experiments found: a table a comparison, with every seed drawn, and the labels' quality by epoch."""

import math
from typing import Any

import numpy as np

from stages.report.charts import NUMBERED, Chart, Series
from stages.report.figures import grid
from stages.report.inputs import COMPARISONS, Run
from stages.report.markup import lines, paragraph, tag, text
from stages.report.tables import NONE, duration, mode_name, percent

SCORES = {"rank1": "Rank-1", "map": "mAP"}
OTHERS = {"infrared.accuracy": "Infrared labels right", "visible.ari": "Visible labels, ARI"}
# Charts by epoch: title, columns of which the first that a row has is drawn, factor, top (paper Fig. 4).
CURVES: tuple[tuple[str, tuple[str, ...], float, float | None], ...] = (
    ("Infrared labels: right, %", ("accuracy_transport", "accuracy_argmax"), 100, None),
    ("Entropy of the label shares (1: all equal)", ("label_entropy",), 1, 1),
)
DOTS = (110, 16)  # units of the drawing of the seeds


def sections(run: Run) -> str:
    """Every comparison, by the name of its file; empty where there is none.

    Raises ValueError that names the file which is not what the experiments write.
    """
    parts = []
    for plan, comparison in run.comparisons.items():
        try:
            parts += _section(plan, comparison)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(
                f"{COMPARISONS / plan}.json is not a comparison: {type(error).__name__} {error}"
            ) from None
    return lines(parts)


def charts(comparison: dict[str, Any]) -> list[Chart]:
    """How right and how even the infrared labels are by epoch, a line a row, the mean over its seeds.

    Two charts for each `group: …` of rows.
    """
    return [
        chart
        for title, keys, factor, top in CURVES
        for chart in _by_group(comparison, title, keys, factor, top)
    ]


def _by_group(
    comparison: dict[str, Any], title: str, keys: tuple[str, ...], factor: float, top: float | None
) -> list[Chart]:
    groups: dict[str, list[Series]] = {}
    for row in comparison["rows"]:
        epochs = row.get("epochs") or {}
        curve = next(
            (found for key in keys if len(found := _mean_curve(epochs.get(key) or []))), None
        )
        if curve is not None:
            group, _, short = row["name"].rpartition(": ")
            drawn = groups.setdefault(group, [])
            style = NUMBERED[len(drawn) % len(NUMBERED)]
            drawn.append(Series(short, np.arange(1.0, len(curve) + 1), factor * curve, style))
    return [
        Chart(
            f"{title}, {group}" if group else title,
            "epoch",
            tuple(series),
            top,
            note="mean over seeds",
        )
        for group, series in groups.items()
    ]


def _section(plan: str, comparison: dict[str, Any]) -> list[str]:
    values = sorted({value for row in comparison["rows"] for value in row["seeds"]})
    over = f"{comparison.get('varies', 'seed')} {', '.join(map(str, values))}"
    said = [
        f"Mean ± standard deviation over {over}" if len(values) > 1 else f"One run a row, {over}"
    ]
    said += [comparison["dataset"]] if "dataset" in comparison else []
    said += [
        f"commit {comparison['commit'][:7]}{' with uncommitted changes' if comparison.get('uncommitted') else ''}"
    ]
    note = (
        f"{'; '.join(said)}. Per cent, but for the ARI. Infrared labels: those of the last epoch."
    )
    if comparison.get("dataset", "").startswith("synthetic"):
        note += " Synthetic data, not comparable with published numbers."
    drawn = charts(comparison)
    return [
        tag("h3", text(comparison["title"])),
        _table(comparison),
        paragraph(note, class_="note"),
        grid(drawn, f"comparison-{plan}") if drawn else "",
    ]


def _keys(comparison: dict[str, Any]) -> dict[str, str]:
    """The figures that are shown and what they are called: two scores a mode, and the labels'."""
    there = list(
        dict.fromkeys(
            key for row in comparison["rows"] for key in row["metrics"] if _values(row, key)
        )
    )
    modes = [key.removesuffix(".rank1") for key in there if key.endswith(".rank1")]
    names = {
        f"{mode}.{score}": f"{mode_name(mode)}, {name}"
        for mode in modes
        for score, name in SCORES.items()
    }
    return {key: name for key, name in (names | OTHERS).items() if key in there}


def _table(comparison: dict[str, Any]) -> str:
    """A line a row of the comparison: the figures, every seed of the first one as a dot, the time; then the paper's."""
    keys = _keys(comparison)
    first = next(iter(keys), "")
    top = max((value for row in comparison["rows"] for value in _values(row, first)), default=0.0)
    body = []
    for row in comparison["rows"]:
        seconds = [value for value in row.get("seconds") or [] if value is not None]
        cells = [_cell(_values(row, key), key) for key in keys]
        cells.append(duration(sum(seconds) / len(seconds)) if seconds else NONE)
        changes = tag(
            "span", text(", ".join(row["changes"]) or "as params.yaml has it"), class_="changes"
        )
        name = tag("th", text(row["name"]), changes, scope="row")
        dots = tag("td", _dots(_values(row, first), top))
        body.append(tag("tr", name, dots, *[tag("td", text(cell)) for cell in cells]))
        if row.get("published"):
            cells = [
                _cell([value] if (value := row["published"].get(key)) is not None else [], key)
                for key in keys
            ]
            name = tag("th", "the paper", scope="row")
            body.append(
                tag(
                    "tr",
                    name,
                    *[tag("td", text(cell)) for cell in ("", *cells, "")],
                    class_="paper",
                )
            )
    names = list(keys.values())
    heads = [
        tag("th", text(name), scope="col")
        for name in ("Variant", f"{(names or ['–'])[0]}, each run", *names, "Time")
    ]
    caption = tag(
        "caption", text(comparison["title"]), class_="unseen"
    )  # the heading above says the same
    whole = tag(
        "table",
        caption,
        tag("thead", tag("tr", *heads)),
        tag("tbody", *body),
        class_="numbers comparison",
    )
    # wider than a phone: reachable by keyboard to be scrolled
    return tag(
        "div", whole, class_="table", tabindex="0", role="region", aria_label=comparison["title"]
    )


def _values(row: dict[str, Any], key: str) -> list[float]:
    """The figure by seed, without those that have none."""
    return [float(value) for value in row["metrics"].get(key) or [] if value is not None]


def _cell(values: list[float], key: str) -> str:
    """Mean, and with two seeds or more their standard deviation (divisor: seeds − 1)."""
    if not values:
        return NONE
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1))
    both = (
        (f"{mean:.3f}", f"{spread:.3f}")
        if key.endswith(".ari")
        else (percent(mean), percent(spread))
    )
    return " ± ".join(both[: len(values)])


def _dots(values: list[float], top: float) -> str:
    """Each seed's value as a dot between 0 and `top`."""
    width, height = DOTS
    scale = (width - 10) / top if top > 0 else 0.0
    line = tag("path", d=f"M5 {height // 2}H{width - 5}", class_="rule")
    dots = [
        tag("circle", cx=f"{5 + scale * value:.1f}", cy=f"{height // 2}", r="3.2", class_="dot")
        for value in values
    ]
    words = f"Each run, per cent: {', '.join(map(percent, values)) or 'none'}"
    size = {"width": str(width), "height": str(height)}
    return tag(
        "svg", line, *dots, viewBox=f"0 0 {width} {height}", role="img", aria_label=words, **size
    )


def _mean_curve(by_seed: list[list[float | None]]) -> np.ndarray:
    """The mean over seeds (E,) of curves that may end early or have gaps, NaN where none has a value; (0,) if never."""
    curves = np.full((len(by_seed), max(map(len, by_seed), default=0)), np.nan)
    for number, curve in enumerate(by_seed):
        curves[number, : len(curve)] = [np.nan if value is None else value for value in curve]
    counts = np.isfinite(curves).sum(axis=0)
    if not counts.any():
        return np.empty(0)
    return np.where(counts > 0, np.nansum(curves, axis=0) / np.maximum(counts, 1), np.nan)
