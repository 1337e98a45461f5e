"""A protocol and embeddings → draws → scores and ranked lists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.evaluate.protocol import Protocol, modality_rows, same_person_and_camera
from stages.parts.clustering.rerank import check_neighbours, reranked_distance
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import RankingScores, mean_scores, score_queries, top_ranked
from stages.parts.run.console import busy
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


class Rerank(NamedTuple):
    """The arguments of `reranked_distance`."""

    k1: int
    k2: int
    weight: float


class Block(NamedTuple):
    """Some of the queries against the gallery."""

    queries: np.ndarray  # (q,) rows of the table
    similarity: np.ndarray  # (q, G) float32
    removed: np.ndarray | None  # (q, G) bool


@dataclass(frozen=True)
class Draw:
    """Queries against one gallery. Similarities and removals are made by blocks of queries, anew each time."""

    queries: np.ndarray  # (Q,) rows of the table
    gallery: np.ndarray  # (G,) rows of the table
    similarity: Callable[[], Iterator[tuple[slice, np.ndarray]]]
    removed: Callable[[np.ndarray, np.ndarray], np.ndarray | None]

    def blocks(self) -> Iterator[Block]:
        """All queries in their order."""
        for block, similarity in self.similarity():
            queries = self.queries[block]
            yield Block(queries, similarity, self.removed(queries, self.gallery))


def rerank_of(settings: Evaluate) -> Rerank | None:
    """What `evaluate.rerank…` asks for; None: no re-ranking."""
    return (
        Rerank(settings.rerank_k1, settings.rerank_k2, settings.rerank_lambda)
        if settings.rerank
        else None
    )


def make_plan(
    protocol: Protocol,
    table: pd.DataFrame,
    mode: str,
    settings: Evaluate,
    official: Path | None = None,
) -> Plan:
    """Queries and gallery draws of `mode`, as many as settings and protocol allow; `official`: the file of the draws.

    Raises ValueError and FileNotFoundError as the protocol's `gallery_rows`, and ValueError where nobody is searched or
    re-ranking wants more neighbours than there are images.
    """
    queries = protocol.query_rows(table, mode)
    galleries = [
        protocol.gallery_rows(table, mode, trial, settings.shots, settings.draws, official)
        for trial in range(min(settings.trials, protocol.DRAWS))
    ]
    if not table["person"].iloc[queries].isin(table["person"].iloc[galleries[0]]).any():
        raise ValueError(
            f"mode {mode}: none of the {len(queries)} query images shows a person of the gallery"
        )
    rerank = rerank_of(settings)
    if rerank:
        check_neighbours(
            rerank.k1, rerank.k2, len(queries) + min(len(gallery) for gallery in galleries)
        )
    return Plan(queries, galleries)


def search(
    protocol: Protocol,
    table: pd.DataFrame,
    embeddings: Embeddings,
    plan: Plan,
    rerank: Rerank | None = None,
) -> Iterator[Draw]:
    """Every draw of `plan`: by the inner products of the embeddings, or by minus the re-ranked distance.

    A gallery may be of any size: similarities are made for some queries at a time (`inner_product_blocks`), and the
    scores come from each query's full list, never from the start of it. Re-ranking holds all (Q, G) distances.
    """
    for gallery in plan.galleries:
        ours, theirs = embeddings.of(plan.queries), embeddings.of(gallery)
        similarity = partial(inner_product_blocks, ours, theirs)
        if rerank:
            with busy(f"evaluate: re-ranking {len(ours)} queries × {len(theirs)} gallery images"):
                distance = reranked_distance(
                    ours, theirs, inner_product_blocks, top_ranked, *rerank
                )
            similarity = partial(_one_block, -distance)
        yield Draw(plan.queries, gallery, similarity, partial(protocol.removed, table))


def score_draw(draw: Draw, table: pd.DataFrame, unique_ids: bool) -> RankingScores:
    """`score_ranking` of a draw by the persons of the table, one block of queries after the other."""
    person = table["person"].to_numpy()
    gallery = person[draw.gallery]
    return mean_scores(
        [
            score_queries(
                block.similarity, person[block.queries], gallery, block.removed, unique_ids
            )
            for block in draw.blocks()
        ]
    )


def ranked_lists(draw: Draw, table: pd.DataFrame, count: int = 20) -> pd.DataFrame:
    """The first `count` of every query's list: query, rank, gallery (rows of the table), similarity, correct (0/1)."""
    person = table["person"].to_numpy()
    parts = []
    for block in draw.blocks():
        top = top_ranked(block.similarity, block.removed, count)
        query, rank = np.nonzero(top >= 0)
        position = top[query, rank]
        met, gallery = block.queries[query], draw.gallery[position]
        columns = {
            "query": met,
            "rank": rank + 1,
            "gallery": gallery,
            "similarity": block.similarity[query, position],
        }
        parts.append(
            pd.DataFrame(columns | {"correct": (person[met] == person[gallery]).astype(np.int64)})
        )
    return pd.concat(parts, ignore_index=True)


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

    How well the pseudo-label network tells people apart within the modality that it was trained on; never re-ranked.
    None where no test identity is seen by two visible cameras (RegDB).
    """
    rows = modality_rows(table, "visible")
    cameras = table.iloc[rows].groupby("person")["camera"].nunique()
    if cameras.empty or cameras.max() < 2:
        return None
    values = embeddings.of(rows)
    similarity = partial(inner_product_blocks, values, values)
    return score_draw(
        Draw(rows, rows, similarity, partial(same_person_and_camera, table)),
        table,
        unique_ids=False,
    )


def _one_block(similarity: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    yield slice(None), similarity
