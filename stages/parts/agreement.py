"""How well labels agree with the true persons: for metrics only, nothing may be trained or chosen by it."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

Integers = NDArray[np.int64]


def agreement(labels: Integers, persons: Integers) -> dict[str, float]:
    """Agreement of a clustering with the true persons; both (N,) whole numbers.

    An image is unclustered when its label is negative or no other image has it. A cluster has two images or more.
    - clusters, unclustered_share, persons: numbers of clusters, share of unclustered images, number of persons
    - ari, nmi, purity: of the clustered images, which are those that the next stage trains on. Adjusted Rand index,
      mutual information over the mean of the two entropies, share of images whose person is their cluster's commonest
    - pair_precision, pair_recall, pair_f: of pairs of images, "same cluster" against "same person". All images count,
      so an unclustered image misses every pair of its person
    - r_plq: the quality of OTLA's released code, (R_gt + R_ct) / 2 · P_v · Q_v. Of the clustered images, R_gt = mean
      over persons of the largest share that one cluster has, R_ct = mean over clusters of the largest share that one
      person has; P_v = share of clustered images; Q_v = the smaller over the larger of the numbers of persons and
      clusters
    Ratios are from 0 to 1 (ari from -0.5), and 0 where nothing is clustered. ValueError where lengths differ or N = 0.
    """
    labels, persons = _checked(labels, persons)
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    clustered = (labels >= 0) & (sizes[numbers] > 1)
    share = float(clustered.mean())
    everyone = np.unique(persons, return_counts=True)[1]
    result: dict[str, float] = {
        "clusters": 0,
        "unclustered_share": 1 - share,
        "persons": len(everyone),
        **dict.fromkeys(
            ("ari", "nmi", "purity", "pair_precision", "pair_recall", "pair_f", "r_plq"), 0.0
        ),
    }
    if not share:
        return result
    labels, persons = labels[clustered], persons[clustered]
    counts = _contingency(
        labels, persons
    )  # clusters x persons that occur among the clustered images
    by_cluster, by_person = counts.sum(axis=1), counts.sum(axis=0)
    best_of_cluster, best_of_person = counts.max(axis=1).toarray(), counts.max(axis=0).toarray()
    quotients = sorted((len(everyone), len(by_cluster)))
    purest = ((best_of_person / by_person).mean() + (best_of_cluster / by_cluster).mean()) / 2
    hits, claimed, true = _pairs(counts.data), _pairs(by_cluster), _pairs(everyone)
    return result | {
        "clusters": len(by_cluster),
        "ari": float(adjusted_rand_score(persons, labels)),
        "nmi": float(normalized_mutual_info_score(persons, labels)),
        "purity": float(best_of_cluster.sum() / len(labels)),
        "pair_precision": hits / claimed,
        "pair_recall": hits / true if true else 0.0,
        "pair_f": 2 * hits / (claimed + true),
        "r_plq": float(purest * share * quotients[0] / quotients[1]),
    }


def assignment_accuracy(
    labels: Integers, persons: Integers, reference_labels: Integers, reference_persons: Integers
) -> float:
    """Share of images whose label stands for their person.

    A label stands for the commonest person among the reference (visible) images that have it, for the one with the
    lowest number where several are; negative labels and labels without a reference image stand for nobody.
    labels, persons (N,) of the images judged; reference_* (M,). ValueError where lengths differ or N or M = 0.
    """
    labels, persons = _checked(labels, persons)
    reference_labels, reference_persons = _checked(reference_labels, reference_persons)
    names, faces = np.unique(reference_labels), np.unique(reference_persons)
    stands_for = faces[_contingency(reference_labels, reference_persons).tocsr().argmax(axis=1)]
    place = np.minimum(np.searchsorted(names, labels), len(names) - 1)
    known = (names[place] == labels) & (labels >= 0)
    return float((known & (stands_for[place] == persons)).mean())


def label_distribution(labels: Integers, classes: int) -> dict[str, float]:
    """How evenly labels 0 to `classes` - 1 are used: entropy, max_share and empty; negative labels are left out.

    entropy is over log(classes): 1 = all labels equally often, 0 = one label only. max_share is the share of the
    commonest label, empty the number of labels that no image has. Without any label all but empty are 0.
    ValueError for a label of `classes` or more.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"label {len(counts) - 1} is not below the {classes} classes")
    share = counts[counts > 0] / max(counts.sum(), 1)
    entropy = float(-(share * np.log(share)).sum() / np.log(classes)) if classes > 1 else 0.0
    return {
        "entropy": entropy + 0.0,  # -0.0 becomes 0.0
        "max_share": float(share.max(initial=0.0)),
        "empty": int((counts == 0).sum()),
    }


def _checked(labels: Integers, persons: Integers) -> tuple[Integers, Integers]:
    """Both as arrays of one length, which is not 0."""
    labels, persons = np.asarray(labels), np.asarray(persons)
    if labels.shape != persons.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and persons {persons.shape}; expected two equal lengths (N,), N > 0"
        )
    return labels, persons


def _contingency(labels: Integers, persons: Integers) -> coo_array:
    """Images of each label (rows) and person (columns), numbers ascending; only pairs that occur are stored."""
    names, row = np.unique(labels, return_inverse=True)
    faces, column = np.unique(persons, return_inverse=True)
    counts = coo_array(
        (np.ones(len(row), dtype=np.int64), (row, column)), shape=(len(names), len(faces))
    )
    counts.sum_duplicates()
    return counts


def _pairs(counts: Integers) -> int:
    """Pairs of images within groups of the given sizes."""
    return int((counts * (counts - 1) // 2).sum())
