"""What can still be read of a damaged gallery in a file, written to a new one."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import DataError
from reid.gallery.address import Address
from reid.gallery.ledger import TABLES, Ledger
from reid.gallery.memory import BLOCK
from reid.gallery.planes import Half
from reid.gallery.rows import Rows, half
from reid.gallery.sqlite import PART, SqliteStore, sum_of
from reid.types import crop_from_json

COLUMNS = "place, id, crop, tags, added, sum, vector_sum, picture, picture_sum"
FEW = 8  # rows that are given up together


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of it.

    Attributes:
        rows: how many were whole.
        broken: how many are there, but are not what was written; a row of which only the picture is broken is saved
            without it.
        unread: stretches of the table of rows that cannot be read; how many rows lay there is not known.
        unread_blocks: blocks of vectors that cannot be read.
        entries: of the log.
        feedback: how many words.
    """

    rows: int
    broken: int
    unread: int
    unread_blocks: int
    entries: int
    feedback: int


def salvage(path: Path, target: Path | None) -> Saved:
    """Read what can be read, and write it to a new gallery where one is named. The damaged file is not touched.

    Raises:
        DataError: not even the model's fingerprint can be read, or the target is no name of a gallery or there already.
    """
    ledger = None if target is None else Address.parse(target).ledger
    if target is not None and target.exists():
        raise DataError(f"{target} is there already; give a name for a new gallery")
    if not path.is_file():
        raise DataError(f"there is no gallery at {path}; give the damaged file")
    with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True)) as source:
        try:
            head = dict(source.execute("SELECT name, value FROM head"))
            model, dim = str(head["model"]), int(head["dim"])
        except (sqlite3.Error, KeyError) as error:
            raise DataError(f"of {path} nothing can be read ({error}); restore it from a copy") from None
        store = None if target is None else SqliteStore(target, model, dim)
        try:
            return _copied(source, store, dim, ledger)
        finally:
            if store is not None:
                store.close()


def _copied(source: sqlite3.Connection, store: SqliteStore | None, dim: int, log: Path | None) -> Saved:
    vectors, unread_blocks, blocks = _blocks(source, dim)
    rows = broken = unread = 0
    for found in _ranges(source, 0, BLOCK * blocks):
        if found is None:
            unread += 1
            continue
        whole = [_whole(row, vectors) for row in found]
        kept = list({int(row.ids[0]): row for row in whole if row is not None}.values())
        rows, broken = rows + len(kept), broken + len(whole) - len(kept)
        if store is not None:
            for start in range(0, len(kept), PART):
                part = Rows.join(kept[start : start + PART], dim)
                store.upsert(replace(part, vectors=half(part.vectors)))  # which changes those of older files alone
    entries, feedback = _ledger(source, log)
    return Saved(rows, broken, unread, unread_blocks, entries, feedback)


def _blocks(source: sqlite3.Connection, dim: int) -> tuple[dict[int, Half], int, int]:
    """Vectors by block, as far as they can be read at all; each row of them has a checksum of its own. How many blocks
    cannot be read, and how many were looked for."""
    found, unread, number, missing = {}, 0, 0, 0
    while missing < 64:  # so many in a row that are not there are the end
        try:
            row = source.execute("SELECT data FROM vectors WHERE number = ?", (number,)).fetchone()
            missing = missing + 1 if row is None else 0
            if row is not None and len(row[0]) == BLOCK * 2 * dim:
                found[number] = np.frombuffer(row[0], np.float16).reshape(BLOCK, dim)
        except sqlite3.Error:
            unread, missing = unread + 1, missing + 1
        number += 1
    return found, unread, number


def _ranges(source: sqlite3.Connection, low: int, high: int) -> Iterator[list[Any] | None]:
    """Records of the places from low to high − 1, halved where they cannot be read; None for FEW that cannot."""
    try:
        yield source.execute(f"SELECT {COLUMNS} FROM row WHERE place >= ? AND place < ?", (low, high)).fetchall()
    except sqlite3.Error:
        if high - low <= FEW:
            yield None
            return
        middle = (low + high) // 2
        yield from _ranges(source, low, middle)
        yield from _ranges(source, middle, high)


def _whole(record: Any, vectors: dict[int, Half]) -> Rows | None:
    """A record with its vector as a row, if both are what was written."""
    place, row, crop, tags, added, checksum, vector_sum, picture, picture_sum = record
    try:
        vector = vectors[place // BLOCK][place % BLOCK]
        if checksum != sum_of(row, crop, tags, added) or zlib.crc32(vector.tobytes()) != vector_sum:
            return None
        kept = picture if isinstance(picture, bytes) and zlib.crc32(picture) == picture_sum else None
        told = (crop_from_json(crop),), (frozenset(json.loads(tags)),), (kept,)
        return Rows(np.array([row], np.int64), vector[None], *told, np.array([added], float))
    except (KeyError, TypeError, ValueError, DataError):
        return None


def _ledger(source: sqlite3.Connection, target: Path | None) -> tuple[int, int]:
    """Settings, log and feedback, each as far as it can be read."""
    counts = {}
    ledger = None if target is None else Ledger(target)
    for table in TABLES:
        name = table.split()[0]
        rows: list[Any] = []
        with suppress(sqlite3.Error):
            rows += source.execute(f"SELECT * FROM {name}")
        counts[name] = len(rows)
        if ledger is not None and rows:
            ledger.restore(name, rows)
    if ledger is not None:
        ledger.close()
    return counts["audit"], counts["feedback"]
