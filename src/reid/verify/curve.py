"""From distance to probability: a falling curve, and the ways in which it is fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.errors import ShapeError

Floats = NDArray[np.float64]
BINS, FINE = 128, 2048  # of about equal weight, in which pairs are counted
SUREST = 1e-6  # no probability lies closer to 0 or 1


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """How likely two crops at some distance show one person, at even odds before they are compared.

    Log-odds run straight from knot to knot, and stay level before the first and after the last: beyond the distances
    that were seen nothing bolder is said.

    Attributes:
        distances: (K,) ascending.
        probabilities: (K,) between 0 and 1, never rising.
    """

    distances: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        distances, p = np.asarray(self.distances, float), np.asarray(self.probabilities, float)
        if distances.ndim != 1 or distances.shape != p.shape or not len(p):
            raise ShapeError(
                f"a curve has {distances.shape} distances and {p.shape} probabilities; each needs the other"
            )
        if not np.isfinite(distances).all() or distances[0] < 0 or (np.diff(distances) <= 0).any():
            raise ShapeError("a curve's distances must be finite, at least 0, and rise from knot to knot")
        if not ((p > 0) & (p < 1)).all() or (np.diff(p) > 0).any():
            raise ShapeError("a curve's probabilities must lie between 0 and 1, both excluded, and never rise")
        object.__setattr__(self, "distances", distances)
        object.__setattr__(self, "probabilities", p)

    def log_odds(self, distances: NDArray[np.floating]) -> Floats:
        """Natural log-odds of one person at these distances, of any shape."""
        return np.asarray(np.interp(distances, self.distances, log_odds(self.probabilities)))

    def crossing(self, at: float) -> float:
        """The largest distance whose log-odds are at least `at`: −1 where none is, infinite where all are."""
        heights = log_odds(self.probabilities)
        if heights[-1] >= at:
            return math.inf
        if heights[0] < at:
            return -1.0
        last = int(np.flatnonzero(heights >= at)[-1])
        share = (heights[last] - at) / (heights[last] - heights[last + 1])
        return float(self.distances[last] + share * (self.distances[last + 1] - self.distances[last]))


def log_odds(probability: NDArray[np.floating] | float) -> Floats:
    """ln p / (1 − p)."""
    p = np.asarray(probability, dtype=np.float64)
    return np.asarray(np.log(p) - np.log1p(-p))


def sigmoid(x: NDArray[np.floating] | float) -> Floats:
    """1 / (1 + e⁻ˣ), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def isotonic(values: Floats, weights: Floats) -> Floats:
    """(N,) the never rising values nearest to (N,) values, by weighted squares: pool adjacent violators.

    Barlow, Bartholomew, Bremner and Brunk 1972; equals scikit-learn's IsotonicRegression(increasing=False).

    >>> isotonic(np.array([1.0, 0.0, 1.0, 0.0]), np.ones(4))
    array([1. , 0.5, 0.5, 0. ])
    """
    pooled: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, total, count = value, weight, 1
        while pooled and pooled[-1][0] <= mean:
            before, heavy, many = pooled.pop()
            mean, total, count = (before * heavy + mean * total) / (heavy + total), heavy + total, many + count
        pooled.append((mean, total, count))
    return np.repeat([mean for mean, _, _ in pooled], [count for _, _, count in pooled])


