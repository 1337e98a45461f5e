"""Evaluate the networks on the test images, by the protocol of the data set.

Reads   params.yaml (dataset, device, evaluate), data/images/target/, models/network.safetensors,
        models/pseudo_label.safetensors, and evaluate.official_draws if evaluate.draws is official
Writes  metrics/evaluate.json, metrics/evaluate/cmc.csv, data/rankings/
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluate.features import embed_images, open_network
from stages.evaluate.plan import TARGET, SearchPlan, plan_searches
from stages.evaluate.protocol import Protocol, apply_split, evaluated_rows
from stages.evaluate.protocols import PROTOCOLS
from stages.evaluate.results import Scores, curves_of, metrics_of, print_summary, protocol_facts
from stages.evaluate.score import (
    Embeddings,
    ranked_lists,
    score_search,
    search_galleries,
    visible_score,
)
from stages.parts.images.store import ImageStore
from stages.parts.run import params
from stages.parts.run.checkpoint import delete_finished
from stages.parts.run.device import open_for_stage, uses_bfloat16
from stages.parts.run.files import file_hash, rounded, whole_folder, write_csv, write_json
from stages.parts.run.processes import run
from stages.parts.run.settings import Device, Evaluate
from stages.parts.run.stage import run_stage
from stages.parts.run.tensors import require_facts
from stages.parts.run.world import open_world

NETWORK = Path("models/network.safetensors")
PSEUDO_LABEL_NETWORK = Path("models/pseudo_label.safetensors")
METRICS = Path("metrics/evaluate.json")
CURVES = Path("metrics/evaluate/cmc.csv")
RANKINGS = Path("data/rankings")


def main() -> None:
    """Run the stage in this process, or in those that the user asks for."""
    with run_stage("evaluate", "evaluate.batch"):
        run(evaluate)


def evaluate() -> None:
    """Embed the test images with both networks, search, score, write."""
    tree = params.load()
    settings = params.section(tree, "evaluate", Evaluate)
    chosen = params.section(tree, "device", Device)
    protocol = PROTOCOLS[tree["dataset"]]
    store = ImageStore(TARGET)
    table = apply_split(protocol.name, store.table, settings.split)
    plans = plan_searches(protocol, table, settings)
    # Both are opened first: a wrong file is reported before a network has run.
    images = {"images": store.identity}
    network = open_network(NETWORK, settings.split, images, "train")
    label_network = open_network(PSEUDO_LABEL_NETWORK, settings.split, images, "pseudo_label")
    start = {"pseudo_label": file_hash(PSEUDO_LABEL_NETWORK)}
    require_facts(NETWORK, network.facts, start, "train")
    device, device_settings = open_for_stage("evaluate", chosen)
    world = open_world()
    if world.is_first:
        delete_finished()
    for stored in (network, label_network):
        stored.network.half_precision = uses_bfloat16(device, device_settings.precision)

    rows = evaluated_rows(table)
    embeddings = embed_images(network, store, rows, settings, device, world)
    label_embeddings = embed_images(label_network, store, rows, settings, device, world)
    if not world.is_first:
        return

    with whole_folder(RANKINGS) as folder:
        scores = score_network(protocol, table, plans, embeddings, settings, folder)
        label_scores = score_network(protocol, table, plans, label_embeddings, settings)
        images_hash = file_hash(TARGET / "files.csv")
        facts = protocol_facts(protocol, settings, plans, scores, network, images_hash)
        save_embeddings(folder, embeddings)
        write_json(folder / "protocol.json", facts)
    visible = visible_score(table, label_embeddings)
    metrics = metrics_of(scores, label_scores, visible, settings.rerank)
    write_json(METRICS, rounded(metrics))
    write_csv(CURVES, curves_of(scores, label_scores), 4)
    print_summary(metrics, facts)


def score_network(
    protocol: Protocol,
    table: pd.DataFrame,
    plans: dict[str, SearchPlan],
    embeddings: Embeddings,
    settings: Evaluate,
    lists: Path | None = None,
) -> Scores:
    """Return the scores of a network in every gallery draw of every mode.

    The ranked lists of each mode's first draw are written to the folder `lists`.
    """
    scores: Scores = {}
    for mode, plan in plans.items():
        scores[mode] = []
        searches = search_galleries(protocol, table, embeddings, plan, settings)
        for trial, search in enumerate(searches):
            scores[mode].append(score_search(search, protocol.unique_ids))
            if lists is not None and trial == 0:
                write_csv(lists / f"{mode}.csv", ranked_lists(search), 6)
    return scores


def save_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """Write `embeddings.npy` (N, D) float32 and `rows.npy` (N,) int64, which the report draws."""
    np.save(folder / "embeddings.npy", embeddings.values, allow_pickle=False)
    np.save(folder / "rows.npy", embeddings.rows, allow_pickle=False)


if __name__ == "__main__":
    main()
