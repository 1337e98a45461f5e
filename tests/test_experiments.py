"""Comparisons: their parameters, their tables, and real DVC experiments of one trivial stage.

Four tests are slow, because each of their dozen experiments starts DVC and git anew.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides
from scipy import stats

from experiments import tables
from experiments.__main__ import main
from experiments.differences import cell, differences, interval
from experiments.differences import table as difference_table
from experiments.plans import PLANS, VARIANTS, Plan, Row, variant
from experiments.repository import remove_broken_locks
from experiments.runner import Result, _reason, duration
from experiments.runs import changed, is_comparable, runs
from stages.parts.run import params

ROOT = Path(__file__).parents[1]
TREE = params.load(ROOT / "params.yaml")
TARGETS = (("sysu_mm01", "small"), ("sysu_mm01", "paper"), ("regdb", "paper"))


def target(dataset: str, scale: str) -> list[str]:
    return [f"dataset={dataset}", f"scale={scale}"]


def planned(
    name: str,
    dataset: str = "sysu_mm01",
    scale: str = "small",
    seeds: tuple[int, ...] = (0,),
) -> list:
    values = seeds if PLANS[name].varies == "seed" else PLANS[name].values
    return runs(name, PLANS[name], values, target(dataset, scale), TREE)


@pytest.mark.parametrize(("dataset", "scale"), TARGETS)
@pytest.mark.parametrize("name", PLANS)
def test_every_row_has_parameters_of_its_own_that_are_accepted(
    name: str, dataset: str, scale: str
) -> None:
    made = planned(name, dataset, scale)
    trees = [json.dumps(run.tree, sort_keys=True) for run in made]
    unchanged = changed(TREE, [*target(dataset, scale), "seed=0"])
    alike = trees.count(json.dumps(unchanged, sort_keys=True))
    assert len(set(trees)) == len(trees)
    assert alike <= 1


def test_names_are_references_of_git() -> None:
    names = [run.name for name in PLANS for run in planned(name)]
    assert len(set(names)) == len(names)
    for name in names:
        subprocess.run(["git", "check-ref-format", f"refs/exps/00/00/{name}"], check=True)


def test_changes_are_what_dvc_makes_of_them(tmp_path: Path) -> None:
    lists = [list(VARIANTS[name]) for name in VARIANTS]
    lists += [[change for run in planned(name)[-1:] for change in run.changes] for name in PLANS]
    lists.append(
        [
            "otla.tolerance=1e-05",
            "otla.max_iterations=null",
            "train.milestones=[3,5]",
            "seed=1",
            "seed=2",
        ]
    )
    for changes in lists:
        copy = tmp_path / "params.yaml"
        shutil.copy(ROOT / "params.yaml", copy)
        apply_overrides(copy, changes)
        assert params.load(copy) == changed(TREE, changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("otla.delat=5", "otla.delat=5: expected key=value"),
        ("otla", "otla: expected key=value"),
        ("otla.delta=-5", "otla.delta: -5.0 is not a number above 0"),
        ("dataset=nope", "'nope' is not one of sysu_mm01"),
        ("scale=nope", "'nope' is not one of small, paper"),
        ("dataset=synthetic", "'synthetic' is now dataset: sysu_mm01 and scale: small"),
        ("data.trial=11", "data.trial: 11 is not a number from 1 to 10"),
    ],
)
def test_a_wrong_change_is_named(change: str, message: str) -> None:
    with pytest.raises(params.ParameterError, match=r"^[^\n]*$") as caught:
        runs("x", Plan("x", (Row("a row", "row", (change,)),)), (0,), (), TREE)
    assert message in str(caught.value)
    assert "a row" in str(caught.value)


def test_the_ablation_is_the_papers_table() -> None:
    rows = {run.row.name: run.tree for run in planned("ablation", "sysu_mm01", "paper")}
    assert len(rows) == 14
    on = {
        name: (t["den"]["enabled"], t["pal"]["enabled"], t["otla"]["assignment"])
        for name, t in rows.items()
    }
    for setting in ("unsupervised", "semi-supervised"):
        assert on[f"{setting}: V-ReID alone"] == (False, False, "none")
        assert on[f"{setting}: + PAL + OTLA"] == (False, True, "transport")
        assert on[f"{setting}: the last, labels by argmax"] == (True, True, "argmax")
    best = next(row for row in PLANS["ablation"].rows if row.slug == "semi-full")
    assert best.published == {"sysu_mm01/semi-supervised": {"all.rank1": 0.4815, "all.map": 0.4386}}


def test_plans_about_one_data_set_have_that_data_set() -> None:
    for dataset, scale in TARGETS:
        made = planned("trials", dataset, scale)
        assert [run.tree["data"]["trial"] for run in made] == list(range(1, 11))
        assert {run.tree["dataset"] for run in made} == {"regdb"}
        assert {run.tree["scale"] for run in made} == {scale}
        of_llcm = planned("llcm", dataset, scale)
        assert {run.tree["dataset"] for run in of_llcm} == {"llcm"}
        assert [run.row.slug for run in of_llcm] == ["usl", "semi"]


def test_lengths_of_the_variants_are_for_real_data_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any(
        "epochs=" in change for change in variant("code", "small") if change.startswith("train.")
    )
    assert "train.epochs=81" in variant("code", "paper")
    assert changed(TREE, ["scale=paper", *variant("paper", "paper")])["den"]["step"] == 1
    assert TREE["scale"] != "paper"
    for options, printed in (
        ([], VARIANTS["paper"]),
        (["-S", "scale=paper"], variant("paper", "paper")),
    ):
        assert main(["variant", "paper", *options]) == 0
        words = capsys.readouterr().out.split()
        assert words[::2] == ["-S"] * len(printed)
        assert tuple(words[1::2]) == printed


def test_published_numbers_compare_with_published_images_only() -> None:
    assert not is_comparable(TREE)
    assert is_comparable(changed(TREE, ["scale=paper"]))
    assert not is_comparable(changed(TREE, ["scale=paper", "data.root=data/synthetic"]))
    assert not is_comparable(changed(TREE, ["data.root=data/raw"]))


def result(rank1: float, seconds: float | None = 10.0) -> Result:
    metrics = {
        "all.rank1": rank1,
        "all.rank5": 0.9,
        "all.map": rank1 / 2,
        "infrared.accuracy": 0.25,
        "visible.ari": 1,
    }
    outside = None if seconds is None else 4.4
    return Result(metrics, {"accuracy_argmax": [0.1, None]}, seconds, outside)


def compared(dataset: str, scale: str, values: dict[str, Result], *changes: str) -> dict:
    origin = {"commit": "0123456789", "uncommitted": False, "dataset": dataset, "scale": scale}
    common = [*target(dataset, scale), *changes]
    made = runs("sources", PLANS["sources"], (0, 1, 2), common, TREE)
    return tables.comparison("sources", PLANS["sources"], made, values, origin)


def test_the_table_shows_mean_and_sample_deviation() -> None:
    found = {
        f"sources-market1501-s{seed}": result(value) for seed, value in enumerate((0.1, 0.2, 0.3))
    }
    found["sources-none-s1"] = result(0.5, None)
    tree = compared("sysu_mm01", "small", found)
    assert [row["name"] for row in tree["rows"]] == ["Market-1501", "none (USL)"]
    first, last = tree["rows"]
    assert first["metrics"]["all.rank1"] == [0.1, 0.2, 0.3]
    assert first["epochs"] == {"accuracy_argmax": [[0.1, None]] * 3}
    assert first["changes"] == [
        "dataset=sysu_mm01",
        "scale=small",
        "train.setting=unsupervised",
        "spcl.source=market1501",
    ]
    assert (last["seeds"], last["seconds"]) == ([1], [None])
    assert tree["table"]["rows"][1] == ["none (USL)", "50.00", "25.00", "25.00", "1.000", "–"]
    lines = tables.text(json.loads(json.dumps(tree))).splitlines()
    assert [" ".join(line.split()) for line in lines[2:5]] == [
        "% all Rank-1 all mAP infrared labels visible ARI seconds",
        "Market-1501 20.00 ± 10.00 10.00 ± 5.00 25.00 ± 0.00 1.000 ± 0.000 10",
        "none (USL) 50.00 25.00 25.00 1.000 –",
    ]
    assert lines[6 : 6 + len(tree["table"]["notes"])] == tree["table"]["notes"]
    assert lines[6] == (
        "Mean ± sample standard deviation over seed 0, 1, 2. "
        "Data set sysu_mm01, scale small, commit 0123456."
    )
    assert "Some runs are missing: none (USL)." in lines
    assert "paper" not in "\n".join(lines[3:])
    assert "Synthetic data: not comparable with published numbers." in lines


def pair_of(first: list[float | None], second: list[float | None], *seeds: list[int]) -> list[dict]:
    """The differences of a second row from the first one, in its figure `x`."""
    plan = Plan("x", (Row("a", "a"), Row("b", "b")))
    both = seeds or (list(range(len(first))), list(range(len(second))))
    rows = [
        {"name": name, "seeds": own, "metrics": {"x": values}}
        for name, own, values in zip("ab", both, (first, second), strict=True)
    ]
    return differences(plan, rows, ["x"])


def test_a_constant_shift_is_the_difference_without_doubt() -> None:
    (found,) = pair_of([0.1, 0.31, 0.17], [0.13, 0.34, 0.2])
    assert (found["row"], found["against"], found["pairs"]) == ("b", "a", 3)
    assert found["points"]["x"] == {"mean": 3.0, "half_width": 0.0}
    assert cell(found["points"]["x"]) == "+3.0 ± 0.0"
    (same,) = pair_of([0.1, 0.3], [0.1, 0.3])
    assert cell(same["points"]["x"]) == "+0.0 ± 0.0 (n. d.)"


def test_pairs_remove_what_a_seed_does_to_both_rows() -> None:
    own = np.array([0.01, -0.02, 0.0, 0.02])
    effect = np.array([0.3, -0.2, 0.1, 0.05])
    (plain,) = pair_of([0.5] * 4, list(0.52 + own))
    (moved,) = pair_of(list(0.5 + effect), list(0.52 + own + effect))
    assert moved["points"] == plain["points"]


def test_the_interval_is_students() -> None:
    values = [0.3, -1.2, 2.5, 0.9, 1.1]
    mean, half_width = interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half_width, mean + half_width) == pytest.approx((low, high), abs=1e-3)


def test_an_interval_that_holds_zero_is_marked_and_explained() -> None:
    (wide,) = pair_of([0.1, 0.2, 0.3], [0.11, 0.19, 0.35])
    (clear,) = pair_of([0.1, 0.2, 0.3], [0.2, 0.31, 0.4])
    assert cell(wide["points"]["x"]).endswith("(n. d.)")
    assert cell(clear["points"]["x"]) == "+10.3 ± 1.4"
    explained = "(n. d.): not distinguishable from 0 at 95 %, the interval holds 0."
    assert explained in difference_table([wide], {"x": "X"}, "seed")["notes"]
    assert explained not in difference_table([clear], {"x": "X"}, "seed")["notes"]


def test_only_seeds_of_both_rows_make_pairs() -> None:
    (found,) = pair_of([0.1, 0.2, 0.9], [0.4, 0.3, 0.1], [0, 1, 3], [1, 0, 2])
    assert found["pairs"] == 2
    assert found["points"]["x"]["mean"] == 20.0
    (one,) = pair_of([0.1, 0.2], [0.4], [0, 1], [1])
    (none,) = pair_of([0.1], [0.4], [0], [1])
    (lacking,) = pair_of([0.1, None], [0.2, 0.3])
    table = difference_table([one, none, lacking], {"x": "X"}, "seed")
    assert [cells[2:] for cells in table["rows"]] == [["1", "+20.0"], ["0", "–"], ["2", "–"]]
    assert "Fewer than two pairs have no interval." in table["notes"]


def test_every_row_is_compared_with_one_that_differs_in_one_part() -> None:
    by_plan = {
        name: {(row.slug, other.slug) for row, other in plan.pairs()}
        for name, plan in PLANS.items()
    }
    assert by_plan["trials"] == set()
    assert by_plan["variants"] == {("paper", "ours"), ("code", "ours")}
    assert ("usl-full", "usl-pal-otla") in by_plan["ablation"]
    assert ("semi-full", "semi-den-otla") in by_plan["ablation"]
    assert len(by_plan["ablation"]) == 2 * 7
    for row, other in PLANS["ablation"].pairs():
        differing = [a != b for a, b in zip(row.changes, other.changes, strict=True)]
        assert differing.count(True) == 1, row.name
    assert ("semi", "usl") in by_plan["settings"]
    assert ("supervised-den", "supervised-b") in by_plan["settings"]


def test_differences_stand_below_the_table() -> None:
    found = {
        f"sources-{slug}-s{seed}": result(value + shift)
        for slug, shift in (("market1501", 0), ("msmt17", 0.1))
        for seed, value in enumerate((0.1, 0.2, 0.3))
    }
    tree = json.loads(json.dumps(compared("sysu_mm01", "small", found)))
    (values,) = tree["differences"]["values"]
    assert (values["row"], values["against"]) == ("MSMT17", "Market-1501")
    assert values["points"]["all.rank1"] == {"mean": 10.0, "half_width": 0.0}
    head = "| difference, points | against | pairs | all Rank-1 | all mAP | infrared labels |"
    lines = tables.text(tree, markdown=True).splitlines()
    start = lines.index(head)
    assert lines[start - 1] == ""
    assert lines[start + 2] == (
        "| MSMT17 | Market-1501 | 3 | +10.0 ± 0.0 | +5.0 ± 0.0 | +0.0 ± 0.0 (n. d.) |"
    )
    assert lines[start + 4 :] == tree["differences"]["notes"]
    assert "MSMT17              Market-1501      3  +10.0 ± 0.0" in tables.text(tree)
    del tree["differences"]  # a file of an earlier version
    assert head not in tables.text(tree, markdown=True)


def test_the_papers_line_stands_below_ours_on_its_data() -> None:
    values = {"sources-market1501-s0": result(0.301)}
    tree = compared("sysu_mm01", "paper", values)
    lines = tables.text(tree, markdown=True).splitlines()
    assert lines[2:6] == [
        "| % | all Rank-1 | all mAP | infrared labels | visible ARI | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| Market-1501 | 30.10 | 15.05 | 25.00 | 1.000 | 10 |",
        "| paper | 29.90 | 27.10 | – | – | – |",
    ]
    assert not any("not comparable" in line for line in lines)
    others = {
        "data.root=data/synthetic": "Synthetic data",
        "evaluate.split=val": "",
        "scale=small": "Synthetic data",
    }
    for change, reason in others.items():
        tree = compared("sysu_mm01", "paper", values, "train.selection=validation", change)
        assert [cells[0] for cells in tree["table"]["rows"]] == ["Market-1501"], change
        assert "published" not in tree["rows"][0]
        note = f"{reason}: not comparable with published numbers."
        assert (note in tree["table"]["notes"]) == bool(reason)
    tree = compared("sysu_mm01", "small", values, "data.root=data/raw")
    note = "Another scale than the paper's: not comparable with published numbers."
    assert note in tree["table"]["notes"]


def test_a_table_of_an_older_version_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "metrics/comparisons/priors.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"plan": "priors", "title": "x", "rows": []}))
    with pytest.raises(
        ValueError, match=r"^metrics/comparisons/priors\.json is of an older"
    ) as error:
        main(["priors", "--show"])
    assert str(error.value).endswith("; run python -m experiments priors again")


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    """As `python -m experiments variant code | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "variant", "code"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_reasons_and_durations() -> None:
    failed = "ERROR: failed to reproduce 'train': exited with 1\n"
    said = f"Running stage\nerror in train: delta is bad\n{failed}"
    assert _reason(said, 255) == "error in train: delta is bad"
    assert _reason("a\nERROR: unable to lock\n", 255) == "ERROR: unable to lock"
    assert _reason("Traceback\nKeyError: 'x'\n", 1) == "KeyError: 'x'"
    assert _reason("", 7) == "exit code 7"
    assert [duration(seconds) for seconds in (43.2, 1140, 11520)] == ["43 s", "19 min", "3.2 h"]


@pytest.mark.parametrize("text", ["0", "x", "1,1", ",", "-2"])
def test_seeds_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sources", "--seeds", text])
    assert "is neither a number above 0 nor a list" in capsys.readouterr().err


STAGE = """
import json, os, pathlib, time
import yaml

root = pathlib.Path(os.environ["VIREID_ROOT"])
tree = yaml.safe_load(open("params.yaml", encoding="utf-8"))
(root / "ran").open("a").write(f"{os.getpid()}\\n")
if (root / "sleep").exists():
    time.sleep(60)
if (root / "broken").exists() and tree["data"]["trial"] == 2:
    raise SystemExit("error in evaluate: told to")
for name, content in {
    "evaluate": {
        "all": {"rank1": (tree["data"]["trial"] + 2) / 10, "rank1_sd": 0.0, "map": 0.5},
        "pseudo_label": {},
    },
    "train": {"accuracy_argmax": 0.25},
    "pseudo_label": {"ari": 0.75},
}.items():
    pathlib.Path(f"metrics/{name}.json").write_text(json.dumps(content))
pathlib.Path("logs").mkdir(exist_ok=True)
pathlib.Path("logs/evaluate.json").write_text(json.dumps({"seconds": 0.3}))
pathlib.Path("metrics/train").mkdir(exist_ok=True)
lines = ["epoch,accuracy,accuracy_argmax", "1,,0.2", "2,,0.25"]
pathlib.Path("metrics/train/epochs.csv").write_text("\\n".join(lines) + "\\n")
"""
PIPELINE = """
stages:
  evaluate:
    cmd: python stages/evaluate.py
    params: [seed, dataset, spcl, data]
    deps: [stages]
    metrics:
    - metrics/evaluate.json: {cache: false}
    - metrics/train.json: {cache: false}
    - metrics/pseudo_label.json: {cache: false}
    plots:
    - metrics/train/epochs.csv: {cache: false}
"""


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit.

    Not committed: a changed parameter, a staged file and a file that git does not know.
    """
    folder = tmp_path_factory.mktemp("experiments") / "repository"
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        files = {
            "stages/evaluate.py": STAGE,
            "dvc.yaml": PIPELINE,
            "params.yaml": (ROOT / "params.yaml").read_text(),
            "metrics/comparisons/.gitkeep": "",
            ".dvc/config": "[core]\n    analytics = false\n    autostage = true\n",
            ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
            ".gitignore": "/logs/\n/ran\n/sleep\n/broken\n__pycache__/\n",
            ".dvcignore": "__pycache__/\n",
        }
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "pipeline"]):
            git(*command)
        text = files["params.yaml"]
        (folder / "params.yaml").write_text(
            text.replace("  momentum: 0.2\n", '  momentum: "0.25"\n').replace('"', "")
        )
        (folder / "staged.txt").write_text("staged\n")
        git("add", "staged.txt")
        (folder / "unknown.txt").write_text("unknown\n")
    return folder


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    patch.chdir(folder)
    patch.setenv("DVC_SITE_CACHE_DIR", str(folder.parent / "site"))
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for key in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        patch.setenv(key, "test@example.org")


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That repository as the working folder. A test changes the comparisons in it and no more."""
    enter(home, monkeypatch)

    def seen() -> tuple[str, bytes, str, str]:
        status = git("status", "--short", "--", ".", ":!metrics/comparisons")
        return (
            status,
            (home / "params.yaml").read_bytes(),
            git("diff", "HEAD"),
            git("stash", "list"),
        )

    before = seen()
    yield home
    assert seen() == before


def times_run(folder: Path) -> int:
    """How often the stage ran since the last question."""
    path = folder / "ran"
    count = len(path.read_text().splitlines()) if path.exists() else 0
    path.unlink(missing_ok=True)
    return count


@pytest.mark.slow
def test_a_comparison_stops_at_a_failure_and_goes_on_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "metrics/comparisons/trials.json"
    (folder / "broken").touch()
    for extra, ran, trials in (([], 2, [1]), (["--keep-going"], 2, [1, 3])):
        assert main(["trials", "--seeds", "3", "--jobs", "1", *extra]) == 1
        said = capsys.readouterr().out
        assert "FAILED: error in evaluate: told to; see logs/experiments/trials-full-t2.log" in said
        assert said.count("there already") == trials.index(trials[-1])
        assert times_run(folder) == ran
        assert json.loads(path.read_text())["rows"][0]["seeds"] == trials
    assert "told to" in (folder / "logs/experiments/trials-full-t2.log").read_text()

    (folder / "broken").unlink()
    for ran in (1, 0):
        assert main(["trials", "--seeds", "3", "--markdown"]) == 0
        said = capsys.readouterr().out
        assert said.count("there already") == 3 - ran
        assert (
            "| full method | 40.00 ± 10.00 | 50.00 ± 0.00 | 25.00 ± 0.00 | 0.750 ± 0.000 |" in said
        )
        assert times_run(folder) == ran
    stored = json.loads(path.read_text())
    assert (stored["plan"], stored["dataset"], stored["scale"]) == ("trials", "regdb", "small")
    assert stored["uncommitted"] is True
    (row,) = stored["rows"]
    assert row["metrics"]["all.rank1"] == [0.3, 0.4, 0.5]
    assert row["epochs"]["accuracy_argmax"] == [[0.2, 0.25]] * 3
    assert row["epochs"]["accuracy"] == [[None, None]] * 3
    for whole, outside in zip(row["seconds"], row["outside_stages"], strict=True):
        assert whole - outside == pytest.approx(0.3, abs=0.11)
    assert " of them outside the stages: the share of DVC." in said
    diff = [sys.executable, "-m", "dvc", "metrics", "diff", "trials-full-t1", "trials-full-t3"]
    printed = subprocess.run(diff, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[1].split()[1:] == ["all.rank1", "0.3", "0.5", "0.2"]
    assert main(["trials", "--show"]) == 0
    assert "full method  40.00 ± 10.00" in capsys.readouterr().out


@pytest.mark.slow
def test_other_parameters_replace_an_experiment(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The experiment has the changes that are not committed.

    Going back to the first parameters costs no run.
    """
    for extra, ran in ([], 1), (["-S", "spcl.k1=10"], 1), ([], 0):
        assert main(["trials", "--seeds", "4,", *extra]) == 0
        assert "there already" not in capsys.readouterr().out
        assert times_run(folder) == ran
    head = git("rev-parse", "HEAD").strip()
    text = git("show", f"refs/exps/{head[:2]}/{head[2:]}/trials-full-t4:params.yaml")
    assert "  momentum: 0.25\n" in text
    assert "dataset: regdb\n" in text
    assert main(["trials", "--seeds", "4,6,", "--dry"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "trials-full-t4  there already"
    assert said[1].startswith(
        "dvc exp run --temp -n trials-full-t6 -S dataset=regdb -S data.trial=6 evaluate"
    )
    assert times_run(folder) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "seed"), [(signal.SIGINT, 5), (signal.SIGKILL, 7)])
def test_a_run_that_was_interrupted_is_run_again(
    folder: Path, number: signal.Signals, seed: int
) -> None:
    """Ctrl-C ends the stage too. If the comparison itself is killed, DVC and the stage run on."""
    (folder / "sleep").touch()
    started = subprocess.Popen(
        [sys.executable, "-P", "-m", "experiments", "trials", "--seeds", f"{seed},"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (folder / "ran").exists() and started.poll() is None:
        time.sleep(0.1)
    started.send_signal(number)
    said, _ = started.communicate(timeout=150)
    stage = int((folder / "ran").read_text())
    if number == signal.SIGINT:
        assert started.returncode == 130, said
        assert "the same command goes on from here" in said
        assert "Traceback" not in said
        with pytest.raises(ProcessLookupError):
            os.kill(stage, 0)
    else:
        with pytest.raises(ValueError, match="another comparison runs"):
            main(["trials", "--seeds", f"{seed},"])
        os.killpg(os.getpgid(stage), signal.SIGKILL)
        time.sleep(1)
    (folder / "sleep").unlink()
    times_run(folder)
    assert main(["trials", "--seeds", f"{seed},"]) == 0
    assert times_run(folder) == 1


def test_an_edit_meanwhile_ends_the_comparison(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.repository import Repository

    states = iter(["one", "two"])
    monkeypatch.setattr(Repository, "state", lambda self: next(states))
    with pytest.raises(ValueError, match="changed during the comparison"):
        main(["trials", "--seeds", "6,"])
    assert times_run(folder) == 0


@pytest.mark.parametrize("content", ["", '{"write": {"data/sy'])
def test_a_list_of_locks_that_a_killed_dvc_left_half_written_is_deleted(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / ".dvc/tmp/rwlock"
    remove_broken_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []
    path.parent.mkdir(parents=True)
    path.write_text('{"read": {}, "write": {}}')
    remove_broken_locks(tmp_path)
    assert path.exists()
    path.write_text(content)
    remove_broken_locks(tmp_path)
    assert not path.exists()


def test_what_cannot_work_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "stages/new.py").touch()
    with pytest.raises(ValueError, match=r"stages/new\.py is not known to git"):
        main(["sources"])
    (folder / "stages/new.py").unlink()
    with pytest.raises(ValueError, match=r"comparisons/ablation\.json is not here"):
        main(["ablation", "--show"])

    git("clone", "-q", "--depth", "1", f"file://{folder}", "../shallow")
    monkeypatch.chdir(folder.parent / "shallow")
    with pytest.raises(ValueError, match=r"shallow clone.*git fetch --unshallow"):
        main(["sources"])
    (folder.parent / "shallow/params.yaml").write_text("seed: x\n")
    with pytest.raises(ValueError, match=r"params\.yaml"):
        main(["sources"])
    shutil.copy(ROOT / "params.yaml", folder.parent)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=r"not a git repository \(a download as ZIP.*git init &&"):
        main(["sources"])
    git("init", "-q", "empty")
    shutil.copy(ROOT / "params.yaml", "empty")
    monkeypatch.chdir(folder.parent / "empty")
    with pytest.raises(ValueError, match=r"has no commit.*run git add -A && git commit"):
        main(["sources"])
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, of its tests
    with pytest.raises(ValueError, match=r"another user.*run git config --global --add safe.dir"):
        main(["sources"])
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    monkeypatch.chdir(folder)
