"""CMC, average precision (both definitions) and mINP, from the ranks of each query's matches.

A query's *hits* are the 0-based positions of its m correct gallery rows in its ranking, junk removed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.errors import ShapeError


def hits(distances: NDArray[Any], correct: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where one query's correct rows come in its ranking.

    Counting how many rows lie before each correct one costs G·log m, sorting the whole row G·log G.
    Ties are broken by gallery order, as a stable sort would.

    Args:
        distances: (G,) from the query.
        correct: (G,) true where the row shows the same person.
        counted: (G,) false for junk, which is removed before ranks are given.

    Returns:
        (m,) ascending 0-based ranks; empty where the query has no valid match.
    """
    kept, is_right = np.asarray(distances)[counted], np.asarray(correct)[counted]
    values = np.sort(kept[is_right])
    if not len(values):
        return np.empty(0, dtype=np.int64)
    at_most = np.searchsorted(values, kept, side="right")  # how many correct values each row is not closer than
    closer = np.cumsum(np.bincount(at_most))[: len(values)]
    level = np.flatnonzero(kept == values[np.maximum(at_most - 1, 0)])  # the correct rows, and those that tie with one
    level = level[np.argsort(kept[level], kind="stable")]
    place = np.arange(len(level)) - np.searchsorted(kept[level], kept[level])
    return np.asarray(closer + place[is_right[level]], dtype=np.int64)


def average_precision(hits: NDArray[np.int64]) -> float:
    """Plain AP: the mean of j / (k_j + 1) over hits j = 1..m at ranks k_j. As in torchreid, fast-reid, BoT.

    >>> average_precision(np.array([0, 2]))
    0.8333333333333333
    """
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))


def average_precision_trapezoid(hits: NDArray[np.int64]) -> float:
    """AP as Market-1501's MATLAB code has it: the mean of ½·(j/(k_j+1) + (j−1)/k_j), the second term 1 where k_j = 0.

    >>> average_precision_trapezoid(np.array([0, 2]))
    0.7916666666666666
    """
    j = np.arange(1, len(hits) + 1)
    before = np.where(hits == 0, 1.0, (j - 1) / np.maximum(hits, 1))
    return float(np.mean((j / (hits + 1) + before) / 2))


def inverse_negative_penalty(hits: NDArray[np.int64]) -> float:
    """INP: number of matches / (1-based rank of the last) (Ye et al. 2021).

    >>> inverse_negative_penalty(np.array([0, 3]))
    0.5
    """
    return len(hits) / float(hits[-1] + 1)


def cmc(first_hits: NDArray[np.int64], ranks: tuple[int, ...] = (1, 5, 10)) -> dict[int, float]:
    """Share of queries whose first correct row comes within each rank."""
    if not len(first_hits):
        raise ShapeError(
            "no query has a valid match, so no rank can be computed; check people and cameras with `reid show`"
        )
    return {rank: float(np.mean(first_hits < rank)) for rank in ranks}
