"""A gallery in PostgreSQL, with the extension pgvector: `postgresql://user:password@host:port/database?table=gallery`.

One table holds the rows, vectors as `halfvec`; searches are exact scans, filters are conditions of the query. The
table's comment says which model its vectors are of.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from reid.distance import top_k
from reid.errors import DataError, StoreError
from reid.gallery.address import Address
from reid.gallery.rows import Rows, Where
from reid.gallery.wire import nearest, original, plain
from reid.types import Ranking, Vectors, crop_from_json, crop_to_json

PART = 2048  # rows a fetch brings at once
FEW = 16  # queries up to which the server searches; for more the vectors come over once, which takes less time
BLOCK = 8192  # rows that are compared at once when they do
IDLE = 4  # connections kept for the next call
PATIENCE = 60.0  # seconds to wait for other sessions that can still see what was deleted
OURS = {"table", "ledger"}
COLUMNS = "id, vector, crop, pid, camera, tracklet, time, tags, picture, added"
TYPES = ("int8", "bytea", "text", "text", "text", "text", "float8", "text[]", "bytea", "float8")
PRIVATE = ("vector", "crop", "pid", "tracklet", "tags", "picture")  # of these the planner keeps no samples


class PostgresqlStore:
    """See `store.Store`. Each thread that is in a call has a connection; a lost one is opened again at the next call.

    Attributes:
        model, dim: as there.
    """

    def __init__(self, address: Address, model: str | None, dim: int | None):
        options = {name: value for name, value in address.options.items() if name not in OURS}
        self._shown, self._lock = address.shown, threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._name = address.options.get("table", "gallery")
        self._table = sql.Identifier(*self._name.split("."))
        try:
            self._conninfo = make_conninfo(address.text, **{"connect_timeout": "10", **options})
        except psycopg.Error as error:
            raise DataError(f"{self._shown} is no address of PostgreSQL ({_said(error)})") from None
        try:
            with self._connection() as connection:
                found = self._described(connection)
                if found is None and model is not None and dim is not None:
                    self._create(connection, model, dim)
                    found = self._described(connection)
            if found is None:
                raise DataError(
                    f"there is no gallery in table {self._name} of {self._shown}; make one with `reid index add`"
                )
        except DataError:
            self.close()
            raise
        self.model, self.dim = found["model"], found["dim"]
        self._record = np.dtype([("head", "S6"), ("id", ">i8"), ("length", "S8"), ("vector", ">f2", (self.dim,))])

    def _described(self, connection: psycopg.Connection[Any]) -> dict[str, Any] | None:
        """What the table's comment says; None where there is no table."""
        ask = "SELECT to_regclass(%s)::text, obj_description(to_regclass(%s), 'pg_class')"
        name = self._table.as_string(connection)
        table, comment = connection.execute(ask, (name, name)).fetchone() or (None, None)
        if table is None:
            return None
        try:
            found = json.loads(comment or "")
            return {"model": str(found["model"]), "dim": int(found["dim"])}
        except (TypeError, ValueError, KeyError):
            raise DataError(
                f"table {self._name} of {self._shown} is no gallery; name another with ?table=NAME"
            ) from None

    def _create(self, connection: psycopg.Connection[Any], model: str, dim: int) -> None:
        inline = "PLAIN" if dim <= 2000 else "EXTERNAL"  # a page holds 8 kB
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('reid'))")
            if self._described(connection) is not None:
                return
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            self._run(
                connection,
                "CREATE TABLE {table} (id int8 PRIMARY KEY, vector halfvec({dim}) NOT NULL, crop text NOT NULL, "
                "pid text, camera text, tracklet text, time float8, tags text[] NOT NULL, picture bytea, "
                "added float8 NOT NULL)",
                dim=sql.Literal(dim),
            )
            self._run(connection, f"ALTER TABLE {{table}} ALTER vector SET STORAGE {inline}")
            self._run(connection, "ALTER TABLE {table} ALTER picture SET STORAGE EXTERNAL")
            for name in PRIVATE:
                self._run(connection, f"ALTER TABLE {{table}} ALTER {name} SET STATISTICS 0")
            about = json.dumps({"model": model, "dim": dim})
            self._run(connection, "COMMENT ON TABLE {table} IS {about}", about=sql.Literal(about))

    def upsert(self, rows: Rows) -> None:
        """See `store.Store`. All in one transaction."""
        if not len(rows):
            return
        head = np.array([rows.vectors.shape[1], 0], ">i2").tobytes()
        columns = zip(
            rows.ids.tolist(), rows.vectors.astype(">f2"), rows.crops, rows.tags, rows.pictures, rows.added.tolist(),
            strict=True,
        )  # fmt: skip
        names = COLUMNS.split(", ")[1:]
        with self._connection() as connection, connection.transaction():
            self._run(connection, "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE {table}) ON COMMIT DELETE ROWS")
            with connection.cursor().copy(f"COPY incoming ({COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(TYPES)
                for row, vector, crop, tags, picture, added in columns:
                    said = (plain(v) if v is not None else None for v in (crop.pid, crop.camera, crop.tracklet))
                    words = [plain(tag) for tag in sorted(tags)]
                    values = (crop_to_json(crop), *said, crop.time, words, picture, added)
                    copy.write_row((row, head + vector.tobytes(), *values))
            new = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
            self._run(
                connection,
                f"INSERT INTO {{table}} ({COLUMNS}) SELECT {COLUMNS} FROM incoming ORDER BY id "
                f"ON CONFLICT (id) DO UPDATE SET {new}",
            )

    def query(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        """See `store.Store`."""
        vectors = np.asarray(vectors, np.float32)
        with np.errstate(over="ignore"):
            halves = vectors.astype(np.float16)
        if len(vectors) > FEW or not np.isfinite(halves).all():
            return self._compared_here(vectors, k, where)
        condition, values = _condition(where)
        ids = np.full((len(vectors), k), -1, np.int64)
        distances = np.full((len(vectors), k), np.inf, np.float32)
        ask = f"SELECT id, vector <-> %s::halfvec FROM {{table}} WHERE {condition} ORDER BY 2 LIMIT %s"
        with self._connection() as connection:
            for i, vector in enumerate(halves):
                found = self._run(connection, ask, [str(vector.tolist()), *values, k]).fetchall()
                for j, (row, distance) in enumerate(found):
                    ids[i, j], distances[i, j] = row, distance
        return Ranking(ids, distances)

    def _compared_here(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        best = Ranking(np.empty((len(vectors), 0), np.int64), np.empty((len(vectors), 0), np.float32))
        for ids, block in self._vectors(where):
            found = top_k(vectors, block, k)
            best = nearest([best, Ranking(np.where(found.ids < 0, -1, ids[found.ids]), found.distances)], k)
        return best

    def _vectors(self, where: Where) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
        """Ids and vectors of one moment, a block at a time, in any order."""
        condition, values = _condition(where)
        ask = sql.SQL(f"COPY (SELECT id, vector FROM {{table}} WHERE {condition}) TO STDOUT (FORMAT BINARY)")
        with self._connection() as connection, connection.cursor() as cursor:
            with cursor.copy(ask.format(table=self._table), values) as copy:
                data, size = bytearray(), self._record.itemsize
                skip = 19  # the head of a binary COPY; its tail are two bytes
                for chunk in copy:
                    data += chunk
                    if len(data) >= skip + BLOCK * size:
                        yield self._decoded(data, skip)
                        del data[: skip + len(data[skip:]) // size * size]
                        skip = 0
            if len(data) >= skip + size:
                yield self._decoded(data, skip)

    def _decoded(self, data: bytearray, skip: int) -> tuple[NDArray[np.int64], Vectors]:
        count = (len(data) - skip) // self._record.itemsize
        records = np.frombuffer(bytes(data), self._record, count, skip)
        return records["id"].astype(np.int64), records["vector"].astype(np.float32)

    def fetch(self, where: Where, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """See `store.Store`."""
        condition, values = _condition(where)
        columns = f"id, {'vector' if vectors else 'NULL'}, crop, tags, {'picture' if pictures else 'NULL'}, added"
        ask = f"SELECT {columns} FROM {{table}} WHERE id > %s AND {condition} ORDER BY id LIMIT {PART}"
        last = -1
        while True:
            with self._connection() as connection:
                found = self._run(connection, ask, [last, *values]).fetchall()
            if not found:
                return
            ids, blobs, crops, _, kept, added = zip(*found, strict=True)
            last = ids[-1]
            yield Rows(
                np.array(ids, np.int64),
                self._halves(blobs) if vectors else np.empty((len(ids), 0), np.float16),
                tuple(crop_from_json(crop) for crop in crops),
                tuple(frozenset(map(original, row[3])) for row in found),
                kept,
                np.array(added, np.float64),
            )

    def _halves(self, blobs: Sequence[bytes]) -> NDArray[np.float16]:
        """(N, D) of what the server calls halfvec: its length, two bytes without a use, values in network order."""
        packed = np.frombuffer(b"".join(blobs), ">f2").reshape(len(blobs), self.dim + 2)
        return packed[:, 2:].astype(np.float16)

    def delete(self, where: Where) -> int:
        """See `store.Store`. The table is written anew, and while that lasts nobody else can use it.

        Raises:
            DataError: also where another session has looked at the rows for a minute and still may.
        """
        condition, values = _condition(where)
        with self._connection() as connection:
            with connection.transaction():
                gone = self._run(connection, f"DELETE FROM {{table}} WHERE {condition}", values).rowcount
                (moment,) = connection.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
            if gone or where.ids == frozenset():
                self._clear(connection, moment)
        return gone

    def _clear(self, connection: psycopg.Connection[Any], moment: str) -> None:
        """Leave nothing in files of what was deleted: in the table and its indexes, and in the log where allowed."""
        looking = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND age(backend_xmin) >= age(%s::xid8::xid)"
        )
        end = time.monotonic() + PATIENCE
        while connection.execute(looking, [moment]).fetchone() != (0,):
            if time.monotonic() > end:
                raise StoreError(
                    f"the rows are deleted, but another session of {self._shown} has looked at them for "
                    f"{PATIENCE:g} s; end it and run VACUUM FULL {self._name}"
                )
            time.sleep(0.02)
        try:
            connection.execute(f"SET lock_timeout = {int(1000 * PATIENCE)}")
            self._run(connection, "VACUUM FULL {table}")
            connection.execute("RESET lock_timeout")
        except psycopg.Error as error:
            connection.close()
            raise StoreError(
                f"the rows are deleted, but {self._shown} could not write its files anew ({_said(error)}); run "
                f"VACUUM FULL {self._name} there"
            ) from None
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")

    def count(self, where: Where) -> int:
        """See `store.Store`."""
        condition, values = _condition(where)
        with self._connection() as connection:
            found = self._run(connection, f"SELECT count(*) FROM {{table}} WHERE {condition}", values).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """See `store.Store`."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _run(
        self, connection: psycopg.Connection[Any], text: LiteralString, values: Sequence[Any] = (), **parts: sql.Literal
    ) -> psycopg.Cursor[Any]:
        """Run a statement on the gallery's table."""
        cursor = connection.cursor(binary=True)
        return cursor.execute(sql.SQL(text).format(table=self._table, **parts), values or None)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection that nobody else uses meanwhile.

        Raises:
            StoreError: in place of any error of the server's.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = psycopg.connect(self._conninfo, autocommit=True)
                connection.execute("SET synchronous_commit TO on")
            yield connection
        except psycopg.Error as error:
            said = _said(error)
            if connection is not None and not connection.closed:
                raise StoreError(f"{self._shown} refuses ({said}); mend that and try again") from None
            self.close()
            raise StoreError(f"{self._shown} cannot be reached ({said}); try again when it is there") from None
        finally:
            if connection is not None:
                self._keep(connection)

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            if connection.info.transaction_status == TransactionStatus.IDLE and len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()


def _condition(where: Where) -> tuple[LiteralString, list[Any]]:
    """A filter as SQL, and the values for its places."""
    given: list[tuple[LiteralString, Any]] = [
        ("id = ANY(%s::int8[])", None if where.ids is None else list(where.ids)),
        ("camera = ANY(%s::text[])", _texts(where.cameras)),
        ("(camera <> ALL(%s::text[])) IS NOT FALSE", _texts(where.not_cameras or None)),
        ("time >= %s::float8", where.after),
        ("time <= %s::float8", where.before),
        ("pid = ANY(%s::text[])", _texts(where.people)),
        ("(pid <> ALL(%s::text[])) IS NOT FALSE", _texts(where.not_people or None)),
        ("tracklet = ANY(%s::text[])", _texts(where.tracklets)),
        ("(pid IS NOT NULL OR tracklet <> ALL(%s::text[])) IS NOT FALSE", _texts(where.not_tracklets or None)),
        ("tags @> %s::text[]", _texts(where.tags or None)),
        ("added < %s::float8", where.added_before),
    ]
    asked = [(text, value) for text, value in given if value is not None]
    return " AND ".join(text for text, _ in asked) or "true", [value for _, value in asked]


def _said(error: psycopg.Error) -> str:
    """An error in one line."""
    return " ".join(str(error).split())


def _texts(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else [plain(name) for name in names]


def open_store(address: Address, model: str | None, dim: int | None) -> PostgresqlStore:
    """See `store.Opener`."""
    return PostgresqlStore(address, model, dim)
