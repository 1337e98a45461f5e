"""What is written and said: how the numbers came about, the numbers, the curves."""

from typing import Any

import numpy as np
import pandas as pd

from stages.evaluate.score import RANKS, Plan, Rerank, mean_curve, summary
from stages.parts.retrieval.ranking import RankingScores
from stages.parts.run.console import message
from stages.parts.run.settings import Evaluate

ALONE = "{} (pseudo labels only)"  # a mode's name for the network of the pseudo-label stage


def facts_of(
    layout: str, settings: Evaluate, plans: dict[str, Plan], drawn: bool, rerank: Rerank | None
) -> dict[str, Any]:
    """How the numbers come about, for `protocol.json`. `drawn`: whether the data set's galleries are drawn."""
    return {
        "layout": layout,
        "split": settings.split,
        "modes": list(plans),
        "draws": settings.draws if drawn else "none: the gallery is all images",
        "trials": max(len(plan.galleries) for plan in plans.values()),
        "shots": settings.shots if drawn else None,
        "queries": {mode: len(plan.queries) for mode, plan in plans.items()},
        "gallery": {mode: len(plan.galleries[0]) for mode, plan in plans.items()},
        "unmatched": {},  # queries without a match in the first gallery, by mode
        "features": settings.features,
        "flip": settings.flip,
        "rerank": {"k1": rerank.k1, "k2": rerank.k2, "lambda": rerank.weight} if rerank else False,
    }


def metrics_of(
    plans: dict[str, Plan],
    scores: dict[str, list[RankingScores]],
    visible: RankingScores | None,
    reranked: bool,
) -> dict[str, Any]:
    """The tree of `metrics/evaluate.json`, fractions; `rerank` is in it where it is on, and nothing where it is not."""
    metrics: dict[str, Any] = {mode: summary(scores[mode]) for mode in plans}
    alone: dict[str, Any] = {}
    for mode in plans:
        means = summary(scores[ALONE.format(mode)])
        alone[mode] = {name: means[name] for name in ("rank1", "map", "minp")}
    if visible is not None:
        alone["visible"] = {"rank1": float(visible.cmc[0]), "map": visible.mean_ap}
    return metrics | {"pseudo_label": alone} | ({"rerank": True} if reranked else {})


def curves_of(scores: dict[str, list[RankingScores]]) -> pd.DataFrame:
    """Columns mode, rank, cmc; the mean over draws."""
    curves = {name: mean_curve(results) for name, results in scores.items()}
    parts = [
        pd.DataFrame({"mode": name, "rank": np.arange(1, len(cmc) + 1), "cmc": cmc})
        for name, cmc in curves.items()
    ]
    return pd.concat(parts)


def tell(metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """The result as a small table, in per cent, and what departs from the customary protocol."""
    names = {f"rank{rank}": f"Rank-{rank}" for rank in RANKS} | {"map": "mAP", "minp": "mINP"}
    head = "%, re-ranked" if facts["rerank"] else "%"
    message(f"{head:<20}" + "".join(f"{name:>15}" for name in names.values()))
    for mode in facts["modes"]:
        cells = [
            f"{100 * metrics[mode][name]:.2f} ± {100 * metrics[mode][f'{name}_sd']:.2f}"
            for name in names
        ]
        message(f"{mode:<20}" + "".join(f"{cell:>15}" for cell in cells))
    alone = [
        f"{mode} " + ", ".join(f"{names[name]} {100 * value:.2f}" for name, value in means.items())
        for mode, means in metrics["pseudo_label"].items()
    ]
    message("pseudo labels only: " + "; ".join(alone))
    message(f"gallery draws: {facts['draws']}, {facts['trials']}")
    for line in departures(facts):
        message(line)


def departures(facts: dict[str, Any]) -> list[str]:
    """A line for every choice that makes the numbers another thing than the customary ones."""
    lines = {
        "validation identities, not the test set": facts["split"] == "val",
        "features before the neck": facts["features"] == "before",
        "averaged with mirror images": facts["flip"],
    }
    found = [line for line, holds in lines.items() if holds]
    if facts["rerank"]:
        values = ", ".join(f"{name} {value}" for name, value in facts["rerank"].items())
        found.append(
            f"re-ranked by k-reciprocal neighbours ({values}), all but visible against visible"
        )
    return found
