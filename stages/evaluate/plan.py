"""Which images are searched for which, planned from the table alone.

`python -m stages.evaluate.plan` makes the plan and writes nothing. dvc.yaml runs it before each of
the two trainings: a request that `evaluate` could not meet is refused before hours of work.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import Protocol, apply_split
from stages.evaluate.protocols import PROTOCOLS
from stages.parts.clustering.rerank import check_neighbours
from stages.parts.images.table import read_table
from stages.parts.run import params
from stages.parts.run.files import resolve
from stages.parts.run.settings import Evaluate
from stages.parts.run.stage import run_stage

TARGET = Path("data/images/target")


@dataclass(frozen=True)
class SearchPlan:
    """The images of a mode; both networks are evaluated on the same ones."""

    queries: np.ndarray  # (Q,) rows of the table
    galleries: list[np.ndarray]  # one (G,) a gallery draw, rows of the table


def plan_searches(
    protocol: Protocol, table: pd.DataFrame, settings: Evaluate
) -> dict[str, SearchPlan]:
    """Return the plan of every mode: of all modes of the protocol if `evaluate.modes` is empty.

    A request that cannot be met raises an error here, see `plan_search`.
    """
    official = resolve(settings.official_draws) if settings.official_draws else None
    modes = settings.modes or protocol.modes
    return {mode: plan_search(protocol, table, mode, settings, official) for mode in modes}


def plan_search(
    protocol: Protocol, table: pd.DataFrame, mode: str, settings: Evaluate, official: Path | None
) -> SearchPlan:
    """Return the queries and the gallery draws of `mode`.

    `official` is the file of the official draws.

    Raises:
        ValueError: As `protocol.gallery_rows`; if no query has a match in the gallery; if
            re-ranking asks for more neighbors than there are images.
        FileNotFoundError: As `protocol.gallery_rows`.
    """
    queries = protocol.query_rows(table, mode)
    galleries = [
        protocol.gallery_rows(table, mode, trial, settings.shots, settings.draws, official)
        for trial in range(min(settings.trials, protocol.draws))
    ]
    person = table["person"].to_numpy()
    if not np.isin(person[queries], person[galleries[0]]).any():
        raise ValueError(
            f"mode {mode}: none of the {len(queries)} query images shows a person of the gallery"
        )
    if settings.rerank:
        smallest = min(len(gallery) for gallery in galleries)
        check_neighbours(settings.rerank_k1, settings.rerank_k2, len(queries) + smallest)
    return SearchPlan(queries, galleries)


def main() -> None:
    """Plan what `params.yaml` asks for. Ends in one line if that cannot be done."""
    with run_stage("evaluate.plan"):
        tree = params.load()
        settings = params.section(tree, "evaluate", Evaluate)
        protocol = PROTOCOLS[tree["dataset"]]
        table = apply_split(protocol.name, read_table(TARGET / "table.csv"), settings.split)
        plan_searches(protocol, table, settings)


if __name__ == "__main__":
    main()
