"""Slow and plain: sort the whole list, walk it. What the fast code must agree with."""

from __future__ import annotations

import numpy as np


def hits(distances: np.ndarray, correct: np.ndarray, counted: np.ndarray) -> list[int]:
    rows = [i for i in range(len(distances)) if counted[i]]
    rows.sort(key=lambda i: (distances[i], i))
    return [rank for rank, i in enumerate(rows) if correct[i]]


def average_precision(hits: list[int]) -> float:
    return sum(j / (k + 1) for j, k in enumerate(hits, 1)) / len(hits)


def average_precision_trapezoid(hits: list[int]) -> float:
    """Market-1501's MATLAB compute_AP, statement by statement."""
    ap, old_recall, old_precision, found, j = 0.0, 0.0, 1.0, 0.0, 0
    for n in range(hits[-1] + 1):
        found += n in hits
        recall, precision = found / len(hits), found / (j + 1)
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision, j = recall, precision, j + 1
    return ap
