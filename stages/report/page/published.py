"""What the OTLA paper (ECCV 2022) reports, and whether this run may be compared with it."""

from stages.report.inputs import PUBLISHED, Run
from stages.report.paper import RESULTS, TRANSPORT


def results(run: Run, mode: str) -> dict[str, tuple[float, float]]:
    """Return the paper's Rank-1 and mAP by setting; none for other data.

    The setting of the run if the paper has it, else all settings.
    """
    if not _same_images(run):
        return {}
    known = RESULTS.get(run.dataset, {}).get(mode, {})
    return {run.setting: known[run.setting]} if run.setting in known else known


def transport(run: Run) -> tuple[float, float] | None:
    """Return the paper's seconds of transport in an epoch and their share in per cent, if known."""
    is_images = run.sections["train"].objective == "otla"  # prototypes: of clusters
    is_same = run.published and is_images and run.assignment == "transport"
    return TRANSPORT.get(run.dataset) if is_same else None


def warning(run: Run) -> str:
    """Return what must be said before any number; empty for published data."""
    if run.rendered:
        reason = "Synthetic data"
    elif run.dataset not in PUBLISHED:
        reason = "Data of your own"
    elif not run.published:
        reason = "Data of your own, or not at the paper's scale"
    elif run.sections["evaluate"].split == "val":
        reason = "Validation identities"
    else:
        return ""
    return f"{reason}, not comparable with published numbers."


def remark(run: Run) -> str:
    """Return what the paper's column is and how the run differs; empty without a column."""
    if _same_images(run) and run.dataset not in RESULTS:
        return f"The paper reports no numbers on {PUBLISHED[run.dataset]}."
    if not any(results(run, mode) for mode in run.modes):
        return ""
    source = "Paper: OTLA (ECCV 2022), Table 1; on RegDB the mean of ten trainings, one a split."
    others = differences(run)
    return f"{source} This run differs: {', '.join(others)}." if others else source


def differences(run: Run) -> list[str]:
    """Return how the run differs from the paper's; the page lists all parameters further down."""
    settings = run.sections
    network, images, evaluate = settings["network"], settings["images"], settings["evaluate"]
    source, epochs = settings["spcl"].source, settings["train"].epochs
    size = (images.height, images.width)
    is_other_source = run.setting == "unsupervised" and source != "market1501"
    differs = {
        f"architecture {network.architecture}": network.architecture != "resnet50",
        f"pooling {network.pooling}": network.pooling != "average",
        "two streams": network.two_stream,
        "non-local blocks": network.non_local,
        f"{settings['data'].unpaired:.0%} unpaired identities": settings["data"].unpaired > 0,
        f"images of {size[0]} × {size[1]}": size != (288, 144),
        f"source {source}": is_other_source,
        f"setting {run.setting}": run.setting == "supervised",
        "prototypes in place of a classifier": settings["train"].objective == "prototypes",
        f"{epochs} epochs": epochs != 80,
        "re-ranking": evaluate.rerank,
        "mirror images averaged": evaluate.flip,
        f"{evaluate.shots} gallery shots": evaluate.shots != 1,
    }
    return [what for what, is_different in differs.items() if is_different]


def _same_images(run: Run) -> bool:
    return run.published and run.sections["evaluate"].split == "test"
