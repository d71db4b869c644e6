"""A table of pairs of pictures to compare: a CSV file, its cells separated by commas, semicolons or tabs, in UTF-8.

With a header that names `a` and `b`, the two pictures, and, where known, `camera_a` and `camera_b`; in a table that
somebody has judged, also `same`, which says yes or no. Further columns are passed over. Relative paths start at the
table's folder.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from reid.errors import DataError
from reid.types import Crop

COLUMNS = ("a", "b", "camera_a", "camera_b", "same")
WORDS = {"yes": True, "no": False}


def read(path: str | os.PathLike[str]) -> list[tuple[Crop, Crop]]:
    """The pairs of a table, in its order.

    Raises:
        DataError: it cannot be understood; the message has the line's number.
    """
    return [_pair(cells, where, Path(path)) for cells, where in _rows(Path(path))]


def read_judged(path: str | os.PathLike[str]) -> list[tuple[Crop, Crop, bool]]:
    """The pairs of a table with the column `same`, in its order, each with whether they are said to show one person.

    Raises:
        DataError: it cannot be understood; the message has the line's number.
    """
    found = []
    for cells, where in _rows(Path(path)):
        word = WORDS.get((cells.get("same") or "").strip().lower())
        if word is None:
            raise DataError(f"{where} says {cells.get('same')!r} in the column same; it can be {' or '.join(WORDS)}")
        found.append((*_pair(cells, where, Path(path)), word))
    return found


def is_judged(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a table of pairs that somebody has judged: its header names a, b and same."""
    table = Path(path)
    if table.suffix.lower() not in (".csv", ".tsv") or not table.is_file():
        return False
    with open(table, encoding="utf-8-sig", errors="surrogateescape") as text:
        first = text.readline()
    names = {name.strip().lower() for name in first.split(max(",;\t", key=first.count))}
    return {"a", "b", "same"} <= names


def _rows(table: Path) -> list[tuple[dict[str, str], str]]:
    """Each row's cells by column, and where it stands in words."""
    if table.suffix.lower() not in (".csv", ".tsv"):
        raise DataError(f"{table} is one source; give two pictures, two lists, or a CSV of pairs with the columns a,b")
    try:
        with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            first = text.readline()
            text.seek(0)
            reader = csv.reader(text, delimiter=max(",;\t", key=first.count), strict=True)
            names = [name.strip().lower() for name in next(reader, [])]
            if not {"a", "b"} <= set(names):
                raise DataError(
                    f"{table} starts with {first.strip()[:80]!r}; a table of pairs starts with a header that "
                    f"names a and b and, where known, camera_a and camera_b"
                )
            rows = [(reader.line_num, row) for row in reader if any(row)]
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror or error}); check the path and its rights") from None
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {table} cannot be read ({error}); mend the line") from None
    if not rows:
        raise DataError(f"{table} names no pair; each row below the header is one")
    return [(dict(zip(names, row, strict=False)), f"line {line} of {table}") for line, row in rows]


def _pair(cells: dict[str, str], where: str, table: Path) -> tuple[Crop, Crop]:
    if not cells.get("a") or not cells.get("b"):
        raise DataError(f"{where} does not name two pictures; each row is one pair")
    try:
        a, b = (
            Crop(os.path.join(table.parent, cells[side]), camera=cells.get(f"camera_{side}") or None) for side in "ab"
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return a, b
