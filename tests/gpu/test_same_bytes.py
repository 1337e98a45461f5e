"""The stages on a GPU: the same bytes in two runs, and in a run that was killed and goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages.parts.run.files import file_hash
from tests.builders import ROOT, write_parameters

STAGES = ("synthesize", "prepare", "prepare.source", "pseudo_label", "train", "evaluate")
TINY = {
    "synthesize.train_persons": 24,
    "synthesize.val_persons": 4,
    "synthesize.test_persons": 12,
    "synthesize.source_persons": 40,
    "synthesize.source_images": 6,
    "spcl.epochs": 2,
    "spcl.steps": 20,
    "spcl.warmup_epochs": 4,
    "spcl.statistics_group": 16,
    "spcl.k1": 8,
    "spcl.k2": 2,
    "spcl.radius": 0.7,
    "train.epochs": 3,
    "train.steps": 20,
    "train.persons": 3,
    "train.warmup_epochs": 1,
    "evaluate.trials": 3,
}
RESULTS = (
    "models/pseudo_label.safetensors",
    "models/network.safetensors",
    "data/labels/visible.csv",
    "data/labels/infrared.csv",
    "metrics/train.json",
    "metrics/evaluate.json",
)


def start(stage: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.gpu.stand_ins", f"stages.{stage}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VIREID_TRACEBACK": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(stage: str, folder: Path) -> str:
    """Run a stage; return what it said."""
    process = start(stage, folder)
    said, _ = process.communicate()
    assert process.returncode == 0, said[-2000:]
    return said


def hashes(folder: Path) -> dict[str, str]:
    return {name: file_hash(folder / name) for name in RESULTS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder in which all stages have run on the GPU, and the hashes of what they wrote."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    folder = tmp_path_factory.mktemp("run")
    for name in ("stages", "tests", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "metrics").mkdir()
    write_parameters(folder, TINY | {"device.name": "cuda"})
    for stage in STAGES:
        run(stage, folder)
    return folder, hashes(folder)


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(finished: tuple[Path, dict[str, str]]) -> None:
    """Slow: the three stages that use the GPU, again."""
    folder, first = finished
    for stage in ("pseudo_label", "train", "evaluate"):
        run(stage, folder)
    assert hashes(folder) == first


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pseudo_label", "train"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    finished: tuple[Path, dict[str, str]], stage: str
) -> None:
    """Slow: a stage once and a half."""
    folder, first = finished
    process = start(stage, folder)
    assert process.stdout
    for line in process.stdout:
        if f"{stage}: epoch" in line:  # the first epoch has ended
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "going on after epoch" in run(stage, folder)
    assert hashes(folder) == first
