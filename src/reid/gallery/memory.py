"""A gallery's vectors and the facts that filters ask for, held in memory block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reid.distance import in_threads
from reid.gallery import planes, scan
from reid.gallery.planes import Bytes, Planes
from reid.gallery.rows import Where
from reid.gallery.scan import Known, Part, candidates
from reid.types import Ranking, Vectors

BLOCK = 1024  # rows that are read anew where one of them has changed
FEW = BLOCK // 3  # admitted rows of a block that are sooner taken out of it than scanned with the others
SLAB = 128 * BLOCK  # rows whose memory is one piece, so that the system can give it large pages; a tenth faster to scan
WIDER = 8  # candidates for each answer, and how many times as many if those do not settle it
EXACT = 1024  # candidates whose distances are taken at once
MANY = 512  # queries that are looked for at once
FRESH = 64  # changed blocks, or a sixteenth of all, up to which their ids are sorted by themselves
FACTS = np.dtype(
    [("id", "<i8"), ("time", "<f8"), ("added", "<f8"), ("square", "<f4")]
    + [(name, "<i4") for name in ("camera", "person", "tracklet", "tags")]
)
"""What is known of a row without reading it: its squared length, and codes of names, −1 for none. The id of an empty
place is −1."""

UNITS, STEPS, SUMS, TERMS = 0, 1, 2, slice(3, 7)
"""Which of a memory's marks are what `planes.Planes` and `scan.Known` tell of."""

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]
Limits = NDArray[np.float64]


class Names(Protocol):
    """What turns the names in a filter into the codes of a gallery."""

    def codes(self, names: frozenset[str]) -> Codes:
        """The codes of those names that there are."""

    def carrying(self, tags: frozenset[str]) -> Codes:
        """The codes of sets of tags that hold all of these."""


def empty_facts(rows: int = BLOCK) -> NDArray[Any]:
    """(rows,) FACTS of empty places."""
    facts = np.zeros(rows, FACTS)
    facts["id"] = -1
    return facts


class _Order(NamedTuple):
    """Places in the order of the ids that are there."""

    places: Codes
    ids: Codes

    @classmethod
    def of(cls, ids: Codes, places: Codes) -> _Order:
        """Of those places of a column that are not empty."""
        taken = places[ids[places] >= 0]
        order = taken[np.argsort(ids[taken])]
        return cls(order, ids[order])


NOWHERE = _Order(np.empty(0, np.int64), np.empty(0, np.int64))


