"""A gallery in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from reid.distance import top_k
from reid.errors import DataError
from reid.gallery.address import Address
from reid.gallery.rows import Rows, Where
from reid.types import Crop, Ranking, Vectors, crop_from_json, crop_to_json

PART = 2048


class SqliteStore:
    """See `store.Store`."""

    def __init__(self, path: Path, model: str | None, dim: int | None):
        if not path.is_file() and (model is None or dim is None):
            raise DataError(f"there is no gallery at {path}; make one with `reid index add {path} CROPS`")
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False)
        with self._lock, self._connection as c:
            c.execute("PRAGMA journal_mode=WAL")
            c.execute("PRAGMA secure_delete=ON")
            c.execute("CREATE TABLE IF NOT EXISTS store (model TEXT, dim INTEGER)")
            c.execute(
                "CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, vector BLOB, crop TEXT, tags TEXT, "
                "picture BLOB, added REAL)"
            )
            if c.execute("SELECT count(*) FROM store").fetchone() == (0,):
                c.execute("INSERT INTO store VALUES (?, ?)", (model, dim))
            self.model, self.dim = c.execute("SELECT model, dim FROM store").fetchone()

    def upsert(self, rows: Rows) -> None:
        """See `store.Store`."""
        columns = zip(rows.ids.tolist(), rows.vectors, rows.crops, rows.tags, rows.pictures, rows.added, strict=True)
        values = [(i, v.tobytes(), crop_to_json(c), json.dumps(sorted(t)), p, a) for i, v, c, t, p, a in columns]
        with self._lock, self._connection as connection:
            connection.executemany("INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?, ?, ?)", values)

    def query(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        """See `store.Store`."""
        rows = Rows.join(list(self.fetch(where, pictures=False)), self.dim)
        found = top_k(vectors, rows.vectors.astype(np.float32), k)
        return Ranking(np.where(found.ids < 0, -1, rows.ids[found.ids] if len(rows) else -1), found.distances)

    def fetch(self, where: Where, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """See `store.Store`."""
        last = -1
        while True:
            with self._lock, closing(self._connection.cursor()) as cursor:
                sql = f"SELECT id, vector, crop, tags, picture, added FROM row WHERE id > ? ORDER BY id LIMIT {PART}"
                found = cursor.execute(sql, (last,)).fetchall()
            if not found:
                return
            ids, blobs, crops, tags, kept, added = zip(*found, strict=True)
            last = ids[-1]
            part = Rows(
                np.array(ids, np.int64),
                np.frombuffer(b"".join(blobs), np.float16).reshape(len(ids), -1)[:, : self.dim if vectors else 0],
                tuple(crop_from_json(c) for c in crops),
                tuple(frozenset(json.loads(t)) for t in tags),
                kept if pictures else (None,) * len(ids),
                np.array(added, float),
            )
            admitted = part[[i for i in range(len(part)) if _admits(where, *_facts(part, i))]]
            if len(admitted):
                yield admitted

    def delete(self, where: Where) -> int:
        """See `store.Store`."""
        ids = [int(i) for part in self.fetch(where, False, False) for i in part.ids]
        with self._lock, self._connection as connection:
            connection.executemany("DELETE FROM row WHERE id = ?", [(i,) for i in ids])
        return len(ids)

    def count(self, where: Where) -> int:
        """See `store.Store`."""
        return sum(len(part) for part in self.fetch(where, False, False))

    def close(self) -> None:
        """See `store.Store`."""
        self._connection.close()


def _facts(rows: Rows, i: int) -> tuple[int, Crop, frozenset[str], float]:
    return int(rows.ids[i]), rows.crops[i], rows.tags[i], float(rows.added[i])


def _admits(where: Where, row: int, crop: Crop, tags: frozenset[str], added: float) -> bool:
    timed = where.after is not None or where.before is not None
    return (
        (where.ids is None or row in where.ids)
        and (where.cameras is None or crop.camera in where.cameras)
        and crop.camera not in where.not_cameras
        and (not timed or crop.time is not None)
        and (where.after is None or crop.time is None or crop.time >= where.after)
        and (where.before is None or crop.time is None or crop.time <= where.before)
        and (where.people is None or crop.pid in where.people)
        and (where.tracklets is None or crop.tracklet in where.tracklets)
        and where.tags <= tags
        and (where.added_before is None or added < where.added_before)
    )


def open_store(address: Address, model: str | None, dim: int | None) -> SqliteStore:
    """See `store.Opener`."""
    return SqliteStore(Path(address.path), model, dim)
