"""Losses as their papers write them: explicit loops over pairs and triplets, one number at a time.

Each takes what the fast one takes and carries its own defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from reid.nets import Features

Vectors = NDArray[np.float64]


def metric(features: Features, normalise: bool) -> Vectors:
    x: Vectors = features.metric.double().numpy()
    return np.array([row / math.sqrt(sum(v * v for v in row)) for row in x]) if normalise else x


def squared(a: Vectors, b: Vectors) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def distance(a: Vectors, b: Vectors) -> float:
    return math.sqrt(squared(a, b) + 1e-12)


def hinge(x: float, margin: float | None) -> float:
    return math.log1p(math.exp(x)) if margin is None else max(0.0, x + margin)


def positives(pids: list[int], a: int) -> list[int]:
    return [p for p in range(len(pids)) if pids[p] == pids[a] and p != a]


def negatives(pids: list[int], a: int) -> list[int]:
    return [n for n in range(len(pids)) if pids[n] != pids[a]]


def triplets(pids: list[int]) -> Iterator[tuple[int, int, int]]:
    for a in range(len(pids)):
        for p in positives(pids, a):
            for n in negatives(pids, a):
                yield a, p, n


def anchors(pids: list[int]) -> list[int]:
    """Those with a triplet."""
    return sorted({a for a, _, _ in triplets(pids)})


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def batch_hard(
    features: Features, pids: list[int], margin: float | None = None, normalise: bool = False
) -> list[float]:
    """Hermans, Beyer, Leibe 2017, equation 5."""
    x, values = metric(features, normalise), [0.0] * len(pids)
    for a in anchors(pids):
        farthest = max(distance(x[a], x[p]) for p in positives(pids, a))
        nearest = min(distance(x[a], x[n]) for n in negatives(pids, a))
        values[a] = hinge(farthest - nearest, margin)
    return values


def batch_all_triplets(
    features: Features, pids: list[int], margin: float | None = None, nonzero: bool = False, normalise: bool = False
) -> list[tuple[int, float]]:
    """Anchor and value of every triplet that counts."""
    x = metric(features, normalise)
    found = [(a, hinge(distance(x[a], x[p]) - distance(x[a], x[n]), margin)) for a, p, n in triplets(pids)]
    return [(a, v) for a, v in found if v > 0 or not nonzero]


def semi_hard_pairs(
    features: Features, pids: list[int], margin: float = 0.2, normalise: bool = True
) -> list[tuple[int, float]]:
    """Anchor and value of every positive pair that has a negative."""
    x, found = metric(features, normalise), []
    for a in anchors(pids):
        away = [squared(x[a], x[n]) for n in negatives(pids, a)]
        for p in positives(pids, a):
            near = squared(x[a], x[p])
            farther = [d for d in away if d > near]
            found.append((a, hinge(near - (min(farther) if farther else max(away)), margin)))
    return found


def by_anchor(found: list[tuple[int, float]], count: int) -> list[float]:
    """Sums of each anchor, scaled so that their mean is the mean of what was found."""
    return [sum(v for b, v in found if b == a) * count / max(1, len(found)) for a in range(count)]


def batch_all(features: Features, pids: list[int], **options: float | None) -> list[float]:
    return by_anchor(batch_all_triplets(features, pids, **options), len(pids))  # type: ignore[arg-type]


def semi_hard(features: Features, pids: list[int], **options: float) -> list[float]:
    return by_anchor(semi_hard_pairs(features, pids, **options), len(pids))  # type: ignore[arg-type]


def triplet_random(features: Features, pids: list[int], margin: float = 0.2, normalise: bool = True) -> list[float]:
    """What is expected of a draw: the mean over each anchor's triplets."""
    x = metric(features, normalise)
    found = [(a, hinge(squared(x[a], x[p]) - squared(x[a], x[n]), margin)) for a, p, n in triplets(pids)]
    return [mean([v for b, v in found if b == a]) for a in range(len(pids))]


def batch_sample(
    features: Features, pids: list[int], margin: float | None = None, normalise: bool = False
) -> list[float]:
    """What is expected of a draw: triplets weighted by softmax of distance and of minus distance."""
    x, values, whole = metric(features, normalise), [0.0] * len(pids), [0.0] * len(pids)
    for a, p, n in triplets(pids):
        near, away = distance(x[a], x[p]), distance(x[a], x[n])
        odds = math.exp(near) * math.exp(-away)
        values[a] += odds * hinge(near - away, margin)
        whole[a] += odds
    return [v / w if w else 0.0 for v, w in zip(values, whole, strict=True)]


