"""Retrieval among the validation identities, which neither training stage sees: for `train.selection: validation`."""

import numpy as np
import torch

from stages.parts.images.store import ImageStore
from stages.parts.network.embed import embed
from stages.parts.network.head import IdentityNetwork
from stages.parts.retrieval.ranking import score_ranking
from stages.parts.run.stage import InputError
from stages.train.data import clean_batches


def validation_map(network: IdentityNetwork, store: ImageStore) -> float:
    """mAP of all infrared validation images against all visible ones; nothing is drawn and nothing is removed.

    Raises InputError where a modality has none, or no identity is in both.
    """
    rows = {modality: store.rows(("val",), modality) for modality in ("infrared", "visible")}
    for modality, found in rows.items():
        if not len(found):
            raise InputError(
                f"train.selection: validation needs {modality} images of split val, "
                f"{store.folder / 'table.csv'} has none"
            )
    device = network.classifier.weight.device
    queries, gallery = (
        embed(network, clean_batches(store, found, device)) for found in rows.values()
    )
    person = store.table["person"].to_numpy()
    similarity = torch.matmul(queries, gallery.T).numpy().astype(np.float32)
    return round(
        score_ranking(similarity, person[rows["infrared"]], person[rows["visible"]]).mean_ap, 6
    )
