"""Infrared images that get one label together: clusters of their embeddings (beyond the paper)."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.parts.clustering.density import cluster
from stages.parts.clustering.neighbours import nearest_lists, similarity_of_lists
from stages.parts.network.head import IdentityNetwork
from stages.parts.run.console import busy
from stages.parts.run.settings import Clusters
from stages.parts.run.world import ALONE, World, divided, tensors_from_first
from stages.train.data import TrainingSet, embed_images


class Groups(NamedTuple):
    """Which of M images belong together. An image outside every cluster is a group of its own."""

    members: Tensor  # (M,) int64, the group of each image, 0..G-1
    sizes: Tensor  # (G,) int64
    clusters: np.ndarray  # (M,) int64, the cluster of each image; -1 outside

    def means(self, log_predictions: Tensor) -> Tensor:
        """Return the mean log P of each group (G, C) float64 of its images' (M, C)."""
        total = torch.zeros(len(self.sizes), log_predictions.shape[1], dtype=torch.float64)
        total = total.to(log_predictions.device)
        members = self.members.to(total.device)
        total.index_add_(0, members, log_predictions.double())
        return total / self.sizes.to(total.device)[:, None]


def groups_of(clusters: np.ndarray) -> Groups:
    """Return the groups of clusters (M,) int64, -1 outside; clusters first, in their order.

    >>> groups_of(np.array([1, -1, 0, 1])).members
    tensor([1, 2, 0, 1])
    """
    outside = clusters < 0
    members = clusters.copy()
    members[outside] = clusters.max(initial=-1) + 1 + np.arange(outside.sum())
    return Groups(torch.from_numpy(members), torch.from_numpy(np.bincount(members)), clusters)


def find_groups(
    network: IdentityNetwork,
    data: TrainingSet,
    positions: np.ndarray,
    settings: Clusters,
    world: World = ALONE,
) -> Groups:
    """Cluster infrared images by their embeddings, see `nearest_lists` and `cluster`.

    Args:
        network: embeds the images, in evaluation mode.
        data: the infrared images.
        positions: (M,) of the images in `data.infrared_rows`.
        settings: the section `clusters`.
        world: the processes that divide the images among them.
    """
    rows = data.infrared_rows[positions]
    device = network.classifier.weight.device
    embeddings = embed_images(network, data.store, rows, 0, world).numpy()  # (M, D)
    return groups_of(clusters_of(embeddings, settings, device, world=world))


def clusters_of(
    embeddings: np.ndarray,
    settings: Clusters,
    device: torch.device,
    modality: np.ndarray | None = None,
    world: World = ALONE,
) -> np.ndarray:
    """Return the cluster (N,) int64 of unit rows (N, D) float32, -1 outside.

    Neighbours are searched on `device`. With `modality` (N,) they are balanced over modalities.
    Lists of neighbours are not longer than there are images. The processes search together; the
    first one clusters for all.
    """
    count = 1 if modality is None else 2
    fewest = len(embeddings) if modality is None else int(np.bincount(modality).min())
    k1 = min(settings.k1, count * fewest)
    k2 = min(settings.k2, k1 // count)
    found = None
    with busy(f"train: clustering {len(embeddings)} images"):
        divide = partial(divided, world=world)
        lists = nearest_lists(embeddings, k1, k2, modality, device, divide)
        if world.is_first:
            floor = max(0.0, 1 - settings.radius - 1e-3)
            similarity = similarity_of_lists(embeddings, lists, floor)
            clusters = cluster(similarity, settings.radius, settings.min_samples)
            found = {"clusters": torch.from_numpy(clusters)}
        return tensors_from_first(found, world)["clusters"].numpy()
