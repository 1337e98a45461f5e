"""`dvc repro` that is killed at any moment, or that runs twice, ends with the bytes of a quiet run.

About three minutes: one quiet run, and another that is killed twenty times. Each time DVC and the
stage start anew, which takes longer than the work of the stages.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from experiments.repository import remove_broken_locks
from stages.parts.run.files import file_hash
from tests.repository import Repository, new_repository

SEED = 0
EPOCHS = {"spcl.warmup_epochs": 2, "spcl.epochs": 2, "train.epochs": 4}
RUNNING = r"Running stage '(\w+)'"
pytestmark = pytest.mark.slow


class Moment(NamedTuple):
    """When DVC is killed: some seconds after a line was printed, or a file or folder was there."""

    line: str  # pattern; empty: as soon as the process has started
    path: str  # pattern of a path in the repository; empty: the line is enough
    longest: float  # the delay in seconds is a random share of this


def within(stage: str, seconds: float) -> Moment:
    return Moment(f"Running stage '{stage}'", "", seconds)


def saving(stage: str) -> Moment:
    """While a checkpoint is written, which takes milliseconds."""
    return Moment(f"Running stage '{stage}'", f".ckpt/.{stage}-*.part/*", 0.01)


def last_epoch(stage: str) -> Moment:
    """After the last epoch, while the results are written."""
    return Moment(f"{stage}: (epoch +|going on after epoch )4", "", 0.2)


def unrecorded(stage: str) -> Moment:
    """After the end of the stage, before DVC has recorded the results."""
    return Moment(f"Running stage '{stage}'", f".ckpt/{stage}-*.finished", 0.1)


# In the order of the pipeline. The seconds are less than the stage takes on a fast machine, so that
# no training gets past the moment that comes next.
MOMENTS = (
    Moment("", "", 1.5),
    within("synthesize", 1.2),
    Moment("Running stage 'synthesize'", "data/.synthetic.*.part", 0.5),
    Moment("Generating lock file", "", 0.1),
    within("prepare", 0.8),
    within("source", 0.8),
    Moment("Updating lock file", "", 0.1),
    within("pseudo_label", 3),
    saving("pseudo_label"),
    saving("pseudo_label"),
    last_epoch("pseudo_label"),
    unrecorded("pseudo_label"),
    Moment("", "", 3),
    within("train", 3),
    saving("train"),
    saving("train"),
    last_epoch("train"),
    unrecorded("train"),
    within("evaluate", 2.5),
    within("export", 2),
    within("report", 2),
)


def start_again(repository: Repository) -> "Run":
    """`dvc repro` once more, after what `make repro` and the README do first."""
    remove_broken_locks(repository.folder)
    recorded = repository.folder / "dvc.lock"
    if recorded.exists() and not is_yaml(recorded):
        recorded.unlink()
    return Run(repository)


def is_yaml(path: Path) -> bool:
    """Whether dvc.lock is whole."""
    try:
        return "stages" in yaml.safe_load(path.read_text())
    except (yaml.YAMLError, TypeError):
        return False


class Run:
    """`dvc repro` in a process group of its own; what it prints is read while it runs."""

    def __init__(self, repository: Repository, *arguments: str) -> None:
        self.folder = repository.folder
        self.printed = ""
        self.process = subprocess.Popen(
            ["dvc", "repro", *arguments],
            cwd=repository.folder,
            env=repository.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.printed += line

    def wait_for(self, moment: Moment, delay: float) -> None:
        """Return `delay` seconds after the moment, or when the process has ended."""
        while self.process.poll() is None and not self._is_at(moment):
            time.sleep(0.001)
        time.sleep(delay)

    def _is_at(self, moment: Moment) -> bool:
        has_line = re.search(moment.line, self.printed)
        return bool(has_line and (not moment.path or any(self.folder.glob(moment.path))))

    def kill(self) -> None:
        """Kill the whole group, and wait for its end."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait()
        self._reader.join()
        return code

    @property
    def stage(self) -> str | None:
        """The stage that was started last."""
        return (re.findall(RUNNING, self.printed) or [None])[-1]


def results(repository: Repository) -> dict[str, str]:
    """The hash of every result, by path; what is below data/ includes images and labels."""
    tops = [repository.folder / name for name in ("data", "metrics", "models", "dvc.lock")]
    paths = [path for top in tops for path in (top, *top.rglob("*")) if path.is_file()]
    return {str(path.relative_to(repository.folder)): file_hash(path) for path in paths}


def paths(repository: Repository) -> set[str]:
    """Every file and folder but those of git, of DVC's own records and of Python."""
    found = {path.relative_to(repository.folder) for path in repository.folder.rglob("*")}
    own = re.compile(r"\.git/|\.dvc/tmp|.*__pycache__")
    return {str(path) for path in found if not own.match(str(path))}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which `dvc repro` has run undisturbed."""
    repository = new_repository(tmp_path_factory.mktemp("quiet") / "repository", EPOCHS)
    repository.run("dvc", "repro")
    return repository


def test_a_run_that_is_killed_twenty_times_ends_with_the_same_bytes(
    quiet: Repository, tmp_path: Path
) -> None:
    repository = new_repository(tmp_path / "repository", EPOCHS)
    draw = random.Random(SEED)
    log, hits = "", []
    for moment in MOMENTS:
        delay = draw.uniform(0, moment.longest)
        run = start_again(repository)
        run.wait_for(moment, delay)
        assert run.process.poll() is None, f"{moment} did not come\nseed {SEED}\n{log}{run.printed}"
        run.kill()
        hits.append(run.stage)
        log += f"{run.printed}\n--- killed in {run.stage}, {delay:.3f} s after {moment}\n"
    last = start_again(repository)
    code = last.end()
    log = f"seed {SEED}\n{log}{last.printed}"
    assert code == 0, log
    assert results(repository) == results(quiet), log
    assert paths(repository) == paths(quiet), log
    stages = set(re.findall(RUNNING, log))
    assert len(stages) == 8
    assert stages <= set(hits), log
    for stage in ("pseudo_label", "train"):
        assert f"{stage}: going on after epoch" in log, log
    epochs = re.findall(r"\w+: epoch +\d+/\d+", log)  # each is printed when its state is saved
    assert len(set(epochs)) == len(epochs), log


def test_of_two_runs_at_once_the_second_says_which_one_it_would_disturb(
    quiet: Repository, tmp_path: Path
) -> None:
    """It ends at once; DVC reports it in a few lines of its own."""
    repository = Repository(shutil.copytree(quiet.folder, tmp_path / "repository", symlinks=True))
    first = Run(repository, "-f", "-s", "train")
    first.wait_for(Moment("Running stage 'train'", "", 0), 0)
    second = Run(repository, "-f", "-s", "train")
    assert second.end() != 0
    assert first.end() == 0, first.printed
    assert re.search(rf"'train'.* is busy, .*:\n +\(PID {first.process.pid}\)", second.printed)
    assert "Traceback" not in second.printed
    repository.run("dvc", "repro")
    assert results(repository) == results(quiet)
