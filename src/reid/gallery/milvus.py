"""A gallery on a Milvus server or cluster: `milvus://host:port/collection`.

Milvus has no transactions, no empty values and, in the versions reid knows, no vectors of half precision: vectors are
kept as float32, what is empty as "", pictures as base64. Searches are exact (index FLAT) unless the gallery was made
with `?index=hnsw`. Reads are strongly consistent: they see what anybody wrote before.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import numpy as np
import pymilvus
from pymilvus import DataType, MilvusClient

from reid.errors import DataError, StoreError
from reid.gallery.address import Address
from reid.gallery.rows import Rows, Where
from reid.gallery.store import MOST
from reid.gallery.wire import nearest, original, plain
from reid.types import Ranking, Vectors, crop_from_json, crop_to_json

TEXT = 65_535  # bytes a text of Milvus may have
PICTURE = (TEXT - 1) // 4 * 3  # bytes of a picture that fit in one, as base64
TAGS = 4096  # words a row may carry
PART, IDS = 2048, 8192  # rows of an answer, ids of a filter
MESSAGE = 16 << 20  # bytes of a request or an answer, about; a server takes 64 MiB
PATIENCE, CLEARING = 20.0, 600.0  # seconds for a call, and for writing files anew
BIG = float(np.finfo(np.float64).max)
INDEXES: dict[str, dict[str, Any]] = {
    "flat": {"index_type": "FLAT"},
    "hnsw": {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}},
}
FACTS = ["id", "crop", "tags", "added"]


class MilvusStore:
    """See `store.Store`.

    Attributes:
        model, dim: as there.
    """

    def __init__(self, address: Address, model: str | None, dim: int | None):
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints each error that it also raises
        self._shown, self._name = address.shown, urlsplit(address.text).path.strip("/") or "gallery"
        self._clears = address.options.get("compact", "yes") != "no"
        index = address.options.get("index", "flat")
        if not re.fullmatch(r"[A-Za-z_]\w{0,254}", self._name, re.ASCII) or index not in INDEXES:
            raise DataError(
                f"{self._shown} with index {index}: a collection's name consists of letters, digits and _, and the "
                f"index is {' or '.join(INDEXES)}"
            )
        with self._errors():
            self._client = _client(address)
        try:
            with self._errors():
                if not self._client.has_collection(self._name, timeout=PATIENCE):
                    if model is None or dim is None:
                        raise DataError(f"there is no gallery at {self._shown}; make one with `reid index add`")
                    self._create(index, model, dim)
                self.model, self.dim, self._index = self._described()
                self._client.load_collection(self._name, timeout=PATIENCE)
        except BaseException:
            self.close()
            raise

    def _described(self) -> tuple[str, int, str]:
        """Model, dimensions and index, as the collection's description has them."""
        about = self._client.describe_collection(self._name, timeout=PATIENCE)["description"]
        try:
            found = json.loads(about)
            return str(found["model"]), int(found["dim"]), str(found["index"])
        except (TypeError, ValueError, KeyError):
            raise DataError(f"{self._shown} is no gallery; name another collection") from None

    def _create(self, index: str, model: str, dim: int) -> None:
        about = json.dumps({"model": model, "dim": dim, "index": index})
        schema = self._client.create_schema(auto_id=False, description=about)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        for name in ("crop", "pid", "camera", "tracklet", "picture"):
            schema.add_field(name, DataType.VARCHAR, max_length=TEXT)
        schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=TAGS, max_length=TEXT)
        schema.add_field("timed", DataType.BOOL)
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("added", DataType.DOUBLE)
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", metric_type="L2", **INDEXES[index])
        self._client.create_collection(
            self._name, schema=schema, index_params=indexes, consistency_level="Strong", timeout=PATIENCE
        )

    def upsert(self, rows: Rows) -> None:
        """See `store.Store`. Where it fails midway, the rows before stay written.

        Raises:
            DataError: also where a text or a picture is too large for Milvus; then none is written.
        """
        made = [_record(rows, i) for i in range(len(rows))]
        with self._errors():
            start = size = 0
            for i, record in enumerate(made):
                own = 4 * self.dim + len(record["crop"]) + len(record["picture"])
                if i > start and (size + own > MESSAGE or i - start == PART):
                    self._client.upsert(self._name, made[start:i], timeout=PATIENCE)
                    start, size = i, 0
                size += own
            if made:
                self._client.upsert(self._name, made[start:], timeout=PATIENCE)

    def query(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        """See `store.Store`."""
        vectors = np.asarray(vectors, np.float32)
        step = max(1, min(MOST, MESSAGE // (4 * self.dim), MESSAGE // (16 * k)))
        blocks = [vectors[start : start + step] for start in range(0, len(vectors), step)]
        ranked = [
            nearest([self._search(block, k, f) for f in _filters(where)] or [_none(block)], k) for block in blocks
        ]
        if not ranked:
            return _none(vectors)
        return Ranking(np.concatenate([r.ids for r in ranked]), np.concatenate([r.distances for r in ranked]))

    def _search(self, vectors: Vectors, k: int, expression: str) -> Ranking:
        ids = np.full((len(vectors), k), -1, np.int64)
        distances = np.full((len(vectors), k), np.inf, np.float32)
        params = {"ef": min(max(k, 128), 32_768)} if self._index == "hnsw" else {}
        with self._errors():
            answer = self._read(
                self._client.search,
                self._name,
                list(vectors),
                filter=expression,
                limit=k,
                search_params={"metric_type": "L2", "params": params},
            )
        for i, hits in enumerate(answer):
            ids[i, : len(hits)] = [hit["id"] for hit in hits]
            distances[i, : len(hits)] = [max(0.0, hit["distance"]) ** 0.5 for hit in hits]
        return Ranking(ids, distances)

    def fetch(self, where: Where, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """See `store.Store`."""
        columns = FACTS + ["vector"] * vectors + ["picture"] * pictures
        row = 1024 + 4 * self.dim * vectors + TEXT * pictures
        for found in self._pages(where, columns, max(1, min(PART, 2 * MESSAGE // row))):
            halves = [np.asarray(r["vector"], np.float16) for r in found] if vectors else []
            yield Rows(
                np.array([r["id"] for r in found], np.int64),
                np.stack(halves) if vectors else np.empty((len(found), 0), np.float16),
                tuple(crop_from_json(r["crop"]) for r in found),
                tuple(frozenset(original(tag) for tag in r["tags"]) for r in found),
                tuple(base64.b64decode(r["picture"][1:]) if r.get("picture") else None for r in found),
                np.array([r["added"] for r in found], np.float64),
            )

    def _pages(self, where: Where, columns: list[str], size: int) -> Iterator[list[dict[str, Any]]]:
        """Rows in the order of their ids, at most `size` at once."""
        for expression in _filters(where, size):
            last = -1
            while True:
                found = self._query(f"{expression} and id > {last}".removeprefix(" and "), columns, limit=size)
                if found:
                    yield found
                if len(found) < size:
                    break
                last = found[-1]["id"]

    def _query(self, expression: str, columns: list[str], **limit: int) -> list[dict[str, Any]]:
        with self._errors():
            found = self._read(self._client.query, self._name, expression, columns, **limit)
        return sorted(found, key=lambda row: row.get("id", 0))

    def _read(self, call: Callable[..., Any], *values: Any, **options: Any) -> Any:
        """What a call gives that sees all that was written before; a server that has just started loads the rows."""
        options |= {"consistency_level": "Strong", "timeout": PATIENCE}
        try:
            return call(*values, **options)
        except pymilvus.MilvusException as error:
            if "not loaded" not in str(error):
                raise
            self._client.load_collection(self._name, timeout=PATIENCE)
            return call(*values, **options)

    def delete(self, where: Where) -> int:
        """See `store.Store`, but for what Milvus keeps in its own time: docs/scale.md.

        Raises:
            DataError: also where the server has not cleared its files after some minutes; the rows are deleted then.
        """
        ids = [row["id"] for page in self._pages(where, ["id"], min(MOST, IDS)) for row in page]
        with self._errors():
            for start in range(0, len(ids), IDS):
                self._client.delete(self._name, ids=ids[start : start + IDS], timeout=PATIENCE)
            if self._clears and (ids or where.ids == frozenset()):
                self._clear()
        return len(ids)

    def _clear(self) -> None:
        """Have the server write its files anew without what was deleted."""
        self._client.flush(self._name, timeout=CLEARING)
        self._wait("indexing", lambda: not self._client.describe_index(self._name, "vector")["pending_index_rows"])
        job = self._client.compact(self._name, timeout=PATIENCE)  # leaves out what has no index yet
        self._wait("compaction", lambda: self._client.get_compaction_state(job, timeout=PATIENCE) == "Completed")

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        end = time.monotonic() + CLEARING
        while not done():
            if time.monotonic() > end:
                raise StoreError(
                    f"the rows are deleted, but {self._shown} has not finished {what} in {CLEARING:g} s, and its files "
                    "still hold them; look at its log"
                )
            time.sleep(0.05)

    def count(self, where: Where) -> int:
        """See `store.Store`."""
        return sum(int(self._query(f, ["count(*)"])[0]["count(*)"]) for f in _filters(where))

    def close(self) -> None:
        """See `store.Store`."""
        with suppress(Exception):  # it is gone either way
            self._client.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """One sentence in place of any error of the server's."""
        try:
            yield
        except (pymilvus.MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            said = " ".join(str(getattr(error, "message", error)).split())
            raise StoreError(
                f"{self._shown} cannot be reached or refuses ({said}); try again when it is there"
            ) from None


def _client(address: Address) -> MilvusClient:
    parts = urlsplit(address.text)
    scheme = "https" if address.options.get("secure") == "true" else "http"
    return MilvusClient(
        uri=f"{scheme}://{parts.hostname or 'localhost'}:{parts.port or 19530}",
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db_name=address.options.get("db", ""),
        timeout=PATIENCE,
        dedicated=True,
    )


def _none(vectors: Vectors) -> Ranking:
    return Ranking(np.empty((len(vectors), 0), np.int64), np.empty((len(vectors), 0), np.float32))


def _record(rows: Rows, i: int) -> dict[str, Any]:
    """A row as Milvus keeps it."""
    crop, picture = rows.crops[i], rows.pictures[i]
    texts = {
        "crop": crop_to_json(crop),
        "pid": plain(crop.pid or ""),
        "camera": plain(crop.camera or ""),
        "tracklet": plain(crop.tracklet or ""),
        "picture": "" if picture is None else f"-{base64.b64encode(picture).decode()}",
    }
    tags = [plain(tag) for tag in sorted(rows.tags[i])]
    if max(map(len, [*texts.values(), *tags])) > TEXT or len(tags) > TAGS:
        what = max(texts, key=lambda name: len(texts[name]))
        limit = f"{PICTURE:,} bytes" if what == "picture" else f"{TEXT:,} characters and {TAGS:,} tags"
        raise DataError(f"{crop.path}: its {what} is too large for Milvus, which takes {limit}; make it smaller")
    return {
        "id": int(rows.ids[i]),
        "vector": rows.vectors[i].astype(np.float32),
        **texts,
        "tags": tags,
        "timed": crop.time is not None,
        "time": crop.time or 0.0,
        "added": float(rows.added[i]),
    }


def _filters(where: Where, ids: int = IDS) -> Iterator[str]:
    """A filter as expressions with so many ids at most; what they admit together, one after the other, it admits."""
    among = {"camera": where.cameras, "pid": where.people, "tracklet": where.tracklets}
    if any(names is not None and not names for names in (where.ids, *among.values())):
        return
    parts = [f"{name} in {_list(names)}" for name, names in among.items() if names is not None]
    parts += [f"camera not in {_list(where.not_cameras)}"] if where.not_cameras else []
    parts += [f"pid not in {_list(where.not_people)}"] if where.not_people else []
    parts += [f'(pid != "" or tracklet not in {_list(where.not_tracklets)})'] if where.not_tracklets else []
    parts += ["timed == true"] if where.after is not None or where.before is not None else []
    bounds = (("time >=", where.after), ("time <=", where.before), ("added <", where.added_before))
    parts += [f"{name} {min(max(float(value), -BIG), BIG)!r}" for name, value in bounds if value is not None]
    parts += [f"array_contains_all(tags, {_list(where.tags)})"] if where.tags else []
    chosen = [None] if where.ids is None else sorted(where.ids)
    for start in range(0, len(chosen), ids):
        some = [] if where.ids is None else [f"id in {chosen[start : start + ids]}"]
        yield " and ".join(parts + some)


def _list(names: frozenset[str]) -> str:
    return json.dumps([plain(name) for name in sorted(names)])


def open_store(address: Address, model: str | None, dim: int | None) -> MilvusStore:
    """See `store.Opener`."""
    return MilvusStore(address, model, dim)
