"""Distances between embeddings, in blocks: exact, in float32, and never a full matrix unless asked for one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from reid.errors import ShapeError
from reid.types import Ranking, Vectors

Metric = Literal["euclidean", "squared", "cosine"]
T = TypeVar("T")
BLOCK_VALUES, BLOCK_ROWS = 1 << 24, 128  # about as many values a block, but enough rows for a fast product
THREADS, NEAR_VALUES = 4, 1 << 16  # at most; see `near`


def pairwise(query: NDArray[Any], gallery: NDArray[Any], metric: Metric = "euclidean") -> Vectors:
    """(Q, D) and (G, D) to the whole (Q, G) matrix of distances.

    "euclidean" is the distance itself, "squared" its square, "cosine" 1 − cos, in [0, 2].

    >>> pairwise(np.array([[3.0, 4.0]]), np.zeros((1, 2)))
    array([[5.]], dtype=float32)
    """
    query, gallery = _prepare(query, metric), _prepare(gallery, metric)
    _check(query, gallery)
    return _block(query, gallery, _squared_norms(gallery), metric)


def blocks(
    query: NDArray[Any], gallery: NDArray[Any], metric: Metric = "euclidean", reuse: bool = False
) -> Iterator[tuple[slice, Vectors]]:
    """The rows of `pairwise` a few at a time: pairs of (which queries, their (q, G) distances).

    With `reuse` each block is written over the one before, which must not be kept: a quarter of the time goes into new
    memory otherwise.
    """
    query, gallery = _prepare(query, metric), _prepare(gallery, metric)
    _check(query, gallery)
    norms = _squared_norms(gallery)
    step = max(BLOCK_ROWS, min(4 * BLOCK_ROWS, BLOCK_VALUES // max(1, len(gallery))))
    room = np.empty((min(step, len(query)), len(gallery)), dtype=np.float32) if reuse else None
    for rows in slices(slice(0, len(query)), step):
        out = None if room is None else room[: rows.stop - rows.start]
        yield rows, _block(query[rows], gallery, norms, metric, out)


def top_k(
    query: NDArray[Any],
    gallery: NDArray[Any],
    k: int,
    allowed: Callable[[slice], NDArray[np.bool_]] | None = None,
    metric: Metric = "euclidean",
) -> Ranking:
    """The k nearest gallery rows of each query, exactly.

    Args:
        query: (Q, D).
        gallery: (G, D).
        k: how many to return; rows are padded where fewer are allowed.
        allowed: for a slice of queries, a mask that broadcasts to (q, G), false where a row may not be returned.
        metric: as for `pairwise`.

    Ties are broken by gallery order.
    """
    if k < 1:
        raise ShapeError(f"k is {k}; ask for at least 1 neighbour")
    k = min(k, max(1, len(gallery)))
    ids = np.full((len(query), k), -1, dtype=np.int64)
    distances = np.full((len(query), k), np.inf, dtype=np.float32)
    for rows, block in blocks(query, gallery, metric, reuse=True):
        if allowed is not None:
            block = np.where(allowed(rows), block, np.inf)
        if not block.shape[1]:
            continue
        ids[rows], distances[rows] = smallest(block, k)
    ids[np.isinf(distances)] = -1
    return Ranking(ids, distances)


def smallest(block: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The k smallest of each row of (q, G), ascending, equal values in order of position: ids and values, both (q, k).

    The k-th smallest of the minima of a row's groups bounds its k-th smallest value from above, so few values need
    sorting: one fast pass instead of a partition of the whole row.
    """
    rows, width = block.shape
    group = max(1, int(np.sqrt(width / k)))
    whole = width // group * group
    if whole // group >= k > 0:
        minima = block[:, :whole].reshape(rows, group, -1).min(axis=1)
        bound = np.partition(minima, k - 1, axis=1)[:, k - 1 : k]
        row, column = np.divmod(np.flatnonzero(block <= bound), width)
    else:
        row, column = (part.ravel() for part in np.indices(block.shape))
    values = block[row, column]
    order = np.lexsort((values, row))
    first = np.searchsorted(row, np.arange(rows))
    chosen = order[first[:, None] + np.arange(k)]
    return column[chosen], values[chosen]


