"""What people said, as tables that calibration and training read."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reid.data import table
from reid.data.pairs import COLUMNS
from reid.disk import replacing
from reid.errors import DataError
from reid.gallery.ledger import Feedback
from reid.gallery.rows import Rows
from reid.types import Crop
from reid.verify.pairs import Groups

Fetch = Callable[[frozenset[int] | None], Iterator[Rows]]
"""Gives the rows of some ids, or all rows, with their pictures."""


def pairs(path: Path, said: Sequence[Feedback], fetch: Fetch) -> int:
    """Write feedback as a table of pairs; how many.

    Raises:
        DataError: there is none, or no picture is left of any pair.
    """
    ids = frozenset(i for word in said for i in (word.query, word.answer))
    known = dict(_with_files(path, fetch(ids)))
    rows = [
        (known[w.query], known[w.answer], "yes" if w.same else "no")
        for w in said
        if w.query in known and w.answer in known
    ]
    if not rows:
        raise DataError("there is no feedback on two crops whose pictures can be found; mark some answers first")
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((a.path, b.path, a.camera or "", b.camera or "", same) for a, b, same in rows)
    return len(rows)


def crops(path: Path, said: Sequence[Feedback], fetch: Fetch) -> int:
    """Write crops whose person is known as a table of crops; how many.

    Crops without a name that feedback joins to somebody are that person's; those that it joins to each other are a
    person called "feedback-1" and so on. A crop that would be two people, or a group within which feedback also says
    "not the same", is left out.

    Raises:
        DataError: there is none, or no picture is left of any.
    """
    rows = dict(_with_files(path, fetch(None)))
    groups = _joined(said, rows)
    for number, group in enumerate(groups, 1):
        names = {rows[row].pid for row in group} - {None}
        apart = any(not w.same and w.query in group and w.answer in group for w in said)
        for row in group:
            if apart or len(names) > 1:
                del rows[row]
            else:
                rows[row] = replace(rows[row], pid=next(iter(names), f"feedback-{number}"))
    found = [crop for crop in rows.values() if crop.pid is not None or crop.role == "distractor"]
    if not any(crop.pid is not None for crop in found):
        raise DataError("nobody is known of whom a picture can be found; enrol people or mark answers first")
    table.write(path, found)
    return len(found)


def _joined(said: Sequence[Feedback], rows: dict[int, Crop]) -> list[set[int]]:
    """Rows that feedback says show one person, in groups of two and more, in the order that they were first named."""
    alike, named = Groups[int](), dict[int, None]()
    for word in said:
        if word.same and word.query in rows and word.answer in rows:
            alike.join(word.query, word.answer)
            named |= {word.query: None, word.answer: None}
    groups: dict[int, set[int]] = {}
    for row in named:
        groups.setdefault(alike.of(row), set()).add(row)
    return list(groups.values())


def _with_files(path: Path, parts: Iterator[Rows]) -> Iterator[tuple[int, Crop]]:
    """Rows with crops whose pictures lie in files: where they came from, or else written beside the table."""
    folder = path.with_name(f"{path.stem}-pictures")
    for part in parts:
        for row, crop, picture in zip(part.ids.tolist(), part.crops, part.pictures, strict=True):
            if os.path.isfile(crop.path):  # noqa: PTH113
                yield row, crop
            elif picture is not None:
                folder.mkdir(exist_ok=True)
                file = folder / f"{row:016x}.jpg"
                file.write_bytes(picture)
                yield row, replace(crop, path=str(file.absolute()))
