"""What prediction alignment attends to in one batch, for people to look at (paper Fig. 5)."""

import numpy as np
import pandas as pd

from stages.parts.images.pairing import cross_modal_batches
from stages.parts.losses.alignment import attention
from stages.parts.network.embed import gather
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.settings import Train
from stages.train.data import TrainingSet, clean_batches


def attention_of_a_batch(
    network: IdentityNetwork,
    data: TrainingSet,
    infrared_labels: np.ndarray,
    train: Train,
    seed: int,
) -> pd.DataFrame:
    """The weights of Eq. 6 (`v2i`) and Eq. 8 (`i2i`) in a random batch: columns kind, query, key, weight.

    Evaluation mode, clean images. query and key are rows of the store; `infrared_labels` (R,) say which infrared images
    share a label. No rows where not one label has images in both modalities.
    """
    shared = np.intersect1d(data.visible_labels, infrared_labels)
    persons = min(train.persons, len(shared))
    if not persons:
        return pd.DataFrame(columns=["kind", "query", "key", "weight"])
    draws = seeds.numpy_generator(seed, "train", "attention")
    batch = cross_modal_batches(
        data.visible_labels, infrared_labels, persons, train.images, 1, draws
    )
    rows = {"v": data.visible_rows[batch.visible[0]], "i": data.infrared_rows[batch.infrared[0]]}
    device = network.classifier.weight.device
    logits = {
        name: gather(network, network.predict, clean_batches(data.store, chosen, device))
        for name, chosen in rows.items()
    }
    parts = []
    for query, key in ("v", "i"), ("i", "i"):
        weight = attention(logits[query], logits[key]).numpy()
        pairs = {
            "query": np.repeat(rows[query], len(rows[key])),
            "key": np.tile(rows[key], len(rows[query])),
        }
        parts.append(pd.DataFrame({"kind": f"{query}2i", **pairs, "weight": weight.ravel()}))
    return pd.concat(parts)
