"""Which crops make a batch. Every choice is a function of (seed, epoch), so a resumed run draws the same batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class PKSampler:
    """Batches of P people with K crops each (Hermans et al. 2017).

    An epoch deals out every person's crops, in random order, in hands of K; a last hand is filled up with other crops
    of the person, and people with fewer than K crops repeat theirs. Hands of P different people make a batch.

    Args:
        labels: (N,) integer person of each crop.
        people: P.
        crops: K.
        seed: of every random choice.
    """

    def __init__(self, labels: NDArray[np.integer], people: int, crops: int, seed: int = 0):
        order = np.argsort(labels, kind="stable")
        values, starts = np.unique(labels[order], return_index=True)
        if len(values) < people:
            raise ValueError(
                f"a batch of {people} people cannot be drawn from {len(values)}; ask for at most that many"
            )
        self.rows = np.split(order, starts[1:])
        self.people, self.crops, self.seed = people, crops, seed

    def __len__(self) -> int:
        """Batches in an epoch, about one look at each crop."""
        return max(1, sum(len(rows) for rows in self.rows) // (self.people * self.crops))

    def epoch(self, epoch: int) -> Iterator[NDArray[np.int64]]:
        """Batches of P·K row numbers, the K crops of a person next to each other."""
        rng = np.random.default_rng((self.seed, epoch))
        hands = [self._hands(rows, rng) for rows in self.rows]
        for _ in range(len(self)):
            left = np.array([len(h) for h in hands], dtype=float)
            if (left > 0).sum() < self.people:
                hands = [h or self._hands(rows, rng) for h, rows in zip(hands, self.rows, strict=True)]
                left = np.array([len(h) for h in hands], dtype=float)
            chosen = rng.choice(len(hands), self.people, replace=False, p=left / left.sum())
            yield np.concatenate([hands[i].pop() for i in chosen])

    def _hands(self, rows: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
        dealt = rng.permutation(rows)
        missing = -len(dealt) % self.crops
        others = dealt[: len(dealt) // self.crops * self.crops]
        filler = rng.choice(others if missing <= len(others) else rows, missing, replace=missing > len(others))
        return list(np.concatenate([dealt, filler]).reshape(-1, self.crops))
