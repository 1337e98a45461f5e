"""The runs of a plan side by side: as a tree for JSON, as text for a terminal, as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.plans import Plan, Row, is_rendered
from experiments.runner import Result
from experiments.runs import Run

SCORES = {"rank1": "Rank-1", "map": "mAP"}
SHORT = {"infrared_to_visible": "I→V", "visible_to_infrared": "V→I"}
OTHERS = {"infrared.accuracy": "infrared labels", "visible.ari": "visible ARI"}
NONE = "–"


def comparison(
    name: str, plan: Plan, runs: Sequence[Run], results: dict[str, Result], origin: dict[str, Any]
) -> dict:
    """The tree of `metrics/comparisons/<plan>.json`: rows with a list of values each, one a seed (or a trial).

    Rows without a result are absent, and so are the seeds without one. origin: where the figures come from.
    """
    rows = []
    for row in plan.rows:
        found = [(run, results[run.name]) for run in runs if run.row == row and run.name in results]
        if found:
            rows.append(_row(row, found))
    return {"plan": name, "title": plan.title, **origin, "varies": plan.varies, "rows": rows}


def _row(row: Row, found: Sequence[tuple[Run, Result]]) -> dict[str, Any]:
    first = found[0][0]
    metrics = list(dict.fromkeys(key for _, result in found for key in result.metrics))
    epochs = list(dict.fromkeys(key for _, result in found for key in result.epochs))
    reported = row.published.get(f"{first.tree['dataset']}/{first.tree['train']['setting']}")
    tree = {
        "name": row.name,
        "changes": list(first.changes[:-1]),
        "seeds": [run.value for run, _ in found],
        "metrics": {key: [result.metrics.get(key) for _, result in found] for key in metrics},
        "epochs": {key: [result.epochs.get(key, []) for _, result in found] for key in epochs},
        "seconds": [result.seconds for _, result in found],
    }
    comparable = reported and first.tree["evaluate"]["split"] == "test"
    return tree | ({"published": reported} if comparable else {})


def table(tree: dict[str, Any], markdown: bool = False) -> str:
    """Rank-1 and mAP of each mode, right infrared labels, ARI of the visible ones, seconds; a line a row.

    Mean ± sample standard deviation over seeds, the mean alone where there is one. The paper's line stands below ours
    where the data are the same.
    """
    keys = _keys(tree)
    head = ["%", *(_title(key) for key in keys), "seconds"]
    lines = [head]
    for row in tree["rows"]:
        values = [_cell(key, row["metrics"].get(key, [])) for key in keys]
        lines.append([row["name"], *values, _mean(row["seconds"], "{:.0f}", 1, spread=False)])
        if "published" in row:
            reported = (row["published"].get(key) for key in keys)
            lines.append(
                [
                    "  paper",
                    *(NONE if value is None else f"{value:.2%}"[:-1] for value in reported),
                    NONE,
                ]
            )
    body = _markdown(lines) if markdown else _aligned(lines)
    return "\n".join([tree["title"], "", *body, "", *_notes(tree)])


def _keys(tree: dict[str, Any]) -> list[str]:
    there = list(dict.fromkeys(key for row in tree["rows"] for key in row["metrics"]))
    modes = [key.removesuffix(".rank1") for key in there if key.endswith(".rank1")]
    wanted = [f"{mode}.{score}" for mode in modes for score in SCORES] + list(OTHERS)
    return [
        key
        for key in wanted
        if any(v is not None for row in tree["rows"] for v in row["metrics"].get(key, []))
    ]


def _title(key: str) -> str:
    mode, _, score = key.rpartition(".")
    return OTHERS.get(key) or f"{SHORT.get(mode, mode)} {SCORES[score]}"


def _cell(key: str, values: Sequence[float | None]) -> str:
    return _mean(values, "{:.3f}", 1) if key == "visible.ari" else _mean(values, "{:.2f}", 100)


def _mean(values: Sequence[float | None], form: str, scale: float, spread: bool = True) -> str:
    known = [value * scale for value in values if value is not None]
    if not known:
        return NONE
    mean = form.format(statistics.fmean(known))
    return f"{mean} ± {form.format(statistics.stdev(known))}" if spread and len(known) > 1 else mean


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    ]


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return [
        f"| {' | '.join(cell.strip() for cell in line)} |" for line in [lines[0], rule, *lines[1:]]
    ]


def _notes(tree: dict[str, Any]) -> list[str]:
    """What the numbers are, and what they are not."""
    values = sorted({value for row in tree["rows"] for value in row["seeds"]})
    over = f"{tree['varies']} {', '.join(map(str, values))}"
    spread = "one run a row, " if len(values) == 1 else "mean ± sample standard deviation over "
    uncommitted = " with uncommitted changes" if tree["uncommitted"] else ""
    lines = [f"{spread}{over}; {tree['dataset']}, commit {tree['commit'][:7]}{uncommitted}"]
    short = [row["name"] for row in tree["rows"] if len(row["seeds"]) < len(values)]
    if short:
        lines.append(f"not all of them: {', '.join(short)}")
    lines.append(
        "infrared labels: right in the last epoch; seconds: wall time, less what DVC had in its cache"
    )
    if is_rendered(tree["dataset"]):
        lines.append("rendered pictures: not comparable with published numbers")
    return lines
