"""Constrained clustering and its figures as their definitions read: every pair, one join at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np

Groups = set[frozenset[int]]


def groups(labels: Sequence[int]) -> Groups:
    """Clusters as sets of points; −1 is a point by itself."""
    found: dict[Hashable, set[int]] = {}
    for i, label in enumerate(labels):
        found.setdefault(label if label >= 0 else ("alone", i), set()).add(i)
    return {frozenset(group) for group in found.values()}


def may_join(a: set[int], b: set[int], apart: np.ndarray) -> bool:
    return not any(apart[i, j] for i in a for j in b)


def average_linkage(distances: np.ndarray, apart: np.ndarray, within: float) -> Groups:
    """Join the two nearest clusters that may be joined, one pair at a time."""
    clusters = [{i} for i in range(len(distances))]
    while True:
        best = None
        for a, b in combinations(clusters, 2):
            mean = float(np.mean([distances[i, j] for i in a for j in b]))
            if may_join(a, b, apart) and mean <= within and (best is None or mean < best[0]):
                best = (mean, a, b)
        if best is None:
            return {frozenset(c) for c in clusters}
        clusters = [c for c in clusters if c is not best[1] and c is not best[2]] + [best[1] | best[2]]


def dbscan(distances: np.ndarray, apart: np.ndarray, within: float, least: int) -> tuple[Groups, set[int]]:
    """Clusters, and the cores among the points; every point that belongs to none is a cluster by itself."""
    n = len(distances)
    near = [[j for j in range(n) if j == i or (distances[i, j] <= within and not apart[i, j])] for i in range(n)]
    cores = {i for i in range(n) if len(near[i]) >= least}
    clusters = {i: {i} for i in range(n)}

    def join(i: int, j: int) -> bool:
        if clusters[i] is not clusters[j]:
            if not may_join(clusters[i], clusters[j], apart):
                return False
            both = clusters[i] | clusters[j]
            for member in both:
                clusters[member] = both
        return True

    pairs = sorted((distances[i, j], i, j) for i in range(n) for j in near[i] if i != j)
    for _, i, j in pairs:
        if i < j and {i, j} <= cores:
            join(i, j)
    placed = set()
    for _, i, j in pairs:
        if i not in cores and j in cores and i not in placed and join(i, j):
            placed.add(i)
    return {frozenset(c) for c in clusters.values()}, cores


def figures(labels: Sequence[int], people: Sequence[Hashable]) -> tuple[float, float, float]:
    """Purity, pairwise precision and pairwise recall."""
    found = groups(labels)
    purity = sum(max(Counter(people[i] for i in group).values()) for group in found) / len(people)
    same = {(i, j) for i, j in combinations(range(len(people)), 2) if people[i] == people[j]}
    put = {(i, j) for group in found for i, j in combinations(sorted(group), 2)}
    return purity, len(same & put) / len(put) if put else 1.0, len(same & put) / len(same) if same else 1.0
