"""Every parameter of `params.yaml`, typed: one frozen dataclass a section.

What a leaf does, the paper's value and the tried range stand beside the leaf in `params.yaml`;
here stand its type and the values that are accepted. A field of type ``X | None`` may be empty.
"""

from dataclasses import dataclass

from stages.parts.run.fields import between, each_of, more_than, one_of, positive, share

LAYOUTS = ("sysu_mm01", "regdb", "llcm")
SOURCES = ("market1501", "dukemtmc", "msmt17", "none")


@dataclass(frozen=True)
class Data:
    layout: str = one_of(*LAYOUTS)
    root: str
    source_root: str | None
    trial: int = between(1, 10)


@dataclass(frozen=True)
class Images:
    height: int = between(16, 2048)
    width: int = between(8, 2048)


@dataclass(frozen=True)
class Network:
    architecture: str = one_of("narrow", "resnet18", "resnet50")
    weights: str  # none | imagenet | the path of a .safetensors file
    start: str = one_of("pseudo_label", "weights")


@dataclass(frozen=True)
class Device:
    name: str  # auto | cpu | cuda | cuda:1 …
    precision: str = one_of("auto", "float32", "bfloat16")
    threads: int = between(1, 1024)


@dataclass(frozen=True)
class Synthesize:
    layout: str = one_of(*LAYOUTS, "none")
    seed: int = between(0, 2**31 - 1)
    train_persons: int = between(2, 533)
    val_persons: int = between(0, 533)
    test_persons: int = between(1, 533)
    images_per_camera: int = between(1, 100)
    source_persons: int = between(2, 1501)
    source_images: int = between(2, 100)
    height: int = between(32, 512)
    width: int = between(16, 256)


@dataclass(frozen=True)
class Spcl:
    source: str = one_of(*SOURCES)
    epochs: int = between(1, 1000)
    steps: int = between(1, 100_000)
    warmup_epochs: int = between(0, 1000)
    warmup_rate: float = positive()
    batch: int = between(2, 4096)
    instances: int = between(2, 64)
    height: int | None = between(16, 2048)
    width: int | None = between(8, 2048)
    learning_rate: float = positive()
    weight_decay: float = between(0, 1)
    decay_every: int = between(1, 1000)
    decay: float = share()
    k1: int = between(2, 1000)
    k2: int = between(1, 1000)
    radius: float = share()
    radius_gap: float = share()
    min_samples: int = between(1, 1000)
    independence_quantile: float = share()
    momentum: float = share()
    temperature: float = positive()
    statistics_group: int | None = between(2, 4096)
    flip: float = share()
    pad: int = between(0, 256)
    erase: float = share()


@dataclass(frozen=True)
class Train:
    setting: str = one_of("unsupervised", "semi-supervised", "supervised")
    epochs: int = between(1, 10_000)
    steps: int | None = between(1, 1_000_000)
    epoch_multiplier: int = between(1, 100)
    persons: int = between(2, 512)
    images: int = between(2, 512)
    learning_rate: float = positive()
    backbone_rate: float = between(0, 1)
    weight_decay: float = between(0, 1)
    warmup_epochs: int = between(0, 1000)
    milestones: tuple[int, ...]
    decay: float = share()
    margin: float = between(0, 100)
    weight_ce_visible: float = between(0, 100)
    weight_triplet_visible: float = between(0, 100)
    weight_ce_infrared: float = between(0, 100)
    weight_triplet_infrared: float = between(0, 100)
    grayscale: float = share()
    flip: float = share()
    erase: float = share()
    keep_outliers: bool


@dataclass(frozen=True)
class Den:
    enabled: bool
    weight: float = between(0, 100)
    tau: float = positive()
    max_steps: int = between(1, 100_000_000)
    step: int = between(1, 1000)
    levels: str = one_of("all", "last")
    dropout: float = between(0, 0.99)


@dataclass(frozen=True)
class Otla:
    assignment: str = one_of("transport", "argmax", "none")
    delta: float = positive()
    label_prior: str = one_of("uniform", "visible")
    solver: str = one_of("newton", "sinkhorn")
    tolerance: float = more_than(0, 1)
    max_iterations: int | None = between(1, 10_000_000)
    infrared_from_epoch: int = between(0, 10_000)


@dataclass(frozen=True)
class Pal:
    enabled: bool
    weight: float = between(0, 100)
    lambda_vr: float = between(0, 100)
    lambda_rv: float = between(0, 100)


@dataclass(frozen=True)
class Evaluate:
    modes: tuple[str, ...] = each_of("all", "indoor", "visible_to_infrared", "infrared_to_visible")
    draws: str = one_of("agw", "official")
    official_draws: str | None
    trials: int = between(1, 10)
    shots: int = between(1, 10)
    flip: bool
    batch: int = between(1, 4096)


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
    "evaluate": Evaluate,
}
