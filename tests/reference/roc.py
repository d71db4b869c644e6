"""Verification and open-set search as their definitions read: every pair, every threshold, in exact fractions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from reid.types import Crop


@dataclass(frozen=True)
class Pair:
    distance: float
    same: bool
    query: Hashable
    gallery: Hashable
    weight: Fraction


def person(crop: Crop, place: str) -> Hashable:
    """Whom a crop shows: nobody knows, or somebody, a distractor somebody seen only this once."""
    if crop.role == "junk" or (crop.role == "person" and crop.pid is None):
        return None
    return crop.pid if crop.role == "person" else ("distractor", place)


def ignored(protocol: str, q: Crop, g: Crop) -> bool:
    same_camera = q.camera is not None and q.camera == g.camera
    same_person = q.role == g.role == "person" and q.pid is not None and q.pid == g.pid
    rules = {"cross-camera": same_camera, "diagonal": False}
    return rules.get(protocol, same_person and same_camera) or q.path == g.path


def pairs(
    distances: np.ndarray, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str, weighting: str
) -> list[Pair]:
    searched = [person(q, f"query {i}") for i, q in enumerate(query)]
    listed = [person(g, f"row {j}") for j, g in enumerate(gallery)]
    counted = [
        (float(distances[i, j]), searched[i] == listed[j], searched[i], listed[j])
        for i, q in enumerate(query)
        for j, g in enumerate(gallery)
        if searched[i] is not None and listed[j] is not None and not ignored(protocol, q, g)
    ]
    queries, rows, matches = Counter(searched), Counter(listed), Counter(a for _, same, a, _ in counted if same)
    return [
        Pair(d, same, a, b, Fraction(1, 1 if weighting == "pair" else matches[a] if same else queries[a] * rows[b]))
        for d, same, a, b in counted
    ]


Step = tuple[float, Fraction, Fraction]


def curve(found: list[Pair]) -> list[Step]:
    """Each distance there is as a threshold, with its FPR and TPR; first one that accepts nothing."""
    steps = [(-np.inf, Fraction(0), Fraction(0))]
    total = {same: sum(p.weight for p in found if p.same is same) for same in (False, True)}
    for t in sorted({p.distance for p in found}):
        accepted = {s: sum(p.weight for p in found if p.same is s and p.distance <= t) for s in (False, True)}
        steps.append((t, accepted[False] / total[False], accepted[True] / total[True]))
    return steps


def at(steps: list[Step], threshold: float) -> Step:
    return [step for step in steps if step[0] <= threshold][-1]


def highest(steps: list[Step], rate: Fraction) -> Step:
    """The highest threshold that keeps to an FPR."""
    return [step for step in steps if step[1] <= rate][-1]


def eer(steps: list[Step]) -> Fraction:
    """Where the straight line between two thresholds crosses FPR = FNMR."""
    for (_, false, found), (_, next_false, next_found) in pairwise(steps):
        before, after = 1 - found - false, next_false - (1 - next_found)
        if after >= 0:
            return false + (next_false - false) * before / (before + after)
    raise AssertionError("FPR reaches 1 where FNMR is 0")


def auc(found: list[Pair]) -> float:
    """The chance that a positive pair is nearer than a negative one, a tie counted half."""
    right, wrong = ([(p.distance, float(p.weight)) for p in found if p.same is same] for same in (True, False))
    won = sum(v * w * ((d < e) + (d == e) / 2) for d, v in right for e, w in wrong)
    return won / (sum(v for _, v in right) * sum(w for _, w in wrong))


@dataclass(frozen=True)
class Search:
    mated: bool
    own: float
    other: float
    weight: Fraction


def searches(
    distances: np.ndarray,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str,
    weighting: str,
    absent: set[str],
) -> list[Search]:
    """All searches of one draw, those of `absent` people taken out of the gallery; weights of a kind sum to 1."""
    found = []
    for i, q in enumerate(query):
        who = person(q, f"query {i}")
        own, other = [], []
        for j, g in enumerate(gallery):
            listed = person(g, f"row {j}")
            if listed is not None and listed not in absent and not ignored(protocol, q, g):
                (own if listed == who else other).append(float(distances[i, j]))
        if who is not None:
            found.append((who, bool(own), min(own, default=np.inf), min(other, default=np.inf)))
    many = Counter((who, mated) for who, mated, _, _ in found)
    people = Counter(mated for _, mated in many)
    kinds = Counter(mated for _, mated, _, _ in found)
    return [
        Search(m, o, x, Fraction(1, kinds[m]) if weighting == "pair" else Fraction(1, many[who, m] * people[m]))
        for who, m, o, x in found
    ]


def rates(draws: list[list[Search]], t: float) -> tuple[Fraction, Fraction, Fraction]:
    """FPIR, FNIR and FNIR at rank 1, the mean over draws."""
    alarm, miss, miss_first = Fraction(0), Fraction(0), Fraction(0)
    for draw in draws:
        alarm += sum(s.weight for s in draw if not s.mated and s.other <= t)
        miss += sum(s.weight for s in draw if s.mated and s.own > t)
        miss_first += sum(s.weight for s in draw if s.mated and (s.own > t or s.own >= s.other))
    return alarm / len(draws), miss / len(draws), miss_first / len(draws)
