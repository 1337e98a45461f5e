"""A protocol and embeddings → searches → scores and ranked lists."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from stages.evaluate.plan import SearchPlan
from stages.evaluate.protocol import Exclusion, Protocol, evaluated_rows, same_person_and_camera
from stages.parts.clustering.rerank import Blocks, reranked_distance
from stages.parts.retrieval.index import inner_product_blocks
from stages.parts.retrieval.ranking import (
    RankingScores,
    group_by_identity,
    mean_scores,
    score_queries,
    top_ranked,
)
from stages.parts.run.console import busy
from stages.parts.run.settings import Evaluate

RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Embeddings:
    """Unit rows of some images of the table."""

    rows: np.ndarray  # (N,) int64, ascending
    values: np.ndarray  # (N, D) float32
    device: torch.device  # where they are compared

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the values (M, D) of the table's `rows` (M,), which are among `self.rows`."""
        return self.values[np.searchsorted(self.rows, rows)]


class Block(NamedTuple):
    """Some of the queries against the gallery."""

    queries: np.ndarray  # (q,) rows of the table
    similarity: np.ndarray  # (q, G) float32
    excluded: np.ndarray | None  # (q, G) bool


@dataclass(frozen=True)
class Search:
    """Queries against one gallery.

    Similarities and excluded pairs are computed by blocks of queries, anew in each pass.
    """

    table: pd.DataFrame
    queries: np.ndarray  # (Q,) rows of the table
    gallery: np.ndarray  # (G,) rows of the table
    similarity_blocks: Callable[[], Iterator[tuple[slice, np.ndarray]]]  # of (q, G)
    exclusion: Exclusion | None

    def blocks(self) -> Iterator[Block]:
        """Yield all queries, block by block, in their order."""
        for block, similarity in self.similarity_blocks():
            queries = self.queries[block]
            excluded = None
            if self.exclusion is not None:
                excluded = self.exclusion(self.table, queries, self.gallery)
            yield Block(queries, similarity, excluded)


def search_galleries(
    protocol: Protocol,
    table: pd.DataFrame,
    embeddings: Embeddings,
    plan: SearchPlan,
    settings: Evaluate,
) -> Iterator[Search]:
    """Yield the search in each gallery of `plan`.

    Similarities are the inner products of the embeddings, or minus the re-ranked distances.
    A gallery may be of any size: similarities are computed for some queries at a time
    (`inner_product_blocks`). Scores come from each query's full list, never from its first places
    alone. Re-ranking holds all (Q, G) distances.
    """
    queries = embeddings.of(plan.queries)  # (Q, D)
    for rows in plan.galleries:
        gallery = embeddings.of(rows)  # (G, D)
        products = partial(inner_product_blocks, device=embeddings.device)
        blocks = partial(products, queries, gallery)
        if settings.rerank:
            blocks = partial(_one_block, -_reranked(queries, gallery, products, settings))
        yield Search(table, plan.queries, rows, blocks, protocol.excluded)


def score_search(search: Search, unique_ids: bool) -> RankingScores:
    """Return what `score_ranking` returns, computed one block of queries after the other."""
    person = search.table["person"].to_numpy()
    gallery = group_by_identity(person[search.gallery])
    parts = []
    for block in search.blocks():
        query_ids = person[block.queries]
        parts.append(
            score_queries(block.similarity, query_ids, gallery, block.excluded, unique_ids)
        )
    return mean_scores(parts)


def ranked_lists(search: Search, count: int = 20) -> pd.DataFrame:
    """Return the first `count` gallery images of each query's list.

    Columns: query and gallery (rows of the table), rank (from 1), similarity, correct (0 or 1).
    """
    person = search.table["person"].to_numpy()
    parts = []
    for block in search.blocks():
        top = top_ranked(block.similarity, block.excluded, count)  # (q, count) positions, -1: none
        query, place = np.nonzero(top >= 0)  # (P,) each
        position = top[query, place]  # (P,) in the gallery
        query_rows = block.queries[query]
        gallery_rows = search.gallery[position]
        correct = person[query_rows] == person[gallery_rows]
        columns = {
            "query": query_rows,
            "rank": place + 1,
            "gallery": gallery_rows,
            "similarity": block.similarity[query, position],
            "correct": correct.astype(np.int64),
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def visible_score(table: pd.DataFrame, embeddings: Embeddings) -> RankingScores | None:
    """Return the scores of all visible test images against each other, never re-ranked.

    They say how well the pseudo-label network tells people apart within the modality that it was
    trained on. Images of the same person *and* camera are excluded; CMC counts images.
    None if no test identity is seen by two visible cameras (RegDB).
    """
    rows = evaluated_rows(table, "visible")
    cameras = table.iloc[rows].groupby("person")["camera"].nunique()
    if cameras.empty or cameras.max() < 2:
        return None
    values = embeddings.of(rows)  # (N, D)
    blocks = partial(inner_product_blocks, values, values, device=embeddings.device)
    search = Search(table, rows, rows, blocks, same_person_and_camera)
    return score_search(search, unique_ids=False)


def summary(scores: Sequence[RankingScores]) -> dict[str, float]:
    """Return mean and standard deviation (ddof 0) over the gallery draws.

    Keys: `rank1`, `rank1_sd`, …, `map`, `map_sd`, `minp`, `minp_sd`.
    """
    series = {f"rank{rank}": [score.cmc[rank - 1] for score in scores] for rank in RANKS}
    series["map"] = [score.mean_ap for score in scores]
    series["minp"] = [score.mean_inp for score in scores]
    tree: dict[str, float] = {}
    for name, values in series.items():
        tree[name] = float(np.mean(values))
        tree[f"{name}_sd"] = float(np.std(values))
    return tree


def mean_curve(scores: Sequence[RankingScores]) -> np.ndarray:
    """Return the CMC (20,), the mean over the gallery draws."""
    mean: np.ndarray = np.mean([score.cmc for score in scores], axis=0)
    return mean


def _reranked(
    queries: np.ndarray, gallery: np.ndarray, products: Blocks, settings: Evaluate
) -> np.ndarray:
    """Return the re-ranked distances (Q, G) float32 of unit rows (Q, D) and (G, D)."""
    k1, k2, weight = settings.rerank_k1, settings.rerank_k2, settings.rerank_lambda
    with busy(f"evaluate: re-ranking {len(queries)} queries × {len(gallery)} gallery images"):
        return reranked_distance(queries, gallery, products, top_ranked, k1, k2, weight)


def _one_block(similarity: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield all queries and their similarities (Q, G) as a single block."""
    yield slice(None), similarity
