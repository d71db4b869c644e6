"""The k-reciprocal encoding of points (Zhong, Zheng, Cao, Li; CVPR 2017), exact and sparse.

Everything that is N × N in the paper is sparse here: a row of the encoding V has a few hundred entries at most, and
pairs that share none of them have a Jaccard distance of exactly 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid import distance
from reid.errors import ShapeError
from reid.types import Vectors


@dataclass(frozen=True, slots=True)
class KReciprocal:
    """The method's settings, with the paper's values.

    Attributes:
        k1: size of the neighbourhood that must be mutual; the crop itself comes on top.
        k2: how many neighbours' encodings are averaged, the crop itself included; 1 leaves them as they are.
        weight: λ, the share of the original distance in the final one.
        alone: each query is re-ranked as if it were the only one, as in live search.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    alone: bool = False

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            if getattr(self, name) < 1:
                raise ShapeError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.weight <= 1:
            raise ShapeError(f"the weight is {self.weight}; it must lie in [0, 1]")

    @property
    def half(self) -> int:
        """around(k1/2), halves to even as in the authors' Python; MATLAB rounds them up, so k1 = 5, 9, 13 … differ."""
        return int(np.around(self.k1 / 2))

    @property
    def listed(self) -> int:
        """How many neighbours of each point, itself included, must be known."""
        return max(self.k1 + 1, self.k2)

    def __str__(self) -> str:
        seen = "each query alone" if self.alone else "queries see each other"
        return f"k-reciprocal encoding (k1 = {self.k1}, k2 = {self.k2}, λ = {self.weight}; {seen})"


PAPER = KReciprocal()


