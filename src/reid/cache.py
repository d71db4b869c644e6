"""Embeddings of pictures seen before, found by the model and the picture's content, in the platform's cache folder.

Embeddings are personal data: `reid search --no-cache` writes nothing here, and deleting the folder forgets everything.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from reid.disk import discard
from reid.errors import DataError, StoreError
from reid.types import Vectors

PATIENCE = 30.0  # seconds to wait for others
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last: there is no such table


def folder() -> Path:
    """Where caches live."""
    return platformdirs.user_cache_path("reid", appauthor=False)


def forget(fingerprint: str, vectors: NDArray[np.float16], paths: Sequence[str], where: Path | None = None) -> int:
    """Remove crops from the caches of all models: by what is in their files, where those can still be read, and from
    that of one model by their vectors in half precision too. Nothing of them stays in the files. How many there were.

    A cache that is damaged is removed whole.

    Raises:
        StoreError: another program holds on to a cache, or its folder may not be written to.
    """
    wanted, gone = {vector.tobytes() for vector in vectors}, 0
    digests = [(Cache.digest(data),) for data in map(_content, paths) if data is not None]
    for path in (where or folder()).glob("*.db"):
        try:
            gone += _forgotten(path, digests, wanted if path.stem == fingerprint else set())
        except (sqlite3.Error, ValueError, TypeError) as error:
            _remove(path, error)
    return gone


def _forgotten(path: Path, digests: Sequence[tuple[bytes]], wanted: set[bytes]) -> int:
    with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        rows = list(digests)
        for digest, vector in connection.execute("SELECT digest, vector FROM seen") if wanted else ():
            if np.frombuffer(vector, np.float32).astype(np.float16).tobytes() in wanted:
                rows.append((digest,))
        with connection:
            gone = connection.executemany("DELETE FROM seen WHERE digest = ?", rows).rowcount
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise sqlite3.OperationalError("another program reads an old state of it")
    return gone


def _remove(path: Path, error: Exception) -> None:
    """Remove a cache which that error shows to be damaged."""
    why = error
    if not isinstance(error, sqlite3.Error) or (getattr(error, "sqlite_errorcode", 0) & 0xFF) in DAMAGED:
        try:
            return discard(path)
        except OSError as refused:
            why = refused
    raise StoreError(
        f"{path} may still hold embeddings of what is to be erased ({why}); end the programs that use it, or delete "
        "it, and try again"
    ) from None


def _content(path: str) -> bytes | None:
    """What is in a crop's file, where there is one that can be read."""
    try:
        return Path(path).read_bytes() if Path(path).is_file() else None
    except (OSError, ValueError):
        return None


class Cache:
    """One model's embeddings by content digest, in one SQLite file that several processes can use at once.

    Args:
        fingerprint: of the model.
        where: the folder, made if need be.
    """

    def __init__(self, fingerprint: str, where: Path | None = None):
        where = where or folder()
        try:
            where.mkdir(parents=True, exist_ok=True)
            self._open(where / f"{fingerprint}.db")
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"the cache in {where} cannot be used ({error}); search with --no-cache") from None

    def _open(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # a lost cache costs time only
        self._connection.execute("CREATE TABLE IF NOT EXISTS seen (digest BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    @staticmethod
    def digest(data: bytes) -> bytes:
        """What a picture's embedding is found by, from the bytes of its file."""
        return hashlib.blake2b(data, digest_size=16).digest()

    def get(self, digests: Sequence[bytes]) -> dict[bytes, Vectors]:
        """The vectors of those digests that are known."""
        marks = ",".join("?" * len(digests))
        with self._lock:
            rows = self._connection.execute(f"SELECT digest, vector FROM seen WHERE digest IN ({marks})", digests)
            return {digest: np.frombuffer(vector, dtype=np.float32) for digest, vector in rows}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        """Remember vectors by digest."""
        rows = [(digest, vector.astype(np.float32).tobytes()) for digest, vector in vectors.items()]
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?)", rows)

    def close(self) -> None:
        self._connection.close()
