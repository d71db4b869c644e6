"""What a Verifier holds beside its curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reid.errors import ShapeError
from reid.verify.curve import Floats


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a threshold accepts wrongly.

    Attributes:
        rate: of pairs of two people, each two people weighing the same, the share that comes within `distance`.
        distance: the threshold.
        low, high: 95 % interval of the threshold, by bootstrap over people.
        rate_low, rate_high: between what the rate of other people, as many as these, will lie in 95 of 100 cases.
    """

    rate: float
    distance: float
    low: float
    high: float
    rate_low: float
    rate_high: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or not 0 <= self.low <= self.distance <= self.high:
            raise ShapeError(f"rate {self.rate} at {self.distance} within {self.low} to {self.high} is no threshold")
        if not 0 <= self.rate_low <= self.rate_high <= 1:
            raise ShapeError(f"rates from {self.rate_low} to {self.rate_high} are no interval within 0 to 1")


@dataclass(frozen=True, slots=True)
class Correction:
    """What two cameras do to the common curve: their log-odds are offset + scale · its log-odds.

    Attributes:
        people: how many pairs of one person it was learnt from, people counting once.
        offset, scale: drawn towards 0 and 1, the more the fewer people there were.
    """

    people: int
    offset: float
    scale: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.offset) or not 0 <= self.scale < math.inf:
            raise ShapeError(f"offset {self.offset} and scale {self.scale}: both must be finite, the scale at least 0")


@dataclass(frozen=True, slots=True)
class Doubt:
    """How much of the evidence poor crops leave: exp(−Σ weight · how much worse than typical), over both crops.

    Attributes:
        measures: names, as in `reid.quality.MEASURES`.
        typical: for each the value from which on a crop is worse than typical.
        weights: for each, learnt; at least 0.
        lean: log-odds towards one person where all evidence is lost, in proportion to what is lost, before what is left
            scales them: a poor crop is farther from its own person than a good one would be. At least 0.
    """

    measures: tuple[str, ...]
    typical: tuple[float, ...]
    weights: tuple[float, ...]
    lean: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.measures) == len(self.typical) == len(self.weights):
            raise ShapeError("each measure of quality needs what is typical and a weight")
        if not all(0 <= w < math.inf for w in self.weights) or not all(math.isfinite(t) for t in self.typical):
            raise ShapeError("weights of quality must be finite and at least 0, typical values finite")
        if not 0 <= self.lean < math.inf:
            raise ShapeError(f"the lean of quality is {self.lean}; it must be finite and at least 0")

    def terms(self, quality: Floats) -> Floats:
        """(N, M) qualities to (N, M) what each measure adds to the exponent."""
        if quality.ndim != 2 or quality.shape[1] != len(self.measures):
            raise ShapeError(f"qualities are {quality.shape}; they must be (N, {len(self.measures)})")
        return np.asarray(np.maximum(quality - np.array(self.typical), 0) * np.array(self.weights))

    def evidence(self, first: Floats, second: Floats) -> Floats:
        """(N,) the share of the evidence that is left, in (0, 1], for N pairs of crops; the order does not matter."""
        return np.asarray(np.exp(-(self.terms(first).sum(axis=1) + self.terms(second).sum(axis=1))))

    def leaning(self, odds: Floats, evidence: Floats | float) -> Floats:
        """(N,) log-odds that good crops would give, after so much of the evidence is left."""
        return np.asarray(evidence * (odds + self.lean * (1 - np.asarray(evidence))))

    def reasons(self, quality: Floats) -> tuple[str, ...]:
        """What takes most of one crop's evidence, (M,) its quality: names of measures that cost a tenth and more."""
        lost = self.terms(quality[None])[0]
        return tuple(self.measures[i] for i in np.argsort(-lost, kind="stable") if lost[i] > -math.log(0.9))
