"""Open-set identification as its definitions read: every stranger, every threshold, in exact fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction

import numpy as np


def fpir(distances: Sequence[float], who: Sequence[Hashable], threshold: float) -> Fraction:
    """Share of searches for strangers at or below a threshold, people alike."""
    searches, people = Counter(who), len(set(who))
    alarms = [Fraction(1, searches[p] * people) for d, p in zip(distances, who, strict=True) if d <= threshold]
    return sum(alarms, Fraction(0))


def expected(distances: Sequence[float], who: Sequence[Hashable], threshold: float) -> Fraction:
    """The same with one person more, who is nearer than all."""
    return fpir([*distances, -np.inf], [*who, "one more"], threshold)


def highest(distances: Sequence[float], who: Sequence[Hashable], rate: Fraction) -> Fraction:
    """The largest FPIR to expect that keeps to a rate, of all thresholds there are; 0 where none does."""
    found = [expected(distances, who, t) for t in distances]
    return max((f for f in found if f <= rate), default=Fraction(0))


def nearest_person(query: np.ndarray, crops: np.ndarray, people: Sequence[str]) -> tuple[str, float]:
    """Whose crop is nearest, and how far it is."""
    found = [(float(np.sqrt(((query - crop) ** 2).sum())), pid) for crop, pid in zip(crops, people, strict=True)]
    distance, pid = min(found)
    return pid, distance
