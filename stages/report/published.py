"""What the OTLA paper (ECCV 2022) reports, and whether this run may be compared with it."""

from stages.report.inputs import Run
from stages.report.paper import RESULTS, TRANSPORT

DATASETS = {"sysu_mm01": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}


def results(run: Run, mode: str) -> dict[str, tuple[float, float]]:
    """The paper's Rank-1 and mAP by setting: that of the run where the paper has it, else all; none for other data."""
    if not _same_images(run):
        return {}
    known = RESULTS.get(run.dataset, {}).get(mode, {})
    return {run.setting: known[run.setting]} if run.setting in known else known


def transport(run: Run) -> tuple[float, float] | None:
    """The paper's seconds of transport in an epoch and their share in per cent; None for other data."""
    return TRANSPORT.get(run.dataset) if not run.rendered else None


def warning(run: Run) -> str:
    """What must be said before any number is read; empty where the data are the published ones."""
    if run.rendered:
        return "Synthetic data, not comparable with published numbers."
    if run.dataset not in DATASETS:
        return "Data of your own, not comparable with published numbers."
    if run.sections["evaluate"].split == "val":
        return "Validation identities, not comparable with published numbers."
    return ""


def note(run: Run) -> str:
    """What the column of the paper's numbers is, and in which ways the run is another one; empty without a column."""
    if run.dataset in DATASETS and _same_images(run) and run.dataset not in RESULTS:
        return f"The paper reports no numbers on {DATASETS[run.dataset]}."
    if not any(results(run, mode) for mode in run.modes):
        return ""
    said = "Paper: OTLA (ECCV 2022), Table 1; on RegDB the mean of ten trainings, one a split."
    other = differences(run)
    return f"{said} This run differs: {', '.join(other)}." if other else said


def differences(run: Run) -> list[str]:
    """In what the run is not the paper's, as far as one line can tell; the parameters are further down the page."""
    own = run.sections
    images = (own["images"].height, own["images"].width)
    other = {
        f"architecture {own['network'].architecture}": own["network"].architecture != "resnet50",
        f"images of {images[0]} × {images[1]}": images != (288, 144),
        f"source {own['spcl'].source}": run.setting == "unsupervised"
        and own["spcl"].source != "market1501",
        f"setting {run.setting}": run.setting == "supervised",
        f"{own['train'].epochs} epochs": own["train"].epochs != 80,
        "re-ranking": own["evaluate"].rerank,
        "mirror images averaged": own["evaluate"].flip,
        f"{own['evaluate'].shots} gallery shots": own["evaluate"].shots != 1,
    }
    return [what for what, differs in other.items() if differs]


def _same_images(run: Run) -> bool:
    return not run.rendered and run.sections["evaluate"].split == "test"
