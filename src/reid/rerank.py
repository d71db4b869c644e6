"""Re-ranking with k-reciprocal neighbours (Zhong, Zheng, Cao, Li; CVPR 2017), exact and sparse; query expansion.

Two crops likely show the same person when each is among the other's nearest and their neighbourhoods overlap. Queries
and gallery rows are all neighbours of each other here, so an answer depends on which other queries there are: the
method is transductive, and a figure obtained with it should say so. With one query at a time it is not.

Everything that is N × N in the paper is sparse here: a row of the encoding V has a few hundred entries at most, and
pairs that share none of them have a Jaccard distance of exactly 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

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
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise ShapeError(
                f"k1 is {self.k1}, k2 {self.k2} and the weight {self.weight}; "
                "k1 and k2 must be at least 1 and the weight in [0, 1]"
            )

    @property
    def half(self) -> int:
        """around(k1/2), halves to even as in the authors' Python; MATLAB rounds them up, so k1 = 5, 9, 13 … differ."""
        return int(np.around(self.k1 / 2))

    def __str__(self) -> str:
        return f"k-reciprocal encoding (k1 = {self.k1}, k2 = {self.k2}, λ = {self.weight}; queries see each other)"


PAPER = KReciprocal()


class Extra(Protocol):
    """What else sets the N = Q + G points apart, for instance `TransitionPrior.penalty`; at least 0."""

    def block(self, rows: slice) -> Vectors:
        """(n, N) for some of the points."""

    def at(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Vectors:
        """(M,) for M pairs of points."""


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
    points = np.concatenate([query, gallery]).astype(np.float32, copy=False)
    encoding, farthest = _encode(points, settings, extra)
    by_neighbour = encoding[len(query) :].tocsc()
    for rows, block in distance.blocks(query, gallery, "squared"):
        if extra is not None:
            block += extra.block(rows)[:, len(query) :]
        block *= (settings.weight / farthest[rows])[:, None]
        for i, row in enumerate(block, rows.start):
            shared = _overlap(encoding, i, by_neighbour)
            row += (1 - settings.weight) * (1 - shared / (2 - shared))
        yield rows, block


def _encode(points: Vectors, settings: KReciprocal, extra: Extra | None) -> tuple[sparse.csr_array, Vectors]:
    """The paper's V (equations 4 to 7 and 11), N × N, and each point's largest squared distance.

    Sets of neighbours are 0/1 matrices, so an intersection's size is an entry of a product.
    """
    order, farthest = _neighbours(points, max(settings.k1 + 1, settings.k2), extra)
    near = _mutual(order[:, : settings.k1 + 1])
    half = _mutual(order[:, : settings.half + 1])
    common = (near @ half.T).multiply(near).tocoo()
    sizes = np.diff(half.indptr)
    joins = common.data > 2 / 3 * sizes[common.col]
    joined = sparse.csr_array((common.data[joins], (common.row[joins], common.col[joins])), shape=near.shape)
    wide = (near + joined @ half).tocsr()

    wide.sort_indices()
    row = np.repeat(np.arange(len(points)), np.diff(wide.indptr))
    apart = _squared(points, row, wide.indices)
    if extra is not None:
        apart += extra.at(row, wide.indices)
    closeness = np.exp(-apart / farthest[row])
    totals = np.bincount(row, closeness, minlength=len(points))
    encoding = sparse.csr_array(((closeness / totals[row]).astype(np.float32), wide.indices, wide.indptr), wide.shape)
    if settings.k2 > 1:
        encoding = _selection(order[:, : settings.k2], np.float32(1 / min(settings.k2, len(points)))) @ encoding
    return encoding, farthest


def _neighbours(points: Vectors, k: int, extra: Extra | None) -> tuple[NDArray[np.int64], Vectors]:
    """(N, k) the nearest points of each, itself among them, and (N,) the largest squared distance."""
    k = min(k, len(points))
    order = np.empty((len(points), k), dtype=np.int64)
    farthest = np.empty(len(points), dtype=np.float32)
    for rows, block in distance.blocks(points, points, "squared"):
        if extra is not None:
            block += extra.block(rows)
        order[rows] = distance.smallest(block, k)[0]
        farthest[rows] = block.max(axis=1)
    return order, np.where(farthest > 0, farthest, 1)


def _selection(order: NDArray[np.int64], value: np.float32) -> sparse.csr_array:
    """An N × N matrix with `value` where row i's list holds j."""
    count, k = order.shape
    data = np.full(order.size, value)
    return sparse.csr_array((data, order.ravel(), np.arange(0, order.size + 1, k)), shape=(count, count))


def _mutual(order: NDArray[np.int64]) -> sparse.csr_array:
    """1 where i and j are in each other's lists (the paper's R, equation 2)."""
    listed = _selection(order, np.float32(1))
    mutual: sparse.csr_array = listed.multiply(listed.T).tocsr()
    return mutual


def _squared(points: Vectors, row: NDArray[np.integer], column: NDArray[np.integer]) -> Vectors:
    """Squared distances of chosen pairs."""
    out = np.empty(len(row), dtype=np.float32)
    step = max(1, distance.BLOCK_VALUES // points.shape[1] // 2)
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        difference = points[row[part]] - points[column[part]]
        out[part] = np.einsum("nd,nd->n", difference, difference)
    return out


def _overlap(encoding: sparse.csr_array, i: int, by_neighbour: sparse.csc_array) -> NDArray[Any]:
    """(G,) Σ min(V_i, V_j): walks only the columns where V_i is not 0, and in them only the rows that are not 0."""
    mine = slice(encoding.indptr[i], encoding.indptr[i + 1])
    columns, values = encoding.indices[mine], encoding.data[mine]
    starts = by_neighbour.indptr[columns]
    lengths = by_neighbour.indptr[columns + 1] - starts
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    least = np.minimum(by_neighbour.data[at], np.repeat(values, lengths))
    return np.bincount(by_neighbour.indices[at], least, minlength=by_neighbour.shape[0])


def expand(vectors: NDArray[Any], gallery: NDArray[Any], k: int = 5, alpha: float = 3.0) -> Vectors:
    """Query expansion: each unit vector plus its k nearest gallery vectors, weighted by cos^α, at unit length again.

    α = 0 is average query expansion (Chum et al. 2007), α = 3 the α-QE of Radenović et al. 2019; a neighbour with a
    negative cosine gets no weight. With the gallery itself as `vectors` it is database-side augmentation.

    Args:
        vectors: (N, D).
        gallery: (G, D).
        k: neighbours added.
        alpha: exponent, at least 0.
    """
    if k < 1 or alpha < 0:
        raise ShapeError(f"k is {k} and alpha {alpha}; k must be at least 1 and alpha at least 0")
    unit, others = distance.normalise(vectors), distance.normalise(gallery)
    found = distance.top_k(unit, others, k, metric="cosine")
    cosine = np.clip(1 - found.distances, 0, 1)
    weights = np.where((found.ids >= 0) & (cosine > 0), cosine, 0) ** alpha * (cosine > 0)
    return distance.normalise(unit + np.einsum("nk,nkd->nd", weights, others[found.ids]))
