"""How good probabilities are: log-loss, expected calibration error, and the reliability diagram's points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid.verify.curve import Floats

BINS = 15


def log_loss(probability: Floats, same: NDArray[np.bool_], weights: Floats) -> float:
    """Weighted mean of −ln p where it is one person and −ln(1 − p) where it is two, in nats."""
    right = np.where(same, probability, 1 - probability)
    return float(np.average(-np.log(np.maximum(right, 1e-15)), weights=weights))


def reliability(
    probability: Floats, same: NDArray[np.bool_], weights: Floats, bins: int = BINS
) -> tuple[Floats, Floats, Floats]:
    """(B,) mean probability, share of one person, and weight (1 in all) in bins of equal width; empty ones left out."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    heavy = np.bincount(place, weights, bins)
    used = heavy > 0
    said, found = (np.bincount(place, weights * v, bins)[used] / heavy[used] for v in (probability, same))
    return said, found, heavy[used] / heavy.sum()


def calibration_error(probability: Floats, same: NDArray[np.bool_], weights: Floats, bins: int = BINS) -> float:
    """Expected calibration error: mean over pairs of |mean probability − share of one person| in their bin, in [0, 1].

    Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, who use 15 bins of equal width too.
    """
    said, found, heavy = reliability(probability, same, weights, bins)
    return float((heavy * np.abs(said - found)).sum())
