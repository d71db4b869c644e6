"""CUHK01: `0895003.jpg` is person 895, crop 3 (Li et al. 2012).

Crops 1 and 2 are from camera A, 3 and 4 from camera B. No times are known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid.data import names
from reid.types import Crop

EXAMPLE = "0895003.jpg"
_NAME = re.compile(r"(\d{4})00([1-4])\.")


def matches(root: Path) -> str | None:
    """Why the folder looks like this layout, or None where it does not."""
    name = names.typical(root, _NAME, one_folder=True)
    return f"its files are named like {name} (four digits of person, crop 001 to 004)" if name else None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Every crop; the layout has no splits of its own."""
    yield from names.of_split(_crops(root), split, root)


def _crops(root: Path) -> Iterator[Crop]:
    for path, found in names.parse(names.pictures(root), _NAME, EXAMPLE):
        yield Crop(str(path), found[1], "A" if found[2] in "12" else "B") if found else Crop(str(path))
