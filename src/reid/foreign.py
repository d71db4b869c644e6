"""Other toolkits' results: distance matrices, ranked lists and embeddings, as they write them.

Read from NumPy's `.npy` and `.npz`, HDF5 (`.h5`, `.hdf5`) and MATLAB's `.mat`. Nothing in a file is ever unpickled, and
what it claims to hold is judged before room is made for it.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.data import table
from reid.errors import DataError, MissingExtra, ReidError, ShapeError
from reid.protocols import row_judge
from reid.types import Crop, Embeddings, Ranking, Vectors
from reid.wording import many

Matrix = NDArray[np.floating[Any]]

MAX_VALUES = 1 << 30  # MSMT17's distance matrix has 958 million
DENSEST = 1032  # bytes that deflate, the compression of all these formats, can pack into one
BLOCK_VALUES = 1 << 21
USUAL = "emb"  # what triplet-reid calls its embeddings


def read_matrix(path: str | os.PathLike[str], name: str | None = None, similarity: bool = False) -> Matrix:
    """A matrix of distances (Q, G) or of embeddings (N, D), as it stands in the file.

    Args:
        path: a file that ends in .npy, .npz, .h5, .hdf5 or .mat.
        name: of the array in it; not needed where there is only one, nor for triplet-reid's `emb`.
        similarity: the values are similarities, higher is closer; they are negated. Never guessed.

    Returns:
        float32 where the file has at most that, float64 otherwise.

    Raises:
        DataError: the file is missing, damaged or too large, has no or several such arrays, or a value is no number.
        MissingExtra: it is HDF5, as MATLAB 7.3 writes it too, and h5py is not installed.
    """
    found = _read(Path(path), name)
    small = found.dtype.kind == "f" and found.dtype.itemsize <= 4
    matrix: Matrix = found.astype(np.float32 if small else np.float64, copy=False)
    missing = np.isnan(matrix).any(axis=1)
    if missing.any():
        raise DataError(f"row {missing.argmax()} of {path} holds a value that is not a number; compute the row again")
    return np.negative(matrix, out=matrix) if similarity else matrix


def read_ranking(
    path: str | os.PathLike[str], queries: int, gallery: int, name: str | None = None, first: int = 0
) -> Ranking:
    """Ranked lists: for each query the numbers of gallery rows, nearest first.

    Lists may be shorter than the gallery, and end in −1 where a query has fewer. See `coverage` for what is measured
    then.

    Args:
        path: a (Q, K) array of whole numbers, in a file as for `read_matrix`.
        queries, gallery: how many there are, Q and G.
        name: of the array in the file.
        first: the number of the gallery's first row: 0, or 1 where MATLAB counted.

    Returns:
        A ranking whose distances are places in the list, 0 for the nearest.

    Raises:
        DataError: as for `read_matrix`, or the lists do not fit the queries and the gallery.
    """
    found = _read(Path(path), name)
    if len(found) != queries:
        raise DataError(f"ranked lists in {path}: {len(found):,}, queries: {queries:,}; give each query one list")
    if found.dtype.kind == "f" and not (found == np.rint(found)).all():
        raise DataError(f"{path} holds values that are not whole numbers; a ranked list holds numbers of gallery rows")
    padding = found == -1
    outside = ((found < first) | (found >= gallery + first)) & ~padding
    if outside.any():
        row, column = np.unravel_index(int(outside.argmax()), outside.shape)
        raise DataError(
            f"list {row} of {path} names gallery row {found[row, column]:.0f}; rows of this gallery are numbered "
            f"{first} to {gallery + first - 1}, and −1 fills up a list"
        )
    if (padding[:, :-1] & ~padding[:, 1:]).any():
        bad = (padding[:, :-1] & ~padding[:, 1:]).any(axis=1).argmax()
        raise DataError(f"list {bad} of {path} has −1 between its rows; −1 may only fill up a list's end")
    ids = np.where(padding, -1, found.astype(np.int64) - first)
    for start in range(0, len(ids), 256):
        ordered = np.sort(ids[start : start + 256], axis=1)
        twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
        if twice.any():
            raise DataError(f"list {start + twice.argmax()} of {path} names a gallery row twice; list each once")
    places = np.arange(ids.shape[1], dtype=np.float32)
    return Ranking(ids, np.where(padding, np.float32(np.inf), places))


def ranking_blocks(ranking: Ranking, gallery: int) -> Iterator[tuple[slice, Vectors]]:
    """A ranking as rows of distances in blocks, like `distance.blocks`; rows that are not listed are infinitely far."""
    step = max(1, BLOCK_VALUES // max(1, gallery))
    for start in range(0, len(ranking), step):
        rows = slice(start, min(start + step, len(ranking)))
        ids = ranking.ids[rows]
        block = np.full((len(ids), gallery), np.inf, dtype=np.float32)
        query, place = np.nonzero(ids >= 0)
        block[query, ids[query, place]] = ranking.distances[rows][query, place]
        yield rows, block


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of what an evaluation needs is in ranked lists.

    Unlisted rows follow the listed ones in gallery order. That leaves rank-k exact up to the length of the lists, less
    the listed rows that the protocol takes out. AP and mINP are comparable only where no match is missing; otherwise
    they are those of lists completed in an arbitrary way.

    Attributes:
        matches: that the protocol counts, of all queries together.
        missing: of them those that are not listed.
        queries: how many have a missing match.
    """

    matches: int
    missing: int
    queries: int

    def __str__(self) -> str:
        if not self.missing:
            return f"all {self.matches:,} matches are listed" if self.matches != 1 else "the only match is listed"
        return (
            f"matches that are not in the lists: {self.missing:,} of {self.matches:,}, of "
            f"{many(self.queries, 'query', 'queries')}; their AP and mINP are not comparable with those of complete "
            "rankings"
        )


