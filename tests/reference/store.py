"""The plainest store of a gallery: a dict of rows, filters as they are defined, and all distances one by one."""

from __future__ import annotations

import numpy as np

from reid.gallery.records import Summary
from reid.gallery.rows import Rows, Where
from reid.types import Crop


class Plain:
    """Not a `store.Store`: it gives lists, for tests to compare with."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[np.ndarray, Crop, frozenset[str], bytes | None, float]] = {}

    def upsert(self, rows: Rows) -> None:
        columns = zip(rows.ids.tolist(), rows.vectors, rows.crops, rows.tags, rows.pictures, rows.added, strict=True)
        for row, *rest in columns:
            self.rows[row] = (rest[0].copy(), *rest[1:])

    def admitted(self, where: Where) -> list[int]:
        return sorted(row for row in self.rows if self._admits(where, row))

    def _admits(self, where: Where, row: int) -> bool:
        _, crop, tags, _, added = self.rows[row]
        if where.ids is not None and row not in where.ids:
            return False
        for wanted, name in ((where.cameras, crop.camera), (where.people, crop.pid), (where.tracklets, crop.tracklet)):
            if wanted is not None and (name is None or name not in wanted):
                return False
        if crop.camera is not None and crop.camera in where.not_cameras:
            return False
        if crop.pid is not None and crop.pid in where.not_people:
            return False
        if crop.pid is None and crop.tracklet is not None and crop.tracklet in where.not_tracklets:
            return False
        if (where.after is not None or where.before is not None) and crop.time is None:
            return False
        if where.after is not None and crop.time < where.after:
            return False
        if where.before is not None and crop.time > where.before:
            return False
        if any(tag not in tags for tag in where.tags):
            return False
        return where.added_before is None or added < where.added_before

    def summaries(self, where: Where, column: str) -> list[Summary]:
        told: dict[str, list[Crop]] = {}
        for row in self.admitted(where):
            crop = self.rows[row][1]
            if (name := getattr(crop, column)) is not None:
                told.setdefault(name, []).append(crop)
        found = []
        for name, crops in sorted(told.items()):
            times = [crop.time for crop in crops if crop.time is not None]
            cameras = tuple(sorted({crop.camera for crop in crops if crop.camera is not None}))
            found.append(Summary(name, len(crops), cameras, min(times, default=None), max(times, default=None)))
        return found

    def distances(self, vector: np.ndarray, where: Where) -> dict[int, float]:
        return {
            row: float(np.linalg.norm(self.rows[row][0].astype(float) - vector.astype(float)))
            for row in self.admitted(where)
        }

    def delete(self, where: Where) -> int:
        gone = self.admitted(where)
        for row in gone:
            del self.rows[row]
        return len(gone)
