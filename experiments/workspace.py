"""The kept copies of the repository in which the runs of comparisons take place.

`dvc exp run --temp` makes a new copy for each run, in which DVC checks out and hashes thousands of
images again. Here the files stay from row to row, so DVC knows those that did not change. The copy
is a git repository of its own that borrows the objects of the user's. It has the user's DVC cache,
so rows that share a stage share its run.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import IO

from experiments.process import call_dvc
from experiments.repository import Repository, git
from experiments.runs import Run
from stages.parts.run.files import LOGS, read_json, whole_folder
from stages.parts.run.stage import InputError

CLONES = Path(".dvc/tmp/comparisons")


class Workspace:
    """A copy of HEAD with the uncommitted changes, as they are when it is opened.

    Runs that are on at the same time have copies of different numbers.

    Raises:
        InputError: if another comparison runs in this repository.
    """

    handing_over = Lock()  # two runs that end together do not write the user's repository together

    def __init__(
        self, repository: Repository, number: int = 0, lock: IO[str] | None = None
    ) -> None:
        self.repository = repository
        self.lock = lock  # that of the first copy, for the others of the same comparison
        self.clone = (CLONES / str(number)).absolute()
        self.folder = self.clone / git("rev-parse", "--show-prefix").strip()

    def __enter__(self) -> "Workspace":
        self.clone.parent.mkdir(parents=True, exist_ok=True)
        if self.lock is None:
            self.lock = _locked(CLONES.absolute().with_suffix(".lock"))
        self.tree = self.repository.work_tree()
        if not self.clone.exists():
            with whole_folder(self.clone) as part:
                git("init", "--quiet", "--template=", str(part))  # without the user's hooks
        objects = Path(git("rev-parse", "--git-path", "objects").strip()).absolute()
        (self.clone / ".git/objects/info/alternates").write_bytes(os.fsencode(objects) + b"\n")
        for key in ("user.name", "user.email"):
            value = git("config", "--default", "", "--get", key).strip()
            if value:
                self._git("config", key, value)
        self.reset()
        self._write_config()
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock is not None:
            self.lock.close()

    def reset(self) -> None:
        """Put all tracked files back, whatever a run left."""
        (self.clone / ".git/index.lock").unlink(missing_ok=True)  # of a git that was killed
        (self.folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)  # of a DVC that was killed
        self._forget()
        self._git("update-ref", "--no-deref", "HEAD", self.repository.head)
        self._git("read-tree", "--reset", "-u", self.tree)
        self._git("clean", "--quiet", "-d", "--force")

    def run(self, run: Run, output: IO[str], tick: Callable[[], None]) -> int:
        """Run the experiment; see `call_dvc`. Return DVC's exit code.

        It starts from what the last run left but for params.yaml: dvc.lock is that of the files
        that are here. With another one DVC would check out every file that differs.
        """
        self._forget()
        self._git("checkout", "--quiet", self.tree, "--", str(self.folder / "params.yaml"))
        assert self.lock is not None  # the copy is open
        code = call_dvc(run.command, self.folder, output, tick, self.lock)
        if code:
            self.reset()
        return code

    def stage_seconds(self) -> float:
        """Return the run times of the stages that the last run did not find in DVC's cache."""
        paths = (self.folder / LOGS).glob("*.json")
        return sum(float(read_json(path)["seconds"]) for path in paths)

    def hand_over(self, name: str) -> str | None:
        """Make the experiment `name` one of the user's repository. Return its commit, if any.

        An experiment of that name is replaced.
        """
        reference = self.repository.reference(name)
        if not self._git("for-each-ref", reference):
            return None
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head")
        with self.handing_over:
            git("fetch", *quiet, str(self.clone), f"+{reference}:{reference}")
        return self.repository.find(name)

    def _forget(self) -> None:
        """Delete the experiment of the last run and the times of its stages."""
        for reference in self._git("for-each-ref", "--format=%(refname)").split():
            self._git("update-ref", "--no-deref", "-d", reference)
        shutil.rmtree(self.folder / LOGS, ignore_errors=True)

    def _git(self, *arguments: str) -> str:
        return git("-C", str(self.clone), *arguments)

    def _write_config(self) -> None:
        """Give DVC the user's local settings, and the user's cache."""
        from dvc.config import Config  # takes a second, which other commands need not wait for
        from dvc.config_schema import RelPath
        from dvc.repo import Repo

        with Repo() as repo:
            local = repo.config.read("local")
            cache = repo.cache.local_cache_dir
        (self.folder / ".dvc/config.local").unlink(missing_ok=True)
        with Config(str(self.folder / ".dvc")).edit("local") as config:
            config.update(local)
            config["cache"]["dir"] = RelPath(cache)  # DVC writes ASCII only; a path may have more


def _locked(path: Path) -> IO[str]:
    """Return the open file `path`, which one process at a time may lock; InputError if one has."""
    lock = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InputError("another comparison runs in this repository; wait for its end") from None
    return lock