def normalise(vectors: NDArray[Any]) -> Vectors:
    """Rows scaled to length 1; a row of zeros stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def means(vectors: NDArray[Any], groups: NDArray[np.integer]) -> Vectors:
    """(N, D) and (N,) groups from 0 without a gap to the (G, D) mean of each, at unit length where all vectors are.

    >>> means(np.array([[1.0, 3.0], [5.0, 5.0], [3.0, 1.0]]), np.array([0, 1, 0]))
    array([[2., 2.],
           [5., 5.]], dtype=float32)
    """
    sums = np.zeros((int(groups.max(initial=-1)) + 1, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    found = sums / np.bincount(groups, minlength=len(sums))[:, None]
    unit = np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    return normalise(found) if unit else found.astype(np.float32)


def _prepare(vectors: NDArray[Any], metric: Metric) -> Vectors:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise ShapeError(f"vectors have shape {vectors.shape}; they must be (N, D)")
    if metric == "cosine":
        return normalise(vectors)
    if metric in ("euclidean", "squared"):
        return np.asarray(vectors, dtype=np.float32)
    raise ShapeError(f"metric is {metric!r}; it can be 'euclidean', 'squared' or 'cosine'")


def _check(query: Vectors, gallery: Vectors) -> None:
    if query.shape[1] != gallery.shape[1]:
        raise ShapeError(
            f"queries have {query.shape[1]} values each and the gallery {gallery.shape[1]}; "
            "they come from different models, embed both with one"
        )


def _squared_norms(vectors: Vectors) -> Vectors:
    norms: Vectors = np.einsum("nd,nd->n", vectors, vectors)
    return norms


def _block(
    query: Vectors, gallery: Vectors, gallery_norms: Vectors, metric: Metric, out: Vectors | None = None
) -> Vectors:
    block: Vectors = np.matmul(query if metric == "cosine" else -2 * query, gallery.T, out=out)
    norms = _squared_norms(query)[:, None]

    def finish(rows: slice) -> None:
        for own in near(rows, len(gallery)):
            part = block[own]
            if metric == "cosine":
                np.subtract(1, part, out=part)
            else:
                part += gallery_norms
                part += norms[own]
            if not part.min(initial=0) >= 0:
                np.maximum(part, 0, out=part)
            if metric == "euclidean":
                np.sqrt(part, out=part)

    if block.size < 4 * NEAR_VALUES:
        finish(slice(0, len(block)))
    else:
        in_threads(finish, len(block))
    return block


def slices(rows: slice, step: int) -> Iterator[slice]:
    """Those rows, `step` at a time."""
    for start in range(rows.start, rows.stop, step):
        yield slice(start, min(start + step, rows.stop))


def near(rows: slice, width: int) -> Iterator[slice]:
    """Those rows, of so many values each, in parts that stay near a core while they are passed over again and again."""
    return slices(rows, max(1, NEAR_VALUES // max(1, width)))


def in_threads(work: Callable[[slice], T], rows: int) -> list[T]:
    """What `work` gives for each of a few ranges that make up `rows`, at the same time where NumPy lets it."""
    threads = min(THREADS, _cores(), rows) or 1
    bounds = [rows * i // threads for i in range(threads + 1)]
    parts = [slice(first, last) for first, last in itertools.pairwise(bounds)]
    if threads == 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def ahead(work: Callable[[slice], T], rows: int, step: int) -> Iterator[T]:
    """What `work` gives for one range of `step` rows after the other; threads are ahead while one is looked at."""
    parts = [*slices(slice(0, rows), step)]
    if len(parts) < 2:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(min(THREADS, _cores(), len(parts))) as pool:
        yield from pool.map(work, parts)


def _cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
