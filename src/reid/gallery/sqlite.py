"""A gallery in one SQLite file, searched in memory.

Rows lie in `row` in the order of their places. Which place an id has is known in memory only: ids are digests, and with
every batch an index of them would be written nearly anew. Vectors, and the facts that filters ask for, lie in blocks of
BLOCK places, each block with checksums and the number of the change that touched it last, so that other processes read
again what changed and nothing else.
A deleted row's place is filled with zeros and given to the next.
"""

from __future__ import annotations

import json
import math
import secrets
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.distance import in_threads
from reid.errors import DataError, ModelError, ShapeError, StoreError
from reid.gallery.address import Address
from reid.gallery.database import check, connect, damaged, explained, scrub, transaction
from reid.gallery.memory import BLOCK, FACTS, Codes, Memory, empty_facts, grouped
from reid.gallery.planes import Half, are_rounded, single
from reid.gallery.records import Column, Tally
from reid.gallery.rows import Ids, Rows, Where
from reid.types import Ranking, Vectors, crop_from_json, crop_to_json

LAYOUT = 4
PART = 2048  # rows that are fetched at once
TOGETHER = 4  # blocks that are read at once
STEP = 8  # pages that are taken over at once; fewer than any gallery has
CODED = {"camera": "camera", "pid": "person", "tracklet": "tracklet"}  # what crops call it, and what facts do
TABLES = (
    "head (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "name (code INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "block (number INTEGER PRIMARY KEY, change INTEGER, facts_sum INTEGER, vectors_sum INTEGER)",
    "facts (number INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "vectors (number INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "row (place INTEGER PRIMARY KEY, id INTEGER NOT NULL, crop TEXT NOT NULL, tags TEXT NOT NULL, "
    "added REAL NOT NULL, sum INTEGER NOT NULL, vector_sum INTEGER NOT NULL, picture BLOB, picture_sum INTEGER)",
)


class SqliteStore:
    """See `store.Store`.

    Attributes:
        model: fingerprint of the model whose vectors it holds.
        dim: length of a vector.
        path: of the file.
    """

    def __init__(self, path: Path, model: str | None, dim: int | None):
        self.path, self._lock, self._change, self._born = path, threading.RLock(), -1, ""
        self._connection = connect(path, create=model is not None and dim is not None)
        try:
            check(self._connection, path)
            self.model, self.dim = self._head(model, dim)
            self._memory, self._unread = Memory(self.dim), set[int]()
            with self._looking():
                pass
        except BaseException:
            self._connection.close()
            raise

    def _head(self, model: str | None, dim: int | None) -> tuple[str, int]:
        """Model and length of vectors, of the file or for a new one."""
        with explained(self.path):
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'head'").fetchone()[0]
        if not tables:
            if model is None or dim is None:
                raise DataError(f"{self.path} holds no gallery yet; make one with `reid index add {self.path} CROPS`")
            with transaction(self._connection, self.path):
                for table in TABLES:
                    self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")
                head = {"layout": LAYOUT, "model": model, "dim": dim, "change": 0, "born": secrets.token_hex(8)}
                self._connection.executemany("INSERT OR IGNORE INTO head VALUES (?, ?)", head.items())
        with explained(self.path):
            known = dict(self._connection.execute("SELECT name, value FROM head"))
        if known.get("layout") != LAYOUT:
            raise DataError(
                f"{self.path} has the layout {known.get('layout')}, and this reid knows {LAYOUT}; "
                f"`reid index salvage {self.path} -o NEW.db` takes over what an older one holds"
            )
        return str(known["model"]), int(known["dim"])

    @contextmanager
    def _looking(self, vectors: bool = False) -> Iterator[None]:
        """One state of the file, read into memory as far as it has changed."""
        with self._lock, transaction(self._connection, self.path, write=False):
            self._read(vectors)
            yield

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """One change to the file; gives its number."""
        with self._lock, transaction(self._connection, self.path):
            self._read(vectors=False)
            change = self._change + 1
            yield change
            self._connection.execute("UPDATE head SET value = ? WHERE name = 'change'", (change,))

    def _read(self, vectors: bool) -> None:
        """Bring the memory up to date."""
        execute = self._connection.execute
        head = dict(execute("SELECT name, value FROM head"))
        if head["born"] != self._born or head["change"] < self._change:  # it was rebuilt, or an older copy put back
            if head["model"] != self.model:
                raise ModelError(f"{self.path} has been rebuilt with another model, {head['model']}; open it again")
            self._born, self._change, self._memory = head["born"], -1, Memory(self.dim)
            self._unread.clear()
        change = head["change"]
        if change != self._change:
            changed = "SELECT number, facts_sum, data FROM block JOIN facts USING (number) WHERE change > ?"
            for number, checksum, data in execute(changed, (self._change,)):
                self._check(data, checksum, BLOCK * FACTS.itemsize, f"the facts of block {number}")
                self._memory.put_facts(number, np.frombuffer(data, FACTS))
                self._unread.add(number)
            self._change = change
        unread = sorted(self._unread) if vectors else []
        for start in range(0, len(unread), TOGETHER):
            found = "SELECT number, vectors_sum, data FROM block JOIN vectors USING (number) WHERE number = ?"
            blocks = [execute(found, (number,)).fetchone() for number in unread[start : start + TOGETHER]]
            in_threads(partial(self._put, blocks), len(blocks))

    def _put(self, blocks: Sequence[tuple[int, int, bytes]], chosen: slice) -> None:
        """Take some of those blocks' vectors into memory."""
        for number, checksum, data in blocks[chosen]:
            self._check(data, checksum, BLOCK * 2 * self.dim, f"the vectors of block {number}")
            self._memory.put_vectors(number, data)
            self._unread.discard(number)

    def _check(self, data: bytes, checksum: int, length: int, what: str) -> None:
        if len(data) != length or zlib.crc32(data) != checksum:
            raise StoreError(damaged(self.path, f"{what} are not what was written"))

    def upsert(self, rows: Rows) -> None:
        """See `store.Store`."""
        if rows.vectors.shape[1] != self.dim and len(rows):
            raise ShapeError(f"vectors have {rows.vectors.shape[1]} values, those of {self.path} have {self.dim}")
        if not are_rounded(rows.vectors):
            raise ShapeError(
                f"{self.path} cannot keep these vectors, which are finer than galleries keep them; embed their crops "
                "again"
            )
        with self._writing() as change:
            there = self._memory.find(rows.ids)
            places = self._places_for(there)
            facts = np.empty(len(rows), FACTS)
            facts["id"], facts["added"] = rows.ids, rows.added
            facts["square"] = np.square(single(rows.vectors)).sum(axis=1)
            facts["time"] = [np.nan if crop.time is None else crop.time for crop in rows.crops]
            for column, name in CODED.items():
                facts[name] = self._coded([getattr(crop, column) for crop in rows.crops])
            facts["tags"] = self._coded(rows.tags)
            self._write_places(places, facts, rows.vectors, change)
            self._remove(there[there >= 0])  # INSERT OR REPLACE would take three times as long
            self._connection.executemany("INSERT INTO row VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _records(rows, places))

    def _places_for(self, there: Codes) -> Codes:
        """Where rows go: where they are, if they are there, then empty places, then new blocks."""
        new = np.flatnonzero(there < 0)
        free = [np.flatnonzero(self._memory.facts["id"][: len(self._memory) * BLOCK] < 0)]
        for number in range(len(self._memory), len(self._memory) + max(0, -(-(len(new) - len(free[0])) // BLOCK))):
            blank = empty_facts().tobytes()
            self._connection.execute("INSERT INTO block VALUES (?, -1, 0, 0)", (number,))
            self._connection.execute("INSERT INTO facts VALUES (?, ?)", (number, blank))
            self._connection.execute("INSERT INTO vectors VALUES (?, zeroblob(?))", (number, BLOCK * 2 * self.dim))
            free.append(np.arange(number * BLOCK, (number + 1) * BLOCK))
        places = there.copy()
        places[new] = np.concatenate(free)[: len(new)]
        return places

    def _coded(self, names: Sequence[str | frozenset[str] | None]) -> NDArray[np.int32]:
        """Codes of names or of sets of tags, new ones for those that have none; −1 for None and for no tags."""
        text = {name: _text(name) for name in set(names) if name}
        given = json.dumps(list(text.values()))
        self._connection.execute(
            "INSERT INTO name (text) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING", (given,)
        )
        found = dict(self._connection.execute(_among("SELECT text, code FROM name WHERE text"), (given,)))
        code = {name: found[written] for name, written in text.items()}
        return np.array([code.get(name, -1) if name else -1 for name in names], np.int32)

    def _write_places(self, places: Codes, facts: NDArray[Any], vectors: Half, change: int) -> None:
        """Put facts and vectors where they belong, and note what has changed."""
        order = np.argsort(places)
        places, facts, vectors = places[order], facts[order], vectors[order]
        for number in np.unique(places // BLOCK).tolist():
            start, end = np.searchsorted(places, [number * BLOCK, (number + 1) * BLOCK])
            sums = []
            for table, values in (("facts", facts), ("vectors", vectors)):
                with self._connection.blobopen(table, "data", number) as blob:
                    for first, last in _runs(places[start:end]):
                        part = values[start + first : start + last]
                        blob.seek(int(places[start + first] % BLOCK) * part[:1].nbytes)
                        blob.write(part.tobytes())
                    blob.seek(0)
                    sums.append(zlib.crc32(blob.read()))
            update = "UPDATE block SET change = ?, facts_sum = ?, vectors_sum = ? WHERE number = ?"
            self._connection.execute(update, (change, *sums, number))

    def query(self, vectors: Vectors, k: int, where: Where) -> Ranking:
        """See `store.Store`."""
        with self._looking(vectors=True):
            return self._memory.query(vectors, k, self._memory.admitted(where, self))

    def fetch(self, where: Where, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """See `store.Store`."""
        light = not (vectors or pictures)  # little enough to be read at once, so that it tells of one state of the file
        with self._looking():
            ids = np.sort(self._memory.facts["id"][self._memory.admitted(where, self)])
            chunks = [ids[start : start + PART] for start in range(0, len(ids), PART)]
            told = [self._fetched(chunk, vectors, pictures) for chunk in chunks] if light else []
        yield from told
        for chunk in () if light else chunks:
            with self._looking(vectors):
                part = self._fetched(chunk, vectors, pictures)
            if len(part):
                yield part

    def _fetched(self, ids: Ids, vectors: bool, pictures: bool) -> Rows:
        """Those rows that are still there, while the file is looked at."""
        columns = "place, id, crop, tags, added, sum" + (", picture, picture_sum" if pictures else ", NULL, NULL")
        places = self._memory.find(ids)
        sql = _among(f"SELECT {columns} FROM row WHERE place")
        asked = dict(zip(places.tolist(), ids.tolist(), strict=True))
        asked.pop(-1, None)
        found = self._connection.execute(sql, (json.dumps([*asked]),)).fetchall()
        for place, row, crop, tags, added, checksum, picture, picture_sum in found:
            whole = picture is None or zlib.crc32(picture) == picture_sum
            if not whole or row != asked[place] or checksum != sum_of(row, crop, tags, added):
                raise StoreError(damaged(self.path, f"row {row} is not what was written"))
        if len(found) < len(asked):
            raise StoreError(damaged(self.path, f"rows are missing: {len(asked) - len(found)}"))
        if not found:
            return Rows.join([], self.dim if vectors else 0)
        found.sort(key=itemgetter(1))
        at, numbers, crops, tagged, added, _, kept, _ = zip(*found, strict=True)
        taken = self._memory.take(np.array(at)).halves() if vectors else np.empty((len(found), 0), np.float16)
        words = {tags: frozenset(json.loads(tags)) for tags in set(tagged)}
        return Rows(
            np.array(numbers, np.int64),
            taken,
            tuple(crop_from_json(crop) for crop in crops),
            tuple(words[tags] for tags in tagged),
            kept,
            np.array(added, float),
        )

    def delete(self, where: Where) -> int:
        """See `store.Store`."""
        with self._writing() as change:
            places = np.flatnonzero(self._memory.admitted(where, self))
            if len(places):
                blank = np.zeros((len(places), self.dim), np.float16)
                self._write_places(places, empty_facts(len(places)), blank, change)
                self._remove(places)
        with self._writing():
            self._drop_names()
        with self._lock:
            scrub(self._connection, self.path)
            with self._looking():  # which wipes what is in memory
                pass
        return len(places)

    def _remove(self, places: Codes) -> None:
        """Delete what is told of rows, if they are where the memory says."""
        if not len(places):
            return
        asked = (json.dumps(places.tolist()),)
        found = dict(self._connection.execute(_among("SELECT place, id FROM row WHERE place"), asked))
        if found != dict(zip(places.tolist(), self._memory.facts["id"][places].tolist(), strict=True)):
            raise StoreError(damaged(self.path, "rows are not where they were written, or it was replaced while open"))
        self._connection.execute(_among("DELETE FROM row WHERE place"), asked)

    def _drop_names(self) -> None:
        """Forget names that no row has any more."""
        codes = json.dumps(_used([self._memory.facts[name] for name in (*CODED.values(), "tags")]))
        self._connection.execute(_among("DELETE FROM name WHERE NOT code"), (codes,))

    def count(self, where: Where) -> int:
        """See `store.Store`."""
        with self._looking():
            return int(self._memory.admitted(where, self).sum())

    def state(self) -> object:
        """See `store.state`."""
        with self._looking():
            return self._born, self._change

    def tallies(self, where: Where, column: Column) -> list[Tally]:
        """See `store.tallies`. Others wait while what is in memory is copied, and not while it is counted."""
        with self._looking():
            mask = self._memory.admitted(where, self)
            facts = self._memory.facts
            names, cameras, times = (facts[of][mask] for of in (CODED[column], "camera", "time"))
            used = _used([names, cameras])
            asked = _among("SELECT code, text FROM name WHERE code")
            written = self._connection.execute(asked, (json.dumps(used),)).fetchall()
        if len(written) != len(used):
            raise StoreError(damaged(self.path, "names of crops are missing"))
        text = {-1: None} | {code: json.loads(name) for code, name in written}
        return [
            Tally(text[name], text[camera], rows, *((None, None) if math.isnan(first) else (first, last)))
            for name, camera, rows, first, last in grouped(names, cameras, times)
        ]

    def become(self, other: Path, last: Callable[[], None]) -> None:
        """Take over all that is in another gallery's file, the ledger included, in one transaction.

        Args:
            last: called when nobody can write to this gallery any more; may still write to the other.

        Raises:
            StoreError: it cannot be written; then nothing has changed.
        """
        begun = False

        def step(status: int, left: int, total: int) -> None:
            nonlocal begun
            if not begun and status == sqlite3.SQLITE_OK:  # and not that others are writing
                begun = True
                last()

        there = f"{other.absolute().as_uri()}?mode=rw"
        with self._lock, explained(self.path), closing(sqlite3.connect(there, uri=True)) as source:
            source.backup(self._connection, pages=STEP, progress=step)
            scrub(self._connection, self.path)
            self.model, self.dim = self._head(None, None)
            with self._looking():
                pass

    def close(self) -> None:
        """See `store.Store`."""
        with self._lock:
            self._connection.close()

    def codes(self, names: frozenset[str]) -> Codes:
        """See `memory.Names`."""
        texts = json.dumps([_text(name) for name in names])
        return _numbers(self._connection.execute(_among("SELECT code FROM name WHERE text"), (texts,)))

    def carrying(self, tags: frozenset[str]) -> Codes:
        """See `memory.Names`."""
        sets = self._connection.execute("SELECT code, text FROM name WHERE text LIKE '[%'")
        return np.array([code for code, text in sets if tags <= set(json.loads(text))], np.int64)


def _text(name: str | frozenset[str]) -> str:
    """A name, or a set of tags, as it stands in the file: JSON, which can hold any text."""
    return json.dumps(name if isinstance(name, str) else sorted(name))


def _among(sql: str) -> str:
    """A condition on a column that its value is in a list, given as JSON, of any length."""
    return f"{sql} IN (SELECT value FROM json_each(?))"


def _numbers(found: sqlite3.Cursor) -> Codes:
    return np.array([number for (number,) in found], np.int64)


def _used(columns: Sequence[NDArray[np.int32]]) -> list[int]:
    """The codes that stand in columns."""
    used = np.zeros(max(int(column.max(initial=0)) for column in columns) + 2, bool)
    for column in columns:
        used[column] = True
    used[-1] = False  # which −1, for none, has set
    return np.flatnonzero(used).tolist()


def _runs(places: Codes) -> list[tuple[int, int]]:
    """Where consecutive places start and end, (first, last + 1), in ascending ones."""
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1).tolist()
    return list(zip(starts, [*starts[1:], len(places)], strict=True))


def sum_of(row: int, crop: str, tags: str, added: float) -> int:
    """The checksum of what is told of a row."""
    return zlib.crc32(f"{row}\n{crop}\n{tags}\n{added!r}".encode())


def _records(rows: Rows, places: Codes) -> Iterator[tuple[Any, ...]]:
    facts = (rows.ids.tolist(), places.tolist(), rows.crops, rows.tags, rows.added.tolist())
    written = {tags: _text(tags) for tags in set(rows.tags)}
    for row, place, crop, tags, added, vector, picture in zip(*facts, rows.vectors, rows.pictures, strict=True):
        told, words = crop_to_json(crop), written[tags]
        picture_sum = None if picture is None else zlib.crc32(picture)
        yield place, row, told, words, added, sum_of(row, told, words, added), zlib.crc32(vector), picture, picture_sum


def open_store(address: Address, model: str | None, dim: int | None) -> SqliteStore:
    """See `store.Opener`."""
    return SqliteStore(Path(address.path), model, dim)
