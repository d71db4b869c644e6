"""Reading crops from whatever a user has.

To add a layout, write a module with `matches` and `read`, and name it in READERS.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from reid import images
from reid.data import cuhk01, cuhk03, embedded, flat, folders, listing, market1501, table
from reid.errors import DataError
from reid.types import Crop

Source = str | Path | Iterable[str | Path]


class Reader(Protocol):
    """One layout of files."""

    def matches(self, root: Path) -> str | None:
        """In words why a file or folder looks like this layout, judged by names alone; None where it does not."""

    def read(self, root: Path, split: str | None = None) -> Iterator[Crop]:
        """Its crops in a stable order, or those of one split."""


READERS: dict[str, Reader] = {
    "embeddings": embedded,
    "table": table,
    "list": listing,
    "market1501": market1501,
    "cuhk03": cuhk03,
    "cuhk01": cuhk01,
    "folders": folders,
    "flat": flat,
}
"""Layouts by name; the first that matches is taken."""


def read(source: Source, split: str | None = None, layout: str | None = None) -> list[Crop]:
    """The crops of a source, in a stable order.

    Args:
        source: a picture; a folder of pictures; a list of paths, .txt; a table, .csv or .tsv; a file of embeddings;
            `layout:PATH`, which says how to read the path; or several of these.
        split: only this one, such as "train".
        layout: a name from READERS, where it should not be recognised.

    Raises:
        DataError: there is nothing to read, or it cannot be understood.
    """
    if not isinstance(source, str | Path):
        several = list(source)
        if not several:
            raise DataError("no source was given; give a picture, a folder, a list, a table or a file of embeddings")
        return [crop for one in several for crop in read(one, split, layout)]
    root, named = locate(source)
    chosen = layout or named or recognise(root)[0]
    try:
        crops = list(_reader(chosen).read(root, split))
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror or error}); check the path and its rights") from None
    if not crops:
        raise DataError(_nothing(root))
    return crops


def recognise(root: Path) -> tuple[str, str]:
    """The layout of a file or folder, and in words why.

    Raises:
        DataError: it does not exist, or holds no picture.
    """
    root, _ = locate(root)
    try:
        for name, reader in READERS.items():
            if why := reader.matches(root):
                return name, why
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror or error}); check the path and its rights") from None
    raise DataError(_nothing(root))


def locate(source: str | Path) -> tuple[Path, str | None]:
    """Where a source is, and the layout that `layout:PATH` names.

    Raises:
        DataError: it does not exist, or the layout is unknown.
    """
    text = os.fspath(source)
    if text and Path(text).exists():
        return Path(text), None
    before, colon, after = text.partition(":")
    if after.startswith("//"):
        raise DataError(f"{text} is an address; reid reads files, so download it first")
    if colon and before.isidentifier() and len(before) > 1:
        _reader(before)
        text = after
    if not text or not Path(text).exists():
        raise DataError(
            f"{text or 'an empty path'} does not exist; give a picture, a folder, a list (.txt), a table (.csv) or a "
            "file of embeddings (.npz)"
        )
    return Path(text), before


def table_of(source: str | Path) -> Path | None:
    """The table that a source is, or that the folder holds; None where it is something else."""
    try:
        root = locate(source)[0]
    except DataError:
        return None
    return root if root.is_file() else table.inside(root)


def _reader(layout: str) -> Reader:
    if layout not in READERS:
        raise DataError(f"there is no layout {layout!r}; layouts are {', '.join(READERS)}")
    return READERS[layout]


def _nothing(root: Path) -> str:
    """Why nothing could be read, with what is there instead."""
    kinds = ", ".join(sorted(images.SUFFIXES))
    if root.is_file():
        return f"{root} holds no pictures; give a picture ({kinds}), a folder, a list, a table or a file of embeddings"
    there: Counter[str] = Counter()
    for _, _, found in os.walk(root):
        there.update(os.path.splitext(name)[1].lower() or "without an ending" for name in found)
    if not there:
        return f"{root} is empty; give a folder with pictures in it"
    listed = ", ".join(f"{count:,} {kind}" for kind, count in there.most_common(5))
    return f"{root} holds no pictures, only other files ({listed}); pictures are {kinds}"
