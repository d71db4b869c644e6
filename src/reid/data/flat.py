"""Pictures of which nothing is known: any folder of them, or a single one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid.data import market1501, names
from reid.types import Crop


def matches(root: Path) -> str | None:
    """Why the source looks like this layout, or None where it does not."""
    if next(names.pictures(root), None) is None:
        return None
    return "its names follow no layout that reid knows" if root.is_dir() else "it is one picture"


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Every picture, nobody named, but for a single one with a name of Market-1501's; the layout has no splits."""
    pictures = names.pictures(root)
    crops = (Crop(str(path)) for path in pictures) if root.is_dir() else market1501.named(list(pictures))
    yield from names.of_split(crops, split, root)
