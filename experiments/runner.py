"""One `dvc exp run` after the other, in a copy of the repository.

Finished experiments are kept, a failed one is named, and the work tree stays as it is.
"""

import csv
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from experiments.repository import Repository
from experiments.runs import Run, Tree
from experiments.workspace import Workspace
from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import LOGS, read_json, write_json
from stages.parts.run.stage import InputError

LOGS = LOGS / "experiments"
EPOCHS = ("accuracy", "accuracy_argmax", "label_entropy", "label_max_share")

CHANGED = (
    "stages, dvc.yaml, params.yaml or HEAD changed during the comparison, and its rows would not "
    "compare; start it again (what is the same comes from DVC's cache)"
)


class RunError(RuntimeError):
    """A run that failed; the message is the reason."""


@dataclass(frozen=True)
class Result:
    """The figures of an experiment.

    metrics: by `<mode>.<score>`. epochs: columns of `metrics/train/epochs.csv`. seconds: wall time
    of the run that computed it, if this machine has run it. outside_stages: what of it is not run
    time of a stage, as the stages log it: the share of DVC.
    """

    metrics: dict[str, float | None]
    epochs: dict[str, list[float | None]]
    seconds: float | None
    outside_stages: float | None


def lookup(repository: Repository, run: Run) -> Result | None:
    """Return the result of this run; None if no experiment has the same code and parameters."""
    commit = repository.find(run.name)
    if commit is None or not repository.has_code_of(commit):
        return None
    if _parameters(repository, commit) != run.tree:
        return None
    return _read(repository, commit, run.name)


def _parameters(repository: Repository, commit: str) -> Tree | None:
    try:
        return params.check(params.parse(repository.read(commit, "params.yaml") or ""))
    except params.ParameterError:  # of an older version of the code
        return None


def _read(repository: Repository, commit: str, name: str) -> Result | None:
    """Return the figures in the commit of an experiment; None if it holds no scores."""
    evaluation, train, visible = (
        json.loads(repository.read(commit, f"metrics/{stage}.json") or "{}")
        for stage in ("evaluate", "train", "pseudo_label")
    )
    metrics = _scores(evaluation)
    if not metrics:
        return None
    # Of the last epoch. Without an assignment method, the predictions themselves are judged.
    accuracy = train.get("accuracy")
    metrics["infrared.accuracy"] = train.get("accuracy_argmax") if accuracy is None else accuracy
    metrics["visible.ari"] = visible.get("ari")
    epochs = _epochs(repository.read(commit, "metrics/train/epochs.csv") or "")
    times = {}
    with suppress(FileNotFoundError):
        times = read_json(LOGS / f"{name}.json")
    return Result(metrics, epochs, times.get("seconds"), times.get("outside_stages"))


def _scores(evaluation: Tree) -> dict[str, float | None]:
    """Return the scores of the full network by `<mode>.<score>`."""
    metrics: dict[str, float | None] = {}
    for mode, scores in evaluation.items():
        if isinstance(scores, dict) and "rank1" in scores:
            means = {score: value for score, value in scores.items() if not score.endswith("_sd")}
            metrics |= {f"{mode}.{score}": value for score, value in means.items()}
    return metrics


def _epochs(text: str) -> dict[str, list[float | None]]:
    """Return the columns EPOCHS of a CSV file; None for an empty cell."""
    lines = list(csv.DictReader(text.splitlines()))

    def number(cell: str | None) -> float | None:
        return float(cell) if cell else None

    return {name: [number(line.get(name)) for line in lines] for name in EPOCHS}


def run_all(
    runs: Sequence[Run],
    results: dict[str, Result],
    repository: Repository,
    keep_going: bool,
    keep: Callable[[], None],
) -> bool:
    """Run the experiments that `results` lacks, in order, and add them to it.

    Each run prints a line; `keep` is called after each one that finished. Without `keep_going` the
    first failure is the last run. Return whether no run failed. InputError if code or parameters
    change meanwhile, since the rows would not compare.
    """
    state = repository.state()
    has_failed = False
    left = sum(run.name not in results for run in runs)
    spent: list[float] = []
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(len(runs)))
        workspace = stack.enter_context(Workspace(repository)) if left else None
        for run in runs:
            progress.begin(run.name)
            if workspace is None or run.name in results:
                progress.end("there already")
                continue
            if repository.state() != state:
                raise InputError(CHANGED)
            started = time.monotonic()
            left -= 1
            failure = ""
            try:
                results[run.name] = execute(workspace, run, progress.show)
                keep()
            except RunError as error:
                has_failed = True
                failure = f"  FAILED: {error}; see {_log(run)}"
            spent.append(time.monotonic() - started)
            still = f"  about {duration(left * sum(spent) / len(spent))} left" if left else ""
            progress.end(duration(spent[-1]) + (failure or still))
            if failure and not keep_going:
                break
    return not has_failed


def execute(workspace: Workspace, run: Run, show: Callable[[str], None]) -> Result:
    """Run one experiment and return its result. RunError says why there is none.

    Its output goes to `logs/experiments/<name>.log`; `show` gets the last line each second. An
    experiment of the same name is replaced; DVC's run cache restores what has run before.
    """
    log = _log(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        code = workspace.run(run, output, lambda: show(_last_line(log)))
    text = log.read_text(encoding="utf-8", errors="replace")
    if code:
        raise RunError(_reason(text, code))
    commit = workspace.hand_over(run.name)
    seconds = time.monotonic() - started
    if "Running stage '" in text:  # else all came from the cache, and its seconds say nothing
        outside = seconds - workspace.stage_seconds()
        times = {"seconds": round(seconds, 1), "outside_stages": round(outside, 1)}
        write_json(LOGS / f"{run.name}.json", times)
    result = commit and _read(workspace.repository, commit, run.name)
    if not result:
        raise RunError("DVC saved no experiment with metrics/evaluate.json")
    return result


def _log(run: Run) -> Path:
    return LOGS / f"{run.name}.log"


def _reason(text: str, code: int) -> str:
    """Return the stage's error line if there is one, else DVC's, else the exit code."""
    for pattern in (r"^error in .*", r"^ERROR: .*", r"^\w*(?:Error|Exception)\b.*"):
        lines = re.findall(pattern, text, re.MULTILINE)
        if lines:
            return str(lines[-1])
    return f"exit code {code}"


def _last_line(log: Path) -> str:
    with log.open("rb") as opened:
        opened.seek(max(0, log.stat().st_size - 2000))
        lines = opened.read().decode(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def duration(seconds: float) -> str:
    """Return seconds as people say them: 43 s, 19 min, 3.2 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Progress:
    """A line for each run, and on a terminal a moving one below: seconds, last line of the log."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.name = ""
        self.started = 0.0
        silent = not sys.stderr.isatty()
        self.bar = tqdm(leave=False, disable=silent, bar_format="{desc}", dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def begin(self, name: str) -> None:
        """Start the line of the next run."""
        self.number += 1
        digits = len(str(self.total))
        self.name = f"{self.number:>{digits}}/{self.total}  {name}"
        self.started = time.monotonic()
        self.show("")

    def show(self, line: str) -> None:
        """Show what the run does now."""
        seconds = duration(time.monotonic() - self.started)
        self.bar.set_description_str(f"{self.name}  {seconds}  {line.strip()}")

    def end(self, outcome: str) -> None:
        """Print how the run ended."""
        self.bar.set_description_str("", refresh=False)
        message(f"{self.name}  {outcome}")
