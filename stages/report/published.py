"""What the OTLA paper (ECCV 2022) reports, and whether this run may be compared with it."""

from stages.report.inputs import Run

DATASETS = {"sysu_mm01": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}
# Rank-1 and mAP in per cent by data set, mode and setting (Table 1).
RESULTS = {
    "sysu_mm01": {
        "all": {"unsupervised": (29.9, 27.1), "semi-supervised": (48.2, 43.9)},
        "indoor": {"unsupervised": (29.8, 38.8), "semi-supervised": (47.4, 56.8)},
    },
    "regdb": {
        "visible_to_infrared": {"unsupervised": (32.9, 29.7), "semi-supervised": (49.9, 41.8)},
        "infrared_to_visible": {"unsupervised": (32.1, 28.6), "semi-supervised": (49.6, 42.8)},
    },
}
# Seconds of transport in an epoch, and its share of the epoch in per cent, on a TITAN RTX (Section 4.5).
TRANSPORT = {"sysu_mm01": (6.832, 2.293), "regdb": (0.353, 0.639)}


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
        f"source {own['spcl'].source}": run.setting == "unsupervised" and own["spcl"].source != "market1501",
        f"setting {run.setting}": run.setting == "supervised",
        f"{own['train'].epochs} epochs": own["train"].epochs != 80,
        "re-ranking": own["evaluate"].rerank,
        "mirror images averaged": own["evaluate"].flip,
        f"{own['evaluate'].shots} gallery shots": own["evaluate"].shots != 1,
    }
    return [what for what, differs in other.items() if differs]


def _same_images(run: Run) -> bool:
    return not run.rendered and run.sections["evaluate"].split == "test"
