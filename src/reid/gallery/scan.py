"""The nearest of many vectors in half precision, exactly, without ever holding them in single precision.

NumPy turns half into single precision a value at a time. ONNX Runtime, which embeds the pictures anyway, does it with
the processor's own instruction: `scan.onnx` is a cast and a product, run on a block that stays near the core.
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

GROUP = 1 << 20  # scores that are looked through at once


class Part(NamedTuple):
    """Some vectors: (n, D) float16, and their squared lengths, (n,) float32; infinite where a row may not be found."""

    vectors: Half
    squares: Vectors


def nearest(queries: Vectors, parts: Sequence[Part], k: int) -> tuple[NDArray[np.int64], Vectors]:
    """For each of (Q, D) float32 queries the k nearest rows, numbered through all parts.

    Returns:
        (Q, K) rows and ‖x‖² − 2 q·x, ascending and right to float32; infinite where fewer than K may be found. K is k,
        or the number of rows where that is less.
    """
    if not parts or not len(queries):
        return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    session, doubled = _session(), -2 * queries
    starts = np.cumsum([0] + [len(part.vectors) for part in parts])

    def work(chosen: slice) -> tuple[NDArray[np.int64], Vectors]:
        best = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
        for group in _groups(chosen, starts, max(1, GROUP // len(queries))):
            scores = [session.run(None, {"rows": parts[i].vectors, "queries": doubled})[0] for i in group]
            block = scores[0] if len(scores) == 1 else np.concatenate(scores, axis=1)
            block += np.concatenate([parts[i].squares for i in group])
            best = _better(*best, block, int(starts[group[0]]), k)
        return best

    rows, values = (np.concatenate(column, axis=1) for column in zip(*in_threads(work, len(parts)), strict=True))
    return _first(rows, values, k)


def _groups(chosen: slice, starts: NDArray[np.int64], most: int) -> list[range]:
    """Consecutive parts, so many that they have about `most` rows."""
    groups, first = [], chosen.start
    for i in range(chosen.start, chosen.stop):
        if i + 1 == chosen.stop or starts[i + 2] - starts[first] > most:
            groups.append(range(first, i + 1))
            first = i + 1
    return groups


def _better(
    rows: NDArray[np.int64], values: Vectors, block: Vectors, start: int, k: int
) -> tuple[NDArray[np.int64], Vectors]:
    """The k best of those so far and of a block whose first row has number `start`."""
    if values.shape[1] < k:
        place, score = smallest(block, min(k, block.shape[1]))
        return _first(np.concatenate([rows, place + start], axis=1), np.concatenate([values, score], axis=1), k)
    width = block.shape[1]
    query, column = np.divmod(np.flatnonzero(block < values[:, -1:]), width)
    if not len(query):
        return rows, values
    most = int(np.bincount(query).max())
    first = np.searchsorted(query, np.arange(len(block)))
    place = np.arange(len(query)) - first[query]
    more = np.zeros((len(block), most), np.int64), np.full((len(block), most), np.inf, np.float32)
    more[0][query, place], more[1][query, place] = column + start, block[query, column]
    return _first(np.concatenate([rows, more[0]], axis=1), np.concatenate([values, more[1]], axis=1), k)


def _first(rows: NDArray[np.int64], values: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)


@cache
def _session() -> Any:
    from reid.engines import open_session  # ONNX Runtime is slow to load, and not everybody searches

    graph = Path(str(resources.files("reid.gallery") / "scan.onnx"))
    return open_session(graph.read_bytes(), graph, 1)
