"""Re-ranking a set of queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid import distance
from reid.rerank.alone import Reranker
from reid.rerank.encoding import PAPER, Extra, KReciprocal, above_zero, encode, overlap, similarity
from reid.types import Vectors


def k_reciprocal(
    query: NDArray[Any], gallery: NDArray[Any], settings: KReciprocal = PAPER, extra: Extra | None = None
) -> Vectors:
    """(Q, D) and (G, D) to the whole (Q, G) matrix of re-ranked distances in [0, 1]; lower is closer."""
    found = [block for _, block in blocks(query, gallery, settings, extra)]
    return np.concatenate(found) if found else np.empty((0, len(gallery)), np.float32)


def blocks(
    query: NDArray[Any], gallery: NDArray[Any], settings: KReciprocal = PAPER, extra: Extra | None = None
) -> Iterator[tuple[slice, Vectors]]:
    """The rows of `k_reciprocal` a few at a time: pairs of (which queries, their (q, G) distances).

    Memory is a few hundred values per point and one block; time is that of all N² distances, N = Q + G.

    `extra` is added to the squared distances of all points, queries first, before neighbours are looked for.
    """
    if settings.alone:
        among = None if extra is None else _Later(extra, len(query))
        yield from Reranker(gallery, settings, among).blocks(query, extra)
        return
    made = encode(np.concatenate([query, gallery]).astype(np.float32, copy=False), settings, extra)
    mine, by_neighbour = made.encoding[: len(query)], made.encoding[len(query) :].tocsc()
    farthest = above_zero(made.farthest)
    del made
    for rows, block in distance.blocks(query, gallery, "squared"):
        if extra is not None:
            block += extra.block(rows)[:, len(query) :]
        block *= (settings.weight / farthest[rows])[:, None]
        block += 1 - settings.weight  # the Jaccard distance of rows that share nothing
        for i, row in enumerate(block, rows.start):
            entries = slice(mine.indptr[i], mine.indptr[i + 1])
            shared = overlap(mine.indices[entries], mine.data[entries], by_neighbour)
            some = np.flatnonzero(shared)
            row[some] -= (1 - settings.weight) * similarity(shared[some])
        yield rows, block


@dataclass(frozen=True, slots=True)
class _Later:
    """The part of an `Extra` that is about the points from `first` on."""

    whole: Extra
    first: int

    def block(self, rows: slice) -> Vectors:
        return self.whole.block(slice(rows.start + self.first, rows.stop + self.first))[:, self.first :]

    def at(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Vectors:
        return self.whole.at(rows + self.first, columns + self.first)
