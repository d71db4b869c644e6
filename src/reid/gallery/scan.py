"""Which of many vectors may be the nearest, by the first of their two bytes: what is left out cannot be among them.

For a query of bytes q̂ = q − r and a row of first bytes x̂ = x − ρ, the product q·x differs from q̂·x̂, which whole numbers
give exactly, by no more than ‖q̂‖‖ρ‖ + ‖r‖‖x‖ (Cauchy and Schwarz). So ‖x‖² − 2 q·x has a lower bound for half of the
bytes; and as first bytes tell nearly all, few rows have to be looked at whole.

Two kernels multiply bytes: SimSIMD's, which is as fast as memory, for few queries, and ONNX Runtime's for many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simsimd
from numpy.typing import NDArray

from reid.distance import THREADS, ahead, in_threads, slices, smallest
from reid.gallery.planes import ZERO, Bytes
from reid.types import Vectors

FEW = 6  # queries up to which SimSIMD is the faster
ROWS = 1 << 14  # that are multiplied at once, so that what is known of them stays near a core
TILE = 1024  # of those, that ONNX Runtime takes at once, for the same reason
SCORES = 1 << 21  # that are looked through at once, at most
AHEAD = 4  # pieces of so many rows that a thread multiplies before it waits for its turn
EPS = 4e-6  # of ‖q‖‖x‖, more than single precision loses
LOST = 255**2 * 2.0**-22  # a value, more than it loses of products of bytes
Places = NDArray[np.int64]
Found = tuple[Places, Vectors, Vectors]


class Known(NamedTuple):
    """What is known of N rows besides their bytes, by place.

    Attributes:
        admitted: (N,) bool, whether a row may be found.
        terms: (4, N) float32: ‖x‖²; twice the length of what the first bytes leave out, 2 ‖ρ‖; 2 ‖x‖; and the weight of
            a row, −2 times what one of its first bytes stands for.
        sums: (N,) float32, of the first bytes, times ZERO.
    """

    admitted: NDArray[np.bool_]
    terms: Vectors
    sums: Vectors

    def weights(self, part: Part) -> Vectors:
        """(n,) of those rows."""
        return self.terms[3, part.places]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows to look through, n of them.

    Attributes:
        places: (n,) or the slice of them.
        high: (n, D) their first bytes; or, where `chosen` is given, (m, D) to take them from.
        chosen: (n,) which of those they are.
    """

    places: slice | Places
    high: Bytes
    chosen: Places | None = None

    def __len__(self) -> int:
        return len(self.high if self.chosen is None else self.chosen)

    def cut(self, most: int) -> Iterator[Part]:
        """Itself in parts of at most so many rows."""
        for own in slices(slice(0, len(self)), most):
            if isinstance(self.places, slice):
                first = self.places.start
                yield Part(slice(first + own.start, first + own.stop), self.high[own])
            else:
                yield Part(self.places[own], self.high, None if self.chosen is None else self.chosen[own])

    def place(self, rows: Places) -> Places:
        """Places of some of its rows."""
        return self.places.start + rows if isinstance(self.places, slice) else self.places[rows]

    def taken(self) -> Bytes:
        """(n, D) the first bytes of its rows."""
        if self.chosen is None:
            return self.high
        return np.take(self.high, self.chosen, axis=0, mode="clip")  # six times as fast as high[chosen]


class _Queries:
    """Queries as bytes, and the bounds of scores that they give.

    Attributes:
        whole: (Q, D) uint8.
        columns: (D, Q) int8, the same less ZERO.
        scale: what one of them stands for.
        sums: (Q, 1) float32, of bytes that stand for one more ZERO each, times ZERO.
        shares: (4,) float32, of the terms of `Known` in a floor: the greatest ‖q̂‖ and ‖r‖ and what arithmetic loses.
    """

    def __init__(self, queries: Vectors):
        self.scale = np.float32(_reach(queries) / (ZERO - 1) or 1)
        near = np.clip(np.rint(queries / self.scale), 1 - ZERO, ZERO - 1)
        self.whole = (near + ZERO).astype(np.uint8)
        self.columns = np.ascontiguousarray(near.T, np.int8)
        self.sums = ZERO * near.sum(axis=1, keepdims=True)
        near *= self.scale
        length, lost = (np.linalg.norm(part, axis=1).max(initial=0) for part in (near, queries - near))
        inexact = LOST * queries.shape[1] * self.scale
        self.shares = np.array([1 - EPS, -length, -lost - EPS * length, inexact], np.float32)

    def floors(self, part: Part, known: Known) -> Vectors:
        """(n,) ‖x‖² less what 2 q·x may be above 2 q̂·x̂; infinite for rows that may not be found."""
        floors = np.asarray(self.shares @ known.terms[:, part.places])
        admitted = known.admitted[part.places]
        if not admitted.all():
            floors[~admitted] = np.inf
        return floors

    def products(self, parts: Sequence[Part], chosen: slice) -> list[Vectors]:
        """(Q, n) products of bytes, which stand for one less ZERO each, of each chosen part."""
        return [np.asarray(simsimd.cdist(self.whole, part.taken(), "dot", out_dtype="f32")) for part in parts[chosen]]

    def bounds(self, products: Vectors, part: Part, known: Known) -> Vectors:
        """(n, Q) that are below ‖x‖² − 2 q·x, written over those products."""
        products -= known.sums[part.places]
        products -= self.sums
        products *= self.scale * known.weights(part)
        products += self.floors(part, known)
        return products.T

    def bounds_of_many(self, part: Part, known: Known) -> Vectors:
        """(n, Q) the same for many queries, from the start."""
        high, weights, floors = part.taken(), self.scale * known.weights(part), self.floors(part, known)
        tiles = -1, len(high) if len(high) % TILE else TILE
        given: dict[str, NDArray[Any]] = {"rows": high.reshape(*tiles, high.shape[1]), "queries": self.columns}
        given |= {"weights": weights.reshape(*tiles, 1), "floors": floors.reshape(*tiles, 1)}
        return np.asarray(_session().run(None, given)[0]).reshape(len(high), -1)


