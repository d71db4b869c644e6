"""CMC, average precision (both definitions) and mINP, from the ranks of each query's matches.

A query's *hits* are the ascending 0-based ranks k_1 … k_m of its m correct gallery rows, once the rows its protocol
ignores are taken out.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def hits(distances: NDArray[Any], correct: Rows, ignored: Rows) -> Rows:
    """Where one query's correct rows come in its ranking.

    Ties are broken by gallery order, as a stable sort of the whole row would. Only the rows no farther than the last
    correct one are looked at.

    Args:
        distances: (G,) from the query.
        correct: (m,) gallery rows that show the same person, ascending, none of them ignored.
        ignored: gallery rows that are taken out before ranks are given, each once.

    Returns:
        (m,) ranks.
    """
    if not len(correct):
        return np.empty(0, dtype=np.int64)
    values = np.sort(distances[correct])
    near = np.sort(distances.compress(distances <= values[-1]))
    out = np.sort(distances[ignored])
    closer, upto = (near.searchsorted(values, side) - out.searchsorted(values, side) for side in _SIDES)
    before, level = (values.searchsorted(values, side) for side in _SIDES)
    found = closer + np.arange(len(values)) - before
    for value in np.unique(values[upto - closer > level - before]):  # other rows tie with a correct one
        rows = np.flatnonzero(distances == value)
        places = np.flatnonzero(np.isin(rows[~np.isin(rows, ignored)], correct))
        first = values.searchsorted(value)
        found[first : first + len(places)] = closer[first] + places
    return np.asarray(found, dtype=np.int64)


def average_precision(hits: Rows) -> float:
    """Plain AP: the mean of j / (k_j + 1) over hits j = 1..m. As in torchreid, fast-reid, BoT and scikit-learn.

    >>> average_precision(np.array([0, 2]))
    0.8333333333333333
    """
    return float((np.arange(1, len(hits) + 1) / (hits + 1)).sum() / len(hits))


def average_precision_trapezoid(hits: Rows) -> float:
    """AP as Market-1501's MATLAB code has it: the mean of ½·(j/(k_j+1) + (j−1)/k_j), the second term 1 where k_j = 0.

    >>> average_precision_trapezoid(np.array([0, 2]))
    0.7916666666666666
    """
    j = np.arange(1, len(hits) + 1)
    before = (j - 1) / np.maximum(hits, 1)
    before[hits == 0] = 1
    return float((j / (hits + 1) + before).sum() / 2 / len(hits))


def inverse_negative_penalty(hits: Rows) -> float:
    """INP: number of matches / (1-based rank of the last) (Ye et al. 2021).

    >>> inverse_negative_penalty(np.array([0, 3]))
    0.5
    """
    return len(hits) / float(hits[-1] + 1)


def single_shot(distances: NDArray[Any], correct: Rows, ignored: Rows, people: Rows, ranks: int) -> NDArray[np.float64]:
    """CMC of one query with one gallery crop a person, exactly what random draws of those crops tend to.

    CUHK03's first protocol (Li et al. 2014) draws one crop of each gallery person, ranks these, and averages over many
    draws. Person j's drawn crop comes before a given correct one with p_j, the share of j's crops that do, whatever is
    drawn of the others; so the number of people before it is Poisson binomial, computed here person by person.

    Args:
        distances: (G,) from the query.
        correct: (m,) gallery rows of the query's person, m > 0; each is drawn with 1/m.
        ignored: rows taken out first.
        people: (G,) codes; each unknown, −1, is a person of its own.
        ranks: length of the curve.

    Returns:
        (ranks,) the probability that the right person comes within each rank.
    """
    kept = np.ones(len(distances), dtype=bool)
    kept[ignored] = False
    kept[correct] = False
    others = np.flatnonzero(kept)
    codes = np.where(people[others] >= 0, people[others], len(people) + others)
    _, index, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    curve = np.zeros(ranks)
    for row in correct:
        before = (distances[others] < distances[row]) | ((distances[others] == distances[row]) & (others < row))
        shares = np.bincount(index[before], minlength=len(sizes)) / sizes
        ahead = np.zeros(ranks)  # ahead[n]: probability that n people come before
        certain = int((shares == 1).sum())
        if certain < ranks:
            ahead[certain] = 1
        for p in shares[(shares > 0) & (shares < 1)]:
            ahead[1:] = ahead[1:] * (1 - p) + ahead[:-1] * p
            ahead[0] *= 1 - p
        curve += np.cumsum(ahead) / len(correct)
    return curve


def bootstrap(
    values: NDArray[np.float64], people: NDArray[np.int64], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Confidence intervals of means over queries, by drawing people, not queries, with replacement.

    Args:
        values: (Q, M) of M figures for each query.
        people: (Q,) whose query each is; a person's queries are drawn together.
        level: share of draws inside the interval.

    Returns:
        (M, 2) low and high.
    """
    names, index = np.unique(people, return_inverse=True)
    sums = np.stack([np.bincount(index, column, minlength=len(names)) for column in values.T], axis=1)
    counts = np.bincount(index, minlength=len(names)).astype(float)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), draws).astype(float)
    means = weights @ sums / (weights @ counts)[:, None]
    bounds: NDArray[np.float64] = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return bounds
