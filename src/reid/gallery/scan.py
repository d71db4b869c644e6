"""The nearest of many vectors in half precision, exactly, without ever holding them in single precision.

NumPy turns half into single precision a value at a time. ONNX Runtime, which embeds the pictures anyway, does it with
the processor's own instruction: `scan.onnx` is a cast, a product and a sum, block by block, each small enough to stay
near the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.distance import in_threads, smallest
from reid.gallery.rows import Half
from reid.types import Vectors

SCORES, BLOCKS = 1 << 20, 32  # that are looked through at once, at most
Found = tuple[NDArray[np.int64], Vectors]


class Part(NamedTuple):
    """Some rows to look through.

    Attributes:
        vectors: (B, n, D) float16; or, where `rows` are given, blocks of (n, D) to take them from.
        squares: (B, n) float32, squared lengths, infinite where a row may not be found; (m,) of the rows.
        rows: of each block those that are looked at, m in all; None for all rows of all blocks.
    """

    vectors: Half | Sequence[Half]
    squares: Vectors
    rows: Sequence[NDArray[np.int64]] | None = None

    def cut(self, most: int) -> list[Part]:
        """Itself in parts of at most so many blocks."""
        if self.rows is not None or len(self.vectors) <= most:
            return [self]
        starts = range(0, len(self.vectors), most)
        return [Part(self.vectors[i : i + most], self.squares[i : i + most]) for i in starts]

    def taken(self) -> Part:
        """The rows of it as one block of their own."""
        if self.rows is None:
            return self
        some = np.empty((len(self.squares), self.vectors[0].shape[1]), np.float16)
        start = 0
        for block, rows in zip(self.vectors, self.rows, strict=True):
            end = start + len(rows)
            np.take(block, rows, axis=0, out=some[start:end], mode="clip")  # six times as fast as block[rows]
            start = end
        return Part(some[None], self.squares[None])


def nearest(queries: Vectors, parts: Sequence[Part], k: int) -> Found:
    """For each of (Q, D) float32 queries the k nearest rows, numbered through all parts.

    Returns:
        (Q, K) rows and ‖x‖² − 2 q·x, ascending and right to float32; infinite where fewer than K may be found. K is k,
        or the number of rows where that is less.
    """
    nothing = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    if not parts or not len(queries):
        return nothing
    session, doubled = _session(), -2 * queries
    most = max(1, min(BLOCKS, SCORES // (len(queries) * parts[0].squares.shape[-1])))
    pieces = [piece for part in parts for piece in part.cut(most)]
    starts = np.cumsum([0] + [piece.squares.size for piece in pieces])

    def work(chosen: slice) -> Found:
        best = nothing
        for i in range(chosen.start, chosen.stop):
            piece = pieces[i].taken()
            given = {"rows": piece.vectors, "squares": piece.squares, "queries": doubled}
            best = _better(*best, session.run(None, given)[0], int(starts[i]), k)
        return best

    rows, values = (np.concatenate(column, axis=1) for column in zip(*in_threads(work, len(pieces)), strict=True))
    return _first(rows, values, k)


def _better(rows: NDArray[np.int64], values: Vectors, scores: Vectors, start: int, k: int) -> Found:
    """The k best of those so far and of (B, Q, n) scores, whose first row has number `start`."""
    queries, width = scores.shape[1:]
    if values.shape[1] < k:
        whole = scores.transpose(1, 0, 2).reshape(queries, -1)
        place, score = smallest(whole, min(k, whole.shape[1]))
        return _first(np.concatenate([rows, place + start], axis=1), np.concatenate([values, score], axis=1), k)
    found = np.flatnonzero(scores < values[:, -1:])
    if not len(found):
        return rows, values
    block, query = np.divmod(found // width, queries)
    order = np.argsort(query, kind="stable")
    found, block, query = found[order], block[order], query[order]
    most = int(np.bincount(query).max())
    place = np.arange(len(query)) - np.searchsorted(query, np.arange(queries))[query]
    more = np.zeros((queries, most), np.int64), np.full((queries, most), np.inf, np.float32)
    more[0][query, place] = start + block * width + found % width
    more[1][query, place] = scores.ravel()[found]
    return _first(np.concatenate([rows, more[0]], axis=1), np.concatenate([values, more[1]], axis=1), k)


def _first(rows: NDArray[np.int64], values: Vectors, k: int) -> Found:
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)


@cache
def _session() -> Any:
    from reid.engines import open_session  # ONNX Runtime is slow to load, and not everybody searches

    graph = Path(str(resources.files("reid.gallery") / "scan.onnx"))
    return open_session(graph.read_bytes(), graph, 1)
