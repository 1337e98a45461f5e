"""The runs of a plan side by side: as a tree for JSON, as text for a terminal, as Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments import differences
from experiments.plans import Plan, Row
from experiments.runner import Result
from experiments.runs import Run, Tree, is_comparable, is_rendered

SCORES = {"rank1": "Rank-1", "map": "mAP"}
SHORT = {"infrared_to_visible": "I→V", "visible_to_infrared": "V→I"}
OTHERS = {"infrared.accuracy": "infrared labels", "visible.ari": "visible ARI"}
NONE = "–"


def comparison(
    name: str, plan: Plan, runs: Sequence[Run], results: dict[str, Result], origin: dict[str, Any]
) -> Tree:
    """Return the tree of `metrics/comparisons/<plan>.json`.

    It holds the table that people read and, in `rows`, the values that it was made of: a list for
    each figure, one value for each seed (or trial). Rows and seeds without a result are absent.
    `differences` holds the second table, of paired differences, and its `values`. `origin` says
    where the figures come from: commit, uncommitted, dataset, scale.
    """
    rows = []
    for row in plan.rows:
        finished = [run for run in runs if run.row == row and run.name in results]
        if finished:
            rows.append(_row(row, finished, [results[run.name] for run in finished]))
    tree = {"plan": name, "title": plan.title, **origin, "varies": plan.varies}
    notes = _notes(tree, rows, runs[0].tree)
    shown = {"table": side_by_side(rows) | {"notes": notes}, "differences": _paired(plan, rows)}
    return tree | shown | {"rows": rows}


def _row(row: Row, runs: Sequence[Run], results: Sequence[Result]) -> Tree:
    """Return the values of the finished runs of a row, and the published ones if they compare."""
    tree = {
        "name": row.name,
        "changes": list(runs[0].changes[:-1]),
        "seeds": [run.value for run in runs],
        "metrics": _by_key([result.metrics for result in results]),
        "epochs": _by_key([result.epochs for result in results]),
        "seconds": [result.seconds for result in results],
        "outside_stages": [result.outside_stages for result in results],
    }
    parameters = runs[0].tree
    published = row.published.get(f"{parameters['dataset']}/{parameters['train']['setting']}")
    is_test = parameters["evaluate"]["split"] == "test"
    if published and is_test and is_comparable(parameters):
        tree["published"] = published
    return tree


def _by_key(trees: Sequence[Tree]) -> Tree:
    """Return the values of several trees as a list for each key."""
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return {key: [tree.get(key) for tree in trees] for key in keys}


def side_by_side(rows: Sequence[Tree]) -> Tree:
    """Return heads and rows of text: Rank-1 and mAP of each mode, labels, seconds.

    A cell is the mean ± sample standard deviation over seeds, or the mean alone if there is one
    seed. The paper's row follows ours if there is one.
    """
    keys = _keys(rows)
    lines = []
    for row in rows:
        cells = [_cell(key, row["metrics"].get(key, [])) for key in keys]
        seconds = _mean_and_spread(row["seconds"], "{:.0f}")[0]
        lines.append([row["name"], *cells, seconds])
        if "published" in row:
            cells = [_cell(key, [row["published"].get(key)]) for key in keys]
            lines.append(["paper", *cells, NONE])
    return {"heads": ["%", *map(_head, keys), "seconds"], "rows": lines}


def _paired(plan: Plan, rows: Sequence[Tree]) -> Tree:
    """Return the table of differences: Rank-1 and mAP of the first mode, infrared labels."""
    first, *_ = [key for key in _keys(rows) if key.endswith(".rank1")]
    mode = first.removesuffix(".rank1")
    heads = {key: _head(key) for key in (first, f"{mode}.map", "infrared.accuracy")}
    found = differences.differences(plan, rows, list(heads))
    return differences.table(found, heads, plan.varies)


def _keys(rows: Sequence[Tree]) -> list[str]:
    """Return the figures that are shown: those that a run has a value of."""
    known = [
        key
        for row in rows
        for key, values in row["metrics"].items()
        if any(value is not None for value in values)
    ]
    modes = [key.removesuffix(".rank1") for key in dict.fromkeys(known) if key.endswith(".rank1")]
    shown = [f"{mode}.{score}" for mode in modes for score in SCORES]
    return [key for key in [*shown, *OTHERS] if key in known]


def _head(key: str) -> str:
    mode, _, score = key.rpartition(".")
    return OTHERS.get(key) or f"{SHORT.get(mode, mode)} {SCORES[score]}"


def _cell(key: str, values: Sequence[float | None]) -> str:
    """Return mean and spread in per cent; the ARI is no share and has three decimals."""
    if key == "visible.ari":
        return " ± ".join(_mean_and_spread(values, "{:.3f}"))
    shares = [value if value is None else 100 * value for value in values]
    return " ± ".join(_mean_and_spread(shares, "{:.2f}"))


def _mean_and_spread(values: Sequence[float | None], form: str) -> list[str]:
    """Return the mean as text and, of two values or more, the sample standard deviation."""
    known = [value for value in values if value is not None]
    if not known:
        return [NONE]
    mean = form.format(statistics.fmean(known))
    return [mean, form.format(statistics.stdev(known))] if len(known) > 1 else [mean]


def _notes(tree: Tree, rows: Sequence[Tree], parameters: Tree) -> list[str]:
    """Return sentences that say what the numbers are and what they do not compare with."""
    values = sorted({value for row in rows for value in row["seeds"]})
    over = f"{tree['varies']} {', '.join(map(str, values))}"
    spread = f"One run a row, {over}."
    if len(values) > 1:
        spread = f"Mean ± sample standard deviation over {over}."
    uncommitted = " with uncommitted changes" if tree["uncommitted"] else ""
    commit = f"commit {tree['commit'][:7]}{uncommitted}"
    notes = [f"{spread} Data set {tree['dataset']}, scale {tree['scale']}, {commit}."]
    incomplete = [row["name"] for row in rows if len(row["seeds"]) < len(values)]
    if incomplete:
        notes.append(f"Some runs are missing: {', '.join(incomplete)}.")
    notes.append("Infrared labels: share of right ones in the last epoch.")
    notes.append(f"Seconds: wall time, without what DVC had in its cache.{_largest(rows)}")
    if not is_comparable(parameters):
        data = "Synthetic data" if is_rendered(parameters) else "Another scale than the paper's"
        notes.append(f"{data}: not comparable with published numbers.")
    return notes


def _largest(rows: Sequence[Tree]) -> str:
    """Return a sentence on the largest time of a row outside its stages, if one is known."""
    known = [value for row in rows for value in row["outside_stages"] if value is not None]
    if not known:
        return ""
    return f" At most {max(known):.0f} of them outside the stages: the share of DVC."


def text(tree: Tree, markdown: bool = False) -> str:
    """Return title, tables and notes of a comparison as lines for a terminal or as Markdown."""
    tables = [tree["table"]]
    paired = tree.get("differences")  # files of earlier versions have none
    if paired and paired["rows"]:
        tables.append(paired)
    lines = [tree["title"]]
    for table in tables:
        cells = [table["heads"], *table["rows"]]
        body = _markdown(cells) if markdown else _aligned(cells)
        lines += ["", *body, "", *table["notes"]]
    return "\n".join(lines)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    for name, *cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        aligned.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return aligned


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return [f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]]]
