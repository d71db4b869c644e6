"""Re-ranking one query at a time, with the gallery's part of the work done once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid import distance
from reid.errors import ShapeError
from reid.rerank.encoding import (
    PAPER,
    Encoded,
    Extra,
    KReciprocal,
    above_zero,
    averaged,
    closeness,
    encode,
    overlap,
    similarity,
    squared,
    widen,
)
from reid.types import Vectors

Rows = NDArray[np.integer]


class Reranker:
    """k-reciprocal re-ranking of queries to come, each as if it were the only one.

    What it gives for a query is what `k_reciprocal` gives for this query and the gallery alone: the query takes its
    place in the lists of the gallery rows it is near to, and what depends on those lists is computed anew, some hundred
    rows. Everything else is as it was without the query.

    Attributes:
        gallery: (G, D) float32.
        settings: of the method.
    """

    def __init__(self, gallery: NDArray[Any], settings: KReciprocal = PAPER, extra: Extra | None = None):
        """Compute all G² distances; keep each row's nearest, and the encodings.

        Args:
            gallery: (G, D), G > 0.
            settings: of the method.
            extra: what else sets the gallery's rows apart, see `blocks`.
        """
        self.gallery: Vectors = np.ascontiguousarray(gallery, dtype=np.float32)
        if self.gallery.ndim != 2 or not len(self.gallery):
            raise ShapeError(f"the gallery has shape {self.gallery.shape}; it must be (G, D) with at least one row")
        self.settings = settings
        made = encode(self.gallery, settings, extra)
        self._kept = _Kept(self.gallery, extra, made, settings.listed)
        self._by_neighbour = made.encoding.tocsc()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept beside the gallery's vectors."""
        kept = self._kept
        parts = [kept.norms, kept.order, kept.apart, kept.farthest]
        parts += [a for m in (kept.raw, self._by_neighbour) for a in (m.data, m.indices, m.indptr)]
        return sum(part.nbytes for part in parts)

    def distances(self, query: NDArray[Any]) -> Vectors:
        """(D,) one query's vector to (G,) re-ranked distances in [0, 1]; lower is closer."""
        (_, block) = next(self.blocks(np.asarray(query)[None]))
        only: Vectors = block[0]
        return only

    def blocks(self, query: NDArray[Any], extra: Extra | None = None) -> Iterator[tuple[slice, Vectors]]:
        """Re-ranked distances of (Q, D) queries a few at a time: pairs of (which queries, their (q, G) distances).

        Args:
            query: (Q, D).
            extra: what else sets the Q + G points apart, queries first; on the gallery's rows the same as was given
                with these.
        """
        query = np.ascontiguousarray(query, dtype=np.float32)
        if query.ndim != 2 or query.shape[1] != self.gallery.shape[1]:
            raise ShapeError(
                f"queries have shape {query.shape} and the gallery {self.gallery.shape}; both must be (N, D) with the "
                "same D, embed them with one model"
            )
        if (extra is None) != (self._kept.extra is None):
            raise ShapeError("something extra sets only queries or only gallery rows apart; give it for both or none")
        step = max(1, distance.BLOCK_VALUES // len(self.gallery))
        for start in range(0, len(query), step):
            rows = slice(start, min(start + step, len(query)))
            block = distance._block(query[rows], self.gallery, self._kept.norms, "squared")
            own = np.zeros(len(block), dtype=np.float32)
            if extra is not None:
                block += extra.block(rows)[:, len(query) :]
                own = extra.at(np.arange(rows.start, rows.stop), np.arange(rows.start, rows.stop))
            for i, row in enumerate(block):
                block[i] = self._reranked(row, float(own[i]))
            yield rows, block

    def _reranked(self, apart: Vectors, own: float) -> NDArray[np.float64]:
        """(G,) final distances of a query, given its squared distances from the gallery's rows, and from itself."""
        among = _Among(self._kept, self.settings, apart, own)
        mine = among.encode(np.array([len(apart)]), among.anew)
        known = mine.indices < len(apart)
        shared = overlap(mine.indices[known], mine.data[known], self._by_neighbour)
        reached = among.reached(mine.indices)
        rows = among.changed(np.flatnonzero(shared), reached)
        values = np.zeros(len(apart) + 1, dtype=np.float32)
        values[mine.indices] = mine.data
        anew = among.encode(rows, reached)
        row = np.repeat(np.arange(len(rows)), np.diff(anew.indptr))
        shared[rows] = np.bincount(row, np.minimum(anew.data, values[anew.indices]), minlength=len(rows))
        weight = self.settings.weight
        final: NDArray[np.float64] = (1 - weight) * (1 - similarity(shared))
        final += weight / above_zero(among.farthest)[-1] * apart
        return final


class _Kept:
    """What is known of a gallery by itself: the attributes of `Encoded`, less the encoding.

    Attributes:
        norms: (G,) squared lengths of its vectors.
        reach: (G,) how near a point must be to enter a row's list; infinite where the list has room.
    """

    def __init__(self, gallery: Vectors, extra: Extra | None, made: Encoded, listed: int):
        self._gallery, self.extra = gallery, extra
        self.order, self.apart, self.farthest, self.raw = made.order, made.apart, made.farthest, made.raw
        self.norms: Vectors = np.einsum("nd,nd->n", gallery, gallery)
        self.reach = self.apart[:, -1] if len(gallery) >= listed else np.full(len(gallery), np.float32(np.inf))

    def between(self, row: Rows, column: Rows) -> Vectors:
        """Squared distances of pairs of rows."""
        apart = squared(self._gallery, row, column)
        return apart if self.extra is None else apart + self.extra.at(row, column)


class _Among:
    """A gallery of G rows with one query among them as point G, N = G + 1.

    Attributes:
        order: (N, K) lists of neighbours, as `Encoded.order`.
        farthest: (N,) largest squared distances.
        anew: (N,) true for the rows of V, before they are averaged, that may not be what was kept.
    """

    def __init__(self, kept: _Kept, settings: KReciprocal, apart: Vectors, own: float):
        self._kept, self._settings, self._apart, self._own = kept, settings, apart, own
        count, k = len(apart), min(settings.listed, len(apart) + 1)
        entered = np.flatnonzero(apart <= kept.reach)
        old = kept.order[entered]
        place = (kept.apart[entered] < apart[entered, None]).sum(axis=1)
        self.order = np.empty((count + 1, k), dtype=np.int32)
        self.order[:count, : old.shape[1]] = kept.order
        self.order[entered] = _inserted(old, place, count, k)
        self.order[count] = distance.smallest(np.append(np.float32(own), apart)[None], k)[0][0] - 1
        self.order[count, self.order[count] < 0] = count
        self.farthest = np.append(np.maximum(kept.farthest, apart), max(own, float(apart.max())))
        self.anew = self._find_moved(entered, place, old)
        self.anew[:-1] |= apart > kept.farthest

    def _find_moved(self, entered: Rows, place: Rows, old: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(N,) where the set behind a row of V may have changed: its lists or those of a mutual neighbour have.

        A list changes where the query enters, and a row that falls out of it is no mutual neighbour any more.
        """
        moved = np.zeros(len(self._apart) + 1, dtype=bool)
        moved[-1] = moved[entered] = True
        for length in (self._settings.k1 + 1, self._settings.half + 1):
            if length <= old.shape[1]:
                moved[old[place < length, length - 1]] = True
        lists, back = _mutual(self._kept.order, np.flatnonzero(moved[:-1]), self._settings.k1 + 1)
        moved[lists[back]] = True
        return moved

    def reached(self, columns: Rows) -> NDArray[np.bool_]:
        """(N,) true for the rows of V that may hold one of the columns: a set reaches the halves of its neighbours'."""
        lists, back = _mutual(self.order, columns, self._settings.half + 1)
        middle = np.unique(np.append(lists[back], columns))
        lists, back = _mutual(self.order, middle, self._settings.k1 + 1)
        found = np.zeros(len(self.farthest), dtype=bool)
        found[lists[back]] = found[middle] = True
        return found

    def changed(self, touched: Rows, reached: NDArray[np.bool_]) -> Rows:
        """Gallery rows that share something with the query, and not as much as what was kept for them.

        Args:
            touched: those that would share something if nothing had changed.
            reached: rows of V that may share something, not averaged yet.
        """
        lists = self.order[:-1, : self._settings.k2] if self._settings.k2 > 1 else np.arange(len(self._apart))[:, None]
        found: NDArray[np.bool_] = np.asarray((self.anew & reached)[lists].any(axis=1))
        found[touched] |= self.anew[lists[touched]].any(axis=1)
        return np.flatnonzero(found)

    def encode(self, rows: Rows, reached: NDArray[np.bool_]) -> sparse.csr_array:
        """(R, N) rows of the encoding, with what rows of V contribute that are not reached, or have not changed."""
        lists = self.order[rows, : self._settings.k2] if self._settings.k2 > 1 else rows[:, None]
        members, place = np.unique(lists, return_inverse=True)
        new, old = (np.flatnonzero(kind[members]) for kind in (self.anew & reached, ~self.anew))
        kept = self._kept.raw[members[old]]
        kept = sparse.csr_array((kept.data, kept.indices, kept.indptr), shape=(len(old), len(self.farthest)))
        nothing = sparse.csr_array((1, len(self.farthest)), dtype=np.float32)
        raw = sparse.vstack([self._raw(members[new]), kept, nothing], format="csr")
        position = np.full(len(members), raw.shape[0] - 1)
        position[np.append(new, old)] = np.arange(raw.shape[0] - 1)
        return averaged(position[place].reshape(lists.shape), raw)

    def _raw(self, rows: Rows) -> sparse.csr_array:
        """(R, N) rows of V before they are averaged."""
        near = self._neighbours(rows, self._settings.k1)
        candidates, column = np.unique(near.indices, return_inverse=True)
        chosen = sparse.csr_array((near.data, column, near.indptr), shape=(len(rows), len(candidates)))
        wide = widen(near, chosen, self._neighbours(candidates, self._settings.half))
        return closeness(wide, self._between(rows, wide), self.farthest[rows])

    def _neighbours(self, rows: Rows, k: int) -> sparse.csr_array:
        """(R, N) mutual neighbours."""
        lists, back = _mutual(self.order, rows, k + 1)
        starts = np.append(0, np.cumsum(back.sum(axis=1)))
        data = np.ones(starts[-1], dtype=np.float32)
        return sparse.csr_array((data, lists[back], starts), shape=(len(rows), len(self.farthest)))

    def _between(self, rows: Rows, wide: sparse.csr_array) -> Vectors:
        """Squared distances of the entries of `wide`."""
        query, row = len(self._apart), np.repeat(rows, np.diff(wide.indptr))
        column = wide.indices.astype(np.intp)
        out = np.full(len(row), self._own, dtype=np.float32)
        for ends, others in ((row, column), (column, row)):
            mine = (ends == query) & (others < query)
            out[mine] = self._apart[others[mine]]
        rest = (row < query) & (column < query)
        out[rest] = self._kept.between(row[rest], column[rest])
        return out


def _inserted(old: NDArray[np.int32], place: Rows, new: int, k: int) -> NDArray[np.int32]:
    """(R, k) lists with a new entry each at its place; what does not fit falls out."""
    at, place = np.arange(k), place[:, None]
    before, after = np.minimum(at, old.shape[1] - 1), np.maximum(at - 1, 0)
    return np.where(at < place, old[:, before], np.where(at == place, new, old[:, after])).astype(np.int32)


def _mutual(order: NDArray[np.int32], rows: Rows, k: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """(R, k) the lists of some rows, and who of them has the row in their own."""
    lists = order[rows, :k]
    return lists, (order[lists, :k] == rows[:, None, None]).any(axis=2)
