"""Figures for people to look at. No training step and no choice uses them."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.parts.agreement import (
    agreement,
    assignment_accuracy,
    commonest_persons,
    label_distribution,
)
from stages.parts.images.pairing import cross_modal_batches
from stages.parts.losses.alignment import attention
from stages.parts.network.embed import gather
from stages.parts.network.head import IdentityNetwork
from stages.parts.run import seeds
from stages.parts.run.training import Figures
from stages.train.assignment import Assignment
from stages.train.association import Classes
from stages.train.data import Method, TrainingSet, clean_batches

LABEL_FIGURES = (
    "accuracy",
    "accuracy_argmax",
    "label_entropy",
    "label_max_share",
    "empty_labels",
    "assignment_iterations",
    "predicted_share",
    "infrared_clusters",
    "infrared_ari",
)
PROTOTYPE_FIGURES = (
    "matched_share",
    "associations_right",
    "similarity_associated",
    "similarity_same",
    "similarity_across",
    "similarity_visible",
    "similarity_infrared",
)


def label_figures(
    assignment: Assignment,
    argmax: Assignment,
    positions: np.ndarray,
    data: TrainingSet,
    is_assigned: bool,
) -> Figures:
    """Return how right the labels of an epoch are and how evenly they are used.

    Args:
        assignment: the labels (M,) that were written.
        argmax: the most likely labels of the same predictions.
        positions: (M,) of the images in `data.infrared_rows`.
        data: its persons tell which labels are right.
        is_assigned: whether there is an assignment method; without one `accuracy` is None.
    """
    persons = data.infrared_persons[positions]
    shares = label_distribution(assignment.labels.numpy(), data.classes)

    def accuracy(labels: Tensor) -> float:
        share = assignment_accuracy(
            labels.numpy(), persons, data.visible_labels, data.visible_persons
        )
        return round(share, 6)

    return {
        "accuracy": accuracy(assignment.labels) if is_assigned else None,
        "accuracy_argmax": accuracy(argmax.labels),
        "label_entropy": round(shares["entropy"], 6),
        "label_max_share": round(shares["max_share"], 6),
        "empty_labels": int(shares["empty"]),
        "assignment_iterations": assignment.iterations,
        "predicted_share": round(len(positions) / len(data.infrared_rows), 6),
    }


def cluster_figures(clusters: np.ndarray | None, persons: np.ndarray) -> Figures:
    """Return number and adjusted Rand index of clusters (M,) of images of persons (M,).

    Both are None if images are not clustered.
    """
    if clusters is None:
        return {"infrared_clusters": None, "infrared_ari": None}
    quality = agreement(clusters, persons)
    return {"infrared_clusters": int(quality["clusters"]), "infrared_ari": round(quality["ari"], 6)}


def prototype_figures(
    classes: Classes, labels: Tensor, clusters: np.ndarray, data: TrainingSet
) -> Figures:
    """Return how infrared classes match visible labels, and how their prototypes lie.

    The person of a label or class is the commonest one of its images. Figures are None where there
    is nothing to average over:

    - matched_share: share of the infrared images whose class has a label.
    - associations_right: share of the labels of classes that are of the class's person.
    - similarity_associated: mean cosine of a class and its label.
    - similarity_same, similarity_across: that of visible and infrared prototypes of the same
      person, and of different ones.
    - similarity_visible, similarity_infrared: that of different persons within a modality.

    Args:
        classes: the prototypes of V labels and C classes.
        labels: (C,) int64, the label of each class; -1 for none.
        clusters: (R,) int64, the class of each infrared image; -1 for none.
        data: whose images the prototypes are of.
    """
    inside = clusters >= 0
    is_matched = labels.numpy() >= 0  # (C,)
    _, visible = commonest_persons(data.visible_labels, data.visible_persons)  # (V,)
    _, infrared = commonest_persons(clusters[inside], data.infrared_persons[inside])  # (C,)
    rows, columns = np.flatnonzero(is_matched), labels.numpy()[is_matched]
    across = (classes.infrared @ classes.visible.T).numpy()  # (C, V)
    is_same = infrared[:, None] == visible  # (C, V)
    return {
        "matched_share": round(float(is_matched[clusters[inside]].sum() / len(clusters)), 6),
        "associations_right": _mean(is_same[rows, columns]),
        "similarity_associated": _mean(across[rows, columns]),
        "similarity_same": _mean(across[is_same]),
        "similarity_across": _mean(across[~is_same]),
        "similarity_visible": _similarity_within(classes.visible, visible),
        "similarity_infrared": _similarity_within(classes.infrared, infrared),
    }


def _similarity_within(prototypes: Tensor, persons: np.ndarray) -> float | None:
    """Return the mean cosine of prototypes (P, D) of different persons (P,) of one modality."""
    cosines = (prototypes @ prototypes.T).numpy()
    return _mean(cosines[persons[:, None] != persons])


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean(dtype=np.float64)), 6) if len(values) else None


def label_counts(assigned: Tensor, argmax: Tensor, classes: int, is_assigned: bool) -> Tensor:
    """Return the images of each label (2, C) int64: as assigned (-1 if not), and by argmax."""
    counts = [torch.bincount(labels, minlength=classes) for labels in (assigned, argmax)]
    if not is_assigned:
        counts[0] = torch.full_like(counts[0], -1)
    return torch.stack(counts)


def counts_table(counts: np.ndarray) -> pd.DataFrame:
    """Return counts (epochs, 2, C) as a table with the columns epoch, label, assigned, argmax.

    `assigned` is empty where there is no assignment.
    """
    epochs, _, classes = counts.shape
    assigned = pd.Series(counts[:, 0].ravel(), dtype="Int64").replace(-1, pd.NA)
    return pd.DataFrame(
        {
            "epoch": np.repeat(np.arange(1, epochs + 1), classes),
            "label": np.tile(np.arange(classes), epochs),
            "assigned": assigned,
            "argmax": counts[:, 1].ravel(),
        }
    )


def attention_of_a_batch(
    network: IdentityNetwork, data: TrainingSet, infrared_labels: np.ndarray, method: Method
) -> pd.DataFrame:
    """Return the attention of a random batch (paper Fig. 5) in evaluation mode, clean images.

    Args:
        network: predicts the identities.
        data: the images.
        infrared_labels: (R,) labels that say which infrared images belong together.
        method: size of the batch, and the seed.

    Returns:
        Columns kind (`v2i`: Eq. 6, `i2i`: Eq. 8), query and key (rows of the store), weight. There
        are no rows if no label has images in both modalities.
    """
    shared = np.intersect1d(data.visible_labels, infrared_labels)
    persons = min(method.train.persons, len(shared))
    if not persons:
        return pd.DataFrame(columns=["kind", "query", "key", "weight"])
    stream = seeds.numpy_generator(method.seed, "train", "attention")
    batch = cross_modal_batches(
        data.visible_labels, infrared_labels, persons, method.train.images, 1, stream
    )
    rows = {
        "v": data.visible_rows[batch.visible[0]],  # (B,)
        "i": data.infrared_rows[batch.infrared[0]],  # (B,)
    }
    device = network.classifier.weight.device
    logits = {}
    for modality, visible in (("v", None), ("i", 0)):
        images = clean_batches(data.store, rows[modality], device)
        predict = partial(network.predict, visible=visible)
        logits[modality] = gather(network, predict, images)  # (B, C)
    tables = []
    for query, key in ("v", "i"), ("i", "i"):
        weight = attention(logits[query], logits[key]).numpy()  # (B, B)
        columns = {
            "kind": f"{query}2i",
            "query": np.repeat(rows[query], len(rows[key])),
            "key": np.tile(rows[key], len(rows[query])),
            "weight": weight.ravel(),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables)
