"""An evaluation taken apart: by pair of cameras, by distance, and which gallery rows came first.

Each function takes distances as `evaluate_distances` does: a (Q, G) matrix, or its rows in blocks as `distance.blocks`
yields them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import metrics
from reid.distance import smallest
from reid.errors import DataError
from reid.evaluation import PROTOCOLS, Distances, row_judge, rows_of
from reid.metrics import Rows
from reid.types import Crop, Ranking, Vectors

Floats = NDArray[np.float64]

_ROWS = 256  # of a matrix that are looked at together
_SHIFT, _LEVELS = 12, 1 << 20  # counted distances have 2,048 levels a doubling


@dataclass(frozen=True, slots=True, eq=False)
class CameraPairs:
    """How well the people that one camera saw are found in another.

    Attributes:
        query_cameras, gallery_cameras: names of the R rows and the C columns.
        queries: (R, C) queries of that camera with a valid match in that one.
        mean_ap, rank1: (R, C) plain mAP and rank-1 with the gallery restricted to that camera; NaN without queries.
    """

    query_cameras: tuple[str, ...]
    gallery_cameras: tuple[str, ...]
    queries: Rows
    mean_ap: Floats
    rank1: Floats


class Spread(NamedTuple):
    """How many pairs of one person, and how many of two, have a distance between each two of (B + 1,) edges."""

    edges: Floats
    same: Rows
    different: Rows


def camera_pairs(
    distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501"
) -> CameraPairs:
    """Evaluate each camera's queries in each camera's gallery rows alone.

    Each cell is what `evaluate_distances` gives for these queries and these rows. Crops without a camera are in none.
    """
    sets, judged = row_judge(query, gallery, protocol)
    single_shot = PROTOCOLS[protocol].single_shot
    froms, tos = _cameras(query), _cameras(gallery)
    camera = np.array([tos.index(c.camera) if c.camera is not None and c.role != "junk" else -1 for c in gallery])
    columns = [np.flatnonzero(camera == c) for c in range(len(tos))]
    place = np.zeros(len(gallery), dtype=np.int64)  # of a gallery row among its camera's
    for rows in columns:
        place[rows] = np.arange(len(rows))
    count = np.zeros((len(froms), len(tos)), dtype=np.int64)
    precision, first = np.zeros(count.shape), np.zeros(count.shape)
    for start, block in _blocks(distances, query, gallery):
        parts = [block[:, rows] for rows in columns]
        for i, crop in enumerate(query[start : start + len(block)]):
            if crop.camera is None:
                continue
            correct, ignored = judged(start + i)
            seen_by, left_out = camera[correct], camera[ignored]
            for c in np.unique(seen_by[seen_by >= 0]):
                row, here, out = parts[c][i], place[correct[seen_by == c]], place[ignored[left_out == c]]
                hits = metrics.hits(row, here, out)
                cell = froms.index(crop.camera), c
                count[cell] += 1
                precision[cell] += metrics.average_precision(hits)
                if single_shot:
                    first[cell] += metrics.single_shot(row, here, out, sets.gallery_pids[columns[c]], 1)[0]
                else:
                    first[cell] += hits[0] == 0
    with np.errstate(invalid="ignore"):
        return CameraPairs(froms, tos, count, precision / count, first / count)


def nearest(
    distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501", k: int = 9
) -> Ranking:
    """The k nearest gallery rows of each query among those that the protocol leaves in, and its nearest match.

    Returns:
        (Q, k + 1), the last the nearest match, or padding where that is among the first k, or there is none.
    """
    sets, judged = row_judge(query, gallery, protocol)
    k = min(k, len(gallery))
    ids = np.full((len(query), k + 1), -1, dtype=np.int64)
    found = np.full(ids.shape, np.inf, dtype=np.float32)
    for start, block in _blocks(distances, query, gallery):
        kept = np.array(block, dtype=np.float32)
        rows = slice(start, start + len(kept))
        matches = []
        for i, row in enumerate(kept, start):
            correct, ignored = judged(i)
            row[sets.junk] = row[ignored] = np.inf
            matches.append(correct[row[correct].argmin()] if len(correct) else -1)
        ids[rows, :k], found[rows, :k] = smallest(kept, k)
        for i, (row, match) in enumerate(zip(kept, matches, strict=True), start):
            if match >= 0 and match not in ids[i]:
                ids[i, k], found[i, k] = match, row[match]
    ids[np.isinf(found)] = -1
    return Ranking(ids, found)


def spread(
    distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501", bins: int = 60
) -> Spread:
    """Count the distances of all pairs whose people are known and that the protocol leaves in.

    Distances are taken as float32 and rounded towards 0 by less than 0.05 %; infinite ones are left out.

    Raises:
        DataError: the protocol is unknown, or no pair counts.
    """
    sets, judged = row_judge(query, gallery, protocol)
    known = np.array([c.role == "distractor" or (c.role == "person" and c.pid is not None) for c in gallery])
    same, different = np.zeros(_LEVELS, dtype=np.int64), np.zeros(_LEVELS, dtype=np.int64)
    for start, block in _blocks(distances, query, gallery):
        asked = np.flatnonzero(sets.pids[start : start + len(block)] >= 0)
        levels = _levels(np.asarray(block, dtype=np.float32)[asked])
        different += np.bincount(levels[:, known].ravel(), minlength=_LEVELS)
        for i, row in zip(asked + start, levels, strict=True):
            correct, ignored = judged(int(i))
            ignored = np.unique(ignored[known[ignored]])
            np.add.at(same, row[correct], 1)
            np.subtract.at(different, row[np.concatenate([correct, ignored])], 1)
    used = np.flatnonzero(same + different)
    values = _values(used)
    used, values = used[np.isfinite(values)], values[np.isfinite(values)].astype(np.float64)
    if not len(used):
        raise DataError("no pair of a query and a gallery row has two known people and a finite distance")
    edges = np.linspace(values[0], values[-1], bins + 1)
    if edges[0] == edges[-1]:
        edges = edges[0] + np.linspace(-0.5, 0.5, bins + 1)
    counts = [np.histogram(values, edges, weights=level[used])[0] for level in (same, different)]
    return Spread(edges, counts[0], counts[1])


def _levels(distances: Vectors) -> Rows:
    """Float32 bit patterns cut short and put in the order of their numbers: integers in [0, _LEVELS)."""
    bits = distances.view(np.int32)
    return np.asarray(((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> _SHIFT).astype(np.int64) + _LEVELS // 2)


def _values(levels: Rows) -> Vectors:
    """The reverse of `_levels`, less what was cut."""
    bits = ((levels - _LEVELS // 2) << _SHIFT).astype(np.int32)
    return np.asarray((bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32))


def _blocks(distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The distances a few rows at a time, each with the first row's query."""
    for first, block in rows_of(distances, query, gallery):
        yield from ((first + start, block[start : start + _ROWS]) for start in range(0, len(block), _ROWS))


def _cameras(crops: Sequence[Crop]) -> tuple[str, ...]:
    """The names of cameras, the numbers in them in order."""
    names = {c.camera for c in crops if c.camera is not None}
    return tuple(sorted(names, key=lambda name: [p.zfill(9) if p.isdecimal() else p for p in re.split(r"(\d+)", name)]))