def candidates(queries: Vectors, parts: Sequence[Part], known: Known, most: int) -> Found:
    """For each of (Q, D) float32 queries so many rows, among which are the nearest.

    Returns:
        (Q, K) places in any order, K ≤ most, and bounds, below ‖x‖² − 2 q·x of each; infinite for rows that may not be
        found, which come where there are too few others. And (Q,) below which no row is that is left out.
    """
    asked = _Queries(queries)
    few, size = len(queries) <= FEW, min(ROWS, SCORES // len(queries))
    if not few:  # each thread gets some
        size = min(size, sum(map(len, parts)) // THREADS)
    pieces = [piece for part in parts for piece in part.cut(max(TILE, size // TILE * TILE))]
    return (_few if few else _many)(asked, pieces, known, _Least(len(queries), most)).told()


def _few(asked: _Queries, pieces: Sequence[Part], known: Known, least: _Least) -> _Least:
    """Multiplied in threads, and the rest in this one: it is little, and they would wait for each other's turn."""
    together = max(1, SCORES // (ROWS * len(asked.whole)))
    for start in range(0, len(pieces), together):
        group = pieces[start : start + together]
        made = ahead(partial(asked.products, group), len(group), AHEAD)
        for piece, products in zip(group, itertools.chain.from_iterable(made), strict=True):
            least.add(piece, asked.bounds(products, piece, known))
    return least


def _many(asked: _Queries, pieces: Sequence[Part], known: Known, least: _Least) -> _Least:
    """All in threads."""

    def work(chosen: slice) -> _Least:
        own = least.empty()
        for piece in pieces[chosen]:
            own.add(piece, asked.bounds_of_many(piece, known))
        return own

    for own in in_threads(work, len(pieces)):
        least.take(own)
    return least


class _Least:
    """The rows with the least bounds, so many of each query, among those that were added."""

    def __init__(self, queries: int, most: int):
        self._most = most
        self._places, self._bounds = np.empty((queries, 0), np.int64), np.empty((queries, 0), np.float32)
        self._worst = np.full(queries, np.inf, np.float32)
        self._new: list[tuple[Places, Places, Vectors]] = []
        self._waiting = 0

    def empty(self) -> _Least:
        """Another one of this kind, to which nothing was added."""
        return _Least(len(self._worst), self._most)

    def add(self, part: Part, bounds: Vectors) -> None:
        """(n, Q) bounds of its rows."""
        if self._bounds.shape[1] < self._most:
            rows, few = smallest(np.ascontiguousarray(bounds.T), min(self._most, len(bounds)))
            self._keep(part.place(rows), few)
            return
        found = np.flatnonzero(bounds < self._worst)
        if not len(found):
            return
        row, query = np.divmod(found, len(self._worst))
        self._new.append((query, part.place(row), bounds[row, query]))
        self._waiting += len(found)
        if self._waiting > self._most * len(self._worst):
            self._settle()

    def take(self, other: _Least) -> None:
        """What another one has found."""
        other._settle()
        self._keep(other._places, other._bounds)

    def told(self) -> Found:
        """(Q, K) places and bounds, K ≤ most; and (Q,) below which no bound is that is not among them."""
        self._settle()
        return self._places, self._bounds, self._worst

    def _settle(self) -> None:
        """Put what is new among the rest."""
        if not self._new:
            return
        query, place, bound = (np.concatenate(column) for column in zip(*self._new, strict=True))
        self._new.clear()
        self._waiting = 0
        order = np.argsort(query, kind="stable")
        counts = np.bincount(query, minlength=len(self._worst))
        shape = len(counts), int(counts.max())
        column = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        places, bounds = np.zeros(shape, np.int64), np.full(shape, np.inf, np.float32)
        places[query[order], column], bounds[query[order], column] = place[order], bound[order]
        self._keep(places, bounds)

    def _keep(self, places: Places, bounds: Vectors) -> None:
        """The least of these and the rest."""
        places = np.concatenate([self._places, places], axis=1)
        bounds = np.concatenate([self._bounds, bounds], axis=1)
        if bounds.shape[1] > self._most:
            kept = np.argpartition(bounds, self._most - 1, axis=1)[:, : self._most]
            places, bounds = np.take_along_axis(places, kept, axis=1), np.take_along_axis(bounds, kept, axis=1)
        if bounds.shape[1] == self._most:
            self._worst = bounds.max(axis=1)
        self._places, self._bounds = places, bounds


def _reach(queries: Vectors) -> float:
    """The largest sum of two neighbours of one sign, which is to be 2⁷ − 1 when they are bytes.

    Processors that have no instruction for it multiply bytes in twos and keep the sum of two products in 16 bits, into
    which 255 times 2⁷ fits, and little more.
    """
    padded = np.pad(queries, ((0, 0), (0, queries.shape[1] % 2)))
    signs = (np.maximum(side, 0) for side in (padded, -padded))
    return max(float((side[:, ::2] + side[:, 1::2]).max(initial=0)) for side in signs)


@cache
def _session() -> Any:
    from reid.engines import open_session  # ONNX Runtime is slow to load, and not everybody searches

    graph = Path(str(resources.files("reid.gallery") / "scan.onnx"))
    return open_session(graph.read_bytes(), graph, 1)
