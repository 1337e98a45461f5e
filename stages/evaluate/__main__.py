"""Judge the networks on the test images, by the protocol of the data set.

Reads   params.yaml (data, device, evaluate), data/images/target/, models/network.safetensors,
        models/pseudo_label.safetensors, and evaluate.official_draws where evaluate.draws asks for it
Writes  metrics/evaluate.json, metrics/evaluate/cmc.csv, data/rankings/
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from stages.evaluate import llcm, regdb, sysu_mm01
from stages.evaluate.protocol import Protocol, check_mode
from stages.evaluate.score import (
    RANKS,
    Embeddings,
    Plan,
    make_plan,
    mean_curve,
    ranked_lists,
    score_draw,
    search,
    summary,
    visible_score,
)
from stages.parts.images.augment import normalise, resize
from stages.parts.images.store import ImageStore
from stages.parts.network.embed import embed
from stages.parts.network.head import Embedder
from stages.parts.retrieval.ranking import RankingScores
from stages.parts.run import params, records
from stages.parts.run.device import open_device, uses_bfloat16
from stages.parts.run.settings import Data, Device, Evaluate

PROTOCOLS: dict[str, Protocol] = {"sysu_mm01": sysu_mm01, "regdb": regdb, "llcm": llcm}
TARGET = Path("data/images/target")
NETWORK = Path("models/network.safetensors")
PSEUDO_LABEL = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/evaluate.json")
CURVES = Path("metrics/evaluate/cmc.csv")
RANKINGS = Path("data/rankings")
ALONE = "{} (pseudo labels only)"  # a mode's name for the network of the pseudo-label stage


def main() -> None:
    """The stage."""
    with records.stage("evaluate"):
        tree = params.load()
        layout = params.section(tree, "data", Data).layout
        settings = params.section(tree, "evaluate", Evaluate)
        device = params.section(tree, "device", Device)
        protocol, store = PROTOCOLS[layout], ImageStore(TARGET)
        plans = plan_all(layout, store.table, settings)
        full, architecture = embeddings_of(NETWORK, store, settings, device)
        alone, _ = embeddings_of(PSEUDO_LABEL, store, settings, device)
        scores: dict[str, list[RankingScores]] = {}
        protocol_facts = facts_of(layout, settings, plans) | {
            "data": records.file_hash(TARGET / "files.csv"),
            "architecture": architecture,
        }
        with records.whole_folder(RANKINGS) as folder:
            for mode, plan in plans.items():
                scores[mode] = []
                for number, draw in enumerate(search(protocol, store.table, full, plan)):
                    scores[mode].append(score_draw(draw, store.table, protocol.UNIQUE_IDS))
                    if number == 0:
                        write_csv(folder / f"{mode}.csv", ranked_lists(draw, store.table), 6)
                protocol_facts["unmatched"][mode] = scores[mode][0].unmatched
                found = search(protocol, store.table, alone, plan)
                scores[ALONE.format(mode)] = [score_draw(draw, store.table, protocol.UNIQUE_IDS) for draw in found]
            records.write_json(folder / "protocol.json", protocol_facts)
        metrics = metrics_of(plans, scores, visible_score(store.table, alone))
        records.write_json(METRICS, records.rounded(metrics))
        write_csv(CURVES, curves_of(scores), 4)
        tell(metrics, protocol_facts)


def plan_all(layout: str, table: pd.DataFrame, settings: Evaluate) -> dict[str, Plan]:
    """The plan of every mode; whatever is wrong with the request shows here, before a network has run."""
    for mode in settings.modes:
        check_mode(layout, mode, PROTOCOLS[layout].MODES)
    official = records.resolve(settings.official_draws) if settings.official_draws else None
    return {mode: make_plan(PROTOCOLS[layout], table, mode, settings, official) for mode in settings.modes}


def embeddings_of(path: Path, store: ImageStore, settings: Evaluate, device: Device) -> tuple[Embeddings, str]:
    """Every test image once through the network stored at `path`; and the network's architecture."""
    tensors, facts = records.load_tensors(path)
    if not isinstance(facts, dict) or not {"architecture", "height", "width"} <= set(facts):
        raise records.InputError(f"{path}: expected the facts architecture, height and width, found {facts}")
    where = open_device(device.name, device.threads)
    try:
        network = Embedder(facts["architecture"])
        network.restore(tensors)
    except ValueError as error:
        raise records.InputError(f"{path}: {error}") from None
    network.half_precision = uses_bfloat16(where, device.precision)
    network.to(where)
    rows = store.rows(("query", "gallery"))

    def batches(mirrored: bool) -> Iterator[Tensor]:
        for start in records.progress(range(0, len(rows), settings.batch), f"images through {path.name}", "batch"):
            images = store.batch(rows[start : start + settings.batch], where).float()
            images = normalise(resize(images, facts["height"], facts["width"]))
            yield images.flip(3) if mirrored else images

    values = embed(network, batches(mirrored=False))
    if settings.flip:
        values = functional.normalize(values + embed(network, batches(mirrored=True)))
    wrong = ~torch.isfinite(values).all(1)
    if wrong.any():
        image = store.table["path"].iloc[rows[int(wrong.nonzero()[0])]]
        raise records.InputError(f"{path}: the network's output for {image} is not finite")
    return Embeddings(rows, values.numpy()), facts["architecture"]


