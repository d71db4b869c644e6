"""Which crops make a batch.

Three samplers with the same two methods: `len()` is the number of batches in an epoch, about one look at each crop, and
`epoch(n)` yields them as row numbers, all of the same size. Every choice is a function of (seed, epoch), so
a resumed run draws the same batches. Processes that train together draw the same batches and each take their `share`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.errors import DataError

Rows = NDArray[np.int64]
Integers = NDArray[np.integer]
Floats = NDArray[np.float64]


class Groups(NamedTuple):
    """Several data sets that are trained on together.

    Attributes:
        of: (N,) integer data set of each crop; nobody is in two.
        balance: power of its number of crops with which a data set is drawn: 1 in proportion, 0 all alike; at 0.5 small
            ones are not drowned.
        apart: each batch comes from one data set; otherwise batches mix them.
    """

    of: Integers
    balance: float = 1.0
    apart: bool = False


class PKSampler:
    """Batches of P people with K crops each (Hermans et al. 2017).

    A person is dealt K crops at a time, the least often seen ones of the epoch first; no crop comes twice in a batch
    unless the person has fewer than K. Nobody is in a batch twice; who would be due more often is in every batch, and
    the others fill the rest in proportion.

    Args:
        labels: (N,) integer person of each crop.
        people: P.
        crops: K.
        seed: of every random choice, at least 0.
        cameras: (N,) integer camera of each crop; where given, the K crops are from as many cameras as possible.
        power: of the number of crops with which a person is drawn: 1 in proportion, so that each crop is seen equally
            often, 0 everybody alike.
        groups: data sets to balance, or to keep apart.

    Attributes:
        batches: in an epoch, about one look at each crop; may be changed.

    Raises:
        DataError: there are fewer than P people, or a setting is out of range.
        ValueError: the arrays do not fit one another.
    """

    def __init__(
        self,
        labels: Integers,
        people: int,
        crops: int,
        seed: int = 0,
        cameras: Integers | None = None,
        power: float = 1.0,
        groups: Groups | None = None,
    ):
        if people < 1 or crops < 1:
            raise DataError(f"a batch of {people} people with {crops} crops each cannot be drawn; ask for at least 1")
        if cameras is not None and len(cameras) != len(labels):
            raise ValueError(f"there are {len(labels)} labels but {len(cameras)} cameras; give one for each crop")
        self.rows, weights, group = _people(labels, power, groups)
        self.people, self.crops, self.seed, self.cameras = people, crops, seed, cameras
        apart = groups is not None and groups.apart
        pools = [np.flatnonzero(group == g) for g in np.unique(group)] if apart else [np.arange(len(group))]
        for pool in pools:
            if len(pool) < people:
                where = f" of data set {group[pool[0]]}" if apart else ""
                raise DataError(f"a batch of {people} people cannot be drawn from {len(pool)}{where}; ask for fewer")
        self._pools = [(pool, weights[pool]) for pool in pools]
        self.batches = max(1, len(labels) // (people * crops))

    def __len__(self) -> int:
        return self.batches

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """Batches of P·K row numbers, the K crops of a person next to each other."""
        rng = np.random.default_rng((self.seed, epoch))
        seen = np.zeros(sum(map(len, self.rows)), np.int64)
        sizes = _round(_shares(np.array([w.sum() for _, w in self._pools]), len(self), len(self)), rng)
        batches = [self._batches(*pool, size, rng) for pool, size in zip(self._pools, sizes, strict=True)]
        for pool in rng.permutation(np.repeat(np.arange(len(batches)), sizes)):
            yield np.concatenate([self._hand(self.rows[person], seen, rng) for person in next(batches[pool])])

    def _batches(self, pool: Rows, weights: Floats, count: int, rng: np.random.Generator) -> Iterator[Rows]:
        """P people at a time from a pool; who has many turns left is the likelier."""
        due = _round(_shares(weights, count * self.people, count), rng)
        for left in range(count, 0, -1):
            with np.errstate(divide="ignore"):
                keys = rng.exponential(size=len(due)) / due  # the smallest are a weighted draw without replacement
            keys[due >= left] = -1  # has to be in every batch that is left
            chosen = rng.permutation(np.argpartition(keys, self.people - 1)[: self.people])
            due[chosen] -= 1
            yield pool[chosen]

    def _hand(self, rows: Rows, seen: NDArray[np.int64], rng: np.random.Generator) -> Rows:
        """K crops of a person, counted as seen."""
        rows = rows[np.lexsort((rng.random(len(rows)), seen[rows]))]
        if self.cameras is not None:
            first = np.zeros(len(rows), bool)
            first[np.unique(self.cameras[rows], return_index=True)[1]] = True
            rows = np.concatenate([rows[first], rows[~first]])
        hand = np.resize(rows, self.crops)
        np.add.at(seen, hand, 1)
        return hand


class ShuffledSampler:
    """Plain shuffled batches, for training by classification alone.

    The crops that fill no whole batch are left out, others in each epoch. Where people or data sets are not drawn in
    proportion, a crop may come more than once.

    Args:
        labels: (N,) integer person of each crop.
        size: rows of a batch.
        seed, power, groups: as for PKSampler, except that data sets cannot be kept apart.

    Raises:
        DataError: there are fewer crops than a batch has rows, or a setting is out of range.
        ValueError: the arrays do not fit one another.
    """

    def __init__(self, labels: Integers, size: int, seed: int = 0, power: float = 1.0, groups: Groups | None = None):
        if not 1 <= size <= len(labels):
            raise DataError(f"a batch of {size} cannot be drawn from {len(labels)} crops; ask for 1 to {len(labels)}")
        if groups is not None and groups.apart:
            raise ValueError("shuffled batches mix data sets; use PKSampler to keep them apart")
        people, weights, _ = _people(labels, power, groups)
        self.weights = np.empty(len(labels))
        for rows, weight in zip(people, weights, strict=True):
            self.weights[rows] = weight / len(rows)
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return len(self.weights) // self.size

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """Batches of `size` row numbers."""
        rng = np.random.default_rng((self.seed, epoch))
        total = len(self) * self.size
        looks = _round(_shares(self.weights, total, total), rng)
        yield from rng.permutation(np.repeat(np.arange(len(looks)), looks)).reshape(-1, self.size)


class PairSampler:
    """Batches of pairs, for siamese networks: rows 0 and 1 are a pair of one person, 2 and 3 of two people, and so on.

    The pairs of one person are each from another person of the batch, and from two cameras where the person has been
    seen by two. People with a single crop appear only in pairs of two people.

    Args:
        labels: (N,) integer person of each crop.
        pairs: pairs in a batch, an even number; a batch has twice as many rows.
        seed, cameras, power: as for PKSampler.

    Raises:
        DataError: there are fewer people than pairs, or with two crops than half as many, or a setting is out of range.
        ValueError: the arrays do not fit one another.
    """

    def __init__(
        self, labels: Integers, pairs: int, seed: int = 0, cameras: Integers | None = None, power: float = 1.0
    ):
        if pairs < 2 or pairs % 2:
            raise DataError(f"{pairs} pairs cannot be half of one person and half of two; ask for an even number")
        _, person, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self._several = np.flatnonzero(counts[person] > 1)
        of_several = cameras[self._several] if cameras is not None else None
        self._same = PKSampler(labels[self._several], pairs // 2, 2, 2 * seed, of_several, power)
        self._different = PKSampler(labels, pairs, 1, 2 * seed + 1, power=power)
        self._same.batches = self._different.batches = max(1, len(labels) // (2 * pairs))

    def __len__(self) -> int:
        return len(self._same)

    def epoch(self, epoch: int) -> Iterator[Rows]:
        """Batches of 2·pairs row numbers."""
        for same, different in zip(self._same.epoch(epoch), self._different.epoch(epoch), strict=True):
            yield np.stack([self._several[same].reshape(-1, 2), different.reshape(-1, 2)], axis=1).ravel()


def share(batch: Rows, process: int, processes: int, whole: int = 1) -> Rows:
    """The part of a batch that one of several processes computes; all parts are of the same size.

    Args:
        batch: (B,) row numbers, the same in all processes.
        process: counted from 0.
        processes: how many there are.
        whole: rows that stay together: K for PKSampler, 1 for ShuffledSampler, 4 for PairSampler.

    Raises:
        ValueError: the batch has no such parts.
    """
    if not 0 <= process < processes:
        raise ValueError(f"process {process} is not one of {processes}; count from 0")
    if len(batch) % (processes * whole):
        raise ValueError(
            f"{len(batch)} rows, {whole} of which stay together, cannot be shared evenly by {processes} processes; "
            f"make it a multiple of {processes * whole}"
        )
    size = len(batch) // processes
    return batch[process * size : (process + 1) * size]


def _people(labels: Integers, power: float, groups: Groups | None) -> tuple[list[Rows], Floats, NDArray[np.int64]]:
    """For each person its rows, how often it is drawn compared with the others, and its data set."""
    if not power >= 0:
        raise DataError(f"the power of the number of crops is {power}; it must be at least 0")
    order = np.argsort(labels, kind="stable")
    starts = np.unique(labels[order], return_index=True)[1]
    rows = np.split(order, starts[1:])
    weights = np.array([len(r) for r in rows], float) ** power
    if groups is None:
        return rows, weights, np.zeros(len(rows), np.int64)
    of = np.asarray(groups.of, np.int64)
    if len(of) != len(labels):
        raise ValueError(f"there are {len(labels)} labels but {len(of)} data sets; give one for each crop")
    if not groups.balance >= 0:
        raise DataError(f"the power of a data set's number of crops is {groups.balance}; it must be at least 0")
    for r in rows:
        if (of[r] != of[r[0]]).any():
            raise ValueError(f"person {labels[r[0]]} is in two data sets; number the people of each apart")
    group = np.array([of[r[0]] for r in rows])
    for g in np.unique(group):
        weights[group == g] *= (of == g).sum() ** groups.balance / weights[group == g].sum()
    return rows, weights, group


def _shares(weights: Floats, total: int, most: int) -> Floats:
    """`total` divided in proportion to the weights, except that nobody gets more than `most`."""
    free = np.ones(len(weights), bool)
    while True:
        shares = np.full(len(weights), float(most))
        shares[free] = weights[free] * ((total - most * (~free).sum()) / max(weights[free].sum(), 1e-300))
        if not (shares > most).any():
            return shares
        free &= shares <= most


def _round(shares: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Whole numbers whose expected values are the shares, each the one below or above it, with the same sum."""
    order = rng.permutation(len(shares))
    edges = np.floor(np.cumsum(shares[order]) + rng.random()).astype(np.int64)
    edges[-1] = round(shares.sum())
    whole = np.empty(len(shares), np.int64)
    whole[order] = np.diff(edges, prepend=0)
    return whole
