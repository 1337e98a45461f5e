"""Paired differences of the rows of a comparison, with an interval over seeds.

A seed moves all rows in the same direction: it decides the visible labels that they start from. The
difference of two rows at the same seed is free of that, so it is surer than the two means.
"""

import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import t

from experiments.plans import Plan

Tree = dict[str, Any]
CONFIDENCE = 0.95
UNCLEAR = "(n. d.)"


def differences(plan: Plan, rows: Sequence[Tree], keys: Sequence[str]) -> list[Tree]:
    """Return the differences of each row from those that the plan compares it with.

    Args:
        plan: says which rows are compared.
        rows: the finished rows of a comparison, as `tables.comparison` stores them.
        keys: the figures to compare, shares of 1.

    Returns:
        For each two finished rows: row, against (names), pairs (number of seeds that both have)
        and points: figure → mean and half_width of the interval, in percentage points. half_width
        is None for one pair. A figure is absent if a pair lacks it, or without pairs.
    """
    by_name = {row["name"]: row for row in rows}
    found = []
    for row, other in plan.pairs():
        if row.name in by_name and other.name in by_name:
            found.append(_difference(by_name[row.name], by_name[other.name], keys))
    return found


def _difference(row: Tree, other: Tree, keys: Sequence[str]) -> Tree:
    seeds = [seed for seed in row["seeds"] if seed in other["seeds"]]
    points = {}
    for key in keys:
        firsts, seconds = _by_seed(row, key), _by_seed(other, key)
        pairs = [(firsts.get(seed), seconds.get(seed)) for seed in seeds]
        steps = [100 * (a - b) for a, b in pairs if a is not None and b is not None]
        if seeds and len(steps) == len(seeds):
            mean, half_width = interval(steps)
            points[key] = {"mean": mean, "half_width": half_width}
    return {"row": row["name"], "against": other["name"], "pairs": len(seeds), "points": points}


def _by_seed(row: Tree, key: str) -> dict[int, float | None]:
    values = row["metrics"].get(key) or [None] * len(row["seeds"])
    return dict(zip(row["seeds"], values, strict=True))


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of `values` and the half-width of its 95 % interval by Student's t.

    Both have four decimals, so that rounding errors do not count as differences. The half-width is
    None for one value.
    """
    mean = round(statistics.fmean(values), 4)
    if len(values) < 2:
        return mean, None
    error = statistics.stdev(values) / len(values) ** 0.5
    quantile = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, round(float(quantile * error), 4)


def cell(point: Tree | None) -> str:
    """Return `+3.2 ± 1.1`, with a mark if the interval holds 0; `+3.2` for one pair."""
    if point is None:
        return "–"
    mean, half_width = point["mean"], point["half_width"]
    if half_width is None:
        return f"{mean:+.1f}"
    return f"{mean:+.1f} ± {half_width:.1f}" + (f" {UNCLEAR}" if is_unclear(point) else "")


def is_unclear(point: Tree) -> bool:
    """Return whether the interval of a difference holds 0."""
    return point["half_width"] is not None and abs(point["mean"]) <= point["half_width"]


def table(found: Sequence[Tree], heads: dict[str, str], varies: str) -> Tree:
    """Return heads, rows and notes as text, and the `values` that they were made of.

    Args:
        found: what `differences` returned.
        heads: figure → head of its column.
        varies: the parameter by whose values the pairs are made.
    """
    rows = []
    for each in found:
        cells = [cell(each["points"].get(key)) for key in heads]
        rows.append([each["row"], each["against"], str(each["pairs"]), *cells])
    return {
        "heads": ["difference, points", "against", "pairs", *heads.values()],
        "rows": rows,
        "notes": _notes(found, varies),
        "values": list(found),
    }


def _notes(found: Sequence[Tree], varies: str) -> list[str]:
    points = [point for each in found for point in each["points"].values()]
    pairs = [each["pairs"] for each in found]
    notes = [f"Differences by {varies}: mean ± half-width of its 95 % interval (Student's t)."]
    if any(map(is_unclear, points)):
        notes.append(f"{UNCLEAR}: not distinguishable from 0 at 95 %, the interval holds 0.")
    if any(count < 2 for count in pairs):
        notes.append("Fewer than two pairs have no interval.")
    if len(points) > 1:
        notes.append("One in 20 intervals misses the true difference by chance.")
    return notes
