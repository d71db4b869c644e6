"""A long embedding job that survives being killed.

Beside the output grow two files: `OUTPUT.vectors`, raw float32 rows, and `OUTPUT.rows`, a JSON line for each batch that
says how far the list of crops is done, how many rows there are, and which crops were skipped. A line counts once it is
complete, so a job that is killed loses at most the batch it was working on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from reid import files
from reid.embed import Batch, Embedder, Skipped
from reid.errors import DataError
from reid.types import Crop, Embeddings, crop_to_json
from reid.wording import many


def embed_to_file(
    embedder: Embedder,
    crops: Sequence[Crop],
    target: str | os.PathLike[str],
    progress: Callable[[int], None] = lambda done: None,
) -> list[Skipped]:
    """Embed crops into a file, going on where an earlier call for the same crops and model was stopped.

    Args:
        embedder: the model.
        crops: what to embed; the file's rows keep their order.
        target: `.npz`, `.csv` or `.parquet`. Where it exists already and comes from the same model, its rows for files
            that have not changed since are taken over.
        progress: called with the number of crops done since the last call.

    Returns:
        The crops that could not be read, and why. They have no row.

    Raises:
        DataError: an unfinished job for other crops or another model lies beside the target, or the target holds
            embeddings of another model, or of crops that would be lost.
    """
    out = Path(target)
    files.check_suffix(out)
    embedder.settle(len(crops))  # by the whole job, so that what is left of it is done by the same engine
    journal = _Journal(out, embedder, crops)
    known = _unchanged(out, embedder.fingerprint, crops)
    with journal:
        progress(journal.done)
        todo = crops[journal.done :]
        position = 0
        while position < len(todo):
            if todo[position].path in known:
                run = _run(todo, position, lambda c: c.path in known, 1024)
                vectors = np.stack([known[c.path] for c in run])
                batches = iter([Batch(tuple(run), vectors, ())])
            else:
                run = _run(todo, position, lambda c: c.path not in known, len(todo))
                batches = embedder.stream(run)
            for batch in batches:
                journal.add(batch)
                progress(len(batch.crops) + len(batch.skipped))
            position += len(run)
        skipped = journal.skipped
        files.save(journal.embeddings(), out)
    journal.remove()
    return skipped


def _run(crops: Sequence[Crop], start: int, alike: Callable[[Crop], bool], most: int) -> Sequence[Crop]:
    """The crops from `start` on for which `alike` holds without a break, at most so many."""
    end = start
    while end < len(crops) and end - start < most and alike(crops[end]):
        end += 1
    return crops[start:end]


def _unchanged(path: Path, model: str, crops: Sequence[Crop]) -> dict[str, Any]:
    """Vectors by path of an earlier output's rows whose files are older than that output."""
    if not path.exists():
        return {}
    before, written = files.load(path), path.stat().st_mtime
    if before.model != model:
        raise DataError(f"{path} holds embeddings of another model; give a new name, or remove it first")
    wanted = {crop.path for crop in crops}
    lost = sum(crop.path not in wanted for crop in before.crops)
    if lost:
        raise DataError(f"{path} holds {many(lost, 'crop')} not asked for now; give a new name, or remove it first")
    return {
        crop.path: vector
        for crop, vector in zip(before.crops, before.vectors, strict=True)
        if Path(crop.path).exists() and Path(crop.path).stat().st_mtime < written
    }


class _Journal:
    """The two growing files. `done` crops of the list are behind us, `rows` of them have a vector."""

    def __init__(self, out: Path, embedder: Embedder, crops: Sequence[Crop]):
        self._vectors, self._rows = (out.with_name(out.name + end) for end in (".vectors", ".rows"))
        self._crops, self._model, self._dim = crops, embedder.fingerprint, embedder.dim
        self.done = self.rows = 0
        self.skipped: list[Skipped] = []
        digest = hashlib.sha256()
        for crop in crops:
            digest.update(crop_to_json(crop).encode() + b"\n")
        self._job = {"model": self._model, "dim": self._dim, "crops": digest.hexdigest()}
        self._good = self._replay() if self._rows.exists() else 0

    def _replay(self) -> int:
        """Take up the complete lines of an earlier run; returns how many bytes they are."""
        good = 0
        with open(self._rows, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                if good == 0 and entry != self._job:
                    raise DataError(
                        f"{self._rows} belongs to an unfinished job for other crops or another model; "
                        f"remove it and {self._vectors.name} to start afresh, or give another output name"
                    )
                if good:
                    self.done, self.rows = entry["done"], entry["rows"]
                    self.skipped += [Skipped(self._crops[i], reason) for i, reason in entry["skipped"]]
                good += len(line)
        return good

    def add(self, batch: Batch) -> None:
        """Write one batch: its vectors first, then the line that makes them count."""
        broken = {id(s.crop): s.reason for s in batch.skipped}
        count = len(batch.crops) + len(batch.skipped)
        here = range(self.done, self.done + count)
        skipped = [(i, broken[id(self._crops[i])]) for i in here if id(self._crops[i]) in broken]
        self.done, self.rows = self.done + count, self.rows + len(batch.crops)
        self.skipped += [Skipped(self._crops[i], reason) for i, reason in skipped]
        self._files[0].write(batch.vectors.tobytes())
        self._files[0].flush()
        self._write({"done": self.done, "rows": self.rows, "skipped": skipped})

    def _write(self, entry: dict[str, Any]) -> None:
        self._files[1].write(json.dumps(entry).encode() + b"\n")
        self._files[1].flush()

    def embeddings(self) -> Embeddings:
        """All rows, left on disk and read as needed."""
        missing = {id(s.crop) for s in self.skipped}
        crops = tuple(c for c in self._crops if id(c) not in missing)
        shape = (self.rows, self._dim)
        vectors = np.memmap(self._vectors, np.float32, "r", shape=shape) if self.rows else np.empty(shape, np.float32)
        return Embeddings(vectors, crops, self._model)

    def remove(self) -> None:
        self._vectors.unlink()
        self._rows.unlink()

    def __enter__(self) -> _Journal:
        with ExitStack() as stack:
            self._files = (
                stack.enter_context(open(self._vectors, "ab")),
                stack.enter_context(open(self._rows, "ab")),
            )
            self._stack = stack.pop_all()
        self._files[0].truncate(self.rows * self._dim * 4)
        self._files[1].truncate(self._good)
        if not self._good:
            self._write(self._job)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