def lifted(features: Features, pids: list[int], margin: float | None = 1.0, normalise: bool = False) -> list[float]:
    """The generalised lifted loss of Hermans, Beyer, Leibe 2017."""
    x, values = metric(features, normalise), [0.0] * len(pids)
    for a in anchors(pids):
        pull = sum(math.exp(distance(x[a], x[p])) for p in positives(pids, a))
        push = sum(math.exp((margin or 0.0) - distance(x[a], x[n])) for n in negatives(pids, a))
        values[a] = hinge(math.log(pull) + math.log(push), None if margin is None else 0.0)
    return values


def quadruplet(
    features: Features, pids: list[int], margin: float = 1.0, second_margin: float = 0.5, normalise: bool = True
) -> list[float]:
    """Chen et al. 2017, with the hardest quadruplet of each anchor."""
    x, values = metric(features, normalise), [0.0] * len(pids)
    for a in anchors(pids):
        farthest = max(squared(x[a], x[p]) for p in positives(pids, a))
        n = min(negatives(pids, a), key=lambda n: squared(x[a], x[n]))
        values[a] = hinge(farthest - squared(x[a], x[n]), margin)
        third = [m for m in range(len(pids)) if pids[m] not in (pids[a], pids[n])]
        if third:
            values[a] += hinge(farthest - min(squared(x[n], x[m]) for m in third), second_margin)
    return values


def circle(
    features: Features, pids: list[int], margin: float = 0.25, gamma: float = 128.0, weights: Features | None = None
) -> list[float]:
    """Sun et al. 2020 with the paper's O and Δ; the weights α may come from other features, which stay as they are."""
    x, fixed, values = metric(features, True), metric(weights or features, True), [0.0] * len(pids)
    for a in anchors(pids):
        push = pull = 0.0
        for n in negatives(pids, a):
            alpha = max(0.0, float(fixed[a] @ fixed[n]) - (-margin))
            push += math.exp(gamma * alpha * (float(x[a] @ x[n]) - margin))
        for p in positives(pids, a):
            alpha = max(0.0, (1 + margin) - float(fixed[a] @ fixed[p]))
            pull += math.exp(-gamma * alpha * (float(x[a] @ x[p]) - (1 - margin)))
        values[a] = math.log(1 + push * pull)
    return values


def contrastive(features: Features, pids: list[int], margin: float = 1.0, normalise: bool = False) -> list[float]:
    """Hadsell, Chopra, LeCun 2006, equation 4, with means in place of sums."""
    x, values = metric(features, normalise), []
    for a in range(len(pids)):
        near = [0.5 * distance(x[a], x[p]) ** 2 for p in positives(pids, a)]
        away = [0.5 * max(0.0, margin - distance(x[a], x[n])) ** 2 for n in negatives(pids, a)]
        values.append(mean(near) + mean(away))
    return values


def pair_cross_entropy(features: Features, pids: list[int]) -> list[float]:
    assert features.pairs is not None
    share, values = 1 / (1 + np.exp(-features.pairs.double().numpy())), []
    for a in range(len(pids)):
        near = [-math.log(share[a, p]) for p in positives(pids, a)]
        away = [-math.log(1 - share[a, n]) for n in negatives(pids, a)]
        values.append(0.5 * mean(near) + 0.5 * mean(away))
    return values


def cross_entropy(features: Features, pids: list[int], smoothing: float = 0.0) -> list[float]:
    """Mean over classifiers of −Σ q log p with q = (1−ε)·onehot + ε/C."""
    values = []
    for a, pid in enumerate(pids):
        terms = []
        for logits in features.logits:
            row = logits[a].double().numpy()
            log_p = row - np.log(np.exp(row).sum())
            q = np.full(len(row), smoothing / len(row))
            q[pid] += 1 - smoothing
            terms.append(float(-(q * log_p).sum()))
        values.append(mean(terms))
    return values


def centre(x: Vectors, pids: list[int], centres: Vectors, rate: float) -> tuple[list[float], Vectors]:
    """Wen et al. 2016, equations 2 and 4: values, and the centres after the batch."""
    values = [0.5 * squared(x[a], centres[pid]) for a, pid in enumerate(pids)]
    moved = centres.copy()
    for pid in set(pids):
        rows = [a for a in range(len(pids)) if pids[a] == pid]
        moved[pid] -= rate * sum(centres[pid] - x[a] for a in rows) / (1 + len(rows))
    return values, moved


def distil(f: Features, pids: list[int]) -> list[float]:
    """One minus the cosine of two vectors, one crop at a time."""
    assert f.taught is not None
    both = zip(f.embedding.tolist(), f.taught.tolist(), strict=True)
    return [1 - float(np.dot(x, y)) / (math.hypot(*x) * math.hypot(*y)) for x, y in both]
