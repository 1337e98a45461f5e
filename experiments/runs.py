"""From a plan to runs: which parameters each has, checked before the first one starts."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.plans import Plan, Row, is_rendered
from stages.parts.run import params, settings

Tree = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One experiment: a row at one value of what the plan varies. tree: params.yaml as the run sees it."""

    name: str
    row: Row
    value: int
    changes: tuple[str, ...]
    tree: Tree

    @property
    def command(self) -> list[str]:
        """What `dvc` is called with; a comparison needs `evaluate` and what comes before, not the report."""
        chosen = [part for change in self.changes for part in ("-S", change)]
        return ["exp", "run", "--temp", "-n", self.name, *chosen, "evaluate"]


def runs(
    name: str, plan: Plan, values: Sequence[int], common: Sequence[str], tree: Tree
) -> list[Run]:
    """The runs of a plan, row by row; `common` changes go before those of the rows.

    Raises ParameterError, naming the row, where params.yaml with the changes would be refused.
    """
    base = changed(tree, common)
    if plan.layout not in (None, params.section(base, "data", settings.Data).layout):
        common = (*common, f"dataset={plan.stand_in}")
        base = changed(tree, common)
    made = []
    for row in plan.rows:
        changes = (*common, *row.changes, *(() if is_rendered(base["dataset"]) else row.real))
        for value in values:
            own = (*changes, f"{plan.varies}={value}")
            try:
                after = changed(tree, own)
            except params.ParameterError as error:
                raise params.ParameterError(f"{row.name}: {error}") from None
            made.append(Run(f"{name}-{row.slug}-{plan.letter}{value}", row, value, own, after))
    return made


def changed(tree: Tree, changes: Sequence[str]) -> Tree:
    """`tree` with each `key=value` as `dvc exp run -S` sets it, checked. ParameterError where it would be refused."""
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
