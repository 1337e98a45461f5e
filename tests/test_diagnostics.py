"""Figures of an epoch that no training step uses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stages.train.association import Classes
from stages.train.diagnostics import PROTOTYPE_FIGURES, prototype_figures

VISIBLE_PERSONS = np.array([5, 5, 3, 8, 8, 3])  # the persons of the labels: 5, 3, 8
INFRARED_PERSONS = np.array([3, 3, 5, 5, 5, 9, 8])
DATA = SimpleNamespace(
    visible_labels=np.array([0, 0, 1, 2, 2, 1]),
    visible_persons=VISIBLE_PERSONS,
    infrared_persons=INFRARED_PERSONS,
)
CLUSTERS = np.array([0, 0, 1, 1, 2, 2, -1])  # the persons of the classes: 3, 5, 5


def prototypes(count: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, 4, generator=draw))


def classes(infrared: int) -> Classes:
    masses = torch.full((infrared,), 1 / max(infrared, 1))
    overlap = np.zeros((infrared, 3), np.int64)
    return Classes(prototypes(3, 0), prototypes(infrared, 1), None, masses, overlap)


def test_figures_of_prototypes_are_those_of_loops() -> None:
    """Class 0 has the right label, class 1 a wrong one, class 2 none."""
    given = classes(3)
    found = prototype_figures(given, torch.tensor([1, 2, -1]), CLUSTERS, DATA)
    visible, infrared = given.visible.numpy(), given.infrared.numpy()
    label_persons, class_persons = [5, 3, 8], [3, 5, 5]
    same, across = [], []
    for i, person in enumerate(class_persons):
        for j, other in enumerate(label_persons):
            (same if person == other else across).append(infrared[i] @ visible[j])
    expected = {
        "matched_share": 4 / 7,
        "associations_right": 1 / 2,
        "similarity_associated": (infrared[0] @ visible[1] + infrared[1] @ visible[2]) / 2,
        "similarity_same": np.mean(same),
        "similarity_across": np.mean(across),
        "similarity_visible": np.mean(
            [visible[i] @ visible[j] for i, j in [(0, 1), (0, 2), (1, 2)]]
        ),
        "similarity_infrared": (infrared[0] @ infrared[1] + infrared[0] @ infrared[2]) / 2,
    }
    assert tuple(found) == PROTOTYPE_FIGURES
    assert found == pytest.approx(expected, abs=1e-6)


def test_without_a_label_no_class_is_associated() -> None:
    found = prototype_figures(classes(3), torch.full((3,), -1), CLUSTERS, DATA)
    assert found["matched_share"] == 0
    assert found["associations_right"] is found["similarity_associated"] is None
    assert found["similarity_same"] is not None


def test_without_a_cluster_only_visible_prototypes_are_similar() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    found = prototype_figures(classes(0), nothing, np.full(7, -1), DATA)
    assert found["matched_share"] == 0
    assert found["similarity_visible"] is not None
    rest = set(PROTOTYPE_FIGURES) - {"matched_share", "similarity_visible"}
    assert all(found[name] is None for name in rest)
