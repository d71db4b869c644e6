"""A list of pictures: a `.txt` file with one path a line. Blank lines and lines that start with # are left out.

A relative path starts at the list's own folder or, where no file is there but one is below the working directory, at
that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid.data import market1501, names
from reid.errors import DataError
from reid.types import Crop


def matches(root: Path) -> str | None:
    """Why the file looks like a list, or None where it does not."""
    return "it is a .txt file, with one path a line" if root.suffix.lower() == ".txt" and root.is_file() else None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Every picture listed, in order; a list has no splits.

    Where every name is one of Market-1501's, people and cameras are taken from it; times are not, since a part of the
    names does not tell how long the sequences are.
    """
    yield from names.of_split(market1501.named([Path(path) for path in _paths(root)]), split, root)


def _paths(root: Path) -> Iterator[str]:
    there, first = False, None
    with open(root, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            name = line.strip()
            if not name or name.startswith("#"):
                continue
            if "\0" in name:
                raise DataError(f"line {number} of {root} is no path; a list is plain text with one path a line")
            path = root.parent / name
            if not path.exists() and Path(name).exists():
                path = Path(name)
            there, first = there or path.exists(), first or name
            yield str(path)
    if first and not there:
        raise DataError(
            f"not one path in {root} exists, {first} is the first; paths start at the list's folder or at the working "
            "directory"
        )
