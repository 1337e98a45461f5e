"""Similarity of images by the neighbours they share: SpCL's Jaccard distance of k-reciprocal neighbourhoods, sparse."""

import warnings
from collections.abc import Iterator

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PAIRS = 250_000  # pairs that the join looks at together: some 60 bytes each


def jaccard_similarity(
    embeddings: Floats, k1: int = 30, k2: int = 6, floor: float = 0.0
) -> csr_array:
    """1 - Jaccard distance of the images' k-reciprocal neighbourhoods (SpCL): (N, N) float32, symmetric to the bit.

    R_i  = the k1 images nearest to i, itself included;   A_i = {j in R_i : i in R_j};   H_i = A_i with k1/2 for k1
    E_i  = A_i and every H_c, c in A_i, with |H_c & A_i| > 2/3 |H_c|
    V_ij = exp(-d_ij) / sum over E_i, d_ij = squared distance, j in E_i
    W_i  = mean of V_j over the k2 images j nearest to i
    similarity_ij = q / (2 - q),   q = sum_l min(W_il, W_jl)

    embeddings (N, D): unit rows, float32. Pairs that share no neighbourhood are absent and have similarity 0; `floor`
    leaves out those below it too. The diagonal is 1. There is no N × N array: memory grows with N · k1 and the pairs
    kept. Images that form no groups all share a little with each other, so give a floor where small values are of no
    use, such as 1 - (DBSCAN's radius) less some rounding. The search is exact; it runs on the GPU where faiss has one.
    ValueError for rows that are not of unit length, and for fewer images than k1, which would quietly mean another k1.
    """
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    images = len(embeddings)
    if not 1 <= k2 <= k1 <= images:
        raise ValueError(
            f"k1 = {k1} and k2 = {k2} neighbours among {images} images; expected 1 <= k2 <= k1 <= images"
        )
    lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
    if not np.allclose(lengths, 1, atol=1e-3):
        worst = int(np.argmax(np.nan_to_num(np.abs(lengths - 1), nan=np.inf)))
        raise ValueError(
            f"embeddings row {worst} has length {lengths[worst]:.4g}; expected unit rows"
        )
    nearest = _search(embeddings, k1)
    weights = _weights(embeddings, _expanded(nearest))
    if k2 > 1:
        weights = _lists(nearest[:, :k2]) @ weights
        weights.data /= k2
    return _min_sum_similarity(weights, floor)


def _search(embeddings: Floats, neighbours: int) -> Integers:
    """The nearest rows of each row, itself included, nearest first: (N, neighbours) int64."""
    # Of unit rows, those with the largest products are the nearest.
    if faiss.get_num_gpus():
        resources = faiss.StandardGpuResources()
        return faiss.knn_gpu(
            resources, embeddings, embeddings, neighbours, metric=faiss.METRIC_INNER_PRODUCT
        )[1]
    return faiss.knn(embeddings, embeddings, neighbours, metric=faiss.METRIC_INNER_PRODUCT)[1]


def _lists(nearest: Integers) -> csr_array:
    """(N, N) float32 with a 1 for every image in each one's list."""
    images, columns = nearest.shape
    starts = np.arange(0, nearest.size + 1, columns, dtype=np.int32)
    data = np.ones(nearest.size, dtype=np.float32)
    return csr_array(
        (data, np.ascontiguousarray(nearest, dtype=np.int32).ravel(), starts),
        shape=(images, images),
    )


def _reciprocal(nearest: Integers) -> csr_array:
    """1 where each of two images is in the other's list."""
    lists = _lists(nearest)
    return lists.multiply(lists.T.tocsr()).tocsr()


