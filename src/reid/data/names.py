"""What the readers share: the pictures of a source, and whether their names fit a layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from reid import images
from reid.errors import DataError, ImageError
from reid.types import Crop
from reid.wording import many

FOLDERS, NAMES = 20, 100
ENOUGH = 0.6


def pictures(source: Path) -> Iterator[Path]:
    """Every picture below a folder in sorted order, or the one picture that the source itself is."""
    if source.is_dir():
        yield from images.walk(source)
    elif images.is_image(source) or _opens(source):
        yield source


def _opens(path: Path) -> bool:
    """Whether a file whose name says nothing is a picture; `.txt` and the like are not opened."""
    if path.suffix or not path.is_file():
        return False
    try:
        images.read(path)
    except ImageError:
        return False
    return True


def typical(folder: Path, pattern: re.Pattern[str], one_folder: bool = False) -> str | None:
    """The first of some names below the folder, where most (60 %) of them fit the pattern, else None.

    With `one_folder` they must lie directly in it and name several people in the pattern's first group, as short
    patterns fit other people's names by chance.
    """
    found = list(_sample(folder, 1 if one_folder else FOLDERS))
    fitting = [match for name in found if (match := pattern.match(name))]
    if not fitting or len(fitting) < ENOUGH * len(found):
        return None
    if one_folder and (len({match[1] for match in fitting}) < 2 or not (folder / fitting[0].string).exists()):
        return None
    return fitting[0].string


def _sample(root: Path, most: int) -> Iterator[str]:
    """Up to 100 picture names, spread evenly, from each of the first `most` folders that have any."""
    folders = 0
    for _, below, found in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = sorted(name for name in found if images.is_image(name) and not name.startswith("."))
        yield from here[:: -(-len(here) // NAMES)] if here else ()
        folders += bool(here)
        if folders == most:
            return


def parse(paths: Iterable[Path], pattern: re.Pattern[str], example: str) -> Iterator[tuple[Path, re.Match[str] | None]]:
    """Each path with what the pattern found in its name, None where it does not fit.

    Raises:
        DataError: not one name fits.
    """
    seen = fitting = 0
    for path in paths:
        found = pattern.match(path.name)
        seen, fitting = seen + 1, fitting + bool(found)
        yield path, found
    if seen and not fitting:
        raise DataError(
            f"not one of {many(seen, 'picture')} ({path} is the last) is named like {example}, as this layout has it; "
            "leave the layout out to have it recognised, or choose another"
        )


def of_split(crops: Iterable[Crop], split: str | None, source: Path) -> Iterator[Crop]:
    """The crops of one split, `extra["split"]`; all of them where `split` is None.

    Raises:
        DataError: no crop belongs to the split; the message lists the splits there are.
    """
    if split is None:
        yield from crops
        return
    there: dict[str, None] = {}
    for crop in crops:
        name = crop.extra.get("split")
        if name is not None:
            there[name] = None
        if name == split:
            yield crop
    if not there:
        raise DataError(
            f"{source} has no splits, and {split!r} was asked for; read it whole, or write splits into a table with "
            f"`reid show {source} --write-split people -o splits.csv` and read that"
        )
    if split not in there:
        raise DataError(f"{source} has no split {split!r}; it has {', '.join(there)}")
