"""What is written and printed: how the numbers were made, the numbers, the curves."""

from typing import Any

import numpy as np
import pandas as pd

from stages.evaluate.features import StoredNetwork
from stages.evaluate.plan import SearchPlan
from stages.evaluate.protocol import Protocol
from stages.evaluate.score import RANKS, mean_curve, summary
from stages.parts.retrieval.ranking import RankingScores
from stages.parts.run.console import message
from stages.parts.run.settings import Evaluate

Scores = dict[str, list[RankingScores]]  # mode → scores of each gallery draw

# The name of the pseudo-label network's curve in `cmc.csv`, by the mode's name.
PSEUDO_LABEL_CURVE = "{} (pseudo labels only)"
MEASURES = {f"rank{rank}": f"Rank-{rank}" for rank in RANKS} | {"map": "mAP", "minp": "mINP"}


def protocol_facts(
    protocol: Protocol,
    settings: Evaluate,
    plans: dict[str, SearchPlan],
    scores: Scores,
    stored: StoredNetwork,
    images_hash: str,
) -> dict[str, Any]:
    """Return how the numbers were made, for `protocol.json`."""
    drawn = protocol.draws > 1
    rerank: dict[str, Any] | bool = False
    if settings.rerank:
        rerank = {
            "k1": settings.rerank_k1,
            "k2": settings.rerank_k2,
            "lambda": settings.rerank_lambda,
        }
    return {
        "layout": protocol.name,
        "split": settings.split,
        "modes": list(plans),
        "draws": settings.draws if drawn else "none: the gallery is all images",
        "trials": min(settings.trials, protocol.draws),
        "shots": settings.shots if drawn else None,
        "queries": {mode: len(plan.queries) for mode, plan in plans.items()},
        "gallery": {mode: len(plan.galleries[0]) for mode, plan in plans.items()},
        # queries without a match in the first gallery
        "unmatched": {mode: scores[mode][0].unmatched for mode in plans},
        "features": settings.features,
        "flip": settings.flip,
        "rerank": rerank,
        "checkpoint": stored.checkpoint,
        "data": images_hash,
        "architecture": stored.architecture,
    }


def metrics_of(
    scores: Scores, pseudo_label_scores: Scores, visible: RankingScores | None, reranked: bool
) -> dict[str, Any]:
    """Return the tree of `metrics/evaluate.json`, as fractions.

    `pseudo_label` holds the numbers of the pseudo-label network. The key `rerank` is there only if
    the results are re-ranked.
    """
    metrics: dict[str, Any] = {mode: summary(draws) for mode, draws in scores.items()}
    metrics["pseudo_label"] = {}
    for mode, draws in pseudo_label_scores.items():
        means = summary(draws)
        metrics["pseudo_label"][mode] = {name: means[name] for name in ("rank1", "map", "minp")}
    if visible is not None:
        numbers = {"rank1": float(visible.cmc[0]), "map": visible.mean_ap}
        metrics["pseudo_label"]["visible"] = numbers
    if reranked:
        metrics["rerank"] = True
    return metrics


def curves_of(scores: Scores, pseudo_label_scores: Scores) -> pd.DataFrame:
    """Return the CMC of both networks in each mode, as columns mode, rank, cmc."""
    curves = {}
    for mode in scores:
        curves[mode] = mean_curve(scores[mode])
        curves[PSEUDO_LABEL_CURVE.format(mode)] = mean_curve(pseudo_label_scores[mode])
    parts = []
    for name, cmc in curves.items():
        ranks = np.arange(1, len(cmc) + 1)
        parts.append(pd.DataFrame({"mode": name, "rank": ranks, "cmc": cmc}))
    return pd.concat(parts)


def print_summary(metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """Print the result as a small table, in percent, and how it departs from the usual protocol."""
    head = "%, re-ranked" if facts["rerank"] else "%"
    _print_row(head, list(MEASURES.values()))
    for mode in facts["modes"]:
        _print_row(mode, [_mean_and_deviation(metrics[mode], name) for name in MEASURES])
    groups = [_means(mode, means) for mode, means in metrics["pseudo_label"].items()]
    message("pseudo-label network: " + "; ".join(groups))
    message(f"gallery draws: {facts['draws']}, {facts['trials']}")
    for line in departures(facts):
        message(line)


def departures(facts: dict[str, Any]) -> list[str]:
    """Return a line for every choice that makes the numbers differ from the usual ones."""
    lines = []
    if facts["split"] == "val":
        lines.append("validation identities, not the test set")
    if facts["features"] == "before":
        lines.append("features before the neck")
    if facts["flip"]:
        lines.append("averaged with mirror images")
    if facts["rerank"]:
        values = ", ".join(f"{name} {value}" for name, value in facts["rerank"].items())
        lines.append(
            f"re-ranked by k-reciprocal neighbors ({values}), all but visible against visible"
        )
    return lines


def _print_row(name: str, cells: list[str]) -> None:
    message(f"{name:<20}" + "".join(f"{cell:>15}" for cell in cells))


def _mean_and_deviation(metrics: dict[str, float], name: str) -> str:
    return f"{100 * metrics[name]:.2f} ± {100 * metrics[f'{name}_sd']:.2f}"


def _means(mode: str, means: dict[str, float]) -> str:
    cells = [f"{MEASURES[name]} {100 * value:.2f}" for name, value in means.items()]
    return f"{mode} " + ", ".join(cells)
