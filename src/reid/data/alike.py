"""Pictures that are copies of one another, exactly or nearly, among a million in minutes and bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

BITS = 6
MOST_PAIRS = 1_000_000
MOST_COMPARED = 1_000_000_000
_PARTS = BITS + 2  # of 16 bits; two hashes that differ in at most 6 bits agree in at least 2 of the 8 parts

Rows = NDArray[np.int64]


def copies(digests: NDArray[np.uint64], rows: Rows) -> list[Rows]:
    """Groups of two and more rows with equal digests, each group ascending, groups by their first row."""
    ordered, new = _sorted(digests, rows)
    groups = np.split(ordered, np.flatnonzero(new)[1:])
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def near_pairs(hashes: NDArray[np.uint64], rows: Rows) -> tuple[Rows, bool]:
    """Pairs of rows whose 128-bit hashes differ in at most 6 bits, (P, 2), and whether these are all of them.

    They are, unless there are more than a million, or unless most pictures agree in large parts and finding them all
    takes over a billion comparisons. Rows with equal hashes are chained, first to second to third, instead of paired
    each with each.
    """
    ordered, new = _sorted(hashes, rows)
    chain = np.flatnonzero(~new)
    found = [np.stack([ordered[chain - 1], ordered[chain]], axis=1)]
    total, compared, complete = len(chain), 0, False
    distinct = ordered[new]
    for i, j, looked_at in _close(hashes[distinct]):
        found.append(np.sort(np.stack([distinct[i], distinct[j]], axis=1), axis=1))
        total += len(i)
        compared += looked_at
        if total > MOST_PAIRS or compared > MOST_COMPARED:
            break
    else:
        complete = total <= MOST_PAIRS
    pairs = np.concatenate(found)[:MOST_PAIRS]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))], complete


def _sorted(values: NDArray[np.uint64], rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Rows in order of their (N, 2) values, then of themselves; and where a value differs from the one before."""
    ordered = rows[np.lexsort((rows, values[rows, 1], values[rows, 0]))]
    new = np.ones(len(rows), bool)
    new[1:] = (values[ordered[1:]] != values[ordered[:-1]]).any(axis=1)
    return ordered, new


def _close(hashes: NDArray[np.uint64]) -> Iterator[tuple[Rows, Rows, int]]:
    """Every pair of different hashes within the bound, once, with how many were compared to find these."""
    parts = np.ascontiguousarray(hashes).view(np.uint16).astype(np.uint32)
    for a, b in combinations(range(_PARTS), 2):
        key = parts[:, a] << np.uint32(16) | parts[:, b]
        order = np.argsort(key, kind="stable")
        key = key[order]
        active, apart = np.flatnonzero(key[1:] == key[:-1]), 1
        while len(active):
            i, j = order[active], order[active + apart]
            near = np.bitwise_count(hashes[i] ^ hashes[j]).sum(axis=1, dtype=np.int64) <= BITS
            i, j = i[near], j[near]
            # a pair that agrees in more than two parts turns up under each two of them; its first two count
            counts = (parts[i, :b] == parts[j, :b]).sum(axis=1) == 1
            yield i[counts], j[counts], len(active)
            apart += 1
            active = active[active + apart < len(key)]
            active = active[key[active + apart] == key[active]]
