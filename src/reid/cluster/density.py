"""Constrained DBSCAN on a sparse matrix of similarities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid.metrics import Rows


def dbscan(alike: sparse.csr_array, apart: sparse.csr_array, within: float, least: int = 2) -> Rows:
    """(N,) cluster of each point, −1 for one that belongs to none (Ester et al. 1996, with pairs that cannot be one).

    A core has at least so many points within reach that may be the same person, itself included. Pairs of cores within
    reach are joined, nearest first (Kruskal's order), unless that would put two points together that cannot be one
    person; every other point goes to its nearest core that it may be with. Without such pairs this is DBSCAN, where a
    point between two clusters is left to chance.

    Args:
        alike, apart, within: as for `average_linkage`; within reach is a distance of at most `within`.
        least: points that make a core.
    """
    pairs = (alike - alike.multiply(apart) if apart.nnz else alike).tocoo()
    near = pairs.data >= 1 - within
    row, column, value = pairs.row[near], pairs.col[near], pairs.data[near]
    core = np.bincount(row, minlength=alike.shape[0]) + 1 >= least
    joins = _Joins(apart)
    for i, j in _ordered(row, column, value, core[row] & core[column] & (row < column)):
        joins.join(i, j)
    placed = core.copy()
    for i, j in _ordered(row, column, value, ~core[row] & core[column]):
        if not placed[i]:
            placed[i] = joins.join(i, j)
    roots = np.array([joins.root(i) for i in range(len(core))], dtype=np.int64)
    labels = np.full(len(core), -1)
    labels[placed] = np.unique(roots[placed], return_inverse=True)[1]
    return labels


def _ordered(
    row: NDArray[Any], column: NDArray[Any], value: NDArray[Any], chosen: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Chosen pairs, nearest first, equal ones by number."""
    row, column, value = row[chosen], column[chosen], value[chosen]
    order = np.lexsort((column, row, -value))
    return list(zip(row[order].tolist(), column[order].tolist(), strict=True))


class _Joins:
    """Disjoint sets of points, each with the sets it can never be joined to."""

    def __init__(self, apart: sparse.csr_array):
        self._parent = list(range(apart.shape[0]))
        self._enemies: dict[int, set[int]] = {}
        for i in np.flatnonzero(np.diff(apart.indptr)).tolist():
            self._enemies[i] = set(apart.indices[apart.indptr[i] : apart.indptr[i + 1]].tolist())

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = i = self._parent[self._parent[i]]
        return i

    def join(self, i: int, j: int) -> bool:
        """Whether two points are in one set afterwards."""
        a, b = self.root(i), self.root(j)
        if a == b:
            return True
        if b in self._enemies.get(a, ()):
            return False
        if len(self._enemies.get(a, ())) < len(self._enemies.get(b, ())):
            a, b = b, a
        self._parent[b] = a
        for enemy in self._enemies.pop(b, ()):
            self._enemies[enemy].discard(b)
            self._enemies[enemy].add(a)
            self._enemies[a].add(enemy)
        return True
