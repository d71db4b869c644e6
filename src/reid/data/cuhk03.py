"""CUHK03 as single pictures: `0000_07.jpg` is person 0, crop 7 (Li et al. 2014).

Crops 00 to 04 are from camera A, 05 to 09 from camera B. No times are known. Where both boxings are there, in the
sub-folders `labeled` and `detected`, the hand-labelled one is read; give the other folder itself to read that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid.data import names
from reid.types import Crop

EXAMPLE = "0000_07.jpg"
_NAME = re.compile(r"(\d{4})_0(\d)\.")
_BOXES = ("labeled", "detected")


def matches(root: Path) -> str | None:
    """Why the folder looks like this layout, or None where it does not."""
    name = names.typical(_folder(root), _NAME, one_folder=True)
    if not name:
        return None
    inside = f"in {_folder(root).name} " if _folder(root) != root else ""
    return f"the files {inside}are named like {name} (four digits of person, crop 00 to 09)"


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Every crop; the layout has no splits of its own."""
    yield from names.of_split(_crops(root), split, root)


def _crops(root: Path) -> Iterator[Crop]:
    for path, found in names.parse(names.pictures(_folder(root)), _NAME, EXAMPLE):
        yield Crop(str(path), found[1], "A" if int(found[2]) < 5 else "B") if found else Crop(str(path))


def _folder(root: Path) -> Path:
    return next((root / name for name in _BOXES if (root / name).is_dir()), root)
