"""A small repository of its own with the pipeline in it, for tests that run DVC as people do."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.builders import ROOT, write_parameters

TINY = {
    "synthesize.train_persons": 10,
    "synthesize.val_persons": 2,
    "synthesize.test_persons": 6,
    "synthesize.images_per_camera": 3,
    "synthesize.source_persons": 8,
    "synthesize.source_images": 6,
    "spcl.epochs": 2,
    "spcl.steps": 6,
    "spcl.warmup_epochs": 2,
    "spcl.batch": 16,
    "spcl.k1": 8,
    "spcl.k2": 2,
    "spcl.radius": 0.7,
    "train.epochs": 2,
    "train.steps": 4,
    "train.persons": 3,
    "train.images": 4,
    "train.warmup_epochs": 1,
    "evaluate.trials": 3,
    "device.threads": 1,
}


class Repository:
    """A git repository with the pipeline in it, and the commands people use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder.parent / "site"),
            "OMP_WAIT_POLICY": "PASSIVE",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        for key in ("NAME", "EMAIL"):
            self.environment[f"GIT_AUTHOR_{key}"] = self.environment[f"GIT_COMMITTER_{key}"] = (
                "test@example.org"
            )

    def run(self, *command: str, fails: bool = False) -> str:
        """The output of a command; its exit code must be zero, or with `fails` must not."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def stages(self, *command: str) -> list[str]:
        """The stages that a command really ran."""
        return re.findall(r"Running stage '(\w+)'", self.run(*command))

    def marked(self) -> set[str]:
        """The stages that `dvc status` marks as changed."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that occurs in a file."""
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def restore(self) -> None:
        """Back to the committed run, as the README says."""
        self.run("git", "checkout", "-q", "--", ".")
        self.run("dvc", "checkout", "-q")

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.folder / name).read_bytes()


def new_repository(folder: Path, changes: dict[str, Any] | None = None) -> Repository:
    """A repository in the new folder `folder`: the pipeline, committed, never run.

    Its parameters are TINY with `changes`.
    """
    folder.mkdir()
    for name in ("stages", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("data", "models", "metrics/comparisons"):
        (folder / name).mkdir(parents=True)
        (folder / name / ".gitkeep").touch()
    written = write_parameters(folder, TINY | (changes or {}))
    written.write_text(written.read_text().replace(": null", ":"))  # as the project writes it
    repository = Repository(folder)
    repository.run("git", "init", "-q")
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-qm", "pipeline")
    return repository
