"""The pipeline as a user runs it: `dvc repro` and `dvc exp run` in a small repository of its own.

One repository and one default run for all tests of this file, in the order of the file. It takes
some minutes, because each of some thirty stage runs, and DVC as often, starts Python anew.
"""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages.parts.run.files import file_hash
from stages.parts.run.settings import Synthesize
from stages.synthesize.trees import write_tree
from tests.builders import ROOT
from tests.repository import Repository, new_repository

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = new_repository(tmp_path_factory.mktemp("pipeline") / "repository")
    made.run("dvc", "repro")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "first run")
    return made


def test_a_run_leaves_nothing_to_do(repository: Repository) -> None:
    repository.run("dvc", "status", "-q")
    assert "up to date" in repository.run("dvc", "repro")
    assert repository.run("git", "status", "--short") == ""
    assert not list((repository.folder / ".ckpt").glob("*"))


def test_the_files_between_the_stages_fit(repository: Repository) -> None:
    table = pd.read_csv(repository.folder / "data/images/target/table.csv")
    visible = pd.read_csv(repository.folder / "data/labels/visible.csv")
    infrared = pd.read_csv(repository.folder / "data/labels/infrared.csv")
    training = table[table["split"].isin(["train", "val"])]
    assert (
        visible["row"].tolist() == training.loc[training["modality"] == "visible", "row"].tolist()
    )
    assert (
        infrared["row"].tolist() == training.loc[training["modality"] == "infrared", "row"].tolist()
    )
    assert (repository.folder / "metrics/report/index.html").stat().st_size > 10_000


def test_the_model_is_passed_on_by_a_remote(repository: Repository, tmp_path: Path) -> None:
    """A folder as the remote, as docs/model.md says: a clone and a stranger get the same files."""
    repository.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    repository.run("git", "commit", "-qm", "remote", ".dvc/config")
    repository.run("git", "tag", "-a", "person-search@v1.0.0", "-m", "first")
    repository.run("dvc", "push", "models/export")
    expected = hashes(repository.folder / "models/export")
    assert "README.md" in expected

    clone = cloned(repository, tmp_path / "clone")
    clone.run("dvc", "pull", "models/export")
    assert hashes(clone.folder / "models/export") == expected
    assert not (clone.folder / "data/images").exists()  # nobody else gets the images
    url = str(repository.folder)
    for command in (
        ("dvc", "get", url, "models/export", "-o", "got"),
        ("dvc", "artifacts", "get", url, "person-search", "-o", "got-by-name"),
    ):
        stranger = Repository(tmp_path)
        stranger.run(*command)
        assert hashes(tmp_path / command[-1]) == expected


def test_the_examples_of_the_page_run(repository: Repository, tmp_path: Path) -> None:
    """The blocks of docs/model.md, one after the other, in the folder of the run."""
    page = (ROOT / "docs/model.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace("https://example.org/model.git", str(repository.folder))
        printed = repository.run(sys.executable, "-c", code)
        assert printed.strip()


def test_a_clone_gets_everything_and_has_nothing_to_do(
    repository: Repository, tmp_path: Path
) -> None:
    repository.run("dvc", "push")
    clone = cloned(repository, tmp_path / "clone")
    clone.run("dvc", "pull")
    assert "up to date" in clone.run("dvc", "repro")


def cloned(repository: Repository, folder: Path) -> Repository:
    """A clone by git, without any file that DVC keeps."""
    repository.run("git", "clone", "-q", ".", str(folder))
    return Repository(folder)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in folder.iterdir()}


def test_a_parameter_reruns_what_reads_it(repository: Repository) -> None:
    """Experiments add up: the last one goes back to parameters that have run."""
    for change, expected in (
        ("export.int8=true", ["export", "report"]),
        ("otla.delta=5", ["train", "evaluate", "export", "report"]),
        ("evaluate.trials=2", ["evaluate", "export", "report"]),
        ("spcl.source=msmt17", ["source", "pseudo_label", "train", "evaluate", "export", "report"]),
        ("spcl.source=market1501", []),
    ):
        assert repository.stages("dvc", "exp", "run", "-S", change) == expected, change
    repository.restore()


def test_a_changed_range_marks_no_stage(repository: Repository) -> None:
    """Values are tracked by `params:`; the file of ranges is no dependency."""
    margin = "margin: Annotated[float, between(0, 100)]"
    narrower = margin.replace("100", "10")
    repository.edit("stages/parts/run/settings.py", margin, narrower)
    assert repository.marked() == set()
    repository.restore()


