"""Retrieval among the validation identities, which neither training stage sees.

For `train.selection: validation`.
"""

import numpy as np
import torch

from stages.parts.images.store import ImageStore
from stages.parts.network.head import IdentityNetwork
from stages.parts.retrieval.ranking import score_ranking
from stages.parts.run.world import ALONE, World
from stages.train.data import embed_images


def validation_map(network: IdentityNetwork, store: ImageStore, world: World = ALONE) -> float:
    """Return the mAP of all infrared validation images against all visible ones.

    Nothing is drawn and nothing is excluded. `check_training` has seen to it that an identity has
    images in both.

    Raises:
        FloatingPointError: if an embedding is not finite.
    """
    person = store.table["person"].to_numpy()
    embeddings, persons = {}, {}
    for modality, visible in (("infrared", 0), ("visible", None)):
        rows = store.rows(("val",), modality)
        embeddings[modality] = embed_images(network, store, rows, visible, world)  # (N, D)
        if not embeddings[modality].isfinite().all():
            raise FloatingPointError("the embeddings of the validation images are not finite")
        persons[modality] = person[rows]
    similarity = torch.matmul(embeddings["infrared"], embeddings["visible"].T)  # (Q, G)
    scores = score_ranking(
        similarity.numpy().astype(np.float32), persons["infrared"], persons["visible"]
    )
    return round(scores.mean_ap, 6)
