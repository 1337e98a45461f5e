"""The pipeline as a user runs it: `dvc repro` and `dvc exp run` in a small repository of its own.

One repository and one default run for all tests of this file, in the order of the file. It takes
some minutes, because each of some thirty stage runs, and DVC as often, starts Python anew.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stages.parts.run.settings import Synthesize
from stages.synthesize.trees import write_tree
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


def test_a_parameter_reruns_what_reads_it(repository: Repository) -> None:
    """Experiments add up: the last one goes back to parameters that have run."""
    for change, expected in (
        ("otla.delta=5", ["train", "evaluate", "report"]),
        ("evaluate.trials=2", ["evaluate", "report"]),
        ("spcl.source=msmt17", ["source", "pseudo_label", "train", "evaluate", "report"]),
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
        ("stages/parts/retrieval/index.py", {"evaluate"}),
        ("stages/parts/retrieval/ranking.py", {"evaluate", "train"}),  # validation mAP
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
    assert ran[2:] == ["pseudo_label", "train", "evaluate", "report"]


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
