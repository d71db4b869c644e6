"""Losses as their papers write them: explicit loops over triplets."""

from __future__ import annotations

import math

import numpy as np


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(float(((a - b) ** 2).sum()) + 1e-12)


def batch_hard(metric: np.ndarray, pids: list[int], margin: float | None) -> list[float]:
    """Hermans, Beyer, Leibe 2017, equation 5."""
    values = []
    for a in range(len(pids)):
        positives = [distance(metric[a], metric[p]) for p in range(len(pids)) if pids[p] == pids[a] and p != a]
        negatives = [distance(metric[a], metric[n]) for n in range(len(pids)) if pids[n] != pids[a]]
        if not positives or not negatives:
            values.append(0.0)
            continue
        x = max(positives) - min(negatives)
        values.append(math.log1p(math.exp(x)) if margin is None else max(0.0, x + margin))
    return values


def cross_entropy(logits: np.ndarray, pids: list[int], smoothing: float) -> list[float]:
    """−Σ q log p with q = (1−ε)·onehot + ε/C."""
    values = []
    for row, pid in zip(logits, pids, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        q = np.full(len(row), smoothing / len(row))
        q[pid] += 1 - smoothing
        values.append(float(-(q * log_p).sum()))
    return values
