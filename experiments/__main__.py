"""Compare on one command: `python -m experiments ablation --seeds 3` runs the plan `ablation`.

Each row and seed is a DVC experiment `<plan>-<row>-s<seed>`, which `dvc exp show`,
`dvc metrics diff` and `dvc plots diff` read. The work tree stays as it is. Finished runs are kept,
so the same command goes on after an interruption. `python -m experiments variant code` prints the
-S options of a parameter set, for `dvc exp run $(…)`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments import runner, tables
from experiments.plans import PLANS, SETTINGS, VARIANTS, Plan, variant
from experiments.repository import Repository
from experiments.runs import Run, changed, runs
from experiments.schedule import default_jobs
from stages.parts.run import params
from stages.parts.run.console import end_without_reader
from stages.parts.run.files import read_json, write_json
from stages.parts.run.stage import InputError

COMPARISONS = Path("metrics/comparisons")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for. Return the exit code."""
    options = _parser().parse_args(arguments)
    if options.plan == "variant":
        scale = changed(params.load(), options.changes)["scale"]
        print(" ".join(f"-S {change}" for change in variant(options.name, scale)))
        return 0
    if options.show:
        _show(options.plan, options.markdown)
        return 0
    plan = PLANS[options.plan]
    planned = runs(options.plan, plan, options.seeds or plan.values, options.changes, params.load())
    setting = getattr(options, "setting", None)
    wanted = [run for run in planned if setting in (None, run.tree["train"]["setting"])]
    return _compare(options, plan, planned, wanted)


def _show(name: str, markdown: bool) -> None:
    """Print the stored table of a plan."""
    path = COMPARISONS / f"{name}.json"
    if not path.exists():
        raise InputError(f"{path} is not here; run python -m experiments {name}")
    tree = read_json(path)
    if "table" not in tree:
        raise InputError(f"{path} is of an older version; run python -m experiments {name} again")
    print(tables.text(tree, markdown))


def _compare(
    options: argparse.Namespace, plan: Plan, planned: Sequence[Run], wanted: Sequence[Run]
) -> int:
    """Run what is wanted. Write and print all rows of the plan that there are."""
    repository = Repository()
    looked_up = {run.name: runner.lookup(repository, run) for run in planned}
    results = {name: result for name, result in looked_up.items() if result}
    if options.dry:
        for run in wanted:
            # With --temp the user gets the same experiment, also outside the work tree.
            command = ["dvc", *run.command[:2], "--temp", *run.command[2:]]
            done = f"{run.name}  there already"
            print(done if run.name in results else " ".join(command))
        return 0
    origin = {
        "commit": repository.head,
        "uncommitted": repository.is_changed(),
        "dataset": planned[0].tree["dataset"],
        "scale": planned[0].tree["scale"],
    }
    path = COMPARISONS / f"{options.plan}.json"

    def keep() -> None:
        write_json(path, tables.comparison(options.plan, plan, planned, results, origin))

    jobs = options.jobs or default_jobs(planned[0].tree)
    is_complete = runner.run_all(wanted, results, repository, jobs, options.keep_going, keep)
    if results:
        keep()
        print(f"\n{tables.text(read_json(path), options.markdown)}\n{path}")
    if is_complete:
        return 0
    missing = "error: not all rows were run; the same command goes on with what is missing"
    print(missing, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="plan", required=True, metavar="plan")
    for name, plan in PLANS.items():
        options = commands.add_parser(name, help=plan.title, description=plan.title)
        default = ",".join(map(str, plan.values))
        seeds = f"number of values of {plan.varies}, or a list with commas; default {default}"
        options.add_argument("--seeds", type=partial(_values, plan), help=seeds)
        at_once = "runs at once; default: one for each device.threads cores, one on a GPU"
        options.add_argument("--jobs", type=_count, help=at_once)
        for flag, text in (
            ("--keep-going", "after a failed run go on with the next"),
            ("--dry", "print what would be run"),
            ("--markdown", "print the table as Markdown"),
            ("--show", "print the stored table, run nothing"),
        ):
            options.add_argument(flag, action="store_true", help=text)
        if name == "ablation":
            options.add_argument("--setting", choices=SETTINGS, help="this setting's rows only")
        _add_changes(options)
    options = commands.add_parser("variant", help="print the -S options of a parameter set")
    options.add_argument("name", choices=VARIANTS)
    _add_changes(options)
    return parser


def _add_changes(options: argparse.ArgumentParser) -> None:
    text = "a parameter of all rows, as of dvc exp run; repeatable"
    options.add_argument(
        "-S", dest="changes", action="append", default=[], metavar="KEY=VALUE", help=text
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _values(plan: Plan, text: str) -> tuple[int, ...]:
    """Return the values that `--seeds` names.

    `3` stands for the first three values, `0,4` for these two, `4,` for this one.
    """
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if numbers and "," not in text:
        numbers = list(range(plan.values[0], plan.values[0] + numbers[0]))
    if not numbers or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number above 0 nor a list such as 0,1,2"
        )
    return tuple(numbers)


if __name__ == "__main__":
    # SIGINT too: in the background of a shell it would be ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        code = main()
        sys.stdout.flush()
    except ValueError as error:  # ParameterError and InputError are
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        end_without_reader()
    sys.exit(code)
