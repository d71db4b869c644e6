"""A gallery's vectors and the facts that filters ask for, held in memory block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reid.gallery.rows import Half, Where
from reid.gallery.scan import Part, nearest
from reid.types import Ranking, Vectors

BLOCK = 1024  # rows; with 512 values each, two blocks in single precision stay near a core
FEW = BLOCK // 3  # admitted rows of a block that are sooner taken out of it than scanned with the others
SLAB = 32  # blocks whose memory is one piece, so that the system can give it large pages; a tenth faster to scan
FRESH = 64  # changed blocks, or a sixteenth of all, up to which their ids are sorted by themselves
FACTS = np.dtype(
    [("id", "<i8"), ("time", "<f8"), ("added", "<f8"), ("square", "<f4")]
    + [(name, "<i4") for name in ("camera", "person", "tracklet", "tags")]
)
"""What is known of a row without reading it: its squared length, and codes of names, −1 for none. The id of an empty
place is −1."""

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]


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
        vectors: (BLOCK, dim) float16 each; empty ones where a block's were not read yet.
        slabs: the memory that they lie in, by the number of the first block.
    """

    def __init__(self, dim: int):
        self.dim = dim
        self.facts: dict[str, NDArray[Any]] = {name: empty_facts(0)[name].copy() for name in FACTS.names or ()}
        self.vectors: list[Half] = []
        self.slabs: dict[int, Half] = {}
        self._settled, self._fresh = NOWHERE, set[int]()
        self._recent: _Order | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def put_facts(self, number: int, facts: NDArray[Any]) -> None:
        """A block's facts, new or changed; its vectors, which must be put again, are wiped."""
        if number >= len(self.vectors):
            missing = number + 1 - len(self.vectors)
            self.vectors += [np.empty((0, self.dim), np.float16)] * missing
        if number * BLOCK >= len(self.facts["id"]):
            more = empty_facts(max(number + 1, 2 * number) * BLOCK - len(self.facts["id"]))
            self.facts = {name: np.concatenate([column, more[name]]) for name, column in self.facts.items()}
        self.vectors[number][:] = 0
        own = slice(number * BLOCK, (number + 1) * BLOCK)
        before = self.facts["id"][own]
        self._recent = None
        self._fresh.add(number)
        if ((before >= 0) & (before != facts["id"])).any():  # what was erased must be in no order either
            self._settled, self._fresh = NOWHERE, set(range(len(self)))
        for name, column in self.facts.items():
            column[own] = facts[name]

    def put_vectors(self, number: int, data: bytes) -> None:
        """A block's vectors, written over those that were there."""
        if not len(self.vectors[number]):
            first = number - number % SLAB
            if first not in self.slabs:
                self.slabs[first] = np.empty((SLAB, BLOCK, self.dim), np.float16)  # takes no memory until written to
            self.vectors[number] = self.slabs[first][number - first]
        self.vectors[number][:] = np.frombuffer(data, np.float16).reshape(BLOCK, self.dim)

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

    def take(self, places: Codes) -> Half:
        """(N, dim) vectors."""
        order = np.argsort(places, kind="stable")
        numbers, offsets = np.divmod(places[order], BLOCK)
        ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1
        out = np.empty((len(places), self.dim), np.float16)
        for start, end in itertools.pairwise([0, *ends.tolist()]):
            out[order[start:end]] = self.vectors[numbers[start]][offsets[start:end]]
        return out

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

    def query(self, queries: Vectors, k: int, mask: Mask) -> Ranking:
        """The k nearest rows of those admitted, exactly."""
        parts, whole, few = self._parts(mask)
        found, _ = nearest(queries, parts, k)
        block, offset = np.divmod(found, BLOCK)
        ends = len(whole) * BLOCK
        places = np.append(whole, 0)[np.minimum(block, len(whole))] * BLOCK + offset
        places[found >= ends] = few[found[found >= ends] - ends]
        ids = np.where(mask[places], self.facts["id"][places], -1)
        used, which = np.unique(places, return_inverse=True)
        rows = self.take(used).astype(np.float32)
        distances = np.empty(ids.shape, np.float32)
        for i, chosen in enumerate(which.reshape(ids.shape)):  # by differences, which lose nothing where rows are near
            distances[i] = np.linalg.norm(rows[chosen] - queries[i], axis=1)
        distances[ids < 0] = np.inf
        order = np.lexsort((ids, distances), axis=1)
        return Ranking(np.take_along_axis(ids, order, axis=1), np.take_along_axis(distances, order, axis=1))

    def _parts(self, mask: Mask) -> tuple[list[Part], Codes, Codes]:
        """What to scan: blocks that are scanned whole, and their numbers; then, of blocks of which few rows are
        admitted, those rows, and their places."""
        counts = mask.reshape(-1, BLOCK).sum(axis=1)
        squares = np.where(mask, self.facts["square"], np.float32(np.inf)).reshape(-1, BLOCK)
        whole, few = np.flatnonzero(counts > FEW), np.flatnonzero((counts > 0) & (counts <= FEW))
        ends = np.flatnonzero((np.diff(whole, append=-2) != 1) | (whole % SLAB == SLAB - 1)) + 1
        parts = []
        for start, end in itertools.pairwise([0, *ends.tolist()]):
            first, last = int(whole[start]), int(whole[end - 1]) + 1
            slab = first - first % SLAB
            parts.append(Part(self.slabs[slab][first - slab : last - slab], squares[first:last]))
        places = np.flatnonzero(mask & np.repeat(counts <= FEW, BLOCK))
        offsets, until = places % BLOCK, np.cumsum(counts[few])
        starts = np.append(0, until)
        ends = np.flatnonzero(np.diff(until // BLOCK, append=-1)) + 1
        for start, end in itertools.pairwise([0, *ends.tolist()]):
            blocks = [self.vectors[n] for n in few[start:end].tolist()]
            rows = [offsets[a:b] for a, b in itertools.pairwise(starts[start : end + 1].tolist())]
            parts.append(Part(blocks, squares.ravel()[places[starts[start] : starts[end]]], rows))
        return parts, whole, places


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
