"""Who may do what: tokens in a file that only its owner reads."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from reid.errors import DataError

Role = Literal["read", "write", "erase"]
ROLES: tuple[Role, ...] = get_args(Role)
_LINE = re.compile(r"(?P<name>[\w.@-]{1,64}) (?P<roles>[a-z,]+) (?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        name: for the gallery's log.
        roles: what they may do.
    """

    name: str
    roles: frozenset[str]


EVERYBODY = Caller("local", frozenset(ROLES))
"""Of a service without tokens, which only this machine can reach."""


class Tokens:
    """The tokens of a file, read again whenever it changes: a line that is taken out counts no more.

    A line is a name, roles with commas between them, and the SHA-256 of the token in hexadecimal. A token is 32 random
    bytes, so that its digest cannot be searched for, and needs neither salt nor a slow hash.

    Raises:
        DataError: the file is missing, others than its owner may read it, or a line is not understood.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._known: list[tuple[bytes, Caller]] = []
        self._read_if_changed()
        if not self._known:
            raise DataError(f"{self._path} holds no token; make one with `reid serve --tokens FILE --new-token NAME`")

    def find(self, token: str) -> Caller | None:
        """Whose token it is. Every line is compared, each in constant time.

        Raises:
            DataError: the file has changed and cannot be used; then nobody is let in.
        """
        self._read_if_changed()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _read_if_changed(self) -> None:
        try:
            facts = self._path.stat()
            seen = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
            if seen == self._seen:
                return
            self._known, self._seen = [], None  # until it has been read, nobody is known
            _check_owner(self._path, facts)
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self._known, self._seen = [], None
            raise DataError(f"{self._path} cannot be read ({error}); give the file of the tokens") from None
        self._known = [_parsed(line, f"{self._path}:{n}") for n, line in enumerate(lines, 1) if _counts(line)]
        self._seen = seen


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if os.name != "posix":
        return
    if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise DataError(f"others than its owner may use {path}; forbid it with `chmod 600 {path}`")
    if facts.st_uid not in (os.geteuid(), 0):
        raise DataError(f"{path} belongs to somebody else; make a file of your own")


def _parsed(line: str, where: str) -> tuple[bytes, Caller]:
    found = _LINE.fullmatch(line.strip())
    if not found:
        raise DataError(f"{where} is no token; a line is a name, its roles, and 64 hexadecimal digits")
    return bytes.fromhex(found["digest"]), Caller(found["name"], checked_roles(found["roles"].split(","), where))


def checked_roles(roles: Iterable[str], where: str) -> frozenset[str]:
    """Roles, each of them known.

    Raises:
        DataError: one is not, or there is none.
    """
    chosen = frozenset(roles)
    if not chosen or not chosen <= set(ROLES):
        raise DataError(f"{where} has the roles {', '.join(sorted(chosen)) or 'none'}; they can be {', '.join(ROLES)}")
    return chosen


def grant(path: str | os.PathLike[str], name: str, roles: Iterable[str]) -> str:
    """Add a token to a file, made for its owner alone where there is none, and return it. It is kept nowhere else.

    Raises:
        DataError: the name or a role cannot be, somebody has that name, or the file cannot be written.
    """
    chosen = checked_roles(roles, f"the token of {name}")
    token = secrets.token_urlsafe(32)
    line = f"{name} {','.join(r for r in ROLES if r in chosen)} {hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise DataError(f"a token cannot be of {name!r}; take up to 64 letters, digits and . @ _ -")
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", encoding="utf-8") as file:
            _check_owner(Path(path), os.fstat(file.fileno()))
            file.seek(0)
            text = file.read()
            if any(known.split(" ")[0] == name for known in text.splitlines() if _counts(known)):
                raise DataError(
                    f"{os.fspath(path)} holds a token of {name} already; remove that line from the file, or choose "
                    "another name for this one"
                )
            file.write(("" if not text or text.endswith("\n") else "\n") + line + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{os.fspath(path)} cannot be written ({error}); give another file") from None
    return token
