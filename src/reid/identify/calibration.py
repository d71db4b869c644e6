"""What distances mean: how near strangers come, and how sure a nearest person is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from reid.errors import DataError, ShapeError
from reid.metrics import Rows
from reid.types import Vectors

Floats = NDArray[np.float64]
ROUNDING = 1 + 1e-9  # a sum of weights may be too large by this factor
_MOST = 50.0  # log-odds per standard deviation, so that a fit on two groups that never meet ends


class Threshold(NamedTuple):
    """Up to which distance a query is taken for the nearest person.

    Attributes:
        distance: the largest that keeps to what was asked.
        asked: the FPIR that may not be passed.
        reached: the one there; 0 says that so small a rate cannot be shown with so few strangers.
    """

    distance: float
    asked: float
    reached: float


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What was seen of queries of one form, single crops or several together, at the distance from whoever is nearest.

    Attributes:
        strangers: (S,) float32, ascending distances of queries that show nobody who is enrolled.
        shares: (S,) the FPIR to expect with each as the threshold, in [0, 1]: the share of searches for strangers up to
            there, in which people weigh alike, and one more person who is nearer than all.
        temperature: of the softmax over negative distances that makes probabilities of who it is, given that the
            person is enrolled; None where no crop of an enrolled person could be left out.
        centre, slope: the log-odds of being enrolled are slope · (centre − distance), for as many searches for those
            who are as for those who are not; None as for the temperature.
    """

    strangers: Vectors
    shares: Floats
    temperature: float | None = None
    centre: float | None = None
    slope: float | None = None

    def __post_init__(self) -> None:
        if self.strangers.shape != self.shares.shape or self.strangers.ndim != 1 or not len(self.strangers):
            raise ShapeError(f"distances are {self.strangers.shape} and shares {self.shares.shape}; both must be (S,)")
        for values in (self.strangers, self.shares):
            if not np.isfinite(values).all() or (np.diff(values) < 0).any():
                raise ShapeError("strangers' distances and shares must be finite and ascend")
        if self.shares[0] < 0 or self.shares[-1] > 1:
            raise ShapeError("a share of strangers lies outside [0, 1]")
        sure = (self.temperature, self.centre, self.slope)
        if any(v is not None and not np.isfinite(v) for v in sure) or (sure.count(None) not in (0, 3)):
            raise ShapeError(f"temperature, centre and slope are {sure}; give three finite numbers or none")
        if self.temperature is not None and (self.temperature <= 0 or (self.slope or 0) < 0):
            raise ShapeError(
                f"the temperature is {self.temperature} and the slope {self.slope}; above 0 and at least 0"
            )

    def threshold(self, fpir: float) -> Threshold:
        """The highest threshold at which strangers raise a false alarm at most so often.

        Raises:
            DataError: the rate is not above 0 and below 1.
        """
        if not 0 < fpir < 1:
            raise DataError(f"the false-positive identification rate is {fpir}; it must lie between 0 and 1")
        allowed = int(np.searchsorted(self.shares, fpir * ROUNDING, side="right"))
        while 0 < allowed < len(self.strangers) and self.strangers[allowed] == self.strangers[allowed - 1]:
            allowed -= 1  # of several at one distance all or none are let in
        if allowed == len(self.strangers):
            return Threshold(float(self.strangers[-1]), fpir, float(self.shares[-1]))
        below = np.nextafter(self.strangers[allowed], np.float32(-np.inf))
        return Threshold(float(below), fpir, float(self.shares[allowed - 1]) if allowed else 0.0)

    def enrolled(self, distances: Vectors) -> Floats | None:
        """(Q,) probability that the query's person is enrolled at all, from (Q, P); None where it was not learnt."""
        if self.centre is None or self.slope is None:
            return None
        found: Floats = special.expit(self.slope * (self.centre - distances.min(axis=1).astype(np.float64)))
        return found

    def among(self, distances: Vectors) -> Floats | None:
        """(Q, P) probability of each person, given that it is one of them; None where it was not learnt."""
        if self.temperature is None:
            return None
        found: Floats = special.softmax(-distances.astype(np.float64) / self.temperature, axis=1)
        return found


