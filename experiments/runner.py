"""One `dvc exp run` for each run, several at once, each in a copy of the repository.

Finished experiments are kept, a failed one is named, and the work tree stays as it is.
"""

import csv
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import yaml
from tqdm import tqdm

from experiments.repository import Repository
from experiments.runs import Run, Tree
from experiments.schedule import next_run, shared_parts
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
    jobs: int,
    keep_going: bool,
    keep: Callable[[], None],
) -> bool:
    """Run the experiments that `results` lacks, `jobs` at once, and add them to it.

    Each run prints a line when it ends; `keep` is called after each one that finished. Without
    `keep_going` none starts after a failure. Return whether no run failed.

    Raises:
        InputError: if code or parameters change meanwhile, since the rows would not compare. The
            runs that are on end first.
    """
    state = repository.state()
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    shared = {run.name: shared_parts(run.tree, stages) for run in runs}
    known = {part for name in results if name in shared for part in shared[name]}
    waiting = [run for run in runs if run.name not in results]
    jobs = min(jobs, len(waiting))
    has_failed, has_changed, stop = False, False, Event()
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(runs, results, jobs))
        free: list[Workspace] = []
        for number in range(jobs):
            lock = free[0].lock if free else None
            free.append(stack.enter_context(Workspace(repository, number, lock)))
        pool = stack.enter_context(ThreadPoolExecutor(max(1, jobs)))
        stack.callback(stop.set)  # before the pool waits for its threads
        on: dict[Future[Result], tuple[Run, Workspace]] = {}
        while True:
            if has_changed or (has_failed and not keep_going):
                waiting = []
            if not waiting and not on:
                break
            running = [part for run, _ in on.values() for part in shared[run.name]]
            position = next_run(waiting, shared, known, running) if free else None
            if position is not None:
                has_changed = repository.state() != state
                if has_changed:
                    continue
                run, workspace = waiting.pop(position), free.pop()
                progress.begin(run)
                show = partial(progress.show, run, stop)
                on[pool.submit(execute, workspace, run, show)] = run, workspace
                continue
            for future in wait(on, timeout=1, return_when=FIRST_COMPLETED).done:
                run, workspace = on.pop(future)
                free.append(workspace)
                failure = ""
                try:
                    results[run.name] = future.result()
                    known |= {*shared[run.name]}
                    keep()
                except RunError as error:
                    has_failed = True
                    failure = f"  FAILED: {error}; see {_log(run)}"
                progress.end(run, failure)
    if has_changed:
        raise InputError(CHANGED)
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


class Stopped(BaseException):
    """The comparison was interrupted; raised in the threads that run experiments."""


class Progress:
    """A line for each run that ended, and on a terminal a moving one: what runs now."""

    def __init__(self, runs: Sequence[Run], there: Collection[str], jobs: int) -> None:
        self.numbers = {run.name: number for number, run in enumerate(runs, start=1)}
        self.left = len(runs) - sum(run.name in there for run in runs)
        self.jobs = jobs
        self.started: dict[str, float] = {}
        self.lines: dict[str, str] = {}
        self.spent: list[float] = []
        silent = not sys.stderr.isatty()
        self.bar = tqdm(leave=False, disable=silent, bar_format="{desc}", dynamic_ncols=True)
        for run in runs:
            if run.name in there:
                message(f"{self._title(run)}  there already")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def begin(self, run: Run) -> None:
        """Note the start of a run."""
        self.started[run.name] = time.monotonic()
        self.lines[run.name] = ""

    def show(self, run: Run, stop: Event, line: str) -> None:
        """Show what the runs do now. Stopped if `stop` is set."""
        if stop.is_set():
            raise Stopped
        self.lines[run.name] = line.strip()
        now = time.monotonic()
        parts = [
            f"{name}  {duration(now - self.started[name])}  {last}"
            for name, last in list(self.lines.items())
        ]
        self.bar.set_description_str(" | ".join(parts))

    def end(self, run: Run, failure: str) -> None:
        """Print how the run ended, and how long the others will take."""
        self.lines.pop(run.name)
        self.left -= 1
        self.spent.append(time.monotonic() - self.started[run.name])
        seconds = self.left * sum(self.spent) / len(self.spent) / self.jobs
        still = f"  about {duration(seconds)} left" if self.left else ""
        self.bar.set_description_str("", refresh=False)
        message(f"{self._title(run)}  {duration(self.spent[-1])}{failure or still}")

    def _title(self, run: Run) -> str:
        digits = len(str(len(self.numbers)))
        return f"{self.numbers[run.name]:>{digits}}/{len(self.numbers)}  {run.name}"