class Memory:
    """Places for rows, in blocks of BLOCK.

    Attributes:
        dim: length of a vector.
        facts: columns of FACTS by name, each over all places.
        marks: (7, places) float32, what is known of vectors besides their bytes.
        slabs: both bytes of the vectors, of SLAB places each.
    """

    def __init__(self, dim: int):
        self.dim = dim
        self.facts: dict[str, NDArray[Any]] = {name: empty_facts(0)[name].copy() for name in FACTS.names or ()}
        self.marks: Vectors = np.empty((TERMS.stop, 0), np.float32)
        self.slabs: list[tuple[Bytes, NDArray[np.int8]]] = []
        self._held: list[bool] = []  # of each block, whether its vectors were put
        self._settled, self._fresh = NOWHERE, set[int]()
        self._recent: _Order | None = None

    def __len__(self) -> int:
        return len(self._held)

    def put_facts(self, number: int, facts: NDArray[Any]) -> None:
        """A block's facts, new or changed; its vectors, which must be put again, are wiped."""
        self._held += [False] * (number + 1 - len(self._held))
        shape = SLAB, self.dim  # takes no memory until written to
        for _ in range(len(self.slabs), number * BLOCK // SLAB + 1):
            self.slabs.append((np.empty(shape, np.uint8), np.empty(shape, np.int8)))
        if number * BLOCK >= len(self.facts["id"]):
            more = empty_facts(max(number + 1, 2 * number) * BLOCK - len(self.facts["id"]))
            self.facts = {name: np.concatenate([column, more[name]]) for name, column in self.facts.items()}
            self.marks = np.concatenate([self.marks, np.zeros((TERMS.stop, len(more)), np.float32)], axis=1)
        if self._held[number]:
            for plane in self._block(number):
                plane[:] = 0
        own = slice(number * BLOCK, (number + 1) * BLOCK)
        self.marks[:, own] = 0
        before = self.facts["id"][own]
        self._recent = None
        self._fresh.add(number)
        if ((before >= 0) & (before != facts["id"])).any():  # what was erased must be in no order either
            self._settled, self._fresh = NOWHERE, set(range(len(self)))
        for name, column in self.facts.items():
            column[own] = facts[name]

    def put_vectors(self, number: int, data: bytes) -> None:
        """A block's vectors, written over those that were there. May be called for several at once."""
        vectors = planes.split(np.frombuffer(data, np.float16).reshape(BLOCK, self.dim))
        high, low = self._block(number)
        high[:], low[:] = vectors.high, vectors.low
        own, rest = slice(number * BLOCK, (number + 1) * BLOCK), vectors.low.astype(np.float32)
        marks, squares = self.marks[:, own], self.facts["square"][own]
        marks[UNITS], marks[STEPS] = vectors.units, vectors.steps
        marks[SUMS] = planes.ZERO * vectors.high.sum(axis=1, dtype=np.uint32)
        rests = np.sqrt(np.einsum("nd,nd->n", rest, rest)) * vectors.steps
        marks[TERMS] = squares, 2 * rests, 2 * np.sqrt(squares), -2 * vectors.units * vectors.steps
        self._held[number] = True

    def _block(self, number: int) -> tuple[Bytes, NDArray[np.int8]]:
        """Both bytes of a block's vectors, where they lie."""
        (high, low), first = self.slabs[number * BLOCK // SLAB], number * BLOCK % SLAB
        return high[first : first + BLOCK], low[first : first + BLOCK]

    def find(self, ids: Codes) -> Codes:
        """(N,) places of rows by id, −1 for those that are not there.

        Ids are sorted once for all, and anew those of blocks that have changed since. An index of digests on the disk
        would write nearly all of its pages with every batch.
        """
        known = self.facts["id"]
        if len(self._fresh) > max(FRESH, len(self) // 16):
            self._settled, self._recent = _Order.of(known, np.arange(len(known))), None
            self._fresh.clear()
        if self._recent is None:
            blocks = np.array(sorted(self._fresh), np.int64)
            self._recent = _Order.of(known, (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel())
        found = np.full(len(ids), -1, np.int64)
        for order in (self._settled, self._recent):
            if len(order.places):
                at = order.places[np.minimum(np.searchsorted(order.ids, ids), len(order.places) - 1)]
                found = np.where(known[at] == ids, at, found)
        return found

    def take(self, places: Codes) -> Planes:
        """The vectors of N places."""
        order = np.argsort(places, kind="stable")
        numbers, offsets = np.divmod(places[order], SLAB)
        ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
        shape = len(places), self.dim
        units, steps = self.marks[UNITS, places], self.marks[STEPS, places]
        high, low = np.empty(shape, np.uint8), np.empty(shape, np.int8)
        for start, end in itertools.pairwise([0, *ends.tolist()]):
            slab, to, at = self.slabs[numbers[start]], order[start:end], offsets[start:end]
            high[to], low[to] = (np.take(plane, at, axis=0, mode="clip") for plane in slab)
        return Planes(high, low, units, steps)

    def admitted(self, where: Where, names: Names) -> Mask:
        """(places,) which rows a filter admits."""
        facts = self.facts
        mask = facts["id"] >= 0
        for name, wanted in (("camera", where.cameras), ("person", where.people), ("tracklet", where.tracklets)):
            if wanted is not None:
                mask &= _among(facts[name], names.codes(wanted))
        if where.not_cameras:
            mask &= ~_among(facts["camera"], names.codes(where.not_cameras))
        if where.not_people:
            mask &= ~_among(facts["person"], names.codes(where.not_people))
        if where.not_tracklets:
            mask &= (facts["person"] >= 0) | ~_among(facts["tracklet"], names.codes(where.not_tracklets))
        if where.tags:
            mask &= _among(facts["tags"], names.carrying(where.tags))
        if where.after is not None or where.before is not None:
            mask &= facts["time"] >= (-np.inf if where.after is None else where.after)
            mask &= facts["time"] <= (np.inf if where.before is None else where.before)
        if where.added_before is not None:
            mask &= facts["added"] < where.added_before
        if where.ids is not None:
            among = np.zeros(len(mask) + 1, bool)
            among[self.find(np.array([row for row in where.ids if 0 <= row < 1 << 63], np.int64))] = True
            mask &= among[:-1]  # the last one is that of −1
        return mask

    def known(self, mask: Mask) -> Known:
        """What a scan is told of the rows."""
        return Known(mask, self.marks[TERMS], self.marks[SUMS])

    def query(self, queries: Vectors, k: int, mask: Mask) -> Ranking:
        """The k nearest rows of those admitted, exactly."""
        k = min(k, int(np.count_nonzero(mask)))
        found, near = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        parts = [*self._parts(mask)]
        known = self.known(mask)
        starts = range(0, len(queries), MANY) if k else ()
        waiting = [(np.arange(start, min(start + MANY, len(queries))), WIDER * k) for start in starts]
        while waiting:
            own, most = waiting.pop()
            places, bounds, least = candidates(queries[own], parts, known, most)
            distances, limit = self._nearest(queries[own], places, bounds, k)
            kept = np.argpartition(distances, k - 1, axis=1)[:, :k]
            ids = self.facts["id"][np.take_along_axis(places, kept, axis=1)]
            distances = np.take_along_axis(distances, kept, axis=1)
            order = np.lexsort((ids, distances), axis=1)
            found[own], near[own] = np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1)
            if (limit > least).any():
                waiting.append((own[limit > least], WIDER * most))
        return Ranking(found, near)

    def _nearest(self, queries: Vectors, places: Codes, bounds: Vectors, k: int) -> tuple[Vectors, Limits]:
        """(Q, K) distances of candidates, infinite for those that cannot be among the k nearest; and (Q,) bounds above
        which no row is among them."""
        distances, squares = np.full(bounds.shape, np.inf, np.float32), np.square(queries, dtype=np.float64).sum(axis=1)
        limit: Limits = np.partition(bounds, k - 1, axis=1)[:, k - 1].astype(np.float64)
        for _ in range(2):  # of the first k, and then of those that may be nearer than the k-th of them
            wanted = (bounds <= limit[:, None]) & np.isfinite(bounds) & np.isinf(distances)
            distances[wanted] = self._distances(queries, np.nonzero(wanted)[0], places[wanted])
            worst = np.partition(distances, k - 1, axis=1)[:, k - 1]
            limit = (1 + scan.EPS) * np.square(worst, dtype=np.float64) - squares
        return distances, limit

    def _distances(self, queries: Vectors, which: Codes, places: Codes) -> Vectors:
        """(N,) of queries and rows, by differences, which lose nothing where both are near."""
        out = np.empty(len(places), np.float32)

        def work(chosen: slice) -> None:
            for start in range(chosen.start, chosen.stop):
                part = slice(start * EXACT, (start + 1) * EXACT)
                rows = self.take(places[part]).joined()
                rows -= queries[which[part]]
                out[part] = np.sqrt(np.einsum("nd,nd->n", rows, rows))

        in_threads(work, -(-len(places) // EXACT))
        return out

    def _parts(self, mask: Mask) -> Iterator[Part]:
        """What to scan of each slab: blocks that are scanned whole; then, of others, the rows that are admitted."""
        sparse = _counts(mask) <= FEW
        for number, (high, _) in enumerate(self.slabs):
            first = number * SLAB
            own, few = mask[first : first + SLAB], sparse[first // BLOCK : (first + SLAB) // BLOCK]
            ends = np.flatnonzero(np.diff(few, append=not few[-1])) + 1
            for start, end in itertools.pairwise([0, *ends.tolist()]):
                if not few[start]:
                    here = slice(start * BLOCK, end * BLOCK)
                    yield Part(slice(first + here.start, first + here.stop), high[here])
            chosen = np.flatnonzero(own & np.repeat(few, BLOCK)) if few.any() else NOWHERE.places
            if len(chosen):
                yield Part(first + chosen, high, chosen)


def _counts(mask: Mask) -> Codes:
    """How many are true of each BLOCK. Eight of them are one number, whose bytes count to BLOCK / 8 at most."""
    eighths = mask.view(np.uint64).reshape(-1, BLOCK // 8).sum(axis=1)
    return np.asarray(eighths.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64))


def grouped(
    names: NDArray[np.int32], cameras: NDArray[np.int32], times: NDArray[np.float64]
) -> Iterator[tuple[int, int, int, float, float]]:
    """Rows by name and camera: both codes, how many rows, earliest and latest time, NaN where none has one."""
    order = np.lexsort((cameras, names))
    names, cameras, times = names[order], cameras[order], times[order]
    starts = np.flatnonzero((np.diff(names, prepend=-2) != 0) | (np.diff(cameras, prepend=-2) != 0))
    first, last = np.fmin.reduceat(times, starts), np.fmax.reduceat(times, starts)
    columns = (names[starts], cameras[starts], np.diff(starts, append=len(names)), first, last)
    return zip(*(column.tolist() for column in columns), strict=True)


def _among(column: NDArray[np.int32], codes: Codes) -> Mask:
    """Which values are among the codes; −1 never is."""
    table = np.zeros(max(int(column.max(initial=0)), int(codes.max(initial=0))) + 2, bool)
    table[codes] = True
    return np.asarray(table[column])
