"""A table of crops: a CSV file, its cells separated by commas, semicolons or tabs, in UTF-8.

With a header that names at least `path`, and of pid, camera, time (seconds), tracklet, split and role those that are
known. Further columns are kept in `Crop.extra`, where the split goes too. An empty cell is unknown.
Without a header, triplet-reid's two columns `identity,relative_path`; where every file in it is named like
Market-1501's, cameras, times and roles are taken from the names. Relative paths start at the table's folder.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from reid import files, images
from reid.data import market1501, names
from reid.disk import replacing
from reid.errors import DataError
from reid.types import ROLES, Crop
from reid.wording import many

if TYPE_CHECKING:
    from _csv import Reader

NAME = "crops.csv"
SUFFIXES = (".csv", ".tsv")
COLUMNS = ("path", "pid", "camera", "time", "tracklet", "split", "role")
_SEPARATORS = ",;\t"


class _Form(NamedTuple):
    """How a table is laid out: the header is None for triplet-reid's two columns; cells may follow `, `."""

    separator: str
    header: list[str] | None
    spaced: bool


def matches(root: Path) -> str | None:
    """Why the file or the folder looks like this layout, or None where it does not."""
    if root.is_file():
        return f"it is a {root.suffix.lower()} file" if root.suffix.lower() in SUFFIXES else None
    table = inside(root)
    return f"it holds the table {table.name}" if table else None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """The rows of a table in its order, or of the table that a folder holds.

    Raises:
        DataError: the table or one of its rows cannot be understood; the message has the line's number.
    """
    table = root if root.is_file() else inside(root)
    if table is None:
        raise DataError(f"{root} holds no {NAME} and no other single table; give the table itself")
    crops = list(_crops(table))
    if root.is_dir():
        _tell_unlisted(root, table, crops)
    yield from names.of_split(crops, split, root)


def _tell_unlisted(root: Path, table: Path, crops: Sequence[Crop]) -> None:
    """Say how many pictures of a folder its table leaves out."""
    listed = {os.path.abspath(crop.path) for crop in crops}
    others = [path for path in images.walk(root) if os.path.abspath(path) not in listed]
    if others:
        count = many(len(others), "picture")
        first = os.path.relpath(others[0], root)
        logging.getLogger(__name__).warning(
            "%s is read as its %s says, which leaves out %s there, such as %s; add rows for them, or move the table",
            *(root, table.name, count, first),
        )


def write(path: str | os.PathLike[str], crops: Sequence[Crop], splits: Mapping[str, str] | None = None) -> None:
    """Write a table that `read` reads back without loss. Replaces the file in one step.

    Args:
        path: where to; pictures below its folder are written relative to it.
        crops: one a row.
        splits: names of splits by `Crop.path`; a crop that is not in it keeps the one it came with.

    Raises:
        DataError: a further column is called like one of the table's own, or like none, or holds empty text.
    """
    target = Path(path)
    further = sorted({key for crop in crops for key in crop.extra} - {"split"})
    for key in further:
        if key.strip().lower() in ("", *COLUMNS) or "\0" in key:
            raise DataError(f"a crop has a further column {key!r}, which a table cannot hold; rename it")
    try:
        with (
            replacing(target) as partial,
            open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as out,
        ):
            plain, quoted = csv.writer(out, lineterminator="\n"), csv.writer(out, quoting=csv.QUOTE_ALL)
            cells = ([*_cells(crop, target, splits or {}), *(crop.extra.get(k, "") for k in further)] for crop in crops)
            for row in chain([[*COLUMNS, *further]], cells):
                (quoted if any("\r" in cell for cell in row) else plain).writerow(row)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); choose another place") from None
    except UnicodeEncodeError as error:
        raise DataError(f"a crop holds text that UTF-8 cannot write ({error.object[:40]!r}); rename it") from None


def check_over(path: Path, columns: Sequence[str] = COLUMNS) -> None:
    """Refuse to write a table with these columns over a file that is none.

    Raises:
        DataError: a file is there that starts otherwise.
    """
    if path.is_file() and path.stat().st_size:
        with open(path, encoding="utf-8", errors="replace") as file:
            start = file.readline().rstrip()
        if not f"{start},".startswith(f"{','.join(columns)},"):
            raise DataError(f"{path} starts with {start[:80]!r} and might be a file of yours; give another name")


def _cells(crop: Crop, table: Path, splits: Mapping[str, str]) -> list[str]:
    if "" in crop.extra.values():
        raise DataError(
            f"{crop.path} has a further column with empty text; in a table that means unknown, leave it out"
        )
    return [
        _relative(crop.path, table),
        crop.pid or "",
        crop.camera or "",
        "" if crop.time is None else repr(crop.time),
        crop.tracklet or "",
        splits.get(crop.path) or crop.extra.get("split", ""),
        "" if crop.role == "person" else crop.role,
    ]


