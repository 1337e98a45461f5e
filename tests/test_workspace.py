"""The kept copy in which comparisons run: what it holds, and that it touches nothing of the user's.

Runs in it are tested with the comparisons (tests/test_experiments.py).
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from experiments.repository import Repository
from experiments.workspace import CLONES, Workspace

FILES = {
    "dvc.yaml": "stages: {}\n",
    "params.yaml": "seed: 0\n",
    "stages/a.py": "a\n",
    "stages/b.py": "b\n",
    ".gitignore": "/data/\n/logs/\n",
    ".dvc/config": "[core]\n    analytics = false\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=60
    ).stdout


@pytest.fixture(params=["alone", "subfolder", "linked", "beyond ASCII é 中"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is a repository, a folder of one, or a linked work tree; it has changes."""
    top = tmp_path / ("repository" if request.param.isalpha() else request.param)
    project = top / "project" if request.param == "subfolder" else top
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    if request.param == "linked":
        project = tmp_path / "linked"
        git(top, "worktree", "add", "-q", str(project))
    (project / "params.yaml").write_text("seed: 1\n")
    (project / "stages/b.py").unlink()
    (project / "stages/staged.py").write_text("staged\n")
    git(project, "add", "stages/staged.py")
    (project / "unknown.txt").write_text("unknown\n")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(project)
    return project


def seen(folder: Path) -> dict[str, str]:
    """The files of a copy, without those that git ignores."""
    listed = git(folder, "ls-files", "--cached", "--others", "--exclude-standard").split()
    return {name: (folder / name).read_text() for name in listed if (folder / name).exists()}


def test_it_holds_what_git_knows_with_the_changes_of_now(folder: Path) -> None:
    before = git(folder, "status", "--short"), git(folder, "diff", "HEAD"), seen(folder)
    with Workspace(Repository()) as workspace:
        expected = FILES | {"params.yaml": "seed: 1\n", "stages/staged.py": "staged\n"}
        del expected["stages/b.py"]
        assert seen(workspace.folder) == expected
        head = git(folder, "rev-parse", "HEAD")
        assert git(workspace.folder, "rev-parse", "HEAD") == head
    (folder / "stages/a.py").write_text("later\n")
    with Workspace(Repository()) as workspace:
        assert (workspace.folder / "stages/a.py").read_text() == "later\n"
    (folder / "stages/a.py").write_text("a\n")
    assert (git(folder, "status", "--short"), git(folder, "diff", "HEAD"), seen(folder)) == before


def test_whatever_a_killed_run_left_is_put_back(folder: Path) -> None:
    with Workspace(Repository()) as workspace:
        expected = seen(workspace.folder)
    copy = workspace.folder
    (copy / "stages/a.py").unlink()
    (copy / "params.yaml").write_text("half")
    (copy / "left.txt").touch()
    git(copy, "add", "-A")
    git(copy, "commit", "-qm", "half")
    git(copy, "update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    git(copy, "symbolic-ref", "refs/exps/exec/EXEC_BRANCH", "refs/exps/nothing")
    (workspace.clone / ".git/index.lock").touch()
    (copy / "data").mkdir()
    (copy / "data/kept").touch()
    with Workspace(Repository()):
        assert seen(copy) == expected
        assert git(copy, "rev-parse", "HEAD") == git(folder, "rev-parse", "HEAD")
        assert (copy / "data/kept").exists()
        assert git(copy, "for-each-ref") == ""


def test_it_has_the_users_cache_and_local_settings(folder: Path) -> None:
    local = "[core]\n    remote = near\n['remote \"near\"']\n    url = ../../near\n"
    (folder / ".dvc/config.local").write_text(local)
    for text in (local, None):
        if text is None:
            (folder / ".dvc/config.local").unlink()
        with Workspace(Repository()) as workspace, Repo(str(workspace.folder)) as copy:
            assert copy.cache.local_cache_dir == str(folder / ".dvc/cache")
            assert copy.config["core"].get("remote") == (text and "near")
            if text:
                assert Path(copy.config["remote"]["near"]["url"]) == folder.parent / "near"


def test_a_second_comparison_at_the_same_time_is_refused(folder: Path) -> None:
    with (
        Workspace(Repository()),
        pytest.raises(ValueError, match=r"^another comparison runs in this repository"),
        Workspace(Repository()),
    ):
        pass
    with Workspace(Repository()):
        pass


def test_a_copy_that_was_deleted_or_moved_with_the_repository_is_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(Repository()) as workspace:
        expected = seen(workspace.folder)
    shutil.rmtree(CLONES)
    with Workspace(Repository()) as workspace:
        assert seen(workspace.folder) == expected
    if (folder / ".git").is_dir():
        moved = tmp_path / "moved"
        folder.rename(moved)
        monkeypatch.chdir(moved)
        with Workspace(Repository()) as workspace:
            assert seen(workspace.folder) == expected
