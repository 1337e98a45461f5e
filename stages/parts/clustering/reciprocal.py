"""k-reciprocal neighbourhoods: the steps that clustering and re-ranking have in common.

A short distance alone is weak evidence that two images show the same person. Two images that are
each among the nearest of the other are better evidence, and so are two images that share many such
neighbours. SpCL's Jaccard similarity (`neighbours.py`) and k-reciprocal re-ranking (`rerank.py`)
take the same steps and differ in the search, in the lengths of the lists and in the distance d:

R_i  = the images nearest to i, itself included
A_i  = {j in R_i : i in R_j};   H_i = A_i with lists about half as long
E_i  = A_i and every H_c, c in A_i, with |H_c & A_i| > 2/3 |H_c|
V_ij = exp(-d_ij) / sum over E_i, j in E_i
W_i  = mean of V_j over the k2 images j nearest to i, itself included
s_ij = sum_l min(W_il, W_jl)

The arrays (N, N) here are sparse. Memory grows with N times the length of a list.
"""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

PAIRS = 250_000  # entries of a product that are made at a time; each takes some 60 bytes


def check_unit_rows(rows: Floats, name: str) -> None:
    """Raise ValueError unless rows (N, D) have length 1. The message begins with `name`."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    if not np.allclose(lengths, 1, atol=1e-3):
        errors = np.nan_to_num(np.abs(lengths - 1), nan=np.inf)
        worst = int(errors.argmax())
        raise ValueError(f"{name} row {worst} has length {lengths[worst]:.4g}; expected unit rows")


def expanded_neighbours(nearest: Integers, closer: Integers) -> csr_array:
    """Return E as (N, N) with an entry for each j in E_i, columns ascending.

    A is made from the lists `nearest` (N, K), H from the lists `closer` (N, about K/2), int64. The
    values of the entries mean nothing.
    """
    full = _reciprocal_neighbours(nearest)  # A
    half = _reciprocal_neighbours(closer)  # H
    sizes = np.diff(half.indptr)  # (N,) |H_c|
    parts = []
    for rows in _row_blocks(full @ sizes):  # no product has more entries than this
        block = full[rows]
        common = (block @ half).multiply(block).tocsr()  # |H_c & A_i| at (i, c): H is symmetric
        joined = 3 * common.data > 2 * sizes[common.indices]
        common.data[~joined] = 0
        common.eliminate_zeros()
        parts.append(block + common @ half)
    expanded = vstack(parts, format="csr")
    expanded.sort_indices()
    return expanded


def pair_products(rows: Floats, pattern: csr_array) -> Floats:
    """Return the inner product of rows i and j (N, D) for each entry (i, j) of the pattern."""
    dense = torch.from_numpy(rows)
    starts, columns = torch.from_numpy(pattern.indptr), torch.from_numpy(pattern.indices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's CSR tensors are in beta
        zeros = torch.zeros(pattern.nnz)
        places = torch.sparse_csr_tensor(starts, columns, zeros, size=pattern.shape)
        products = torch.sparse.sampled_addmm(places, dense, dense.T, beta=0)
    values: Floats = products.values().numpy()
    return values


def neighbour_weights(expanded: csr_array, distances: Floats, closest: Integers) -> csr_array:
    """Return W (N, N) float32; a row sums to 1, or to less if an E_j is empty.

    `distances` (entries,) float32 holds d of the entries of E, and `closest` (N, k2) int64 the
    images j over whose V_j the mean is taken.
    """
    scores = np.exp(-distances)
    softmax = csr_array((scores, expanded.indices, expanded.indptr), shape=expanded.shape)
    sums = softmax.sum(axis=1)  # (N,)
    softmax.data /= np.repeat(sums, np.diff(softmax.indptr))  # V
    k2 = closest.shape[1]
    if k2 == 1:
        return softmax
    weights = _list_entries(closest) @ softmax
    weights.data /= k2
    return weights


def shared_weights(
    weights: csr_array, columns: csc_array, first: Integers
) -> Iterator[tuple[slice, csr_array]]:
    """Yield the terms min(W_il, W_jl) of s, for a slice of the images i at a time.

    `weights` (M, N) float32 holds the rows W_i, and `columns` (L, N) the rows W_j by column. Each
    entry of `weights` meets those of `columns` from its number in `first` (entries,) to the end of
    the same column. The terms of all l are entries at (i, j), which are still to be added up.
    """
    counts = columns.indptr[weights.indices + 1] - first  # (entries,)
    pairs = np.append(0, np.cumsum(counts))[weights.indptr]  # (M + 1,) pairs before each row
    for rows in _row_blocks(np.diff(pairs)):
        entries = slice(weights.indptr[rows.start], weights.indptr[rows.stop])
        met = counts[entries]
        offsets = first[entries] - np.cumsum(met) + met
        partners = np.repeat(offsets, met) + np.arange(met.sum())  # (pairs,) entries of `columns`
        values = np.repeat(weights.data[entries], met)
        terms = np.minimum(values, columns.data[partners])
        starts = pairs[rows.start : rows.stop + 1] - pairs[rows.start]
        shape = (len(starts) - 1, columns.shape[0])
        yield rows, csr_array((terms, columns.indices[partners], starts), shape=shape)


def _reciprocal_neighbours(nearest: Integers) -> csr_array:
    """Return A of the lists (N, K): (N, N) float32 with a 1 for each pair, symmetric."""
    lists = _list_entries(nearest)
    return lists.multiply(lists.T.tocsr()).tocsr()


def _list_entries(nearest: Integers) -> csr_array:
    """Return (N, N) float32 with a 1 for every image in each one's list (N, K)."""
    images, length = nearest.shape
    columns = nearest.astype(np.int32).ravel()
    starts = np.arange(0, nearest.size + 1, length, dtype=np.int32)
    ones = np.ones(nearest.size, dtype=np.float32)
    return csr_array((ones, columns, starts), shape=(images, images))


def _row_blocks(costs: Integers) -> Iterator[slice]:
    """Yield consecutive rows whose costs (N,) sum to about PAIRS; one row may cost more."""
    groups = np.cumsum(costs) // PAIRS
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    bounds = [*starts.tolist(), len(groups)]
    for start, stop in itertools.pairwise(bounds):
        yield slice(start, stop)