def facts_of(layout: str, settings: Evaluate, plans: dict[str, Plan]) -> dict[str, Any]:
    """How the numbers come about, for `protocol.json`."""
    drawn = PROTOCOLS[layout].DRAWS > 1
    return {
        "layout": layout,
        "modes": list(plans),
        "draws": settings.draws if drawn else "none: the gallery is all images",
        "trials": max(len(plan.galleries) for plan in plans.values()),
        "shots": settings.shots if drawn else None,
        "queries": {mode: len(plan.queries) for mode, plan in plans.items()},
        "gallery": {mode: len(plan.galleries[0]) for mode, plan in plans.items()},
        "unmatched": {},  # queries without a match in the first gallery, by mode
        "flip": settings.flip,
        "checkpoint": "last epoch",
    }


def metrics_of(
    plans: dict[str, Plan], scores: dict[str, list[RankingScores]], visible: RankingScores | None
) -> dict[str, Any]:
    """The tree of `metrics/evaluate.json`, fractions."""
    metrics: dict[str, Any] = {mode: summary(scores[mode]) for mode in plans}
    alone: dict[str, Any] = {}
    for mode in plans:
        means = summary(scores[ALONE.format(mode)])
        alone[mode] = {name: means[name] for name in ("rank1", "map", "minp")}
    if visible is not None:
        alone["visible"] = {"rank1": float(visible.cmc[0]), "map": visible.mean_ap}
    return metrics | {"pseudo_label": alone}


def curves_of(scores: dict[str, list[RankingScores]]) -> pd.DataFrame:
    """Columns mode, rank, cmc; the mean over draws."""
    curves = {name: mean_curve(results) for name, results in scores.items()}
    parts = [
        pd.DataFrame({"mode": name, "rank": np.arange(1, len(cmc) + 1), "cmc": cmc}) for name, cmc in curves.items()
    ]
    return pd.concat(parts)


def write_csv(path: Path, table: pd.DataFrame, digits: int) -> None:
    """`table` without its index, floats with a fixed number of digits."""
    records.write_text(path, table.to_csv(index=False, float_format=f"%.{digits}f", lineterminator="\n"))


def tell(metrics: dict[str, Any], facts: dict[str, Any]) -> None:
    """The result as a small table, in per cent."""
    names = {f"rank{rank}": f"Rank-{rank}" for rank in RANKS} | {"map": "mAP", "minp": "mINP"}
    records.say(f"{'%':<20}" + "".join(f"{name:>15}" for name in names.values()))
    for mode in facts["modes"]:
        cells = [f"{100 * metrics[mode][name]:.2f} ± {100 * metrics[mode][f'{name}_sd']:.2f}" for name in names]
        records.say(f"{mode:<20}" + "".join(f"{cell:>15}" for cell in cells))
    alone = [
        f"{mode} " + ", ".join(f"{names[name]} {100 * value:.2f}" for name, value in means.items())
        for mode, means in metrics["pseudo_label"].items()
    ]
    records.say("pseudo labels only: " + "; ".join(alone))
    records.say(f"gallery draws: {facts['draws']}, {facts['trials']}")


if __name__ == "__main__":
    main()
