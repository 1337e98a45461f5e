"""A tiny data set with two seeds and two targets, on which the training stages run in seconds."""

import itertools
from pathlib import Path
from typing import Any

from stages.evaluate import __main__ as evaluate
from stages.export import __main__ as export
from stages.parts.run.stage import run_stage
from stages.prepare import __main__ as prepare
from stages.prepare import source
from stages.pseudo_label import __main__ as pseudo_label
from stages.train import __main__ as train
from tests import builders

CAMERAS = {"visible": (1, 2, 4, 5), "infrared": (3, 6)}
TEST_SPLITS = {"visible": "gallery", "infrared": "query"}
SMALL = {
    "device.name": "cpu",
    "device.threads": 1,
    "network.architecture": "narrow",
    "network.weights": "none",
    "spcl.epochs": 1,
    "spcl.steps": 2,
    "spcl.warmup_epochs": 2,
    "spcl.batch": 12,
    "spcl.k1": 6,
    "spcl.k2": 2,
    "spcl.min_samples": 2,
    "train.setting": "semi-supervised",
    "train.epochs": 2,
    "train.steps": 2,
    "train.persons": 2,
    "train.images": 2,
    "evaluate.trials": 2,
}
STAGES = {"pseudo_label": pseudo_label, "train": train, "evaluate": evaluate, "export": export}


def write_images(
    target: Path = prepare.FOLDER, first: int = 10, height: int = 32, width: int = 16
) -> None:
    """A target with 6 people for training, 3 for validation, 3 for the test; a source.

    Other numbers from `first` on make another target with tables of the same shape.
    """
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    images = [
        (first + number, camera, modality, TEST_SPLITS[modality] if split == "test" else split)
        for (number, split), modality in itertools.product(enumerate(splits), CAMERAS)
        for camera in CAMERAS[modality]
        for _ in range(2)
    ]
    builders.store(target, images, height, width)
    people = [
        (100 + number, camera, "visible", "train")
        for number, camera, _ in itertools.product(range(6), (1, 2, 3), range(2))
    ]
    builders.store(source.FOLDER, people, height, width)


def run(name: str, changes: dict[str, Any] | None = None) -> None:
    """Write params.yaml with SMALL and `changes`, and run a stage in this process."""
    builders.write_parameters(Path.cwd(), SMALL | (changes or {}))
    if name in ("evaluate", "export"):
        STAGES[name].main()
    else:
        with run_stage(name):
            STAGES[name].main()
