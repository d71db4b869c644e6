"""Writing files so that whoever reads them sees the old file or the new one, never half of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def discard(path: Path) -> None:
    """Remove a database of SQLite and what lies beside it; what is not there is no mistake."""
    for suffix in ("-wal", "-shm", "-lock", ""):  # in this order, so that no new one meets the changes of an old one
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name to write to; put it on disk in place of `path` when the block ends well, remove it otherwise."""
    target = Path(path)
    partial = target.with_name(f"{target.name}.{os.getpid()}.writing")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(target)
        raise
    finally:
        partial.unlink(missing_ok=True)
