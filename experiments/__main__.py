"""Compare on one command: `python -m experiments ablation --seeds 3` runs the plan `ablation` and prints its table.

Each row and seed is a DVC experiment `<plan>-<row>-s<seed>` (`dvc exp show`, `dvc metrics diff`, `dvc plots diff` read
them); the work tree stays as it is. What ran before is kept, so the same command goes on after an interruption.
`python -m experiments variant code` prints the -S options of a parameter set, for `dvc exp run $(…)`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.plans import PLANS, SETTINGS, VARIANTS, Plan, variant
from experiments.runs import Run, changed, runs
from stages.parts.run import params

COMPARISONS = Path("metrics/comparisons")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and params.yaml, do it; the exit code."""
    given = _parser().parse_args(arguments)
    if given.plan == "variant":
        dataset = changed(params.load(), given.changes)["dataset"]
        print(" ".join(f"-S {change}" for change in variant(given.name, dataset)))
        return 0
    from experiments import tables  # it needs torch, which takes its seconds
    from stages.parts.run.files import read_json
    from stages.parts.run.stage import InputError

    path = COMPARISONS / f"{given.plan}.json"
    if given.show:
        if not path.exists():
            raise InputError(f"{path} is not here; run python -m experiments {given.plan}")
        print(tables.table(read_json(path), given.markdown))
        return 0
    plan = PLANS[given.plan]
    every = runs(given.plan, plan, given.seeds or plan.values, given.changes, params.load())
    setting = getattr(given, "setting", None)
    asked = [run for run in every if setting in (None, run.tree["train"]["setting"])]
    return _compare(given, plan, every, asked)


def _compare(
    given: argparse.Namespace, plan: Plan, every: Sequence[Run], asked: Sequence[Run]
) -> int:
    """Run what is asked for; write and print all rows of the plan that there are."""
    from experiments import runner, tables
    from experiments.repository import Repository
    from stages.parts.run.files import read_json, write_json

    repository = Repository()
    results = {run.name: found for run in every if (found := runner.lookup(repository, run))}
    if given.dry:
        for run in asked:
            print(
                f"{run.name}  there already"
                if run.name in results
                else f"dvc {' '.join(run.command)}"
            )
        return 0
    origin = {
        "commit": repository.head,
        "uncommitted": repository.is_changed(),
        "dataset": every[0].tree["dataset"],
    }
    path = COMPARISONS / f"{given.plan}.json"

    def keep() -> None:
        write_json(path, tables.comparison(given.plan, plan, every, results, origin))

    well = runner.run_all(asked, results, repository, given.keep_going, keep)
    if results:
        keep()
        print(f"\n{tables.table(read_json(path), given.markdown)}\n{path}")
    if not well:
        print(
            "error: not all rows were run; the same command goes on with what is missing",
            file=sys.stderr,
        )
    return 0 if well else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = parser.add_subparsers(dest="plan", required=True, metavar="plan")
    for name, plan in PLANS.items():
        options = chosen.add_parser(name, help=plan.title, description=plan.title)
        default = ",".join(map(str, plan.values))
        what = f"how many values of {plan.varies}, or which (a list with commas); default {default}"
        options.add_argument("--seeds", type=partial(_values, plan), help=what)
        options.add_argument(
            "--keep-going", action="store_true", help="after a failed run go on with the next"
        )
        options.add_argument("--dry", action="store_true", help="print what would be run")
        options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
        options.add_argument(
            "--show", action="store_true", help="print the stored table, run nothing"
        )
        if name == "ablation":
            options.add_argument("--setting", choices=SETTINGS, help="this setting's rows only")
        _add_changes(options)
    options = chosen.add_parser("variant", help="print the -S options of a parameter set")
    options.add_argument("name", choices=VARIANTS)
    _add_changes(options)
    return parser


def _add_changes(options: argparse.ArgumentParser) -> None:
    what = "a parameter of all rows, as of dvc exp run; repeatable"
    options.add_argument(
        "-S", dest="changes", action="append", default=[], metavar="KEY=VALUE", help=what
    )


def _values(plan: Plan, text: str) -> tuple[int, ...]:
    """`3` is the first three values, `0,4` are these two, `4,` is this one."""
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
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: in the background of a shell it would be ignored
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main())
    except ValueError as error:  # ParameterError and InputError are
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
