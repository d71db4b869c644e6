"""Confidence intervals of verification, by drawing people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.metrics import Rows
from reid.roc import curve
from reid.roc.cast import Cast, Floats

NEAR, SAMPLE, DRAWS = 1 << 17, 1 << 18, 500
_PAIR = np.dtype([("level", "i4"), ("query", "i4"), ("gallery", "i4"), ("weight", "f8")])
_Pairs = NDArray[Any]


class Sample:
    """Pairs that stand for all: the NEAR nearest negative ones, and a random SAMPLE of either kind, or all if fewer."""

    def __init__(self, cast: Cast):
        self._cast, self._rng = cast, np.random.default_rng(0)
        self._share = min(1.0, SAMPLE / (len(cast.query) * len(cast.gallery)))
        self._right_share = min(1.0, SAMPLE / cast.right.sum())
        self._last_near = curve.LEVELS  # pairs up to this level are all in _near
        self._near: list[_Pairs] = []
        self._drawn: list[_Pairs] = []
        self._right: list[_Pairs] = []

    def add_positive(self, levels: Rows, people: Rows, weights: Floats) -> None:
        kept = self._rng.random(len(levels)) < self._right_share
        self._right.append(_pairs(levels[kept], people[kept], people[kept], weights[kept]))

    def add_negative(self, levels: Rows, weights: Floats, first: int) -> None:
        """(q, G) levels and weights, 0 where a pair is not negative, of the queries from `first` on."""
        level, weight = levels.ravel(), weights.ravel()
        near = np.flatnonzero(level <= self._last_near)
        drawn = self._rng.integers(0, levels.size, self._rng.poisson(self._share * levels.size))
        for found, chosen in ((self._near, near), (self._drawn, drawn)):
            chosen = chosen[weight[chosen] > 0]
            row, column = np.divmod(chosen, levels.shape[1])
            query, gallery = self._cast.query[first + row], self._cast.gallery[column]
            found.append(_pairs(level[chosen], query, gallery, weight[chosen]))
        if sum(map(len, self._near)) > 2 * NEAR:
            every = np.concatenate(self._near)
            self._last_near = int(np.partition(every["level"], NEAR)[NEAR]) - 1
            self._near = [every[every["level"] <= self._last_near]]

    def intervals(self, negative: Floats, rates: Sequence[float], exact: Floats) -> Floats:
        """(F, 2) low and high of each figure.

        Args:
            negative: (LEVELS,) the weight of all negative pairs.
            rates: of the TPRs.
            exact: (F,) the figures from all pairs.
        """
        drawn = np.concatenate(self._drawn)
        drawn = drawn[drawn["level"] > self._last_near]
        if len(drawn):
            drawn["weight"] *= negative[self._last_near + 1 :].sum() / drawn["weight"].sum()
        right, wrong = np.concatenate(self._right), np.concatenate([*self._near, drawn])
        level, place = np.unique(np.concatenate([right["level"], wrong["level"]]), return_inverse=True)
        right_place, wrong_place = place[: len(right)], place[len(right) :]
        found: list[Floats] = []
        for times in draws(self._cast):
            of_right = right["weight"] * times[right["query"]]
            of_wrong = wrong["weight"] * times[wrong["query"]] * times[wrong["gallery"]]
            if of_right.any() and of_wrong.any():
                tpr = curve.rising(np.bincount(right_place, of_right, len(level)).astype(float))
                fpr = curve.rising(np.bincount(wrong_place, of_wrong, len(level)).astype(float))
                found.append(curve.figures(fpr, tpr, rates)[0])
        bounds = np.quantile(found[1:] or found, [0.025, 0.975], axis=0) - found[0] + exact
        return np.clip(bounds, 0, 1).T


def draws(cast: Cast) -> Iterator[Rows]:
    """(people + distractors,) how often each is drawn: everyone once, then DRAWS times at random."""
    rng = np.random.default_rng(0)
    sizes = (cast.people, cast.distractors)
    yield np.ones(sum(sizes), dtype=np.int64)
    for _ in range(DRAWS):
        yield np.concatenate([np.bincount(rng.integers(0, max(1, n), n), minlength=n) for n in sizes])


def _pairs(level: Rows, query: Rows, gallery: Rows, weight: Floats) -> _Pairs:
    pairs = np.empty(len(level), dtype=_PAIR)
    pairs["level"], pairs["query"], pairs["gallery"], pairs["weight"] = level, query, gallery, weight
    return pairs
