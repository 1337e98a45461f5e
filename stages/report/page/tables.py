"""The numbers as tables: what was reached, what was run."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages.report.inputs import Run, mode_name
from stages.report.page import published
from stages.report.page.markup import NONE, Table, percent, ratio, whole, with_spread

MEASURES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "map": "mAP",
    "minp": "mINP",
}
IN_PAPER = ("rank1", "map")  # the order of the paper's numbers
SPLITS = {"train": "training", "val": "validation", "query": "query", "gallery": "gallery"}


def results(run: Run) -> list[Table]:
    """Return a table for each mode: both networks and the paper's numbers beside each other."""
    draws = run.protocol["trials"]
    spread = f"mean ± sd over {draws} gallery draws" if draws > 1 else "one gallery, no draws"
    tables = []
    for mode in run.modes:
        full = run.evaluation[mode]
        alone = run.evaluation["pseudo_label"].get(mode, {})
        paper = published.results(run, mode)
        rows = []
        for key, name in MEASURES.items():
            mean = with_spread(full[key], full[f"{key}_sd"]) if draws > 1 else percent(full[key])
            cells = [name, mean, percent(alone.get(key))]
            for scores in paper.values():
                cells.append(f"{scores[IN_PAPER.index(key)]:.1f}" if key in IN_PAPER else NONE)
            rows.append(cells)
        papers = [f"Paper, {setting}" for setting in paper]
        columns = ["%", "Full method", "Pseudo-label network", *papers]
        what = ", ".join([mode_name(mode), *unusual(run)])
        tables.append(Table(f"{what}: {spread}", columns, rows))
    return tables


def unusual(run: Run) -> list[str]:
    """Return what must stand beside each number, because it is not what people expect."""
    settings = run.sections["evaluate"]
    remarks = {
        "validation identities": settings.split == "val",
        "with k-reciprocal re-ranking": settings.rerank,
    }
    return [remark for remark, is_true in remarks.items() if is_true]


def terminal(evaluation: dict[str, Any]) -> list[str]:
    """Return the result as lines of text.

    A column for each mode and network, a row for each measure, and the ratio of both Rank-1.
    """
    modes = [
        name
        for name, scores in evaluation.items()
        if isinstance(scores, dict) and name != "pseudo_label"
    ]
    alone = evaluation.get("pseudo_label", {})
    lines = [
        f"{'':<8}" + "".join(f"{mode:^36}" for mode in modes),
        _line("%", [("full method", "pseudo-label network")] * len(modes)),
    ]
    for key, name in MEASURES.items():
        pairs = []
        for mode in modes:
            scores = evaluation[mode]
            mean = with_spread(scores[key], scores[f"{key}_sd"])
            pairs.append((mean, percent(alone.get(mode, {}).get(key))))
        lines.append(_line(name, pairs))
    pairs = []
    for mode in modes:
        other = alone.get(mode, {}).get("rank1")
        pairs.append((ratio(evaluation[mode]["rank1"], other), ""))
    lines.append(_line("ratio", pairs) + "of Rank-1")
    lines.append("full method: mean ± standard deviation over gallery draws")
    lines.append("pseudo-label network: before cross-modal training; it has seen no infrared image")
    if evaluation.get("rerank"):
        lines.append("re-ranked (evaluate.rerank); not comparable with numbers without")
    return [line.rstrip() for line in lines]


def _line(name: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{name:<8}" + "".join(f"{full:>14}{alone:>22}" for full, alone in pairs)


def counts(run: Run) -> Table:
    """Return images and identities of target and source by split."""
    rows = []
    for stage, name in (("prepare", "Target"), ("source", "Source")):
        for split, what in SPLITS.items():
            sizes = run.metrics[stage].get(split, {})
            if sizes.get("persons"):
                cells = [whole(sizes[key]) for key in ("persons", "visible", "infrared")]
                rows.append([f"{name}, {what}", *cells])
    return Table("Images and identities", ["Part", "Identities", "Visible", "Infrared"], rows)


def protocol(run: Run) -> Table:
    """Return how the numbers come about."""
    facts = run.protocol
    rows = [
        ["Protocol", run.dataset],
        ["Gallery draws", f"{facts['draws']}, {facts['trials']}"],
    ]
    if facts.get("shots"):
        rows.append(["Gallery images per identity and camera", str(facts["shots"])])
    numbers = {
        "queries": "Queries",
        "gallery": "Gallery images",
        "unmatched": "Queries without a match",
    }
    for key, name in numbers.items():
        for mode, count in facts.get(key, {}).items():
            rows.append([f"{name}, {mode_name(mode).lower()}", whole(count)])
    rows += [
        ["Mirror images averaged", value(facts["flip"])],
        ["Checkpoint", facts["checkpoint"]],
        ["Architecture", facts["architecture"]],
        ["Target files (SHA-256 of their list)", run.fingerprints["target"]],
    ]
    if len(run.source.table):
        rows.append(["Source files (SHA-256 of their list)", run.fingerprints["source"]])
    return Table("Protocol and data", ["Fact", "Value"], rows, "words")


def parameters(run: Run) -> list[Table]:
    """Return the values in effect, a table for each section."""
    general = {"dataset": run.dataset, "scale": run.scale, "seed": run.seed}
    sections = {"general": general}
    sections |= {name: asdict(settings) for name, settings in run.sections.items()}
    tables = []
    for name, leaves in sections.items():
        rows = [[key, value(leaf)] for key, leaf in leaves.items()]
        tables.append(Table(name, ["Parameter", "Value"], rows, "words"))
    return tables


def value(leaf: Any) -> str:
    """Return a parameter as one reads it: lists with commas, a dash for an empty one."""
    if leaf is None:
        return NONE
    if isinstance(leaf, bool):
        return str(leaf).lower()  # as in params.yaml
    if isinstance(leaf, float):
        return f"{leaf:g}"
    if isinstance(leaf, Sequence) and not isinstance(leaf, str):
        return ", ".join(map(value, leaf))
    return str(leaf)
