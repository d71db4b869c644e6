"""SQLite as galleries use it: every commit on the disk, nothing deleted left behind, waiting instead of giving up."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from reid.errors import DataError, StoreError

APPLICATION = 0x72656964
"""Stands in the header of every file of ours: "reid"."""

PATIENCE = 60.0  # seconds to wait for others
PAGE = 16384  # bytes; opening a million vectors takes half as long as with SQLite's 4096
CACHE = 32768  # KiB, so that one batch is written to the log once
T = TypeVar("T")


def connect(path: Path, create: bool) -> sqlite3.Connection:
    """Open a file of ours, or make one. Transactions are begun by `transaction` and never by themselves.

    Raises:
        DataError: there is none and none should be made; it is something else, or damaged; or it cannot be opened.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"{path} cannot be a gallery: {'it' if path.is_dir() else path.parent} is {_what(path)}")
    if not path.exists() and not create:
        raise DataError(f"there is no gallery at {path}; make one with `reid index add {path} CROPS`")
    with explained(path):
        connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _what(path: Path) -> str:
    return "a folder; give the name of a file" if path.is_dir() else "no folder; make it first"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA page_size={PAGE}")
    tables = patiently(lambda: connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if tables and application != APPLICATION:
        raise DataError(f"{path} is a database of some other program, and is left alone; give another name")
    if not application:
        patiently(lambda: connection.execute(f"PRAGMA application_id={APPLICATION}"))
    patiently(lambda: connection.execute("PRAGMA journal_mode=WAL"))
    for pragma in ("synchronous=FULL", "secure_delete=ON", f"cache_size=-{CACHE}", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Walk all pages of a file; about half a second for a million rows.

    Raises:
        StoreError: they do not hang together.
    """
    with explained(path):
        said = patiently(lambda: connection.execute("PRAGMA quick_check(1)").fetchone())
    if said != ("ok",):
        raise StoreError(damaged(path, str(said[0]).splitlines()[-1]))


def patiently(work: Callable[[], T]) -> T:
    """Do something that SQLite may refuse while another process is at it, as often as it takes within PATIENCE."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not _busy(error) or time.monotonic() > end:
                raise
            time.sleep(0.005)


def _busy(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path, write: bool = True) -> Iterator[None]:
    """All of what is done within it, or nothing. One that reads sees one state of the file from start to end.

    Raises:
        StoreError: the disk is full, the file is damaged, or others have been writing for PATIENCE seconds.
    """
    with explained(path):
        patiently(lambda: connection.execute("BEGIN IMMEDIATE" if write else "BEGIN"))
        try:
            yield
            if connection.in_transaction:
                patiently(lambda: connection.execute("COMMIT"))
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def scrub(connection: sqlite3.Connection, path: Path) -> None:
    """Empty the log of changes, in which pages as they were before may still lie.

    Raises:
        StoreError: another program has been reading an old state for PATIENCE seconds.
    """
    end = time.monotonic() + PATIENCE
    with explained(path):
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > end:
                raise StoreError(
                    f"rows are erased from {path}, but another program holds on to its log {path}-wal, where they can "
                    "still be read; end that program and erase again"
                )
            time.sleep(0.005)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say SQLite's errors in words that tell what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_said(error, path)) from None


def _said(error: sqlite3.Error, path: Path) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or isinstance(error, sqlite3.DataError):
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"{path} cannot be written, because the disk is full or failing ({error}); what was there before is kept"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"{path} cannot be opened for writing ({error}); check the rights of the file and of its folder"
    if _busy(error):
        return f"other processes have been writing to {path} for {PATIENCE:g} s; try again when they are done"
    return f"{path} cannot be used ({error})"


def damaged(path: Path, why: str) -> str:
    """What to say of a file that is damaged."""
    return f"{path} is damaged ({why}); save what can be read with `reid index salvage {path} -o SAVED.db`"
