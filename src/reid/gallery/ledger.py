"""What a gallery remembers besides its rows: settings, feedback, and who did what, in SQLite.

No vector, picture or path is in here, and people only by a digest. The log of who did what is a chain: each entry
carries a digest of the one before, so that an entry that is changed, removed or put in later breaks it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.errors import DataError

START = "0" * 64
PATIENCE = 60.0  # seconds to wait for another process that writes


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log.

    Attributes:
        number: from 1, without gaps.
        at: seconds since 1970 (UTC).
        by: who.
        what: "add", "search", "enrol", "rename", "merge", "split", "forget", "feedback", "erase", "expire", "keep" or
            "rebuild".
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
        body = json.dumps([before, self.number, self.at, self.by, self.what, dict(self.detail)], sort_keys=True)
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
        broken: number of the first entry that does not follow from those before it; None where all do.
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
        self._lock, self._turn = threading.RLock(), threading.RLock()
        self._connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False, isolation_level=None)
        self._other = sqlite3.connect(f"{path}-lock", timeout=PATIENCE, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA secure_delete=ON")
        with self._writing():
            for table in (
                "setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
                "audit (number INTEGER PRIMARY KEY, at REAL, who TEXT, what TEXT, detail TEXT, digest TEXT)",
                "feedback (query INTEGER, answer INTEGER, same INTEGER, who TEXT, at REAL)",
            ):
                self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, nobody else who asked for the same changes the gallery, in this process or another.

        Raises:
            DataError: others have been changing it for a minute.
        """
        with self._turn:
            try:
                self._other.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                raise DataError(
                    f"another process has been changing the gallery for {PATIENCE:g} s; try again when it is done"
                ) from None
            try:
                yield
            finally:
                self._other.execute("ROLLBACK")

    def get(self, name: str) -> str | None:
        """A setting."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str | None) -> None:
        """Keep a setting, or drop it."""
        with self._writing() as connection:
            connection.execute("DELETE FROM setting WHERE name = ?", (name,))
            if value is not None:
                connection.execute("INSERT INTO setting VALUES (?, ?)", (name, value))

    def pseudonym(self, person: str) -> str:
        """What the log calls a person: a digest with a secret of this gallery's."""
        salt = self.get("salt")
        if salt is None:
            self.set("salt", secrets.token_hex(16))
            salt = self.get("salt")
        return f"p:{hashlib.sha256(f'{salt}{person}'.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"

    def record(self, at: float, by: str, what: str, **detail: Any) -> Entry:
        """Append an entry to the log."""
        with self._writing() as connection:
            row = connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = row or (0, START)
            entry = Entry(number + 1, at, by, what, detail, "")
            entry = Entry(number + 1, at, by, what, detail, entry.expected(before))
            values = (entry.number, at, by, what, json.dumps(detail, sort_keys=True), entry.digest)
            connection.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)", values)
        return entry

    def entries(self) -> Iterator[Entry]:
        """The log from its start."""
        with self._lock:
            rows = self._connection.execute("SELECT * FROM audit ORDER BY number").fetchall()
        for number, at, who, what, detail, digest in rows:
            yield Entry(number, at, who, what, json.loads(detail), digest)

    def verify(self) -> Checked:
        """Walk the chain."""
        head, count, broken = START, 0, None
        for count, entry in enumerate(self.entries(), 1):
            if broken is None and (entry.number != count or entry.digest != entry.expected(head)):
                broken = count
            head = entry.digest if broken is None else head
        return Checked(count, broken, head)

    def say(self, word: Feedback) -> None:
        """Keep feedback; a later word on the same two crops replaces the earlier."""
        first, second = sorted((word.query, word.answer))
        with self._writing() as connection:
            connection.execute("DELETE FROM feedback WHERE query = ? AND answer = ?", (second, first))
            row = (word.query, word.answer, word.same, word.by, word.at)
            connection.execute("DELETE FROM feedback WHERE query = ? AND answer = ?", (first, second))
            connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?)", row)

    def said(self) -> list[Feedback]:
        """All feedback, oldest first."""
        with self._lock:
            rows = self._connection.execute("SELECT query, answer, same, who, at FROM feedback ORDER BY at").fetchall()
        return [Feedback(query, answer, bool(same), by, at) for query, answer, same, by, at in rows]

    def unsay(self, ids: Sequence[int]) -> None:
        """Drop feedback on those rows."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM feedback WHERE query = ?1 OR answer = ?1", [(i,) for i in ids])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._other.close()