def _expanded(nearest: Integers) -> csr_array:
    """E: the reciprocal neighbours and those of them whose own closer ones nearly all are among them."""
    # The released code cuts the lists at k + 1. The long one has k1 entries only, the short one so gets one more.
    full, half = _reciprocal(nearest), _reciprocal(nearest[:, : round(nearest.shape[1] / 2) + 1])
    parts = []
    for rows in _blocks(
        full @ np.diff(half.indptr).astype(np.int64)
    ):  # bounds the entries of the products
        reach = full[rows]
        common = (
            (reach @ half).multiply(reach).tocoo()
        )  # half is symmetric: |H_c & A_i| at (i, c), c in A_i
        chosen = 3 * common.data > 2 * np.diff(half.indptr)[common.col]
        joined = csr_array(
            (common.data[chosen], (common.row[chosen], common.col[chosen])), shape=common.shape
        )
        parts.append(reach + joined @ half)
    return vstack(parts, format="csr")


def _weights(embeddings: Floats, pattern: csr_array) -> csr_array:
    """V: softmax of minus the squared distance over each row of the pattern."""
    pattern.sort_indices()
    rows = torch.from_numpy(embeddings)
    with warnings.catch_warnings():  # torch says that its CSR tensors are in beta
        warnings.simplefilter("ignore", UserWarning)
        starts, columns = torch.from_numpy(pattern.indptr), torch.from_numpy(pattern.indices)
        places = torch.sparse_csr_tensor(
            starts, columns, torch.zeros(pattern.nnz), size=pattern.shape
        )
        products = torch.sparse.sampled_addmm(places, rows, rows.T, beta=0).values().numpy()
    scores = np.exp(2 * products - 2)
    sums = csr_array((scores, pattern.indices, pattern.indptr), shape=pattern.shape).sum(axis=1)
    return csr_array(
        (scores / np.repeat(sums, np.diff(pattern.indptr)), pattern.indices, pattern.indptr),
        pattern.shape,
    )


def _min_sum_similarity(weights: csr_array, floor: float) -> csr_array:
    """q / (2 - q) with q = sum_l min(W_il, W_jl) for pairs of rows that share a column; ones on the diagonal."""
    images = weights.shape[0]
    weights.sort_indices()
    columns, place = _by_column(weights)
    # Each pair is summed once and mirrored. An entry meets those after it in its column: the later rows'.
    later = columns.indptr[weights.indices + 1] - place - 1
    pairs = np.concatenate([[0], np.cumsum(later)])[weights.indptr]  # before each row
    identity = csr_array(
        (np.ones(images, np.float32), np.arange(images), np.arange(images + 1)), shape=weights.shape
    )
    parts = []
    for rows in _blocks(np.diff(pairs)):
        entries = slice(weights.indptr[rows.start], weights.indptr[rows.stop])
        counts = later[entries]
        other = np.repeat(place[entries] + 1 - np.cumsum(counts) + counts, counts) + np.arange(
            counts.sum()
        )
        shared = np.minimum(np.repeat(weights.data[entries], counts), columns.data[other])
        starts = pairs[rows.start : rows.stop + 1] - pairs[rows.start]
        joint = csr_array(
            (shared, columns.indices[other], starts), shape=(rows.stop - rows.start, images)
        )
        joint = (
            joint @ identity
        )  # adds up what has the same column; sorting to do so takes four times as long
        joint.data = np.minimum(joint.data / (2 - joint.data), 1)
        joint.data[joint.data < floor] = 0
        joint.eliminate_zeros()
        parts.append(joint)
    upper = vstack(parts, format="csr")
    upper.sort_indices()
    return upper + upper.T.tocsr() + identity


def _by_column(matrix: csr_array) -> tuple[csc_array, Integers]:
    """The matrix column by column, rows ascending, and the place there of each entry of the matrix."""
    columns = matrix.tocsc()
    origin = (
        csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
        .tocsc()
        .data
    )
    place = np.empty(matrix.nnz, dtype=np.int64)
    place[origin] = np.arange(matrix.nnz)
    return columns, place


def _blocks(costs: Integers) -> Iterator[slice]:
    """Consecutive rows, as many together as cost PAIRS at most, but one at least."""
    sums = np.cumsum(costs)
    start = 0
    while start < len(sums):
        spent = sums[start - 1] if start else 0
        stop = max(int(np.searchsorted(sums, spent + PAIRS, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
