"""Where a gallery is: the name of a file, or the URL of a server."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import platformdirs

from reid.errors import DataError

SUFFIX = ".db"
PLACE = ("host", "port", "db", "table")  # options that say which gallery of a server is meant


@dataclass(frozen=True, slots=True)
class Address:
    """An address taken apart.

    Attributes:
        text: as it was given, without the options. It may hold a password; print `shown`.
        scheme: "sqlite" for a file, else what stands before "://".
        options: what follows "?", by name.

    >>> Address.parse("people.db").scheme
    'sqlite'
    >>> Address.parse("milvus://localhost:19530/people?ledger=here.db").options
    {'ledger': 'here.db'}
    """

    text: str
    scheme: str
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Address:
        """Take an address apart.

        Raises:
            DataError: it is neither a URL that can be taken apart nor the name of a file that ends in .db.
        """
        given = os.fspath(text)
        if "://" not in given:
            if not given.lower().endswith(SUFFIX):
                raise DataError(
                    f"{given} is no gallery; a gallery is a file that ends in {SUFFIX}, or milvus:// or postgresql://"
                )
            return cls(given, "sqlite")
        try:
            parts = urlsplit(given)
            _ = None if "," in parts.netloc else parts.port  # PostgreSQL takes several servers, each with a port
        except ValueError:  # which may show a part of the password
            raise DataError(
                f"an address of {given.split('://')[0]}:// cannot be taken apart; write it as "
                "scheme://user:password@host:port/name, and what is no letter or digit in the password as %XX"
            ) from None
        return cls(given.split("?")[0], parts.scheme.lower(), dict(parse_qsl(parts.query)))

    @property
    def path(self) -> str:
        """The file's name, of a gallery in a file."""
        return self.text.removeprefix("sqlite://")

    @property
    def rebuilding(self) -> Path:
        """The file beside a gallery in a file in which it is rebuilt; one that was killed leaves it there."""
        return Path(f"{self.path}.rebuilding{SUFFIX}")

    @property
    def ledger(self) -> Path:
        """The file of the gallery's ledger: its own, or for a server one in the user's data folder or the option's."""
        if "ledger" in self.options:
            return Path(self.options["ledger"])
        if self.scheme == "sqlite":
            return Path(self.path)
        folder = platformdirs.user_data_path("reid", appauthor=False, ensure_exists=True)
        return folder / f"{hashlib.sha256(self.place.encode()).hexdigest()[:16]}.ledger.db"

    @property
    def place(self) -> str:
        """What tells it from other galleries: the file, or the server and which gallery of it is meant."""
        if self.scheme == "sqlite":
            return os.path.realpath(self.path)
        return "&".join([self.shown, *(f"{name}={self.options[name]}" for name in PLACE if name in self.options)])

    @property
    def shown(self) -> str:
        """The address without a password."""
        parts = urlsplit(self.text)
        return self.text.replace(f":{parts.password}@", ":…@") if parts.password else self.text


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a source that a user hands in is a gallery: a URL of a store, or a file that ends in .db."""
    given = os.fspath(text)
    return "://" in given or given.lower().endswith(SUFFIX)
