"""How well clusters agree with known people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reid.errors import DataError
from reid.metrics import Rows
from reid.protocols import codes
from reid.types import Crop


@dataclass(frozen=True, slots=True)
class Agreement:
    """Clusters beside people, over the crops whose person is known. A crop that is alone is a cluster of its own.

    Attributes:
        crops, people: how many there are.
        clusters: of two crops or more; `alone` are the other crops.
        purity: share of crops that are of their cluster's most frequent person.
        precision: share of the pairs of crops in one cluster that are one person; 1 where there is no pair.
        recall: share of the pairs of crops of one person that are in one cluster; 1 where there is no pair.
        f: their harmonic mean (pairwise F).
    """

    crops: int
    people: int
    clusters: int
    alone: int
    purity: float
    precision: float
    recall: float
    f: float


def agreement(labels: Rows, crops: Sequence[Crop]) -> Agreement:
    """Measure (N,) labels, −1 for a crop that is alone, against the people named by N crops.

    Raises:
        DataError: no crop names a person.
    """
    who = codes([c.pid if c.role == "person" else None for c in crops])
    labels, who = np.asarray(labels)[who >= 0], who[who >= 0]
    if not len(who):
        raise DataError(f"crops that name a person: none of {len(crops)}; there is nothing to measure clusters against")
    single = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, cluster = np.unique(single, return_inverse=True)
    both, counts = np.unique(np.stack([cluster, who]), axis=1, return_counts=True)
    sizes, people = np.bincount(cluster), np.bincount(who)
    most = np.zeros(len(sizes), dtype=np.int64)
    np.maximum.at(most, both[0], counts)
    right, put, true = _pairs(counts), _pairs(sizes), _pairs(people)
    precision, recall = right / put if put else 1.0, right / true if true else 1.0
    return Agreement(
        crops=len(who),
        people=int((people > 0).sum()),
        clusters=int((sizes > 1).sum()),
        alone=int((sizes == 1).sum()),
        purity=float(most.sum() / len(who)),
        precision=precision,
        recall=recall,
        f=2 * precision * recall / (precision + recall) if right else 0.0,
    )


def _pairs(counts: Rows) -> int:
    return int((counts * (counts - 1) // 2).sum())