def calibrate(
    strange: Vectors,
    of_strange: Rows,
    growth: float,
    own: Vectors | None = None,
    of_own: Rows | None = None,
    own_growth: float = 1.0,
) -> Calibration:
    """Learn from queries whose answers are known.

    A rate that a threshold had among those it was chosen on comes out higher among others. It is put right by one
    person more, who is nearer than all of them: what is then asked for is kept on average, whatever the distances'
    distribution (conformal prediction, Vovk et al. 2005, with people in the place of searches).

    Args:
        strange: (S,) distances of strangers' queries from whoever is nearest.
        of_strange: (S,) whose queries they are; people weigh alike. −1 is somebody else each time.
        growth: how many times more people are enrolled than were when the strangers were measured, and so how many
            times more often a stranger finds somebody so near.
        own: (Q, P) distances of enrolled people's queries, of crops that were not enrolled.
        of_own: (Q,) who they are.
        own_growth: how many times more there is to find of each than was then, likewise.
    """
    order, weights = np.argsort(strange, kind="stable"), even(of_strange)
    people = len(np.unique(of_strange[of_strange >= 0])) + int((of_strange < 0).sum())
    shares = np.minimum(1, growth * (people * np.cumsum(weights[order]) + 1) / (people + 1))
    if own is None or of_own is None or not len(own):
        return Calibration(strange[order], shares)
    weight, nearest = even(of_own), own.min(axis=1)
    grown = _grown(nearest, weight, own_growth), _grown(strange, weights, growth)
    centre, slope = _odds(nearest, strange, *grown)
    return Calibration(strange[order], shares, _temperature(own, of_own, weight), centre, slope)


def _grown(distances: Vectors, weights: Floats, growth: float) -> Floats:
    """(N,) weights under which (N,) nearest distances are those of a search among `growth` times as many.

    Of independent ones, a share F within a distance becomes 1 − (1 − F)^growth.
    """
    order = np.argsort(distances, kind="stable")
    reached = 1 - (1 - np.minimum(np.cumsum(weights[order]), 1)) ** growth
    found = np.empty(len(weights))
    found[order] = np.diff(reached, prepend=0.0)
    return np.asarray(found / found.sum())


def even(who: Rows) -> Floats:
    """(N,) weights that sum to 1, the same for each person; −1 is a person each time."""
    alone = who < 0
    counts = np.bincount(np.where(alone, 0, who), ~alone, minlength=1)
    weights = np.where(alone, 1.0, 1 / np.maximum(counts, 1)[np.where(alone, 0, who)])
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _temperature(own: Vectors, who: Rows, weight: Floats) -> float:
    """The one under which left-out queries are likeliest."""
    apart = own - own.min(axis=1, keepdims=True).astype(np.float64)
    unit = float(apart.mean()) or 1.0

    def loss(log: float) -> float:
        scores = -apart / (unit * np.exp(log))
        right = scores[np.arange(len(who)), who]
        return float(weight @ (special.logsumexp(scores, axis=1) - right))

    return unit * float(np.exp(optimize.minimize_scalar(loss, bounds=(-7, 3), method="bounded").x))


def _odds(own: Vectors, strange: Vectors, weight: Floats, of_strange: Floats) -> tuple[float, float]:
    """Centre and slope by logistic regression, either kind half of the weight, with Platt's targets (1999)."""
    values = np.concatenate([own, strange]).astype(np.float64)
    middle, spread = float(values.mean()), float(values.std()) or 1.0
    x = (middle - values) / spread
    counts = [len(own), len(strange)]
    target = np.repeat([(counts[0] + 1) / (counts[0] + 2), 1 / (counts[1] + 2)], counts)
    weights = np.concatenate([weight, of_strange]) / 2

    def loss(free: Floats) -> float:
        odds = free[0] * (x - free[1])
        return float(weights @ (np.logaddexp(0, odds) - target * odds))

    slope, shift = optimize.minimize(loss, [1.0, 0.0], bounds=[(0, _MOST), (-_MOST, _MOST)], method="L-BFGS-B").x
    return middle - spread * float(shift), float(slope) / spread
