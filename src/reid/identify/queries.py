"""Which crops are one query: each by itself, or several together, whose vectors are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from reid import distance
from reid.metrics import Rows
from reid.protocols import codes, tracklet_of
from reid.types import Crop, Embeddings, Vectors

Together = Literal["crop", "tracklet", "all"]
FORMS = ("crop", "several")


def grouped(crops: Sequence[Crop], together: Together) -> Rows:
    """(N,) which query each crop belongs to, numbered from 0 by first crop."""
    if together == "all":
        return np.zeros(len(crops), dtype=np.int64)
    if together == "crop":
        return np.arange(len(crops))
    return _alone(codes([tracklet_of(crop) for crop in crops]))


def _alone(found: Rows) -> Rows:
    """Codes renumbered from 0 by first appearance, each −1 a group of its own."""
    found = np.where(found < 0, found.max(initial=0) + 1 + np.arange(len(found)), found)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.asarray(place[inverse], dtype=np.int64)


def by_group(groups: Rows) -> list[Rows]:
    """The rows of each group, ascending."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def forms(members: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, Rows]]:
    """Which queries are one crop and which are several."""
    several = np.array([len(rows) > 1 for rows in members])
    for form, chosen in (("crop", ~several), ("several", several)):
        if chosen.any():
            yield form, np.flatnonzero(chosen)


def labelled(crops: Embeddings, form: str) -> tuple[Vectors, Rows]:
    """(Q, D) queries of a form made of labelled crops, and (Q,) the row of the first crop of each.

    "several" are all crops of a tracklet, or else of a person in a camera, where these are more than one.
    """
    if form == "crop" or not len(crops):
        return crops.vectors, np.arange(len(crops))
    keys = [None if c.pid is None and c.tracklet is None else repr((c.pid, c.camera, c.tracklet)) for c in crops.crops]
    groups = _alone(codes(keys))
    sizes = np.bincount(groups)
    first = np.array([rows[0] for rows in by_group(groups)])
    several = sizes > 1
    return distance.means(crops.vectors, groups)[several], first[several]
