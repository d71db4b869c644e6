"""Moving a gallery to another place: every row, what was said about rows, how long they are kept, and the log."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np

from reid.errors import DataError, ModelError
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.ledger import Ledger
from reid.gallery.records import user
from reid.gallery.rows import Rows, Where
from reid.gallery.store import Store
from reid.types import crop_to_json
from reid.wording import model_named

SETTINGS = ("keep", "made with")  # that come along where the target has none


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds, checked row by row after the last was written.

    Attributes:
        rows: of the source, all of them the same in the target.
        written: how many of them were not there before.
        others: rows of the target that the source does not have.
        digest: of the source's rows in the order of their ids; the target's has the same.
        feedback: words on pairs of rows that came along.
        log: entries of the log that came along; None where the target had a log of its own, which stays as it is.
    """

    rows: int
    written: int
    others: int
    digest: str
    feedback: int
    log: int | None


def copy(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    step: Callable[[int, int], None] | None = None,
    by: str | None = None,
) -> Copied:
    """Copy a gallery, from any store to any store. The source stays as it is but for an entry in its log.

    Rows that are in the target already, the very same, are not written again; so a copy that was cut off goes on where
    it was when it is started again, and a second copy brings what has changed. What was erased from the source since
    is not erased from the target.

    Args:
        source, target: addresses. The target is made where there is none.
        step: called with how many more rows are done, and how many there are in all.
        by: who does it, for the log.

    Raises:
        ModelError: the target holds vectors of another model.
        DataError: one of them cannot be reached, read or written, the source's log is broken, or the source was changed
            while it was copied.
    """
    here, there = Address.parse(source), Address.parse(target)
    if here.place == there.place:
        raise DataError(f"{there.shown} is the very gallery that is to be copied; name another place")
    with ExitStack() as stack:
        old = stack.enter_context(closing(_opened(here, None, None)))
        _check_log(here)
        new = stack.enter_context(closing(_opened(there, old.model, old.dim)))
        if (new.model, new.dim) != (old.model, old.dim):
            raise ModelError(
                f"{there.shown} holds vectors of model {model_named(new.model)}, and {here.shown} of "
                f"{model_named(old.model)}; name a new place"
            )
        logs = [stack.enter_context(closing(Ledger(address.ledger))) for address in (here, there)]
        if here.ledger == there.ledger:
            raise DataError(f"{here.shown} and {there.shown} have one ledger; name another with ?ledger=FILE.db")
        written = _write(old, new, logs[1], step or (lambda more, total: None))
        rows, digest = _checked(old, new, here, there)
        feedback, log = _words(*logs)
        for ledger, where in zip(logs, ({"to": there.shown}, {"from": here.shown}), strict=True):
            ledger.record(time.time(), by or user(), "copy", rows=rows, digest=digest, **where)
        return Copied(rows, written, new.count(Where()) - rows, digest, feedback, log)


def _opened(address: Address, model: str | None, dim: int | None) -> Store:
    if address.scheme not in STORES:
        raise DataError(f"{address.shown} starts with {address.scheme}://; galleries are {', '.join(STORES)}")
    return STORES[address.scheme](address, model, dim)


def _check_log(address: Address) -> None:
    """Refuse a gallery whose log is broken: the copy's is written anew, and would be whole."""
    with closing(Ledger(address.ledger)) as ledger:
        checked = ledger.verify()
    if checked.broken is not None:
        raise DataError(
            f"the log of {address.shown} is broken at entry {checked.broken} of {checked.entries}, which a copy would "
            "hide; restore the gallery from an older copy"
        )


def _write(old: Store, new: Store, ledger: Ledger, step: Callable[[int, int], None]) -> int:
    """Write what is not there yet, in the order of ids; how many rows."""
    total, written, empty = old.count(Where()), 0, new.count(Where()) == 0
    for part in old.fetch(Where()):
        with ledger.alone():
            there = {} if empty else _digests(new, part)
            missing = part[[i for i, digest in enumerate(digests(part)) if there.get(int(part.ids[i])) != digest]]
            new.upsert(missing)
        written += len(missing)
        step(len(part), total)
    return written


def _checked(old: Store, new: Store, here: Address, there: Address) -> tuple[int, str]:
    """Compare every row of the source with the target's."""
    rows, seen = 0, hashlib.blake2b(digest_size=32)
    for part in old.fetch(Where()):
        found = _digests(new, part)
        for row, digest in zip(part.ids.tolist(), digests(part), strict=True):
            if found.get(row) != digest:
                raise DataError(
                    f"row {row} of {here.shown} is not the same in {there.shown}; one of them was changed meanwhile, "
                    "copy again"
                )
            seen.update(digest)
            rows += 1
    return rows, seen.hexdigest()


def _digests(store: Store, part: Rows) -> dict[int, bytes]:
    """What a store has of those rows."""
    found = store.fetch(Where(ids=frozenset(part.ids.tolist())))
    return {row: digest for rows in found for row, digest in zip(rows.ids.tolist(), digests(rows), strict=True)}


def digests(rows: Rows) -> list[bytes]:
    """Of each row, a BLAKE2b digest of 32 bytes of everything in it."""
    columns = zip(
        rows.ids.tolist(), rows.vectors, rows.crops, rows.tags, rows.pictures, rows.added.tolist(), strict=True
    )
    made = []
    for row, vector, crop, tags, picture, added in columns:
        said = json.dumps([row, crop_to_json(crop), sorted(tags), added, picture is None, len(picture or b"")])
        body = said.encode() + vector.astype(np.dtype("<f2")).tobytes() + (picture or b"")
        made.append(hashlib.blake2b(body, digest_size=32).digest())
    return made


def _words(old: Ledger, new: Ledger) -> tuple[int, int | None]:
    """Bring feedback, settings, and the log where the target's goes no further than its start: how much."""
    there = {(word.query, word.answer): word for word in new.said()}
    fresh = [word for word in old.said() if there.get((word.query, word.answer)) != word]
    for word in fresh:
        new.say(word)
    for name in SETTINGS:
        if new.get(name) is None:
            new.set(name, old.get(name))
    theirs, known = list(old.entries()), list(new.entries())
    same = list(itertools.takewhile(lambda pair: pair[0].digest == pair[1].digest, zip(theirs, known, strict=False)))
    if len(same) < len(known):
        return len(fresh), None
    if not known:
        new.set("salt", old.get("salt"))  # so that the log goes on calling people the same
    for entry in theirs[len(known) :]:
        new.record(entry.at, entry.by, entry.what, **entry.detail)
    return len(fresh), len(theirs) - len(known)
