"""Every parameter of `params.yaml` with its type: one frozen dataclass for each section.

`params.yaml` says what a parameter does, the paper's value and the tried range. This file says
which type it has and which values are accepted. A type with `| None` may be empty.

No stage depends on this file (dvc.yaml): it holds types and ranges only, and DVC tracks the values
themselves. So a changed range runs no stage again.
"""

from dataclasses import dataclass
from typing import Annotated

from stages.parts.run.values import (
    between,
    each_of,
    limits,
    matching,
    more_than,
    one_of,
    positive,
    power_of_two,
    share,
)

DATASETS = ("sysu_mm01", "regdb", "llcm", "folder")
RENDERED = ("sysu_mm01", "regdb", "llcm")
LABELED = ("market1501", "dukemtmc", "msmt17", "folder")
SOURCES = (*LABELED, "none")
ARCHITECTURES = ("narrow", "resnet18", "resnet50")
POOLINGS = ("average", "gem")
ASSIGNMENTS = ("transport", "argmax", "none")
ASSOCIATIONS = ("transport", "matching", "global", "none")
MODES = ("all", "indoor", "visible_to_infrared", "infrared_to_visible")
SOLVERS = ("newton", "sinkhorn", "released")

# Sections of `profiles`. DVC tracks these and no others: dvc.yaml lists each of them.
PROFILE_OF_ALL = ("data", "images", "network", "spcl", "train", "den", "otla")
PROFILE_OF_ONE = ("data", "spcl", "train", "den")


@dataclass(frozen=True)
class Data:
    root: str
    source_root: str | None
    trial: Annotated[int, between(1, 10)]
    unpaired: Annotated[float, between(0, 0.9)]
    unpaired_from: Annotated[str, one_of(*LABELED)]


@dataclass(frozen=True)
class Images:
    height: Annotated[int, between(16, 2048)]
    width: Annotated[int, between(8, 2048)]


@dataclass(frozen=True)
class Network:
    architecture: Annotated[str, one_of(*ARCHITECTURES)]
    weights: str  # none | imagenet | the path of a .safetensors file
    start: Annotated[str, one_of("pseudo_label", "weights")]
    pooling: Annotated[str, one_of(*POOLINGS)]
    two_stream: bool
    non_local: bool


@dataclass(frozen=True)
class Device:
    name: Annotated[
        str, matching("auto, cpu or cuda (CUDA_VISIBLE_DEVICES says which GPU)", "auto|cpu|cuda")
    ]
    precision: Annotated[str, one_of("auto", "float32", "tf32", "bfloat16")]
    threads: Annotated[int, between(1, 1024)]
    shards: Annotated[int, power_of_two(64)]
    numerics: Annotated[str, one_of("portable", "native")]


@dataclass(frozen=True)
class Synthesize:
    layout: Annotated[str | None, one_of(*RENDERED, "sources", "none")]
    structure: str | None
    seed: Annotated[int, between(0, 2**31 - 1)]
    train_persons: Annotated[int, between(2, 533)]
    val_persons: Annotated[int, between(0, 533)]
    test_persons: Annotated[int, between(1, 533)]
    images_per_camera: Annotated[int, between(1, 100)]
    infrared_counts: Annotated[str, one_of("halves", "equal", "skewed")]
    unpaired: Annotated[float, between(0, 0.9)]
    source_persons: Annotated[int, between(2, 1501)]
    source_images: Annotated[int, between(2, 100)]
    height: Annotated[int, between(32, 512)]
    width: Annotated[int, between(16, 256)]


@dataclass(frozen=True)
class Spcl:
    source: Annotated[str, one_of(*SOURCES)]
    epochs: Annotated[int, between(1, 1000)]
    steps: Annotated[int, between(1, 100_000)]
    warmup_epochs: Annotated[int, between(0, 1000)]
    warmup_rate: Annotated[float, positive()]
    batch: Annotated[int, between(2, 4096)]
    instances: Annotated[int, between(2, 64)]
    height: Annotated[int | None, between(16, 2048)]
    width: Annotated[int | None, between(8, 2048)]
    learning_rate: Annotated[float, positive()]
    weight_decay: Annotated[float, between(0, 1)]
    decay_every: Annotated[int, between(1, 1000)]
    decay: Annotated[float, share()]
    k1: Annotated[int, between(2, 1000)]
    k2: Annotated[int, between(1, 1000)]
    radius: Annotated[float, share()]
    radius_gap: Annotated[float, share()]
    min_samples: Annotated[int, between(1, 1000)]
    independence_quantile: Annotated[float, share()]
    momentum: Annotated[float, between(0, 0.999)]
    temperature: Annotated[float, positive()]
    statistics_group: Annotated[int | None, between(2, 4096)]
    flip: Annotated[float, share()]
    pad: Annotated[int, between(0, 256)]
    erase: Annotated[float, share()]
    mixture: Annotated[float, share()]
    gamma: Annotated[tuple[float, float], limits()]


