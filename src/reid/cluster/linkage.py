"""Constrained average linkage on a sparse matrix of similarities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid.metrics import Rows


def average_linkage(alike: sparse.csr_array, apart: sparse.csr_array, within: float) -> Rows:
    """(N,) cluster of each point, by joining the two nearest clusters again and again.

    The distance of two clusters is the mean distance of their pairs of points; clusters that hold two points that
    cannot be one person are never joined. It ends when no two that may be joined are within the limit.

    All pairs of clusters that are each other's nearest are joined at once. Joining brings no cluster nearer to a third
    than the nearer of its parts was, so that the outcome is that of one at a time (Murtagh 1983), save for ties.

    Args:
        alike: symmetric (N, N), 1 − distance of each pair of points, 0 where there is no entry. Its diagonal is empty.
        apart: symmetric (N, N), true where two points cannot be one person.
        within: the largest mean distance that is still one cluster, in [0, 1).
    """
    labels = np.arange(alike.shape[0])
    sizes = np.ones(len(labels), dtype=np.int64)
    sums, apart = _mirrored(alike.astype(np.float64)), apart.astype(bool)
    while True:
        sums = _without(sums, apart)
        row = np.repeat(np.arange(len(sizes)), np.diff(sums.indptr))
        closest = _closest(sums, row, sums.data / (sizes[row] * sizes[sums.indices]), 1 - within)
        own = np.arange(len(sizes))
        mutual = (closest >= 0) & (closest[closest] == own)
        if not mutual.any():
            return labels
        joined = np.where(mutual, np.minimum(own, closest), own)
        _, into = np.unique(joined, return_inverse=True)
        labels, count = into[labels], int(into.max()) + 1
        sizes = np.bincount(into, sizes, minlength=count).astype(np.int64)
        chosen = sparse.csr_array((np.ones(len(into)), (into, own)), shape=(count, len(into)))
        sums = _mirrored(chosen @ sums @ chosen.T)
        apart = (chosen @ apart @ chosen.T).tocsr().astype(bool)


def _closest(sums: sparse.csr_array, row: Rows, mean: NDArray[np.float64], least: float) -> Rows:
    """(N,) the column of each row's largest mean, of several the first; −1 where none is large enough."""
    closest = np.full(sums.shape[0], -1)
    filled = np.flatnonzero(np.diff(sums.indptr))
    if not len(filled):
        return closest
    best = np.full(sums.shape[0], np.inf)
    best[filled] = np.maximum.reduceat(mean, sums.indptr[filled])
    top = np.flatnonzero((mean == best[row]) & (mean >= least))[::-1]  # of several the first is written last
    closest[row[top]] = sums.indices[top]
    return closest


def _mirrored(sums: sparse.csr_array) -> sparse.csr_array:
    """Symmetric to the last bit, whatever order its sums were added up in; without a diagonal, columns sorted."""
    upper = sparse.triu(sums, k=1, format="csr")
    both: sparse.csr_array = (upper + upper.T).tocsr()
    both.sort_indices()
    return both


def _without(sums: sparse.csr_array, apart: sparse.csr_array) -> sparse.csr_array:
    """Less the entries that are in `apart`."""
    if not apart.nnz:
        return sums
    kept: sparse.csr_array = (sums - sums.multiply(apart)).tocsr()
    kept.eliminate_zeros()
    kept.sort_indices()
    return kept
