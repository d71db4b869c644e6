"""Curves from the weight of positive and negative pairs at each level of distance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reid.metrics import Rows
from reid.roc.cast import Floats
from reid.types import Vectors

POINTS = 1000  # of a curve that is shown, at most
SHIFT, ZERO, LEVELS = 8, 1 << 23, 1 << 24  # 2^(23 − SHIFT) levels a doubling; distance 0 has level ZERO
ROUNDING = 1 + 1e-9  # a sum of weights may be too large by this factor


def levels(distances: Vectors) -> Rows:
    """Float32 bit patterns put in the order of their numbers and rounded up: integers in [0, LEVELS)."""
    bits = distances.view(np.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    bits += (1 << SHIFT) - 1
    bits >>= SHIFT
    return bits.astype(np.int64) + ZERO


def distances(levels: Rows) -> Floats:
    """The largest distance of each level."""
    bits = ((levels - ZERO) << SHIFT).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32).astype(np.float64)


def rising(weights: Floats) -> Floats:
    """(L,) weights at ascending levels to (L + 1,) shares at or below: 0 before the first, 1 at the last."""
    total = np.cumsum(weights)
    return np.append(0.0, total / total[-1])


def figures(fpr: Floats, tpr: Floats, rates: Sequence[float]) -> tuple[Floats, Rows]:
    """EER and the TPR at each FPR, and the places of their thresholds."""
    at = np.searchsorted(fpr, np.array(rates) * ROUNDING, side="right") - 1
    excess = fpr + tpr - 1  # FPR − FNMR
    cross = int(np.argmax(excess >= 1 - ROUNDING))
    share = min(1.0, excess[cross - 1] / (excess[cross - 1] - excess[cross]))
    eer = fpr[cross - 1] + share * (fpr[cross] - fpr[cross - 1])
    return np.append(eer, tpr[at]), np.append(cross, at)


def d_prime(values: Floats, positive: Floats, negative: Floats) -> float:
    """From the weight of either kind of pair at each value."""
    if not np.isfinite(values).all():
        return math.nan
    means = [float(np.average(values, weights=weights)) for weights in (positive, negative)]
    variances = [np.average((values - m) ** 2, weights=w) for m, w in zip(means, (positive, negative), strict=True)]
    gap, spread = means[1] - means[0], math.sqrt(sum(variances) / 2)
    if spread:
        return gap / spread
    return math.copysign(math.inf, gap) if gap else 0.0


def thin(false: Floats, missed: Floats) -> Rows:
    """At most POINTS places of a curve whose one error rises while the other falls, even in both errors' logarithms."""
    last = len(false) - 1
    if last < POINTS:
        return np.arange(last + 1)
    places = [np.array([0, last])]
    for error, backwards in ((false, False), (missed[::-1], True)):
        steps = np.geomspace(error[error > 0].min(initial=1), 1, POINTS // 2 - 1)
        place = np.minimum(np.searchsorted(error, steps), last)
        places.append(last - place if backwards else place)
    return np.unique(np.concatenate(places))
