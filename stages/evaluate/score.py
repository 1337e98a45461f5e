"""A protocol and embeddings → draws → scores and ranked lists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.protocol import Protocol, modality_rows, same_person_and_camera
from stages.parts.retrieval.index import inner_products
from stages.parts.retrieval.ranking import RankingScores, score_ranking, top_ranked
from stages.parts.run.settings import Evaluate

RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Embeddings:
    """Unit rows of some images of the table."""

    rows: np.ndarray  # (N,) int64, ascending
    values: np.ndarray  # (N, D) float32

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The values (M, D) of the table's `rows` (M,), which must be among `self.rows`."""
        return self.values[np.searchsorted(self.rows, rows)]


@dataclass(frozen=True)
class Plan:
    """The rows that meet in a mode: the same for every network."""

    queries: np.ndarray  # (Q,) rows of the table
    galleries: list[np.ndarray]  # one (G,) a draw


@dataclass(frozen=True)
class Draw:
    """Queries against one gallery."""

    queries: np.ndarray  # (Q,) rows of the table
    gallery: np.ndarray  # (G,) rows of the table
    similarity: np.ndarray  # (Q, G) float32
    removed: np.ndarray | None  # (Q, G) bool


def make_plan(
    protocol: Protocol, table: pd.DataFrame, mode: str, settings: Evaluate, official: Path | None = None
) -> Plan:
    """Queries and gallery draws of `mode`, as many as settings and protocol allow; `official`: the file of the draws.

    Raises ValueError and FileNotFoundError as the protocol's `gallery_rows`, and ValueError where nobody is searched.
    """
    queries = protocol.query_rows(table, mode)
    galleries = [
        protocol.gallery_rows(table, mode, trial, settings.shots, settings.draws, official)
        for trial in range(min(settings.trials, protocol.DRAWS))
    ]
    if not table["person"].iloc[queries].isin(table["person"].iloc[galleries[0]]).any():
        raise ValueError(f"mode {mode}: none of the {len(queries)} query images shows a person of the gallery")
    return Plan(queries, galleries)


def search(protocol: Protocol, table: pd.DataFrame, embeddings: Embeddings, plan: Plan) -> Iterator[Draw]:
    """Every draw of `plan` with its similarities."""
    for gallery in plan.galleries:
        similarity = inner_products(embeddings.of(plan.queries), embeddings.of(gallery))
        yield Draw(plan.queries, gallery, similarity, protocol.removed(table, plan.queries, gallery))


def score_draw(draw: Draw, table: pd.DataFrame, unique_ids: bool) -> RankingScores:
    """`score_ranking` of a draw by the persons of the table."""
    person = table["person"].to_numpy()
    return score_ranking(draw.similarity, person[draw.queries], person[draw.gallery], draw.removed, unique_ids)


def ranked_lists(draw: Draw, table: pd.DataFrame, count: int = 20) -> pd.DataFrame:
    """The first `count` of every query's list: query, rank, gallery (rows of the table), similarity, correct (0/1)."""
    top = top_ranked(draw.similarity, draw.removed, count)
    query, rank = np.nonzero(top >= 0)
    position = top[query, rank]
    person = table["person"].to_numpy()
    return pd.DataFrame(
        {
            "query": draw.queries[query],
            "rank": rank + 1,
            "gallery": draw.gallery[position],
            "similarity": draw.similarity[query, position],
            "correct": (person[draw.queries[query]] == person[draw.gallery[position]]).astype(np.int64),
        }
    )


def summary(scores: Sequence[RankingScores]) -> dict[str, float]:
    """`rank1`, `rank1_sd`, …, `map`, `map_sd`, `minp`, `minp_sd`: mean and standard deviation (ddof 0) over draws."""
    series = {f"rank{rank}": [score.cmc[rank - 1] for score in scores] for rank in RANKS}
    series["map"] = [score.mean_ap for score in scores]
    series["minp"] = [score.mean_inp for score in scores]
    tree: dict[str, float] = {}
    for name, values in series.items():
        tree[name] = float(np.mean(values))
        tree[f"{name}_sd"] = float(np.std(values))
    return tree


def mean_curve(scores: Sequence[RankingScores]) -> np.ndarray:
    """CMC (20,), mean over draws."""
    return np.mean([score.cmc for score in scores], axis=0)


def visible_score(table: pd.DataFrame, embeddings: Embeddings) -> RankingScores | None:
    """All visible test images against each other: images of the same person *and* camera removed, CMC over images.

    How well the pseudo-label network tells people apart within the modality that it was trained on.
    None where no test identity is seen by two visible cameras (RegDB).
    """
    rows = modality_rows(table, "visible")
    cameras = table.iloc[rows].groupby("person")["camera"].nunique()
    if cameras.empty or cameras.max() < 2:
        return None
    values = embeddings.of(rows)
    draw = Draw(rows, rows, inner_products(values, values), same_person_and_camera(table, rows, rows))
    return score_draw(draw, table, unique_ids=False)
