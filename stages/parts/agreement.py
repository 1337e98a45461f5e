"""How well labels agree with the true persons. For metrics only: never train or choose by it."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

Integers = NDArray[np.int64]


def agreement(labels: Integers, persons: Integers) -> dict[str, float]:
    """Return measures of how well a clustering agrees with the true persons.

    An image is unclustered if its label is negative or no other image has it, so a cluster has two
    images or more. The measures are:

    - clusters, unclustered_share, persons: number of clusters, share of unclustered images, number
      of persons.
    - ari, nmi, purity: over the clustered images, as the next stage trains on these. Adjusted Rand
      index; mutual information divided by the mean of the two entropies; share of images whose
      person is the commonest one of their cluster.
    - pair_precision, pair_recall, pair_f: over pairs of images, "same cluster" as a prediction of
      "same person". All images count, so an unclustered image misses all pairs of its person.
    - r_plq: the quality in OTLA's released code, (R_gt + R_ct) / 2 · P_v · Q_v. Over the clustered
      images, R_gt is the mean over persons of the largest share that one cluster has, and R_ct the
      mean over clusters of the largest share that one person has. P_v is the share of clustered
      images; Q_v is the smaller of the numbers of persons and clusters, divided by the larger.

    Args:
        labels: (N,) the cluster of each image.
        persons: (N,) the person of each image.

    Returns:
        The measures by name. Ratios lie between 0 and 1 (`ari`: -0.5 and 1), and they are 0 if
        nothing is clustered.

    Raises:
        ValueError: lengths differ, or N = 0.

    >>> result = agreement(np.array([0, 0, 0, 1, 1, -1]), np.array([7, 7, 8, 8, 8, 8]))
    >>> {name: round(result[name], 3) for name in ("clusters", "purity", "pair_precision", "r_plq")}
    {'clusters': 2, 'purity': 0.8, 'pair_precision': 0.5, 'r_plq': 0.694}
    """
    labels, persons = _checked(labels, persons)
    _, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    clustered = (labels >= 0) & (sizes[numbers] > 1)
    share = float(clustered.mean())
    _, person_sizes = np.unique(persons, return_counts=True)
    measures = ("ari", "nmi", "purity", "pair_precision", "pair_recall", "pair_f", "r_plq")
    result: dict[str, float] = {
        "clusters": 0,
        "unclustered_share": 1 - share,
        "persons": len(person_sizes),
        **dict.fromkeys(measures, 0.0),
    }
    if not share:
        return result
    labels, persons = labels[clustered], persons[clustered]
    counts = _contingency(labels, persons)  # (clusters, persons among the clustered images)
    by_cluster, by_person = counts.sum(axis=1), counts.sum(axis=0)
    best_of_cluster = counts.max(axis=1).toarray()
    best_of_person = counts.max(axis=0).toarray()

    correct_pairs = _pairs(counts.data)
    cluster_pairs = _pairs(by_cluster)
    person_pairs = _pairs(person_sizes)
    recall = correct_pairs / person_pairs if person_pairs else 0.0

    ratios = (best_of_person / by_person).mean() + (best_of_cluster / by_cluster).mean()
    fewer, more = sorted((len(person_sizes), len(by_cluster)))
    return result | {
        "clusters": len(by_cluster),
        "ari": float(adjusted_rand_score(persons, labels)),
        "nmi": float(normalized_mutual_info_score(persons, labels)),
        "purity": float(best_of_cluster.sum() / len(labels)),
        "pair_precision": correct_pairs / cluster_pairs,
        "pair_recall": recall,
        "pair_f": 2 * correct_pairs / (cluster_pairs + person_pairs),
        "r_plq": float(ratios / 2 * share * fewer / more),
    }


def assignment_accuracy(
    labels: Integers, persons: Integers, reference_labels: Integers, reference_persons: Integers
) -> float:
    """Return the share of images whose label stands for their person.

    A label stands for the commonest person among the reference (visible) images with this label,
    see `commonest_persons`. A label that is negative or that no reference image has stands for
    nobody.

    Args:
        labels: (N,) labels to be measured.
        persons: (N,) the persons of the same images.
        reference_labels: (M,) labels of the reference images.
        reference_persons: (M,) the persons of the same images.

    Raises:
        ValueError: lengths differ, or N or M is 0.

    >>> reference = np.array([0, 1]), np.array([7, 8])
    >>> assignment_accuracy(np.array([0, 0, 1, 1]), np.array([7, 8, 8, 8]), *reference)
    0.75
    """
    labels, persons = _checked(labels, persons)
    reference_labels, reference_persons = _checked(reference_labels, reference_persons)
    known_labels, stands_for = commonest_persons(reference_labels, reference_persons)
    positions = np.searchsorted(known_labels, labels)
    positions = np.minimum(positions, len(known_labels) - 1)
    known = (known_labels[positions] == labels) & (labels >= 0)
    correct = known & (stands_for[positions] == persons)
    return float(correct.mean())


def commonest_persons(labels: Integers, persons: Integers) -> tuple[Integers, Integers]:
    """Return the labels (L,) that occur, ascending, and the commonest person (L,) of each.

    Of several commonest persons it is the one with the lowest number.

    Args:
        labels: (N,) the label of each image.
        persons: (N,) the persons of the same images.

    >>> commonest_persons(np.array([4, 4, 4, 2]), np.array([9, 9, 7, 7]))[1].tolist()
    [7, 9]
    """
    if not len(labels):
        return labels, persons
    counts = _contingency(labels, persons)  # (labels, persons), both ascending
    return np.unique(labels), np.unique(persons)[counts.tocsr().argmax(axis=1)]


def label_distribution(labels: Integers, classes: int) -> dict[str, float]:
    """Return how evenly labels (N,) from 0 to `classes` - 1 are used. Negative ones are left out.

    Returns:
        entropy: that of the labels, divided by log(classes), so 1 if all are equally frequent;
        max_share: share of the commonest label; empty: number of labels that no image has. Without
        any label, entropy and max_share are 0.

    Raises:
        ValueError: a label is not below `classes`.

    >>> label_distribution(np.array([0, 0, 1, 1, -1]), classes=4)
    {'entropy': 0.5, 'max_share': 0.5, 'empty': 2}
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"label {len(counts) - 1} is not below the {classes} classes")
    shares = counts[counts > 0] / max(counts.sum(), 1)
    entropy = 0.0
    if classes > 1:
        nats = -(shares * np.log(shares)).sum()
        entropy = float(nats / np.log(classes))
    return {
        "entropy": entropy + 0.0,  # -0.0 becomes 0.0
        "max_share": float(shares.max(initial=0.0)),
        "empty": int((counts == 0).sum()),
    }


def _checked(labels: Integers, persons: Integers) -> tuple[Integers, Integers]:
    """Return both as arrays of one length, which is not 0."""
    labels, persons = np.asarray(labels), np.asarray(persons)
    if labels.shape != persons.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and persons {persons.shape}; "
            "expected two equal lengths (N,), N > 0"
        )
    return labels, persons


def _contingency(labels: Integers, persons: Integers) -> coo_array:
    """Return the number of images of each label (rows) and person (columns), numbers ascending."""
    label_numbers, rows = np.unique(labels, return_inverse=True)
    person_numbers, columns = np.unique(persons, return_inverse=True)
    ones = np.ones(len(rows), dtype=np.int64)
    shape = (len(label_numbers), len(person_numbers))
    counts = coo_array((ones, (rows, columns)), shape=shape)
    counts.sum_duplicates()
    return counts


def _pairs(sizes: Integers) -> int:
    """Return the number of pairs of images within groups of these sizes."""
    return int((sizes * (sizes - 1) // 2).sum())
