"""Infrared images that get one label together."""

import numpy as np
import torch

from stages.train.groups import groups_of


def log_predictions(images: int, labels: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return (3 * torch.randn(images, labels, generator=draw)).log_softmax(1)


def test_images_outside_are_groups_of_their_own() -> None:
    groups = groups_of(np.array([1, -1, 0, 1, -1]))
    assert groups.members.tolist() == [1, 2, 0, 1, 3]
    assert groups.sizes.tolist() == [1, 2, 1, 1]


def test_no_cluster_at_all() -> None:
    groups = groups_of(np.full(4, -1))
    assert groups.members.tolist() == [0, 1, 2, 3]
    log_p = log_predictions(4, 3)
    torch.testing.assert_close(groups.means(log_p), log_p.double())


def test_means_are_those_of_a_loop() -> None:
    clusters = np.random.default_rng(0).integers(-1, 5, 40)
    groups, log_p = groups_of(clusters), log_predictions(40, 7)
    means = groups.means(log_p)
    for group in range(len(groups.sizes)):
        members = groups.members == group
        torch.testing.assert_close(means[group], log_p[members].double().mean(0))
