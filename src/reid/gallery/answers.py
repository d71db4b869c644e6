"""What a search answers: crops or people, nearest first, never the query itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from reid.errors import DataError
from reid.gallery.rows import Where
from reid.gallery.store import MOST, Store
from reid.types import Crop, Match, Vectors

Per = Literal["crop", "person"]
MORE = 256  # rows of a round beyond k, which may all show one person


def nearest(store: Store, vectors: Vectors, own: list[int], k: int, where: Where, per: Per) -> list[tuple[Match, ...]]:
    """For each query the k nearest rows that are not `own`, or one of each person; asks for others until it has k."""
    best: list[dict[str | int, tuple[Crop, float]]] = [{} for _ in own]
    crops: dict[int, Crop] = {}
    most = min(MOST, k + 1 + MORE)
    asked = k + 1 if per == "crop" else min(4 * k + 1, most)
    left = {where: list(range(len(own)))}
    while left:
        short: dict[Where, list[int]] = {}
        for only, queries in left.items():
            ranking = store.query(vectors[queries], asked, only)
            crops |= crops_of(store, frozenset(ranking.ids[ranking.ids >= 0].tolist()).difference(crops))
            for i, ids, distances in zip(queries, ranking.ids.tolist(), ranking.distances.tolist(), strict=True):
                before = len(best[i])
                for row, distance in zip(ids, distances, strict=True):
                    if row in crops and row != own[i]:
                        best[i].setdefault(one_of(row, crops[row], per), (crops[row], distance))
                if before < len(best[i]) < k and len(ids) == asked and ids[-1] >= 0:
                    short.setdefault(others(where, best[i].values(), per), []).append(i)
        left, asked = short, min(2 * asked, most)
    found = [sorted(some.values(), key=lambda pair: pair[1])[:k] for some in best]
    return [tuple(Match(crop, distance, rank) for rank, (crop, distance) in enumerate(some, 1)) for some in found]


def crops_of(store: Store, ids: frozenset[int]) -> dict[int, Crop]:
    """Crops by row."""
    found: dict[int, Crop] = {}
    for part in store.fetch(Where(ids=ids), vectors=False, pictures=False):
        found |= zip(part.ids.tolist(), part.crops, strict=True)
    return found


def one_of(row: int, crop: Crop, per: Per) -> str | int:
    """What counts as one: the row, or its person, or else its tracklet."""
    if per == "crop" or (crop.pid is None and crop.tracklet is None):
        return row
    return f"person {crop.pid}" if crop.pid is not None else f"tracklet {crop.tracklet}"


def others(where: Where, found: Iterable[tuple[Crop, float]], per: Per) -> Where:
    """A filter that leaves out whom `found` shows, too."""
    if per == "crop":
        return where
    crops = [crop for crop, _ in found]
    people = frozenset(crop.pid for crop in crops if crop.pid is not None)
    tracklets = frozenset(crop.tracklet for crop in crops if crop.pid is None and crop.tracklet is not None)
    return replace(where, not_people=where.not_people | people, not_tracklets=where.not_tracklets | tracklets)


def by_camera(crops: Sequence[Crop], where: Where, other_cameras: bool) -> dict[tuple[int, ...], Where]:
    """Queries that ask for the same rows, and which."""
    if not other_cameras:
        return {tuple(range(len(crops))): where}
    if crops and all(crop.camera is None for crop in crops):
        raise DataError(
            "no camera is known of the query's crops, so its own camera cannot be left out; give a data set whose "
            "names say the camera, or a CSV with the columns path,camera"
        )
    groups: dict[str | None, list[int]] = {}
    for i, crop in enumerate(crops):
        groups.setdefault(crop.camera, []).append(i)
    return {
        tuple(rows): where if camera is None else replace(where, not_cameras=where.not_cameras | {camera})
        for camera, rows in groups.items()
    }
