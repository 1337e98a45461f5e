"""Judge the networks on the test images, by the protocol of the data set.

Reads   params.yaml (data, device, evaluate), data/images/target/, models/network.safetensors,
        models/pseudo_label.safetensors, and evaluate.official_draws where evaluate.draws asks for it
Writes  metrics/evaluate.json, metrics/evaluate/cmc.csv, data/rankings/
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate import folder, llcm, regdb, sysu_mm01
from stages.evaluate.features import embeddings_of, open_network
from stages.evaluate.protocol import Protocol, check_mode, judged, modality_rows
from stages.evaluate.results import ALONE, curves_of, facts_of, metrics_of, tell
from stages.evaluate.score import (
    Embeddings,
    Plan,
    make_plan,
    ranked_lists,
    rerank_of,
    score_draw,
    search,
    visible_score,
)
from stages.parts.images.store import ImageStore
from stages.parts.retrieval.ranking import RankingScores
from stages.parts.run import params
from stages.parts.run.files import file_hash, resolve, rounded, whole_folder, write_json, write_text
from stages.parts.run.settings import Data, Device, Evaluate
from stages.parts.run.stage import run_stage

PROTOCOLS: dict[str, Protocol] = {
    "sysu_mm01": sysu_mm01,
    "regdb": regdb,
    "llcm": llcm,
    "folder": folder,
}
TARGET = Path("data/images/target")
NETWORK = Path("models/network.safetensors")
PSEUDO_LABEL = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/evaluate.json")
CURVES = Path("metrics/evaluate/cmc.csv")
RANKINGS = Path("data/rankings")


def main() -> None:
    """The stage."""
    with run_stage("evaluate"):
        tree = params.load()
        layout = params.section(tree, "data", Data).layout
        settings = params.section(tree, "evaluate", Evaluate)
        device = params.section(tree, "device", Device)
        protocol, store = PROTOCOLS[layout], ImageStore(TARGET)
        table = judged(layout, store.table, settings.split)
        plans, rerank = plan_all(layout, table, settings), rerank_of(settings)
        networks = [open_network(path, settings.split) for path in (NETWORK, PSEUDO_LABEL)]
        rows = modality_rows(table)
        full, alone = (
            embeddings_of(network, store, rows, settings, device) for network in networks
        )
        facts = facts_of(layout, settings, plans, protocol.DRAWS > 1, rerank) | {
            "checkpoint": networks[0].checkpoint,
            "data": file_hash(TARGET / "files.csv"),
            "architecture": networks[0].architecture,
        }
        scores: dict[str, list[RankingScores]] = {}
        with whole_folder(RANKINGS) as beside:
            for mode, plan in plans.items():
                scores[mode] = []
                for number, draw in enumerate(search(protocol, table, full, plan, rerank)):
                    scores[mode].append(score_draw(draw, table, protocol.UNIQUE_IDS))
                    if number == 0:
                        write_csv(beside / f"{mode}.csv", ranked_lists(draw, table), 6)
                facts["unmatched"][mode] = scores[mode][0].unmatched
                found = search(protocol, table, alone, plan, rerank)
                scores[ALONE.format(mode)] = [
                    score_draw(draw, table, protocol.UNIQUE_IDS) for draw in found
                ]
            save(beside, full)
            write_json(beside / "protocol.json", facts)
        metrics = metrics_of(plans, scores, visible_score(table, alone), settings.rerank)
        write_json(METRICS, rounded(metrics))
        write_csv(CURVES, curves_of(scores), 4)
        tell(metrics, facts)


def plan_all(layout: str, table: pd.DataFrame, settings: Evaluate) -> dict[str, Plan]:
    """The plan of every mode; whatever is wrong with the request shows here, before a network has run."""
    for mode in settings.modes:
        check_mode(layout, mode, PROTOCOLS[layout].MODES)
    official = resolve(settings.official_draws) if settings.official_draws else None
    return {
        mode: make_plan(PROTOCOLS[layout], table, mode, settings, official)
        for mode in settings.modes
    }


def save(place: Path, embeddings: Embeddings) -> None:
    """`embeddings.npy` (N, D) float32 and `rows.npy` (N,) int64, what the report draws."""
    np.save(place / "embeddings.npy", embeddings.values, allow_pickle=False)
    np.save(place / "rows.npy", embeddings.rows, allow_pickle=False)


def write_csv(path: Path, table: pd.DataFrame, digits: int) -> None:
    """`table` without its index, floats with a fixed number of digits."""
    write_text(path, table.to_csv(index=False, float_format=f"%.{digits}f", lineterminator="\n"))


if __name__ == "__main__":
    main()