def logistic(
    features: Floats, same: NDArray[np.bool_], weights: Floats, pull: float = 0.0, towards: tuple[float, ...] = ()
) -> Floats:
    """(K,) coefficients of a weighted logistic regression, by Newton's method.

    Minimises Σ weight · log-loss + pull · |coefficients − towards|² / 2.

    Args:
        features: (N, K); a column of ones where there is to be an intercept.
        same, weights: (N,).
        pull: 0 for none.
        towards: K values, zeros by default.
    """
    goal = np.array(towards or [0.0] * features.shape[1])
    found = goal.copy()
    for _ in range(100):
        p = sigmoid(features @ found)
        slope = features.T @ (weights * (p - same)) + pull * (found - goal)
        bend = (features * (weights * p * (1 - p))[:, None]).T @ features
        bend[np.diag_indices_from(bend)] += pull + 1e-12 * weights.sum()
        step = np.linalg.solve(bend, slope)
        found -= step * min(1.0, 5 / max(1e-9, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    return found


def binned(distances: Floats, same: NDArray[np.bool_], weights: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """Pairs in bins of about equal weight, equal distances in one: (B,) mean distance, weight, and that of one person.

    Args:
        distances, same, weights: (N,) of the pairs.
    """
    order = np.argsort(distances, kind="stable")
    d, y, w = distances[order].astype(float), same[order], weights[order]
    before = np.cumsum(w) - w
    new = np.diff(d, prepend=-1.0) > 0
    reached = np.maximum.accumulate(np.where(new, (before * (bins / w.sum())).astype(int), 0))
    place = np.unique(reached, return_inverse=True)[1]
    heavy = np.bincount(place, w)
    middle = np.clip(np.bincount(place, w * d) / heavy, d[0], d[-1])
    return middle, np.asarray(heavy, dtype=np.float64), np.asarray(np.bincount(place, w * y), dtype=np.float64)


def fit_isotonic(distances: Floats, same: NDArray[np.bool_], weights: Floats, doubt: tuple[float, float]) -> Curve:
    """Isotonic regression on about BINS bins of equal weight, with one knot in the weighted middle of each block.

    Knots in the middle of blocks instead of steps between them (centred isotonic regression, Oron and Flournoy 2017)
    make a curve without jumps, which a change of a distance in its last digit would otherwise leap over.

    Args:
        distances, same, weights: (N,) of the pairs.
        doubt: what one pair of two people nearer than all, and one pair of one person farther than all, would weigh.
            They are added, so that nothing is ever certain.
    """
    middle, heavy, right = binned(distances, same, weights, BINS)
    heavy[0] += doubt[0]
    heavy[-1] += doubt[1]
    right[-1] += doubt[1]
    fitted = isotonic(np.asarray(right / heavy, float), heavy)
    _, block = np.unique(-fitted, return_inverse=True)
    total = np.bincount(block, heavy)
    return falling(np.bincount(block, middle * heavy) / total, np.bincount(block, right) / total)


def falling(distances: Floats, probabilities: Floats) -> Curve:
    """A curve through knots, without those that rounding has put on another."""
    kept = np.diff(np.maximum.accumulate(distances), prepend=-1.0) > 0
    return Curve(distances[kept], np.minimum.accumulate(probabilities[kept]).clip(SUREST, 1 - SUREST))


def fit_logistic(distances: Floats, same: NDArray[np.bool_], weights: Floats, doubt: tuple[float, float]) -> Curve:
    """Logistic regression on the distance, in FINE bins, level outside the distances seen; the same arguments.

    The two pairs of doubt lie at the nearest and at the farthest distance.
    """
    middle, heavy, right = binned(distances, same, weights, FINE)
    ends = np.array([distances.min(), distances.max()], dtype=float)
    d = np.concatenate([middle, middle, ends])
    y = np.repeat([True, False, False, True], [len(middle), len(middle), 1, 1])
    w = np.concatenate([right, heavy - right, doubt])
    offset, slope = logistic(np.stack([np.ones(len(d)), d], axis=1), y, w)
    slope = min(slope, -1e-9)
    surest = float(log_odds(1 - SUREST))
    low, high = sorted(((surest - offset) / slope, (-surest - offset) / slope))
    ends = np.clip(ends, max(low, 0.0), max(high, 1e-6))
    if ends[1] <= ends[0]:
        ends[1] = ends[0] + 1e-6
    return Curve(ends, np.clip(sigmoid(offset + slope * ends), SUREST, 1 - SUREST))


def fit_blend(distances: Floats, same: NDArray[np.bool_], weights: Floats, doubt: tuple[float, float]) -> Curve:
    """The mean of both curves' log-odds: a straight line bends less than people do, pooled blocks jump more."""
    curves = [fit(distances, same, weights, doubt) for fit in (fit_isotonic, fit_logistic)]
    knots = np.unique(np.concatenate([curve.distances for curve in curves]))
    return falling(knots, sigmoid(np.mean([curve.log_odds(knots) for curve in curves], axis=0)))


KINDS: dict[str, Callable[[Floats, NDArray[np.bool_], Floats, tuple[float, float]], Curve]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic,
    "blend": fit_blend,
}
