"""k-reciprocal encoding as the paper and its authors' Python have it: dense matrices, loops, no short cut."""

from __future__ import annotations

import numpy as np


def rerank(
    points: np.ndarray, queries: int, k1: int, k2: int, weight: float, extra: np.ndarray | float = 0.0
) -> np.ndarray:
    """(N, D) points, the first `queries` of them queries, to (queries, N − queries) final distances."""
    n = len(points)
    squared = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(2) + extra
    original = squared / squared.max(axis=1, keepdims=True)
    rank = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> list[int]:
        return [j for j in rank[i, : k + 1] if i in rank[j, : k + 1]]

    encoding = np.zeros((n, n))
    for i in range(n):
        near = set(reciprocal(i, k1))
        wide = set(near)
        for c in near:
            candidates = set(reciprocal(c, int(np.around(k1 / 2))))
            if len(candidates & near) > 2 / 3 * len(candidates):
                wide |= candidates
        members = sorted(wide)
        closeness = np.exp(-original[i, members])
        encoding[i, members] = closeness / closeness.sum()
    if k2 != 1:
        encoding = np.stack([encoding[rank[i, :k2]].mean(axis=0) for i in range(n)])
    final = np.empty((queries, n - queries))
    for i in range(queries):
        for j in range(queries, n):
            shared = np.minimum(encoding[i], encoding[j]).sum()
            final[i, j - queries] = (1 - weight) * (1 - shared / (2 - shared)) + weight * original[i, j]
    return final