class Extra(Protocol):
    """What else sets the N = Q + G points apart, for instance `TransitionPrior.penalty`; at least 0.

    As much from one point to another as back.
    """

    def block(self, rows: slice) -> Vectors:
        """(n, N) for some of the points."""

    def at(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Vectors:
        """(M,) for M pairs of points."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """N points and their encodings.

    Attributes:
        order: (N, K) the nearest points of each, itself among them, nearest first; K is what k1 and k2 need, or N.
        apart: (N, K) their squared distances.
        farthest: (N,) each point's largest squared distance.
        raw: (N, N) the paper's V (equations 4 to 7): row i has a value for each point of the neighbourhood of i.
        encoding: (N, N) V averaged over each point's k2 nearest (equation 11).
    """

    order: NDArray[np.int32]
    apart: Vectors
    farthest: Vectors
    raw: sparse.csr_array
    encoding: sparse.csr_array


class Near(NamedTuple):
    """`Encoded.order`, `apart` and `farthest`."""

    order: NDArray[np.int32]
    apart: Vectors
    farthest: Vectors


def encode(points: Vectors, settings: KReciprocal, extra: Extra | None, near: Near | None = None) -> Encoded:
    """Encode points among themselves, given what is nearest to each where that is known, of `listed` points or more."""
    order, apart, farthest = near or neighbours(points, settings.listed, extra)
    close, half = (_mutual(order[:, : k + 1]) for k in (settings.k1, settings.half))
    wide = widen(close, close, half)
    row = np.repeat(np.arange(len(points)), np.diff(wide.indptr))
    between = squared(points, row, wide.indices)
    if extra is not None:
        between += extra.at(row, wide.indices)
    raw = closeness(wide, between, farthest)
    encoding = averaged(order[:, : settings.k2], raw) if settings.k2 > 1 else raw
    return Encoded(order, apart, farthest, raw, encoding)


def widen(near: sparse.csr_array, candidates: sparse.csr_array, half: sparse.csr_array) -> sparse.csr_array:
    """The paper's R*: mutual neighbours, and all of a candidate's where two thirds of these are among them.

    Sets of neighbours are 0/1 matrices, so an intersection's size is an entry of a product.

    Args:
        near: (R, N) mutual neighbours of R points.
        candidates: (R, U) the same, but for U chosen points only, all that are a neighbour of one.
        half: (U, N) mutual neighbours of those within half the reach.
    """
    common = (near @ half.T).multiply(candidates).tocoo()
    sizes = np.diff(half.indptr)
    joins = common.data > 2 / 3 * sizes[common.col]
    joined = sparse.csr_array((common.data[joins], (common.row[joins], common.col[joins])), shape=candidates.shape)
    wide: sparse.csr_array = (near + joined @ half).tocsr()
    wide.sort_indices()
    return wide


def closeness(wide: sparse.csr_array, between: Vectors, farthest: Vectors) -> sparse.csr_array:
    """Rows of V from their sets, the squared distances of these, and the rows' largest squared distances."""
    row = np.repeat(np.arange(len(farthest)), np.diff(wide.indptr))
    values = np.exp(-between / above_zero(farthest)[row])
    totals = np.bincount(row, values, minlength=len(farthest))
    return sparse.csr_array(((values / totals[row]).astype(np.float32), wide.indices, wide.indptr), wide.shape)


def averaged(lists: NDArray[np.integer], raw: sparse.csr_array) -> sparse.csr_array:
    """(R, N) the mean of some of V's (M, N) rows for each of (R, k) lists of them."""
    means: sparse.csr_array = _selection(lists, np.float32(1 / lists.shape[1]), raw.shape[0]) @ raw
    return means


def overlap(columns: NDArray[np.integer], values: Vectors, by_neighbour: sparse.csc_array) -> NDArray[np.float64]:
    """(G,) Σ min(v, V_j) of a row v given by its entries: walks only its columns, and in them only entries of V."""
    starts = by_neighbour.indptr[columns]
    lengths = by_neighbour.indptr[columns + 1] - starts
    ends = np.cumsum(lengths)
    at = np.arange(lengths.sum()) + np.repeat(starts - ends + lengths, lengths)
    least = np.minimum(by_neighbour.data[at], np.repeat(values, lengths))
    return np.asarray(np.bincount(by_neighbour.indices[at], least, minlength=by_neighbour.shape[0]), dtype=np.float64)


def above_zero(farthest: Vectors) -> Vectors:
    """Largest distances to divide by: 1 where all points are one."""
    return np.where(farthest > 0, farthest, np.float32(1))


def similarity(shared: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 less the Jaccard distance of two encodings with this overlap (equation 10)."""
    return shared / (2 - shared)


def neighbours(points: Vectors, k: int, extra: Extra | None) -> Near:
    """The k nearest of each point, all N² distances looked at."""
    k = min(k, len(points))
    order, apart = np.empty((len(points), k), dtype=np.int32), np.empty((len(points), k), dtype=np.float32)
    farthest = np.empty(len(points), dtype=np.float32)

    def look(first: int, block: Vectors, some: slice) -> None:
        rows = slice(first + some.start, first + some.stop)
        order[rows], apart[rows] = distance.smallest(block[some], k)
        farthest[rows] = block[some].max(axis=1)

    for rows, block in distance.blocks(points, points, "squared", reuse=True):
        if extra is not None:
            block += extra.block(rows)
        distance.in_threads(partial(look, rows.start, block), len(block))
    return Near(order, apart, farthest)


def _selection(lists: NDArray[np.integer], value: np.float32, columns: int) -> sparse.csr_array:
    """A matrix with `value` where row i's list holds j."""
    count, k = lists.shape
    data = np.full(lists.size, value)
    return sparse.csr_array((data, lists.ravel(), np.arange(0, lists.size + 1, k)), shape=(count, columns))


def _mutual(lists: NDArray[np.integer]) -> sparse.csr_array:
    """1 where i and j are in each other's lists (the paper's R, equation 2)."""
    listed = _selection(lists, np.float32(1), len(lists))
    mutual: sparse.csr_array = listed.multiply(listed.T).tocsr()
    return mutual


def squared(points: Vectors, row: NDArray[np.integer], column: NDArray[np.integer]) -> Vectors:
    """Squared distances of chosen pairs."""
    out = np.empty(len(row), dtype=np.float32)
    step = max(1, distance.BLOCK_VALUES // points.shape[1] // 8)
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        difference = points[row[part]] - points[column[part]]
        out[part] = np.einsum("nd,nd->n", difference, difference)
    return out
