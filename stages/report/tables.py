"""The numbers as tables: what was reached, what was run."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from stages.report import published
from stages.report.inputs import STAGES, Run
from stages.report.markup import Table

MEASURES = {
    "rank1": "Rank-1",
    "rank5": "Rank-5",
    "rank10": "Rank-10",
    "rank20": "Rank-20",
    "map": "mAP",
    "minp": "mINP",
}
MODES = {
    "all": "All search",
    "indoor": "Indoor search",
    "infrared_to_visible": "Infrared → visible",
    "visible_to_infrared": "Visible → infrared",
}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "faiss-cpu", "faiss-gpu", "pillow",
            "safetensors", "matplotlib", "dvc", "dvclive")  # fmt: skip
NONE = "–"


def results(run: Run) -> list[Table]:
    """One table a mode: measures down, full method, pseudo-label network alone and the paper's numbers across."""
    tables = []
    for mode in run.modes:
        full, alone = run.evaluation[mode], run.evaluation["pseudo_label"].get(mode, {})
        paper, draws = published.results(run, mode), run.protocol["trials"]
        rows = []
        for key, name in MEASURES.items():
            mean = with_spread(full[key], full[f"{key}_sd"]) if draws > 1 else percent(full[key])
            cells = [mean, percent(alone.get(key))]
            place = {"rank1": 0, "map": 1}.get(key)
            cells += [
                NONE if place is None else f"{values[place]:.1f}" for values in paper.values()
            ]
            rows.append([name, *cells])
        columns = [
            "%",
            "Full method",
            "Pseudo-label network alone",
            *[f"Paper, {setting}" for setting in paper],
        ]
        what = mode_name(mode) + "".join(f", {extra}" for extra in unusual(run))
        spread = f"mean ± sd over {draws} gallery draws" if draws > 1 else "one gallery, no draws"
        tables.append(Table(f"{what}: {spread}", columns, rows))
    return tables


def unusual(run: Run) -> list[str]:
    """What must stand beside each number, because it is not what people expect."""
    settings = run.sections["evaluate"]
    said = {
        "validation identities": settings.split == "val",
        "with k-reciprocal re-ranking": settings.rerank,
    }
    return [what for what, so in said.items() if so]


def terminal(evaluation: dict[str, Any]) -> list[str]:
    """The result as lines of text: a column a mode and network, a row a measure, and the ratio of both Rank-1."""
    modes = [
        name
        for name, found in evaluation.items()
        if isinstance(found, dict) and name != "pseudo_label"
    ]
    alone = evaluation.get("pseudo_label", {})
    width = 15
    lines = [
        f"{'':<8}" + "".join(f"{mode:^{2 * width}}" for mode in modes),
        f"{'%':<8}" + f"{'full method':>{width}}{'labels alone':>{width}}" * len(modes),
    ]
    for key, name in MEASURES.items():
        cells = [
            cell
            for mode in modes
            for cell in (
                with_spread(evaluation[mode][key], evaluation[mode][f"{key}_sd"]),
                percent(alone.get(mode, {}).get(key)),
            )
        ]
        lines.append(f"{name:<8}" + "".join(f"{cell:>{width}}" for cell in cells))
    ratios = [ratio(evaluation[mode]["rank1"], alone.get(mode, {}).get("rank1")) for mode in modes]
    lines.append(
        f"{'ratio':<8}" + "".join(f"{cell:>{width}}{'':>{width}}" for cell in ratios) + "of Rank-1"
    )
    lines = [line.rstrip() for line in lines]
    lines.append(
        "full method: mean ± standard deviation over gallery draws; labels alone: the pseudo-label network"
    )
    if evaluation.get("rerank"):
        lines.append("re-ranked (evaluate.rerank); not comparable with numbers without")
    return lines


def counts(run: Run) -> Table:
    """Images and identities of target and source by split."""
    rows = []
    for name, title in (("prepare", "Target"), ("source", "Source")):
        for split, what in (
            ("train", "training"),
            ("val", "validation"),
            ("query", "query"),
            ("gallery", "gallery"),
        ):
            sizes = run.metrics[name].get(split, {})
            if sizes.get("persons"):
                cells = [whole(sizes[key]) for key in ("persons", "visible", "infrared")]
                rows.append([f"{title}, {what}", *cells])
    return Table("Images and identities", ["Part", "Identities", "Visible", "Infrared"], rows)


def protocol(run: Run) -> Table:
    """How the numbers come about."""
    facts = run.protocol
    rows = [["Layout", facts["layout"]], ["Gallery draws", f"{facts['draws']}, {facts['trials']}"]]
    if facts.get("shots"):
        rows.append(["Gallery images per identity and camera", str(facts["shots"])])
    for key, name in (
        ("queries", "Queries"),
        ("gallery", "Gallery images"),
        ("unmatched", "Queries without a match"),
    ):
        rows += [
            [f"{name}, {mode_name(mode).lower()}", whole(count)]
            for mode, count in facts.get(key, {}).items()
        ]
    rows += [
        ["Mirror images averaged", "yes" if facts["flip"] else "no"],
        ["Checkpoint", facts["checkpoint"]],
        ["Architecture", facts["architecture"]],
        ["Target files (SHA-256 of their list)", run.fingerprints["target"]],
    ]
    if len(run.source.table):
        rows.append(["Source files (SHA-256 of their list)", run.fingerprints["source"]])
    return Table("Protocol and data", ["Fact", "Value"], rows, "words")


def parameters(run: Run) -> list[Table]:
    """The values in effect, a table a section."""
    general = Table(
        "general",
        ["Parameter", "Value"],
        [["dataset", run.dataset], ["seed", str(run.seed)]],
        "words",
    )
    sections = [
        Table(
            name,
            ["Parameter", "Value"],
            [[key, value(own)] for key, own in asdict(settings).items()],
            "words",
        )
        for name, settings in run.sections.items()
    ]
    return [general, *sections]


def versions() -> Table:
    """Python and the packages that the numbers depend on."""
    rows = [["python", platform.python_version()]]
    for name in PACKAGES:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            continue  # of the two builds of faiss, one is installed
    return Table("Packages", ["Package", "Version"], rows, "words")


def times(run: Run) -> Table:
    """Run time by stage, where a log of it is left."""
    rows = [[name, duration(run.seconds.get(name))] for name in STAGES]
    if run.seconds:
        rows.append(["together", duration(sum(run.seconds.values()))])
    return Table("Run time", ["Stage", "Time"], rows)


def mode_name(mode: str) -> str:
    """A mode in words."""
    return MODES.get(mode, mode)


def percent(share: float | None, digits: int = 2) -> str:
    """A fraction in per cent, without the sign; a dash where there is none."""
    return NONE if share is None else f"{100 * share:.{digits}f}"


def with_spread(mean: float, spread: float) -> str:
    """Mean and standard deviation of a fraction in per cent."""
    return f"{percent(mean)} ± {percent(spread)}"


def ratio(numerator: float, denominator: float | None) -> str:
    """How many times `denominator` fits into `numerator`; a dash where that says nothing."""
    return f"{numerator / denominator:.2f}" if denominator else NONE


def whole(count: float) -> str:
    """A count with separators."""
    return f"{int(count):,}"


def value(own: Any) -> str:
    """A parameter as one reads it: lists with commas, a dash for an empty one."""
    if own is None:
        return NONE
    if isinstance(own, bool):
        return str(own).lower()  # as in params.yaml
    if isinstance(own, float):
        return f"{own:g}"
    if isinstance(own, Sequence) and not isinstance(own, str):
        return ", ".join(value(item) for item in own)
    return str(own)


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02d} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60:02d} min"
    )
