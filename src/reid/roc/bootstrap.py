"""Confidence intervals of verification, by drawing people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.metrics import Rows
from reid.roc import curve
from reid.roc.cast import Cast, Floats

NEAR, RIGHT, DRAWS = 1 << 16, 1 << 18, 500
FEW = 256  # people, and distractors, for whom a table tells each two from all others
SLOTS, PLACES = 512, 1 << 21  # of distance, and places in a table
FINE = 4  # bits of a level that a slot does not see
_PAIR = np.dtype([("level", "i4"), ("query", "i4"), ("gallery", "i4"), ("weight", "f8")])
_Pairs = NDArray[Any]


class Sample:
    """What is kept of the pairs: RIGHT positive and the NEAR nearest negative ones at most; a table of the others."""

    def __init__(self, cast: Cast):
        self._cast, self._rng = cast, np.random.default_rng(0)
        self._right_share = min(1.0, RIGHT / cast.right.sum())
        self._right: list[_Pairs] = []
        self._last = curve.LEVELS  # negative pairs up to this level are all in _near
        self._near: list[_Pairs] = []
        self._few = len(cast.query) * len(cast.gallery) <= NEAR
        self._table: _Table | None = None

    def add_positive(self, levels: Rows, people: Rows, weights: Floats) -> None:
        kept = self._rng.random(len(levels)) < self._right_share
        self._right.append(_pairs(levels[kept], people[kept], people[kept], weights[kept]))

    def add_negative(self, levels: Rows, weights: Floats, first: int) -> None:
        """(q, G) levels and weights, 0 where a pair is not negative, of the queries from `first` on."""
        query, gallery = self._cast.query[first : first + len(levels)], self._cast.gallery
        if not self._few and self._table is None and weights.any():
            self._table = _Table(self._cast, levels[weights > 0])
        if self._table is not None:
            self._table.add(levels, weights, query, gallery)
        row, column = np.nonzero((levels <= self._last) & (weights > 0))
        self._near.append(_pairs(levels[row, column], query[row], gallery[column], weights[row, column]))
        if sum(map(len, self._near)) > 2 * NEAR:
            every = np.concatenate(self._near)
            self._last = int(np.partition(every["level"], NEAR)[NEAR]) - 1
            self._near = [every[every["level"] <= self._last]]

    def intervals(self, rates: Sequence[float], exact: Floats) -> Floats:
        """(F, 2) low and high of EER and the TPRs at these FPRs, which are (F,) exact for all pairs."""
        right, near = np.concatenate(self._right), np.concatenate(self._near)
        ends = self._table.beyond(near, self._last) if self._table else near["level"]
        level, place = np.unique(np.concatenate([right["level"], near["level"], ends]), return_inverse=True)
        right_place, near_place = place[: len(right)], place[len(right) : len(right) + len(near)]
        far = np.searchsorted(level, self._last, side="right")
        found: list[Floats] = []
        for times in draws(self._cast.people, self._cast.distractors):
            of_right = right["weight"] * times[right["query"]]
            of_near = near["weight"] * times[near["query"]] * times[near["gallery"]]
            false = np.cumsum(np.bincount(near_place, of_near, len(level)).astype(float))
            if self._table:
                false[far:] += np.interp(level[far:], ends, self._table.rising(times))
            if of_right.any() and false[-1] > 0:
                tpr = curve.rising(np.bincount(right_place, of_right, len(level)).astype(float))
                found.append(curve.figures(np.append(0.0, false / false[-1]), tpr, rates)[0])
        bounds = np.quantile(found[1:] or found, [0.025, 0.975], axis=0) - found[0] + exact
        return np.clip(bounds, 0, 1).T


class _Table:
    """The weight of negative pairs by distance and by whose they are.

    A slot holds a range of levels, about as many times farther ones in each as in the one before, going by the first
    pairs. A place is for two people where there are FEW, and otherwise for one, and a pair is in both people's.
    """

    def __init__(self, cast: Cast, levels: Rows):
        self._people = cast.people + cast.distractors
        self._two = self._people <= FEW
        places = self._people**2 if self._two else self._people
        slots = min(SLOTS, max(32, PLACES // places))
        shares = np.geomspace(min(1.0, NEAR / 2 / (len(cast.query) * len(cast.gallery))), 1, slots - 1)
        ends = np.sort(levels)[(shares * (len(levels) - 1)).astype(int)] >> FINE
        self._ends = np.append(np.unique(ends), curve.LEVELS >> FINE)
        self._slot = np.repeat(np.arange(len(self._ends)), np.diff(self._ends, prepend=-1))
        self._table = np.zeros((len(self._ends), places))
        self._highest = 0

    def add(self, levels: Rows, weights: Floats, query: Rows, gallery: Rows) -> None:
        self._highest = max(self._highest, int(levels.max()))
        self._count(levels, weights, np.maximum(query, 0)[:, None], np.maximum(gallery, 0))

    def _count(self, levels: Rows, weights: Floats, query: Rows, gallery: Rows) -> None:
        start = self._slot[levels >> FINE] * self._table.shape[1]
        for place in [query * self._people + gallery] if self._two else [query, gallery]:
            np.add.at(self._table.reshape(-1), (start + place).ravel(), weights.ravel())

    def beyond(self, near: _Pairs, last: int) -> Rows:
        """Take out the pairs up to a level. The last level of each slot, but no lower one."""
        self._count(near["level"], -near["weight"], near["query"], near["gallery"])
        ends: Rows = np.clip(((self._ends + 1) << FINE) - 1, last, max(self._highest, last))
        return ends

    def rising(self, times: Rows) -> Floats:
        """The weight up to each slot when people are drawn so many times.

        Of two people it counts m_a · m_b times, of one by one m_a + m_b − 1, which is that less (m_a − 1)(m_b − 1).
        """
        counts = np.outer(times, times).ravel().astype(float) if self._two else times - 0.5
        return np.cumsum(np.maximum(self._table @ counts, 0))


def draws(*sizes: int) -> Iterator[Rows]:
    """(people,) how often each is drawn: everyone once, then DRAWS times at random, each of the groups by itself."""
    rng = np.random.default_rng(0)
    yield np.ones(sum(sizes), dtype=np.int64)
    for _ in range(DRAWS):
        yield np.concatenate([np.bincount(rng.integers(0, max(1, n), n), minlength=n) for n in sizes])


def _pairs(level: Rows, query: Rows, gallery: Rows, weight: Floats) -> _Pairs:
    pairs = np.empty(len(level), dtype=_PAIR)
    pairs["level"], pairs["query"], pairs["gallery"], pairs["weight"] = level, query, gallery, weight
    return pairs
