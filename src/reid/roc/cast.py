"""Who takes part in a measurement, how much each weighs, and the distances a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid.errors import DataError, ShapeError
from reid.evaluation import Distances, codes, row_judge, rows_of, unmatched
from reid.metrics import Rows
from reid.types import Crop, Vectors

Weighting = Literal["person", "pair"]
Floats = NDArray[np.float64]
VALUES = 1 << 20  # distances looked at in one go


class Cast:
    """Who takes part under a protocol.

    Attributes:
        people, distractors: how many there are.
        query, gallery: (Q,) and (G,) whose row each is, distractors numbered after the people; −1 takes no part.
        listed: (people,) who has a gallery row.
        right: (Q,) how many gallery rows are the query's person and count.
        rows: for query i the gallery rows that are its person and count, and those that do not count for it.

    Raises:
        DataError: the protocol or the weighting is unknown, or no query has a row that is right.
    """

    def __init__(self, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str, weighting: Weighting):
        if weighting not in ("person", "pair"):
            raise DataError(f"weighting is {weighting!r}; it can be 'person' or 'pair'")
        both = (*query, *gallery)
        who = codes([c.pid if c.role == "person" else None for c in both])
        alone = np.flatnonzero([c.role == "distractor" for c in both])
        self.people, self.distractors, self.weighting = int(who.max(initial=-1)) + 1, len(alone), weighting
        who[alone] = self.people + np.arange(len(alone))
        self.query, self.gallery = who[: len(query)], who[len(query) :]
        _, self.rows = row_judge(query, gallery, protocol)
        self.listed = np.isin(np.arange(self.people), self.gallery)
        self.right = np.array([len(self.rows(i)[0]) for i in range(len(query))], dtype=np.int64)
        if not self.right.any():
            raise unmatched(query, gallery, protocol)

    def even(self, who: Rows) -> Floats:
        """(N,) what each row weighs: 1 / (rows of its person), or 1 where people do not count alike; 0 for −1."""
        known = who >= 0
        rows = np.bincount(who[known], minlength=1) if self.weighting == "person" else np.ones(who.max(initial=0) + 1)
        return np.where(known, 1 / np.maximum(rows, 1)[who], 0.0)


def few_rows(distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop]) -> Iterator[tuple[int, Vectors]]:
    """The distances in blocks of about VALUES: the first row's query, and (q, G) float32.

    Raises:
        ShapeError: they do not fit the crops, a query comes twice or not at all, or one is not a number or −∞.
    """
    step = max(1, VALUES // max(1, len(gallery)))
    for first, block in rows_of(distances, query, gallery):
        for start in range(0, len(block), step):
            part = np.ascontiguousarray(block[start : start + step], dtype=np.float32)
            if not part.min(initial=0) > -np.inf:
                bad = first + start + int((part == -np.inf).any(axis=1).argmax())
                raise ShapeError(f"a distance of query {bad} ({query[bad].path}) is −∞; compute it again")
            yield first + start, part