def coverage(
    ranking: Ranking, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501"
) -> Coverage:
    """How many of the matches that a protocol counts a ranking lists.

    Raises:
        DataError: the protocol is unknown.
    """
    _, judged = row_judge(query, gallery, protocol)
    matches, missing = 0, []
    for i, listed in enumerate(ranking.ids):
        correct, _ = judged(i)
        matches += len(correct)
        missing.append(len(correct) - int(np.isin(correct, listed).sum()))
    return Coverage(matches, sum(missing), int(np.count_nonzero(missing)))


def triplet_reid_embeddings(
    h5: str | os.PathLike[str],
    listing: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    model: str | None = None,
) -> Embeddings:
    """Embeddings by triplet-reid's `embed.py`: its HDF5 file beside the CSV it was given, matched by row number.

    Args:
        h5: the file with the dataset `emb`.
        listing: lines of `identity,relative_path`; files named like Market-1501's give cameras and roles too.
        root: the folder that the paths start at, triplet-reid's `--image_root`; the CSV's folder by default.
        model: what to call the model. The file does not say, so that by default each file counts as one of its own;
            give queries and gallery the same name to compare them.

    Raises:
        DataError: a file cannot be read, or they differ in length.
        MissingExtra: h5py is not installed.
    """
    vectors, crops = read_matrix(h5, USUAL).astype(np.float32, copy=False), list(table.read(Path(listing)))
    if len(vectors) != len(crops):
        raise DataError(
            f"{h5} holds {len(vectors):,} embeddings and {listing} {len(crops):,} crops; give the CSV that was embedded"
        )
    if root is not None:
        folder = Path(listing).parent
        crops = [replace(c, path=os.path.join(root, os.path.relpath(c.path, folder))) for c in crops]
    if model is None:
        with open(h5, "rb") as file:
            model = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    try:
        return Embeddings(vectors, tuple(crops), model)
    except ShapeError as error:
        raise DataError(f"{h5}: {error}") from None


