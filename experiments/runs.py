"""From a plan to runs: the parameters of each run, checked before the first one starts."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.plans import Plan, Row
from stages.parts.run import params, rendered, settings

Tree = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One experiment: a row at one value of what the plan varies."""

    name: str
    row: Row
    value: int
    changes: tuple[str, ...]
    tree: Tree  # params.yaml with the changes

    @property
    def command(self) -> list[str]:
        """The arguments of `dvc`. A comparison needs `evaluate` and what comes before it."""
        options = [part for change in self.changes for part in ("-S", change)]
        return ["exp", "run", "-n", self.name, *options, "evaluate"]


def runs(
    name: str, plan: Plan, values: Sequence[int], common: Sequence[str], tree: Tree
) -> list[Run]:
    """Return the runs of the plan `name`, row by row: one for each of `values`.

    The changes `common` go before those of the rows. ParameterError names the row whose changes
    would be refused in params.yaml, the `tree`.
    """
    base = changed(tree, common)
    if plan.dataset not in (None, base["dataset"]):
        common = (*common, f"dataset={plan.dataset}")
    planned = []
    for row in plan.rows:
        real = row.real if base["scale"] == "paper" else ()
        for value in values:
            changes = (*common, *row.changes, *real, f"{plan.varies}={value}")
            try:
                after = changed(tree, changes)
            except params.ParameterError as error:
                raise params.ParameterError(f"{row.name}: {error}") from None
            run_name = f"{name}-{row.slug}-{plan.letter}{value}"
            planned.append(Run(run_name, row, value, changes, after))
    return planned


def changed(tree: Tree, changes: Sequence[str]) -> Tree:
    """Return a checked copy of `tree` with each `key=value` as `dvc exp run -S` sets it.

    Raises:
        ParameterError: names the change that is refused.
    """
    tree = copy.deepcopy(tree)
    for change in changes:
        key, equals, text = change.partition("=")
        *path, leaf = key.split(".")
        place: Any = tree
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or leaf not in place:
            raise params.ParameterError(f"{change}: expected key=value, with a key of params.yaml")
        place[leaf] = params.parse(text, change)
    return params.check(tree)


def is_rendered(tree: Tree) -> bool:
    """Return whether the target's images are rendered ones."""
    return rendered.is_rendered(params.section(tree, "data", settings.Data).root)


def is_comparable(tree: Tree) -> bool:
    """Return whether published numbers compare: scale paper, images that are not rendered."""
    return tree["scale"] == "paper" and not is_rendered(tree)
