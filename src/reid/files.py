"""Embeddings on disk: `.npz`, which loses nothing and is the format of choice, `.csv` and `.parquet` for other tools.

A table has a header: path, pid, camera, time, tracklet, role, extra, model, then v1 … vD. Empty cells are unknown.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid.disk import replacing
from reid.errors import DataError, MissingExtra
from reid.types import Crop, Embeddings, Vectors

COLUMNS = ("path", "pid", "camera", "time", "tracklet", "role", "extra")


def save(embeddings: Embeddings, path: str | os.PathLike[str]) -> None:
    """Write embeddings in the format that the name ends with. Replaces the file in one step.

    Raises:
        DataError: the ending is none of .npz, .csv, .parquet.
        MissingExtra: Parquet was asked for and pyarrow is not installed.
    """
    target = Path(path)
    check_suffix(target)
    FORMATS[target.suffix.lower()].save(embeddings, target)


def load(path: str | os.PathLike[str]) -> Embeddings:
    """Read embeddings that `save` wrote.

    Raises:
        DataError: the file is missing, damaged, or no file of embeddings.
    """
    source = Path(path)
    check_suffix(source)
    if not source.is_file():
        raise DataError(f"{source} does not exist; give a file that `reid embed` wrote")
    try:
        return FORMATS[source.suffix.lower()].load(source)
    except (ValueError, OSError, KeyError) as error:
        raise DataError(f"{source} is not a readable file of embeddings ({error}); write it again") from None


def check_suffix(path: Path) -> None:
    """Refuse a name whose ending says no known format."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path.name} ends in {path.suffix or 'nothing'!r}; embeddings are {', '.join(FORMATS)}")


def is_embeddings(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds embeddings, judged by its ending and, for a CSV, by its header."""
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\r\n").split(",")[: len(COLUMNS) + 2] == [*COLUMNS, "model", "v1"]
    return suffix in FORMATS


def classic_line(name: str, vector: Vectors) -> str:
    """`name,v1,…,vD`, as triplet-reid's trinet_embed.py prints it; 9 digits, which give back the same float32.

    >>> classic_line("a.jpg", np.float32([0.5, 2])), classic_line("a, b.jpg", np.float32([1]))
    ('a.jpg,0.5,2', '"a, b.jpg",1')
    """
    line = io.StringIO()
    csv.writer(line).writerow([name])  # in quotes where that takes them
    quoted = line.getvalue().removesuffix("\r\n")
    return f"{quoted},{_digits(vector)}"


def _digits(vector: Vectors) -> str:
    return ",".join(["%.9g"] * len(vector)) % tuple(vector.tolist())


def _write_csv(embeddings: Embeddings, path: Path) -> None:
    with replacing(path) as partial, open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        rows, quoted = csv.writer(out, lineterminator="\n"), csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        rows.writerow([*COLUMNS, "model", *_names(embeddings.vectors.shape[1])])
        for crop, vector in zip(embeddings.crops, embeddings.vectors, strict=True):
            cells = _cells(crop).values()
            known = ["" if c is None else c for c in (*cells, embeddings.model)]
            lone_return = any(
                "\r" in str(cell) for cell in known
            )  # the writer quotes a line feed, but not a lone return
            (quoted if lone_return else rows).writerow([*known, *_digits(vector).split(",")])


def _read_csv(path: Path) -> Embeddings:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        first = len(COLUMNS) + 1
        if tuple(header[:first]) != (*COLUMNS, "model") or header[first:] != _names(len(header) - first):
            raise DataError(f"{path} has no header {','.join(COLUMNS)},model,v1,…; it is no file of embeddings")
        crops: list[Crop] = []
        models: set[str] = set()
        vectors: list[Vectors] = []
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DataError(
                    f"line {number} of {path} has {len(row)} cells, its header {len(header)}; mend the line"
                )
            crops.append(_crop(dict(zip(COLUMNS, row, strict=False))))
            models.add(row[first - 1])
            vectors.append(np.array(row[first:], dtype=np.float32))
    return _assemble(path, np.stack(vectors) if vectors else np.empty((0, 1), np.float32), crops, models)


def _write_parquet(embeddings: Embeddings, path: Path) -> None:
    pa, parquet = _arrow()
    cells = [_cells(crop) for crop in embeddings.crops]
    types = {name: pa.float64() if name == "time" else pa.string() for name in COLUMNS}
    columns = {name: pa.array([row[name] for row in cells], types[name]) for name in COLUMNS}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors.ravel()), embeddings.vectors.shape[1])
    table = pa.table({**columns, "vector": vectors}).replace_schema_metadata({"model": embeddings.model})
    with replacing(path) as partial:
        parquet.write_table(table, partial)


def _read_parquet(path: Path) -> Embeddings:
    pa, parquet = _arrow()
    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a readable Parquet file ({error})") from None
    missing = {*COLUMNS, "vector"} - set(table.column_names)
    if missing or b"model" not in (table.schema.metadata or {}):
        raise DataError(f"{path} lacks {', '.join(sorted(missing)) or 'the model'}; it is no file of embeddings")
    rows = table.select(COLUMNS).to_pylist()
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(len(rows), -1) if rows else np.empty((0, 1), np.float32)
    return _assemble(path, vectors, [_crop(row) for row in rows], {table.schema.metadata[b"model"].decode()})


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("Parquet", "parquet") from None
    return pyarrow, parquet


def _names(dim: int) -> list[str]:
    return [f"v{i}" for i in range(1, dim + 1)]


def _cells(crop: Crop) -> dict[str, Any]:
    """A crop as one row of a table, by column; further columns of the table it was read from are JSON in `extra`."""
    extra = json.dumps(dict(crop.extra)) if crop.extra else None
    return {name: getattr(crop, name) for name in COLUMNS} | {"extra": extra}


def _crop(cells: dict[str, Any]) -> Crop:
    """The reverse of `_cells`; empty text is unknown too."""
    values = {name: cell for name, cell in cells.items() if cell not in (None, "")}
    if "time" in values:
        values["time"] = float(values["time"])
    if "extra" in values:
        values["extra"] = json.loads(values["extra"])
    return Crop(**values)


def _assemble(path: Path, vectors: Vectors, crops: Sequence[Crop], models: set[str]) -> Embeddings:
    if len(models) != 1:
        raise DataError(f"{path} holds rows of {len(models)} models; a file of embeddings comes from exactly one")
    return Embeddings(vectors, tuple(crops), models.pop())


class Format(NamedTuple):
    save: Callable[[Embeddings, Path], None]
    load: Callable[[Path], Embeddings]


FORMATS = {
    ".npz": Format(Embeddings.save, Embeddings.load),
    ".csv": Format(_write_csv, _read_csv),
    ".parquet": Format(_write_parquet, _read_parquet),
}
