"""Verification: are these two one person?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reid.errors import DataError
from reid.evaluation import Distances
from reid.roc import curve
from reid.roc.bootstrap import Sample
from reid.roc.cast import Cast, Floats, Weighting, few_rows
from reid.types import Crop, Vectors


@dataclass(frozen=True, slots=True)
class Point:
    """The highest threshold whose FPR is at most what was asked for, and the FPR and TPR there.

    An fpr of 0 says that so small a rate cannot be shown with so few negative pairs.
    """

    asked: float
    threshold: float
    fpr: float
    tpr: float


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """How well a threshold tells pairs of one person from pairs of two.

    Distances are rounded up to one of 32,768 levels a doubling (0.003 % apart). Thresholds are such levels, and each
    rate is exact at its threshold; all that is lost is the choice between thresholds closer together.

    Attributes:
        protocol, weighting: how it was measured.
        people: how many have a positive pair.
        positives, negatives: pairs that count.
        skipped: queries that take no part.
        thresholds: (T,) ascending distances, a thousand at most.
        fpr, tpr: (T,) false- and true-positive rate at each, from 0 to 1.
        at: one point for each FPR that was asked for.
        eer: equal error rate (ISO/IEC 19795-1), where FPR = FNMR on the straight line between the two neighbouring
            thresholds at which FPR − FNMR changes sign.
        eer_threshold: the upper of those two.
        auc: area under the ROC curve, ties counted half.
        d_prime: (mean negative − mean positive distance) / √((variance + variance) / 2), of the rounded distances;
            not a number with infinite ones.
        intervals: 95 % (low, high) by the names of `table`, where asked for.
    """

    protocol: str
    weighting: Weighting
    people: int
    positives: int
    negatives: int
    skipped: int
    thresholds: Floats
    fpr: Floats
    tpr: Floats
    at: tuple[Point, ...]
    eer: float
    eer_threshold: float
    auc: float
    d_prime: float
    intervals: Mapping[str, tuple[float, float]]

    @property
    def det(self) -> tuple[Floats, Floats]:
        """The DET curve: (T,) FMR, which is the FPR, and (T,) FNMR."""
        return self.fpr, 1 - self.tpr

    def table(self) -> dict[str, float]:
        """EER, and TPR at each FPR, by name."""
        return dict(zip(_names([p.asked for p in self.at]), [self.eer, *(p.tpr for p in self.at)], strict=True))


def verification(
    distances: Distances,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    weighting: Weighting = "person",
    rates: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
    intervals: bool = False,
) -> Verification:
    """Measure verification on all pairs that count, in memory that does not grow with their number.

    By "person", a positive pair of person p weighs 1 / (positive pairs of p), so TPR is the mean over people; a
    negative pair of a and b weighs 1 / (queries of a × gallery rows of b), so FPR is the mean over ordered pairs of
    people, each less what the protocol ignores of it. By "pair" every pair weighs the same, and people with many crops
    dominate.

    Intervals draw people with replacement, distractors apart, 500 times. A negative pair enters with the product of how
    often its two people were drawn, a positive one with how often its person was (the vertex bootstrap of Fogliato,
    Patil and Perona 2024). That is exact for the 65,536 nearest negative pairs; the others enter in up to 512 ranges of
    distance and, with more than 256 people, to first order: how often one was drawn plus how often the other, less one.
    Of more than 262,144 positive pairs a random sample of that size enters. The interval is moved by what all this
    changes in the figure itself.

    Args:
        distances: a (Q, G) matrix, or its rows in blocks as `distance.blocks` yields them; taken as float32.
        query, gallery: Q and G crops.
        protocol: a name from PROTOCOLS.
        weighting: "person" or "pair".
        rates: FPRs at which to give the TPR.
        intervals: also give confidence intervals.

    Raises:
        DataError: a protocol, weighting or rate that cannot be; no positive pair, or no negative one.
        ShapeError: the distances do not fit the crops, or one is not a number.
    """
    if not all(0 < rate < 1 for rate in rates):
        raise DataError(f"the rates are {', '.join(map(str, rates))}; each must lie between 0 and 1")
    cast = Cast(query, gallery, protocol, weighting)
    tally = _Tally(cast, Sample(cast) if intervals else None)
    for first, block in few_rows(distances, query, gallery):
        tally.add(first, block)
    if not tally.negatives:
        raise DataError("every pair that counts shows one person; a gallery with other people is needed as well")
    return tally.measure(protocol, rates)


class _Tally:
    """The weight of positive and of negative pairs at each level of distance."""

    def __init__(self, cast: Cast, sample: Sample | None):
        self.negatives = 0
        self._cast, self._sample = cast, sample
        self._positive, self._negative = np.zeros(curve.LEVELS), np.zeros(curve.LEVELS)
        self._lowest, self._highest = curve.LEVELS, 0
        self._query, self._gallery = cast.even(cast.query), cast.even(cast.gallery)
        pairs = np.bincount(np.maximum(cast.query, 0), cast.right)[cast.query]
        self._right = 1 / np.maximum(pairs, 1) if cast.weighting == "person" else np.ones(len(cast.query))

    def add(self, first: int, block: Vectors) -> None:
        weights = np.multiply.outer(self._query[first : first + len(block)], self._gallery)
        found = []
        for i, row in enumerate(weights, first):
            right, ignored = self._cast.rows(i)
            row[right] = row[ignored] = 0
            found.append(right)
        self.negatives += int(np.count_nonzero(weights))
        levels = curve.levels(block)
        self._lowest, self._highest = min(self._lowest, int(levels.min())), max(self._highest, int(levels.max()))
        np.add.at(self._negative, levels.ravel(), weights.ravel())
        row, column = np.repeat(np.arange(len(block)), [len(right) for right in found]), np.concatenate(found)
        right_levels, right_weights = levels[row, column], self._right[first + row]
        np.add.at(self._positive, right_levels, right_weights)
        if self._sample:
            self._sample.add_positive(right_levels, self._cast.query[first + row], right_weights)
            self._sample.add_negative(levels, weights, first)

    def measure(self, protocol: str, rates: Sequence[float]) -> Verification:
        seen = slice(self._lowest, self._highest + 1)
        level = self._lowest + np.flatnonzero(self._positive[seen] + self._negative[seen])
        positive, negative = self._positive[level], self._negative[level]
        thresholds = curve.distances(np.append(level[0] - 1, level))
        fpr, tpr = curve.rising(negative), curve.rising(positive)
        figures, places = curve.figures(fpr, tpr, rates)
        at = np.stack([thresholds, fpr, tpr], axis=1)[places[1:]]
        shown = curve.thin(fpr, 1 - tpr)
        bounds = self._sample.intervals(rates, figures) if self._sample else ()
        return Verification(
            protocol=protocol,
            weighting=self._cast.weighting,
            people=len(np.unique(self._cast.query[self._cast.right > 0])),
            positives=int(self._cast.right.sum()),
            negatives=self.negatives,
            skipped=int((self._cast.query < 0).sum()),
            thresholds=thresholds[shown],
            fpr=fpr[shown],
            tpr=tpr[shown],
            at=tuple(Point(rate, *point) for rate, point in zip(rates, at.tolist(), strict=True)),
            eer=float(figures[0]),
            eer_threshold=float(thresholds[places[0]]),
            auc=float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)),
            d_prime=curve.d_prime(thresholds[1:], positive, negative),
            intervals={n: (float(b[0]), float(b[1])) for n, b in zip(_names(rates), bounds, strict=False)},
        )


def _names(rates: Sequence[float]) -> list[str]:
    return ["EER", *(f"TPR@FPR={rate:g}" for rate in rates)]
