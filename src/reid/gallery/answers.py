"""What a search answers: crops or people, nearest first, never the query itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from reid.errors import DataError
from reid.gallery.rows import Where
from reid.gallery.store import MOST, Store
from reid.types import Crop, Match, Vectors

Per = Literal["crop", "person"]


def nearest(store: Store, vectors: Vectors, own: list[int], k: int, where: Where, per: Per) -> list[tuple[Match, ...]]:
    """For each query the k nearest rows that are not `own`, or one of each person; asks on until it has k."""
    answers: list[tuple[Match, ...]] = [()] * len(own)
    left, asked = list(range(len(own))), k + 1 if per == "crop" else 4 * k + 1
    while left:
        asked = min(asked, MOST)
        ranking = store.query(vectors[left], asked, where)
        crops = crops_of(store, frozenset(ranking.ids[ranking.ids >= 0].tolist()))
        short = []
        for i, ids, distances in zip(left, ranking.ids.tolist(), ranking.distances.tolist(), strict=True):
            best: dict[str | int, tuple[Crop, float]] = {}
            for row, distance in zip(ids, distances, strict=True):
                if row in crops and row != own[i]:
                    best.setdefault(one_of(row, crops[row], per), (crops[row], distance))
            found = list(best.values())[:k]
            answers[i] = tuple(Match(crop, distance, rank) for rank, (crop, distance) in enumerate(found, 1))
            if len(found) < k and len(ids) == asked and ids[-1] >= 0:
                short.append(i)
        left, asked = (short, 4 * asked) if asked < MOST else ([], asked)
    return answers


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