def _read(path: Path, name: str | None) -> NDArray[Any]:
    """The one matrix of real numbers that is meant."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise DataError(f"{path.name} ends in {suffix or 'nothing'!r}; matrices are read from {', '.join(_READERS)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a file that ends in {', '.join(_READERS)}")
    try:
        return _READERS[suffix](path, name)
    except ReidError:
        raise
    except Exception as error:  # four formats and three libraries, each with errors of its own for a damaged file
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}); write it again") from None


def _check(path: Path, shape: Sequence[int], kind: str, least: int) -> None:
    """Refuse what a header claims, before anything is read.

    Args:
        shape: of the array.
        kind: of its values, as NumPy abbreviates it.
        least: bytes that the file would have to hold.
    """
    if kind not in "fiu":
        what = "Python objects, which are never unpickled" if kind == "O" else "values that are not real numbers"
        raise DataError(f"{path} holds {what}; save the matrix as floating point or integers")
    size = " × ".join(f"{n:,}" for n in shape) or "a single value"
    if len(shape) != 2 or min(shape) < 1:
        raise DataError(f"{path} holds an array of {size}; a matrix has rows and columns, one row a query or a crop")
    if math.prod(shape) > MAX_VALUES:
        raise DataError(f"{path} claims to hold {size} values; at most {MAX_VALUES:,} are read, evaluate in parts")
    if least > path.stat().st_size:
        raise DataError(
            f"{path} claims to hold {size} values in {path.stat().st_size:,} bytes; it is cut off, get it again"
        )


def _choose(path: Path, names: Sequence[str], name: str | None) -> str:
    have = f"{', '.join(names[:20])}{' and more' if len(names) > 20 else ''}" or "none"
    if name is None and len(names) != 1:
        raise DataError(f"{path} holds {len(names)} arrays ({have}); name the one to read")
    if name is not None and name not in names:
        raise DataError(f"{path} holds no array {name!r}; it holds {have}")
    return name or names[0]


def _npy_header(file: IO[bytes], path: Path, packed: int) -> None:
    """Check an array in NumPy's format, of whose bytes at most `packed` fit into one of the file."""
    if np.lib.format.read_magic(file) != (1, 0):  # later forms are for tables with many columns
        raise DataError(f"{path} holds a table; save the matrix as a plain array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    _check(path, shape, "O" if dtype.hasobject else dtype.kind, math.prod(shape) * dtype.itemsize // packed)


def _read_npy(path: Path, name: str | None) -> NDArray[Any]:
    if name is not None:
        raise DataError(f"{path} holds one array without a name; leave the name {name!r} out")
    with open(path, "rb") as file:
        _npy_header(file, path, 1)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: Path, name: str | None) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        entry = f"{_choose(path, names, name)}.npy"
        with archive.open(entry) as file:
            _npy_header(file, path, DENSEST)
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _read_hdf5(path: Path, name: str | None, mirrored: bool = False) -> NDArray[Any]:
    """A dataset at the top of an HDF5 file; links are not followed, as they may lead to other files."""
    try:
        import h5py
    except ImportError:
        raise MissingExtra("HDF5", "hdf5") from None
    with h5py.File(path, "r") as file:
        own = [key for key in file if isinstance(file.get(key, getlink=True), h5py.HardLink)]
        names = [key for key in own if isinstance(file[key], h5py.Dataset)]
        dataset = file[_choose(path, names, USUAL if name is None and USUAL in names else name)]
        if dataset.is_virtual or dataset.external:
            raise DataError(f"{path} keeps its values in another file; save them in one")
        kind = dataset.dtype.kind
        shape = tuple(reversed(dataset.shape or ())) if mirrored else dataset.shape or ()
        _check(path, shape, kind, math.prod(shape) * dataset.dtype.itemsize // DENSEST)
        if math.prod(shape) * dataset.dtype.itemsize > DENSEST * dataset.id.get_storage_size():
            raise DataError(f"{path} claims to hold values that were never written; write it again")
        values: NDArray[Any] = dataset[()]
    return values.T if mirrored else values


def _read_mat(path: Path, name: str | None) -> NDArray[Any]:
    """A variable of a MATLAB file. SciPy's reader crashes Python on one wrong byte, hence this one."""
    with open(path, "rb") as file:
        start = file.read(128)
        order = _ORDERS.get(start[126:128])
        version = 0 if order is None else int.from_bytes(start[124:126], order) >> 8
        if version == 2:
            return _read_hdf5(path, name, mirrored=True)  # MATLAB 7.3 writes HDF5, columns first
        if order is None or version != 1:
            raise DataError(f"{path} is no MATLAB file of version 5 to 7.3; save it again with save(…, '-v7')")
        variables = {variable.name: variable for variable in _variables(file, order)}
        variable = variables[_choose(path, list(variables), name)]
        numeric = variable.kind in _KINDS and not variable.flags & 0x0A  # complex or logical
        kind = np.dtype(_KINDS[variable.kind] if numeric else "V")
        _check(path, variable.shape, kind.kind, math.prod(variable.shape) // DENSEST)
        file.seek(variable.start)
        whole = file.read(variable.size)
    if variable.packed:
        inflater, most = zlib.decompressobj(), variable.values + 8 + 8 * math.prod(variable.shape)
        whole = inflater.decompress(whole, most + 8)
        if not inflater.eof:
            raise ValueError("a variable is cut off")
    stored, at, size, _ = _element(whole, variable.values, order)
    values = np.frombuffer(whole, np.dtype(_TYPES[stored]).newbyteorder(_SIGNS[order]), offset=at)
    values = values[: size // values.itemsize].astype(kind)
    return values.reshape(variable.shape, order="F")


class _Variable(NamedTuple):
    """Where a MATLAB file holds a variable: `size` bytes from `start`; there, unpacked, its `values`."""

    name: str
    shape: tuple[int, ...]
    kind: int
    flags: int
    start: int
    size: int
    packed: bool
    values: int


def _variables(file: IO[bytes], order: Literal["little", "big"]) -> Iterator[_Variable]:
    """What a MATLAB 5 file holds, by the start of each variable. Of the rest nothing is read."""
    at, end = 128, os.fstat(file.fileno()).st_size
    while at + 8 <= end:
        file.seek(at)
        tag = file.read(8)
        kind, size = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
        if size > end - at - 8:
            raise ValueError("a variable is cut off")
        head, packed = file.read(min(size, 4096)), kind == 15
        if packed:
            head = zlib.decompressobj().decompress(head, 4096)[8:]
        if packed or kind == 14:
            _, flags, _, after = _element(head, 0, order)
            _, dims, length, after = _element(head, after, order)
            _, text, letters, after = _element(head, after, order)
            shape = np.frombuffer(head, np.dtype("i4").newbyteorder(_SIGNS[order]), length // 4, dims)
            word = int.from_bytes(head[flags : flags + 4], order)
            name = head[text : text + letters].decode("latin-1")
            values = after + 8 if packed else after
            yield _Variable(name, tuple(map(int, shape)), word & 255, word >> 8, at + 8, size, packed, values)
        at += 8 + size


def _element(data: bytes, at: int, order: Literal["little", "big"]) -> tuple[int, int, int, int]:
    """A part of a MATLAB variable: its type, where its content starts, the content's bytes, where the next part is."""
    first = int.from_bytes(data[at : at + 4], order)
    if first >> 16:  # up to 4 bytes, within the part's own header
        return first & 0xFFFF, at + 4, first >> 16, at + 8
    size = int.from_bytes(data[at + 4 : at + 8], order)
    return first, at + 8, size, at + 8 + -(-size // 8) * 8


_ORDERS: dict[bytes, Literal["little", "big"]] = {b"IM": "little", b"MI": "big"}
_SIGNS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}
_KINDS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_READERS = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_hdf5, ".hdf5": _read_hdf5, ".mat": _read_mat}
