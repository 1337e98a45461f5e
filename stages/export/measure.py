"""How far the files are from the network in PyTorch, and what 8 bits cost."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages.evaluate.features import StoredNetwork, embed_images
from stages.evaluate.plan import plan_searches
from stages.evaluate.protocol import Protocol
from stages.evaluate.score import Embeddings, score_search, search_galleries, summary
from stages.export.onnx_file import embed_onnx
from stages.parts.images.store import ImageStore
from stages.parts.run.settings import Evaluate

CPU = torch.device("cpu")


def largest_difference(
    files: Mapping[str, Path],
    stored: StoredNetwork,
    store: ImageStore,
    rows: np.ndarray,
    settings: Evaluate,
    threads: int,
) -> float:
    """Return the largest difference between embeddings of ONNX files and those of PyTorch.

    Args:
        files: the file for the images of each modality.
        stored: the network that they were made from.
        store: the images.
        rows: (N,) which of them are compared.
        settings: of `evaluate`; their batch counts, and not what is done with the embeddings.
        threads: of the CPU, those that torch has.

    Returns:
        The maximum over images and dimensions; NaN if a file gives one.
    """
    plain = replace(settings, flip=False, features="after")
    expected = embed_images(stored, store, rows, plain, CPU).values  # (N, D)
    found = embed_onnx(files, store, rows, settings.batch, threads)
    return float(np.abs(found - expected).max())


def mean_precisions(
    protocol: Protocol, table: pd.DataFrame, embeddings: Embeddings, settings: Evaluate
) -> dict[str, float]:
    """Return the mAP of each mode, the mean over its gallery draws, as `evaluate` computes it."""
    found = {}
    for mode, plan in plan_searches(protocol, table, settings).items():
        searches = search_galleries(protocol, table, embeddings, plan, settings)
        scores = [score_search(search, protocol.unique_ids) for search in searches]
        found[mode] = summary(scores)["map"]
    return found
