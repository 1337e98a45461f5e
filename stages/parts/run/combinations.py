"""Parameters that do not go together, whatever the images are: refused before any work.

No stage depends on this file (dvc.yaml): it refuses and changes nothing, so another rule runs no
stage again. Its tables repeat names of other modules, which tests/test_wiring.py compares.
"""

from collections.abc import Iterator
from typing import Any

from stages.parts.run.settings import Clusters, Data, Evaluate, Network, Prototypes, Spcl, Train

TWO_WAY = ("infrared_to_visible", "visible_to_infrared")
MODES = {"sysu_mm01": ("all", "indoor"), "regdb": TWO_WAY, "llcm": TWO_WAY, "folder": TWO_WAY}
WITH_OFFICIAL_DRAWS = ("sysu_mm01",)
WITH_VALIDATION = ("sysu_mm01", "folder")  # data sets that may have validation identities
WITH_IMAGENET = ("resnet18", "resnet50")


def faults(dataset: str, sections: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each fault: the parameter, what is wrong, what was expected.

    Args:
        dataset: the parameter of that name.
        sections: every section of `params.yaml` as its dataclass.
    """
    train: Train = sections["train"]
    network: Network = sections["network"]
    yield from _network_faults(network)
    if train.setting == "unsupervised" or network.start == "pseudo_label":
        yield from _warm_up_faults(sections["spcl"])
    if train.setting == "unsupervised":  # otherwise nothing is clustered
        yield from _clustering_faults(sections["spcl"])
    if train.selection == "validation" and dataset not in WITH_VALIDATION:
        yield (
            f"train.selection: {dataset} has no validation identities to choose by; "
            f"expected last, or one of the data sets {', '.join(WITH_VALIDATION)}"
        )
    yield from _unpaired_faults(sections["data"], train, sections["spcl"])
    yield from _evaluation_faults(dataset, sections["evaluate"], train)
    yield from _prototype_faults(sections["clusters"], sections["prototypes"])


def _network_faults(network: Network) -> Iterator[str]:
    if network.weights == "imagenet" and network.architecture not in WITH_IMAGENET:
        problem = f"there are no imagenet weights for {network.architecture}"
        yield f"network.weights: {problem}; use none or a path"


def _warm_up_faults(spcl: Spcl) -> Iterator[str]:
    if spcl.source != "none" and spcl.warmup_epochs and spcl.batch <= spcl.instances:
        problem = f"{spcl.batch} images may all be of one label (spcl.instances: {spcl.instances})"
        yield f"spcl.batch: {problem}; the warm-up needs two labels"


def _clustering_faults(spcl: Spcl) -> Iterator[str]:
    if spcl.k2 > spcl.k1:
        yield f"spcl.k2: {spcl.k2} exceeds spcl.k1, {spcl.k1}"
    if not 0 < spcl.radius - spcl.radius_gap <= spcl.radius + spcl.radius_gap < 1:
        span = f"{spcl.radius} ± {spcl.radius_gap} (spcl.radius_gap)"
        yield f"spcl.radius: {span} is not between 0 and 1"
    group = spcl.statistics_group
    if group is not None and spcl.batch % group:
        problem = f"{spcl.batch} images do not divide into groups of {group}"
        yield f"spcl.batch: {problem} (spcl.statistics_group)"


def _unpaired_faults(data: Data, train: Train, spcl: Spcl) -> Iterator[str]:
    if not data.unpaired:
        return
    if train.setting == "supervised":
        problem = "train.setting supervised needs infrared images of each identity"
        yield f"data.unpaired: {problem}; expected 0"
    if train.selection == "validation":
        problem = "train.selection: validation needs both modalities of the validation identities"
        yield f"data.unpaired: {problem}; expected 0"
    if train.setting == "unsupervised" and data.unpaired_from == spcl.source:
        problem = f"{spcl.source} is the labeled source (spcl.source), so its people are known"
        yield f"data.unpaired_from: {problem}; expected another data set"


def _evaluation_faults(dataset: str, evaluate: Evaluate, train: Train) -> Iterator[str]:
    for mode in evaluate.modes or ():
        if mode not in MODES[dataset]:
            modes = ", ".join(MODES[dataset])
            yield f"evaluate.modes: {dataset} has {modes}; it has no {mode}"
    if evaluate.draws == "official" and dataset not in WITH_OFFICIAL_DRAWS:
        yield f"evaluate.draws: {dataset} has no official gallery draws, expected agw"
    elif evaluate.draws == "official" and not evaluate.official_draws:
        expected = "evaluate.draws: official needs the path of rand_perm_cam.mat"
        yield f"evaluate.official_draws is empty; {expected}"
    if evaluate.split == "val" and train.selection != "validation":
        problem = f"val needs train.selection: validation, which is {train.selection}"
        yield f"evaluate.split: {problem}"
    if evaluate.rerank and evaluate.rerank_k2 > evaluate.rerank_k1:
        problem = f"{evaluate.rerank_k2} exceeds evaluate.rerank_k1, {evaluate.rerank_k1}"
        yield f"evaluate.rerank_k2: {problem}"


def _prototype_faults(clusters: Clusters, prototypes: Prototypes) -> Iterator[str]:
    is_joint = prototypes.association == "global"
    longest = clusters.k1 // 2 if is_joint else clusters.k1
    if clusters.k2 > longest:
        half = "half of " if is_joint else ""
        yield f"clusters.k2: {clusters.k2} exceeds {half}clusters.k1, {clusters.k1}"
    weights = (
        prototypes.weight_own,
        prototypes.weight_unified,
        prototypes.weight_distillation,
    )
    if not any(weights):
        yield "prototypes.weight_own: all three weights are 0, so that there is nothing to learn"
