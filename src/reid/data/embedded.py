"""The crops of a file of embeddings, as `reid embed` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reid import files
from reid.data import names
from reid.types import Crop


def matches(root: Path) -> str | None:
    """Why the file looks like embeddings, or None where it does not."""
    return "it holds embeddings" if root.is_file() and files.is_embeddings(root) else None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """The crops in it, row by row; the pictures themselves need not exist."""
    yield from names.of_split(files.load(root).crops, split, root)
