"""What git knows: whether experiments can run here, which ones there are, and their files.

`python -m experiments.repository` says in one line why DVC cannot work in the current folder, and
removes what would stop DVC after it was killed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.parts.run.stage import InputError

# What decides a result, next to params.yaml, whose values a run changes.
CODE = ("stages", "dvc.yaml")


class Repository:
    """The git repository of the working folder.

    Raises:
        InputError: if DVC could not keep an experiment, or would leave out a file of the code.
    """

    def __init__(self) -> None:
        check_folder()
        if find_spec("dvc") is None:
            raise InputError(
                "DVC is not installed; install requirements.txt, or use .venv/bin/python"
            )
        try:
            self.head = git("rev-parse", "--verify", "HEAD^{commit}").strip()
        except InputError:
            raise InputError(
                "this git repository has no commit, which DVC's experiments start from; "
                "run git add -A && git commit -m start"
            ) from None
        if git("rev-parse", "--is-shallow-repository").strip() == "true":
            raise InputError(
                "this is a shallow clone, in which DVC saves no experiment; "
                "run git fetch --unshallow"
            )
        unknown = git("ls-files", "--others", "--exclude-standard", "--", *CODE).split("\n")[0]
        if unknown:
            raise InputError(
                f"{unknown} is not known to git, so an experiment would run without it; "
                "git add it first"
            )

    def state(self) -> str:
        """Return a hash of HEAD and of everything in the work tree that decides a result."""
        changes = git("diff", "--binary", "HEAD", "--", *CODE, "params.yaml")
        return hashlib.sha256((git("rev-parse", "HEAD") + changes).encode()).hexdigest()

    def is_changed(self) -> bool:
        """Return whether the code or params.yaml have changes that are not committed."""
        return bool(git("diff", "--name-only", "HEAD", "--", *CODE, "params.yaml").strip())

    def find(self, name: str) -> str | None:
        """Return the commit of the experiment `name` of HEAD, or None."""
        return git("for-each-ref", "--format=%(objectname)", self.reference(name)).strip() or None

    def reference(self, name: str) -> str:
        """Return the reference by which DVC knows the experiment `name` of HEAD."""
        return f"refs/exps/{self.head[:2]}/{self.head[2:]}/{name}"

    def work_tree(self) -> str:
        """Return a git tree of the tracked files as they are now; the user's index stays."""
        with TemporaryDirectory() as folder:
            index = Path(folder) / "index"
            shutil.copy(git("rev-parse", "--git-path", "index").strip(), index)
            git("add", "--update", ":/", index=index)
            return git("write-tree", index=index).strip()

    def has_code_of(self, commit: str) -> bool:
        """Return whether the work tree's code is that of `commit`."""
        return not git("diff", "--name-only", commit, "--", *CODE).strip()

    def read(self, commit: str, path: str) -> str | None:
        """Return the text of the file `path` in `commit`; None if it is not there."""
        try:
            return git("show", f"{commit}:./{path}")
        except InputError:
            return None


def check_folder() -> None:
    """Check that DVC can work in the current folder. It would say so after the first stage, or not.

    Raises:
        InputError: if there is no git, no repository, one that git refuses to read, or one whose
            path the locale does not spell.
    """
    if shutil.which("git") is None:
        raise InputError("git is not on PATH; DVC keeps experiments as git commits")
    try:
        str(Path.cwd()).encode()
    except UnicodeEncodeError:
        raise InputError(
            "the path of this folder has letters that are none in this locale, which ends DVC; "
            "run export LC_ALL=C.UTF-8 first, or move it to a path of ASCII letters"
        ) from None
    try:
        git("rev-parse", "--git-dir")
    except InputError as error:
        if "safe.directory" in str(error):
            command = str(error).partition("git config")[2].strip()
            raise InputError(
                "this repository belongs to another user, so git and DVC refuse it; "
                f"run git config {command}"
            ) from None
        raise InputError(
            f"{Path.cwd()} is not a git repository (a download as ZIP is none), which DVC needs; "
            "clone the project with git, or run git init && git add -A && git commit -m start"
        ) from None


def remove_broken_locks(folder: Path) -> None:
    """Delete DVC's list of the files in use if a DVC that was killed left it half written.

    DVC removes a killed process from this list, but refuses a list that it cannot read.

    Args:
        folder: that of the repository's `.dvc`.
    """
    path = folder / ".dvc/tmp/rwlock"
    if not path.exists():
        return
    with path.with_suffix(".lock").open("a", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # DVC holds it while it writes the list
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            path.unlink()


def git(*arguments: str, index: Path | None = None) -> str:
    """Return what git prints, with `index` in place of its own if one is given.

    Raises:
        InputError: if git fails; the message has the last line of its complaint.
    """
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    done = subprocess.run(
        ["git", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"git {' '.join(arguments)}: {complaint[-1]}")
    return done.stdout


if __name__ == "__main__":
    try:
        check_folder()
        remove_broken_locks(Path())
    except InputError as error:
        sys.exit(f"error: {error}")
