"""What a gallery remembers besides its rows: settings, feedback, and who did what, in SQLite.

No vector, picture or path is in here, and people only by a digest. The log of who did what is a chain: each entry
carries a digest of the one before, so that an entry that is changed, removed or put in later breaks it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import DataError
from reid.gallery.database import PATIENCE, connect, explained, patiently, scrub, transaction

START = "0" * 64
TABLES = (
    "setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "audit (number INTEGER PRIMARY KEY, at REAL, who TEXT, what TEXT, detail TEXT, digest TEXT)",
    "feedback (query INTEGER, answer INTEGER, same INTEGER, who TEXT, at REAL)",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log.

    Attributes:
        number: from 1, without gaps.
        at: seconds since 1970 (UTC).
        by: who.
        what: "add", "search", "enrol", "rename", "merge", "split", "forget", "feedback", "erase", "expire", "keep",
            "export" or "rebuild".
        detail: how many and the like; people as `Ledger.pseudonym` has them.
        digest: SHA-256 in hexadecimal of the digest before it and of everything above.
    """

    number: int
    at: float
    by: str
    what: str
    detail: Mapping[str, Any]
    digest: str

    def expected(self, before: str) -> str:
        """The digest that this entry must have after the one with digest `before`."""
        told = [before, self.number, self.at, self.by, self.what, dict(self.detail)]
        body = json.dumps(told, sort_keys=True, default=repr)  # what is no JSON somebody has put in
        return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Feedback:
    """A person's word on whether two crops of the gallery show one person.

    Attributes:
        query, answer: ids of their rows.
        same: what they said.
        by: who.
        at: seconds since 1970 (UTC).
    """

    query: int
    answer: int
    same: bool
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether the log is whole.

    Attributes:
        entries: how many there are.
        broken: number of the first entry that does not follow from those before it, or of the one after the last where
            the digest looked for was not met; None where all is well.
        head: digest of the last entry that does. Kept somewhere else, it shows later that nothing before it changed.
    """

    entries: int
    broken: int | None
    head: str


class Ledger:
    """Settings, feedback and log in one SQLite file. May be used from several threads and processes.

    Raises:
        DataError: the file cannot be read or written.
    """

    def __init__(self, path: Path):
        self._path, self._lock, self._turn = path, threading.RLock(), threading.RLock()
        self._connection = connect(path, create=True)
        self._other = sqlite3.connect(f"{path}-lock", timeout=PATIENCE, check_same_thread=False, isolation_level=None)
        self._salt: str | None = None
        with explained(path):
            known = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")}
        if not {table.split()[0] for table in TABLES} <= known:
            with self._writing():
                for table in TABLES:
                    self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    @contextmanager
    def _writing(self, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when it ends; where it need not be `synced`, safe from all but a power cut."""
        with self._lock:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
            with transaction(self._connection, self._path):
                yield self._connection

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, explained(self._path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, nobody else who asked for the same changes the gallery, in this process or another. Who has
        it may ask again.

        Raises:
            DataError: others have been changing it for a minute.
        """
        with self._turn:
            if self._other.in_transaction:
                yield
                return
            with explained(self._path):
                patiently(lambda: self._other.execute("BEGIN EXCLUSIVE"))
            try:
                yield
            finally:
                self._other.execute("ROLLBACK")

    def scrub(self) -> None:
        """Leave nothing of what was dropped in the log of changes."""
        with self._lock:
            scrub(self._connection, self._path)

    def get(self, name: str) -> str | None:
        """A setting."""
        found = self._all("SELECT value FROM setting WHERE name = ?", name)
        return str(found[0][0]) if found else None

    def set(self, name: str, value: str | None) -> None:
        """Keep a setting, or drop it."""
        with self._writing() as connection:
            connection.execute("DELETE FROM setting WHERE name = ?", (name,))
            if value is not None:
                connection.execute("INSERT INTO setting VALUES (?, ?)", (name, value))

    def pseudonym(self, person: str) -> str:
        """What the log calls a person: a digest with a secret of this gallery's."""
        if self._salt is None:
            with self._writing() as connection:
                connection.execute("INSERT OR IGNORE INTO setting VALUES ('salt', ?)", (secrets.token_hex(16),))
            self._salt = self.get("salt")
        return f"p:{hashlib.sha256(f'{self._salt}{person}'.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"

    def record(self, at: float, by: str, what: str, **detail: Any) -> Entry:
        """Append an entry to the log. Only a search's may be lost, by a power cut right after."""
        with self._writing(synced=what != "search") as connection:
            row = connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = row or (0, START)
            entry = Entry(number + 1, at, by, what, detail, "")
            entry = Entry(number + 1, at, by, what, detail, entry.expected(before))
            values = (entry.number, at, by, what, json.dumps(detail, sort_keys=True), entry.digest)
            connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", values)
        return entry

    def entries(self) -> Iterator[Entry]:
        """The log from its start."""
        for number, at, who, what, detail, digest in self._all("SELECT * FROM audit ORDER BY number"):
            yield Entry(number, at, who, what, _detail(detail), digest)

    def verify(self, seen: str | None = None) -> Checked:
        """Walk the chain, which must come by the digest `seen` where one is given.

        Raises:
            DataError: `seen` is no digest.
        """
        if seen is not None and not re.fullmatch("[0-9a-f]{64}", seen):
            raise DataError(f"{seen!r} is no digest (64 hexadecimal digits, 0-9a-f); give the one that was noted")
        head, count, broken, met = START, 0, None, seen in (None, START)
        for count, entry in enumerate(self.entries(), 1):
            if broken is None and (entry.number != count or entry.digest != entry.expected(head)):
                broken = count
            head = entry.digest if broken is None else head
            met |= head == seen
        return Checked(count, broken if met or broken else count + 1, head)

    def say(self, word: Feedback) -> None:
        """Keep feedback; a later word on the same two crops replaces the earlier."""
        row = (word.query, word.answer, word.same, word.by, word.at)
        either = "(query = ?1 AND answer = ?2) OR (query = ?2 AND answer = ?1)"
        with self._writing() as connection:
            connection.execute(f"DELETE FROM feedback WHERE {either}", row[:2])
            connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?)", row)

    def said(self) -> list[Feedback]:
        """All feedback, oldest first."""
        rows = self._all("SELECT query, answer, same, who, at FROM feedback ORDER BY at")
        return [Feedback(query, answer, bool(same), by, at) for query, answer, same, by, at in rows]

    def unsay(self, ids: Sequence[int]) -> None:
        """Drop feedback on those rows."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM feedback WHERE ?1 IN (query, answer)", [(i,) for i in ids])

    def saved(self, table: str) -> list[tuple[Any, ...]]:
        """All rows of one of TABLES, for `restore`."""
        return self._all(f"SELECT * FROM {table}")

    def restore(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Put back rows of one of TABLES as they were read from another ledger."""
        with self._writing() as connection:
            connection.execute(f"DELETE FROM {table}")
            for row in rows:
                connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._other.close()


def _detail(text: Any) -> dict[str, Any]:
    """What an entry tells; of one that is no JSON, which breaks the chain, only that."""
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return {"unreadable": repr(text)}