@dataclass(frozen=True)
class Train:
    setting: Annotated[str, one_of("unsupervised", "semi-supervised", "supervised")]
    objective: Annotated[str, one_of("otla", "prototypes")]
    epochs: Annotated[int, between(1, 10_000)]
    steps: Annotated[int | None, between(1, 1_000_000)]
    epoch_multiplier: Annotated[int, between(1, 100)]
    persons: Annotated[int, between(2, 512)]
    images: Annotated[int, between(2, 512)]
    learning_rate: Annotated[float, positive()]
    backbone_rate: Annotated[float, between(0, 1)]
    weight_decay: Annotated[float, between(0, 1)]
    warmup_epochs: Annotated[int, between(0, 1000)]
    milestones: tuple[int, ...]
    decay: Annotated[float, share()]
    margin: Annotated[float, between(0, 100)]
    triplet_scope: Annotated[str, one_of("modality", "joint")]
    weight_ce_visible: Annotated[float, between(0, 100)]
    weight_triplet_visible: Annotated[float, between(0, 100)]
    weight_ce_infrared: Annotated[float, between(0, 100)]
    weight_triplet_infrared: Annotated[float, between(0, 100)]
    grayscale: Annotated[float, share()]
    exchange: Annotated[float, share()]
    mixture: Annotated[float, share()]
    gamma: Annotated[tuple[float, float], limits()]
    infrared_gamma: Annotated[tuple[float, float], limits()]
    flip: Annotated[float, share()]
    erase: Annotated[float, share()]
    erase_channel: Annotated[float, share()]
    keep_outliers: bool
    selection: Annotated[str, one_of("last", "validation")]


@dataclass(frozen=True)
class Den:
    enabled: bool
    weight: Annotated[float, between(0, 100)]
    tau: Annotated[float, positive()]
    max_steps: Annotated[int, between(1, 100_000_000)]
    step: Annotated[int, between(1, 1000)]
    levels: Annotated[str, one_of("all", "last")]
    dropout: Annotated[float, between(0, 0.99)]


@dataclass(frozen=True)
class Otla:
    assignment: Annotated[str, one_of(*ASSIGNMENTS)]
    delta: Annotated[float, positive()]
    rows: Annotated[str, one_of("images", "clusters")]
    label_prior: Annotated[str, one_of("uniform", "visible", "estimated")]
    prior_momentum: Annotated[float, share()]
    label_slack: Annotated[float, between(0, 1000)]
    solver: Annotated[str, one_of(*SOLVERS)]
    tolerance: Annotated[float, more_than(0, 1)]
    max_iterations: Annotated[int | None, between(1, 10_000_000)]
    predict: Annotated[str, one_of("all", "visited")]
    predict_mode: Annotated[str, one_of("eval", "train")]
    label_lag: Annotated[int, between(0, 1)]
    infrared_from_epoch: Annotated[int, between(0, 10_000)]


@dataclass(frozen=True)
class Clusters:
    share: Annotated[float, more_than(0, 1)]
    k1: Annotated[int, between(2, 1000)]
    k2: Annotated[int, between(1, 1000)]
    radius: Annotated[float, between(0.001, 0.999)]
    min_samples: Annotated[int, between(1, 1000)]


@dataclass(frozen=True)
class Prototypes:
    association: Annotated[str, one_of(*ASSOCIATIONS)]
    views: Annotated[int, between(1, 2)]
    own_epochs: Annotated[int, between(0, 10_000)]
    restart_rate: bool
    momentum: Annotated[float, share()]
    temperature: Annotated[float, positive()]
    teacher_temperature: Annotated[float, positive()]
    weight_own: Annotated[float, between(0, 100)]
    weight_unified: Annotated[float, between(0, 100)]
    weight_distillation: Annotated[float, between(0, 100)]


@dataclass(frozen=True)
class Pal:
    enabled: bool
    weight: Annotated[float, between(0, 100)]
    lambda_vr: Annotated[float, between(0, 100)]
    lambda_rv: Annotated[float, between(0, 100)]
    values: Annotated[str, one_of("logits", "predictions")]
    detach: bool


@dataclass(frozen=True)
class Evaluate:
    modes: Annotated[tuple[str, ...] | None, each_of(*MODES)]
    draws: Annotated[str, one_of("agw", "official")]
    official_draws: str | None
    trials: Annotated[int, between(1, 10)]
    shots: Annotated[int, between(1, 10)]
    flip: bool
    features: Annotated[str, one_of("after", "before")]
    split: Annotated[str, one_of("test", "val")]
    rerank: bool
    rerank_k1: Annotated[int, between(1, 1000)]
    rerank_k2: Annotated[int, between(1, 1000)]
    rerank_lambda: Annotated[float, share()]
    batch: Annotated[int, between(1, 4096)]


@dataclass(frozen=True)
class Export:
    tolerance: Annotated[float, more_than(0, 1)]
    int8: bool


SECTIONS = {
    "data": Data,
    "images": Images,
    "network": Network,
    "device": Device,
    "synthesize": Synthesize,
    "spcl": Spcl,
    "train": Train,
    "den": Den,
    "otla": Otla,
    "pal": Pal,
    "clusters": Clusters,
    "prototypes": Prototypes,
    "evaluate": Evaluate,
    "export": Export,
}