def _relative(path: str, table: Path) -> str:
    """A path as the table holds it: from its folder where it can, absolute where only that stays true."""
    folder = str(table.parent)
    if Path(path).is_absolute() and not (table.is_absolute() and Path(path).is_relative_to(folder)):
        return path
    return os.path.relpath(path, folder)


def inside(folder: Path) -> Path | None:
    """The table that describes a folder: crops.csv, or the one .csv at its top if that can be one."""
    if (folder / NAME).is_file():
        return folder / NAME
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1 or files.is_embeddings(found[0]):
        return None
    try:
        with _open(found[0]) as text:
            _form(text, found[0])
    except DataError:
        return None
    return found[0]


def _open(table: Path) -> TextIO:
    return open(table, newline="", encoding="utf-8-sig", errors="surrogateescape")


def _form(text: TextIO, table: Path) -> _Form:
    """Judged by the first row; the text is read from its start again afterwards."""
    start = text.read(1 << 16)
    text.seek(0)
    first = start.lstrip("\r\n").split("\n", 1)[0].strip()
    if "\0" in first:
        raise DataError(f"{table} is not UTF-8 text; save it as CSV in UTF-8")
    forms = []
    for separator in _SEPARATORS:
        row = next((row for row in csv.reader(io.StringIO(start, newline=""), delimiter=separator) if any(row)), [])
        spaced = len(row) > 1 and all(cell[:1] == " " for cell in row[1:])
        names = [cell.strip().lower() for cell in row]
        if "path" in names:
            known = zip(row, names, strict=True)
            header = [name if name in COLUMNS else cell.strip() if spaced else cell for cell, name in known]
            forms.append(_Form(separator, header, spaced))
        elif len(row) == 2 and images.is_image(row[1].strip()):
            forms.append(_Form(separator, None, spaced))
    if not forms:
        raise DataError(
            f"{table} starts with {first[:80]!r}; a table starts with a header that names path and, where known, "
            f"{', '.join(COLUMNS[1:])}, or has the two columns identity,path and no header"
        )
    return max(forms, key=lambda form: len(form.header or ()))


def _crops(table: Path) -> Iterator[Crop]:
    with _open(table) as text:
        form = _form(text, table)
        reader = csv.reader(text, delimiter=form.separator, skipinitialspace=form.spaced, strict=True)
        rows = _rows(reader, table)
        if form.header is None:
            yield from _two_columns(rows, table)
            return
        next(rows)
        for name in form.header:
            if name and form.header.count(name) > 1:
                raise DataError(f"the header of {table} names {name} more than once; name each column once")
        point = "," if form.separator != "," else "."
        for line, row in rows:
            _check_length(row, len(form.header), line, table)
            cells = {name: cell for name, cell in zip(form.header, row, strict=True) if name and cell}
            yield _crop(cells, f"line {line} of {table}", table, point)


def _rows(reader: Reader, table: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of the line it ends on."""
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"line {reader.line_num} of {table} cannot be read ({error}); mend the line") from None


def _check_length(row: Sequence[str], cells: int, line: int, table: Path) -> None:
    if len(row) != cells:
        raise DataError(f"line {line} of {table} has {len(row)} cells where {cells} belong; mend the line")


def _crop(cells: dict[str, str], where: str, table: Path, point: str) -> Crop:
    path, time, role = cells.pop("path", None), cells.pop("time", None), cells.pop("role", "person").lower()
    if path is None:
        raise DataError(f"{where} names no path; each row is one picture")
    if role not in ROLES:
        raise DataError(f"{where} has the role {role!r}; it can be {', '.join(ROLES)}, or empty for a person")
    try:
        seconds = None if time is None else float(time.replace(point, "."))
        pid, camera, tracklet = (cells.pop(name, None) for name in ("pid", "camera", "tracklet"))
        return Crop(_absolute(path, table), pid, camera, seconds, tracklet, role, cells)
    except ValueError:
        raise DataError(f"{where} has the time {time!r}; it must be a number of seconds") from None
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _two_columns(rows: Iterator[tuple[int, list[str]]], table: Path) -> Iterator[Crop]:
    pids, paths = [], []
    for line, row in rows:
        _check_length(row, 2, line, table)
        pid, path = (cell.strip() for cell in row)
        if not path:
            raise DataError(f"line {line} of {table} names no path; each row is one picture")
        pids.append(pid)
        paths.append(_absolute(path, table))
    named = market1501.read_names(map(Path, paths))
    if named and all(map(_same_person, named, pids)):
        yield from named
    else:
        for path, pid in zip(paths, pids, strict=True):
            yield Crop(path, pid or None)


def _same_person(crop: Crop, pid: str) -> bool:
    by_name = {"junk": "-1", "distractor": "0"}.get(crop.role, crop.pid)
    return by_name == pid or (by_name or "").lstrip("0") == pid.lstrip("0")


def _absolute(path: str, table: Path) -> str:
    """Where the table's path leads, seen from the working directory."""
    joined = os.path.join(str(table.parent), path) if str(table.parent) != "." else path
    return os.path.normpath(joined) if path.startswith("..") else joined