@pytest.mark.parametrize(
    ("name", "users"),
    [
        ("stages/parts/retrieval/index.py", {"evaluate", "export"}),
        ("stages/parts/retrieval/ranking.py", {"evaluate", "export", "train"}),  # validation mAP
        ("stages/export/card.py", {"export"}),
        ("stages/parts/clustering/density.py", {"pseudo_label", "train"}),  # infrared clusters
        ("stages/parts/losses/alignment.py", {"train"}),
        ("stages/parts/__init__.py", set()),
    ],
)
def test_a_changed_line_marks_what_uses_it(
    repository: Repository, name: str, users: set[str]
) -> None:
    path = repository.folder / name
    path.write_text(path.read_text() + "# a line more\n")
    assert repository.marked() == users
    repository.restore()


def test_a_checkpoint_survives_an_edit_of_code_that_its_stage_does_not_use(
    repository: Repository,
) -> None:
    repository.edit("params.yaml", "momentum: 0.2", "momentum: 0.3")
    command = [sys.executable, "-um", "stages.pseudo_label"]
    with subprocess.Popen(
        command, cwd=repository.folder, env=repository.environment, stdout=subprocess.PIPE
    ) as stage:
        assert stage.stdout is not None
        assert b"running on " in stage.stdout.readline()
        assert b"epoch   1/4" in stage.stdout.readline()
        stage.kill()
    index = repository.folder / "stages/parts/retrieval/index.py"
    index.write_text(index.read_text() + "# a line more\n")
    assert "going on after epoch" in repository.run(*command)
    repository.run("git", "checkout", "-q", "--", ".")
    repository.run("dvc", "checkout", "-q", "--force")  # what the stage wrote is in no cache


def test_commands_print_what_a_person_understands(repository: Repository) -> None:
    assert "pseudo_label" in repository.run("dvc", "dag")
    assert "all.rank1" in repository.run("dvc", "metrics", "show")
    assert "index.html" in repository.run("dvc", "plots", "show")
    shown = repository.run(sys.executable, "-m", "stages.report", "--show")
    assert "Rank-1" in shown
    assert "metrics/report/index.html" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "spcl.source=markt1501",
            "spcl.source: 'markt1501' is not one of market1501, dukemtmc, msmt17, folder, none",
        ),
        ("data.root=nowhere", "nowhere"),
        ("dataset=synthetic_regdb", "'synthetic_regdb' is now dataset: regdb and scale: small"),
    ],
)
def test_bad_input_ends_in_one_line_and_costs_nothing(
    repository: Repository, change: str, message: str
) -> None:
    before = repository.read("models/network.safetensors")
    output = repository.run("dvc", "exp", "run", "-S", change, fails=True)
    assert message in output
    assert "Traceback" not in output
    assert repository.read("models/network.safetensors") == before
    repository.restore()


def test_another_tree_of_the_same_shape_runs(repository: Repository, tmp_path: Path) -> None:
    """A tree outside the repository with identities and sizes of its own, the rendered source."""
    small = Synthesize("none", None, 7, 9, 0, 5, 2, "halves", 0.0, 4, 4, 80, 40)
    tree = write_tree("sysu_mm01", tmp_path, small, workers=1)
    ran = repository.stages("dvc", "exp", "run", "-S", f"data.root={tree.parent}")
    assert sorted(ran[:2]) == ["prepare", "source"]
    assert ran[2:] == ["pseudo_label", "train", "evaluate", "export", "report"]


def test_another_data_set_runs_beside_the_work_tree(repository: Repository) -> None:
    """In DVC's copy the data set that is rendered there is read, not the one of the work tree."""
    repository.restore()
    before = repository.read("params.yaml")
    ran = repository.stages(
        "dvc", "exp", "run", "--temp", "-n", "beside", "-S", "dataset=regdb", "evaluate"
    )
    assert sorted(ran) == sorted(
        ["synthesize", "prepare", "source", "pseudo_label", "train", "evaluate"]
    )
    assert repository.read("params.yaml") == before
    found = repository.run(
        "dvc", "metrics", "diff", "HEAD", "beside", "--targets", "metrics/evaluate.json"
    )
    assert "infrared_to_visible.rank1" in found
