"""What a gallery holds, column by column, and the filter that chooses among it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.distance import near
from reid.errors import DataError, ShapeError
from reid.gallery.planes import Half, rounded, single
from reid.types import Crop, Embeddings

Ids = NDArray[np.int64]
LEAST = 2.0**-9  # of its length that a vector may lose by rounding; one of ordinary size loses 2⁻¹² to 2⁻¹¹
BEYOND = 65_520  # the least number that half precision rounds to infinity


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Rows:
    """Rows of a gallery, column by column.

    Attributes:
        ids: (N,) int64, at least 0, each once; see `row_id`.
        vectors: (N, D) float16, finite; the very same come back from every store. (N, 0) where a fetch left them out.
        crops: N crops; a crop's `pid` is the person it is enrolled as.
        tags: N sets of words.
        pictures: N small JPEG files, or None where none is kept.
        added: (N,) float64, when each first came in, in seconds since 1970 (UTC). Retention counts from here.

    Raises:
        ShapeError: shapes, types or lengths that do not fit, ids that repeat, or values that are not finite.
    """

    ids: Ids
    vectors: Half
    crops: tuple[Crop, ...]
    tags: tuple[frozenset[str], ...]
    pictures: tuple[bytes | None, ...]
    added: NDArray[np.float64]

    def __post_init__(self) -> None:
        lengths = {name.name: len(getattr(self, name.name)) for name in fields(self)}
        if len(set(lengths.values())) != 1:
            raise ShapeError(
                f"rows of a gallery have columns of different lengths ({lengths}); give each row one of each"
            )
        if self.ids.dtype != np.int64 or self.vectors.dtype != np.float16 or self.vectors.ndim != 2:
            raise ShapeError(
                f"rows have ids of type {self.ids.dtype} and vectors of type {self.vectors.dtype} and shape "
                f"{self.vectors.shape}; they must be (N,) int64 and (N, D) float16"
            )
        if len(self) and (self.ids.min() < 0 or len(np.unique(self.ids)) < len(self)):
            raise ShapeError("ids of rows must be at least 0, and each may come once")
        if not np.isfinite(self.vectors).all():
            raise ShapeError("rows hold vectors that are not finite")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Rows({len(self):,} of {self.vectors.shape[1]} values)"

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Rows:
        """The chosen rows, by slice, by positions or by an (N,) mask."""
        at = np.arange(len(self))[rows]
        crops, tags, pictures = (tuple(column[i] for i in at) for column in (self.crops, self.tags, self.pictures))
        return Rows(self.ids[at], self.vectors[at], crops, tags, pictures, self.added[at])

    @classmethod
    def join(cls, parts: Sequence[Rows], dim: int = 0) -> Rows:
        """Several, one after the other; none give empty rows of `dim` values."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty((0, dim), np.float16), (), (), (), np.empty(0))
        crops, tags, pictures = (
            tuple(item for part in parts for item in getattr(part, name)) for name in ("crops", "tags", "pictures")
        )
        ids, vectors, added = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("ids", "vectors", "added")
        )
        return cls(ids, vectors, crops, tags, pictures, added)


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows: those that satisfy everything that is given. None asks for nothing; an empty set is met by no row.

    Attributes:
        ids: only these.
        cameras: only of these cameras.
        not_cameras: of none of these; rows without a camera stay.
        after, before: only crops whose time in seconds lies in this range, ends included; crops without a time are
            left out once either is given.
        people: only crops of these.
        not_people: of none of these; rows without a person stay.
        tracklets: only of these.
        not_tracklets: of none of these, among rows without a person; rows with one stay, and those without a tracklet.
        tags: only rows that carry all of these.
        added_before: only rows that came in before this moment, in seconds since 1970, the moment itself not included.
    """

    ids: frozenset[int] | None = None
    cameras: frozenset[str] | None = None
    not_cameras: frozenset[str] = frozenset()
    after: float | None = None
    before: float | None = None
    people: frozenset[str] | None = None
    not_people: frozenset[str] = frozenset()
    tracklets: frozenset[str] | None = None
    not_tracklets: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    added_before: float | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "cameras", "not_cameras", "people", "not_people", "tracklets", "not_tracklets", "tags"):
            value = getattr(self, name)
            if isinstance(value, str | bytes):
                raise DataError(f"{name} is {value!r}; give a set, such as {{{value!r}}}")
            if value is not None and not isinstance(value, frozenset):
                object.__setattr__(self, name, frozenset(value))

        for name in ("after", "before", "added_before"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise DataError(f"{name} is {value}; it must be a finite number of seconds")

    @property
    def everything(self) -> bool:
        """Whether it leaves out no row."""
        return self == Where()


def row_id(crop: Crop) -> int:
    """The id of a crop's row: the first 63 bits of the BLAKE2b digest of its path, the same in every store.

    >>> row_id(Crop("a.jpg"))
    9161438751103734724
    """
    return row_ids([crop])[0]


def row_ids(crops: Iterable[Crop]) -> list[int]:
    """`row_id` of many."""
    blake = hashlib.blake2b
    digests = [blake(crop.path.encode("utf-8", "surrogateescape"), digest_size=8).digest() for crop in crops]
    return [int.from_bytes(digest, "big") >> 1 for digest in digests]


def new_rows(
    made: Embeddings, tags: Iterable[str], pictures: Sequence[bytes | None] | None, now: float
) -> tuple[Rows, Ids]:
    """Embeddings as rows that came in now, of a path that comes twice the last; and the (N,) ids of all of them.

    Raises:
        ShapeError: the vectors do not fit half precision.
    """
    crops = [placed(crop) for crop in made.crops]
    ids = np.array(row_ids(crops), dtype=np.int64)
    at = list({row: i for i, row in enumerate(ids.tolist())}.values())
    words, count = frozenset(tags), len(at)
    kept = (None,) * count if pictures is None else tuple(pictures[i] for i in at)
    some = tuple(crops[i] for i in at)
    return Rows(ids[at], half(made.vectors[at]), some, (words,) * count, kept, np.full(count, now)), ids


def with_known(new: Rows, old: Rows) -> Rows:
    """New rows, completed by what only the old ones with the same ids know, and as old as they are."""
    if not len(old):
        return new
    place = {row: at for at, row in enumerate(new.ids.tolist())}
    crops, tags, pictures, added = list(new.crops), list(new.tags), list(new.pictures), new.added.copy()
    for i, row in enumerate(old.ids.tolist()):
        at = place[row]
        crops[at] = completed(crops[at], old.crops[i])
        tags[at] |= old.tags[i]
        pictures[at] = pictures[at] or old.pictures[i]
        added[at] = old.added[i]
    return Rows(new.ids, new.vectors, tuple(crops), tuple(tags), tuple(pictures), added)


def upload_path(picture: bytes) -> str:
    """The path that stands for a picture that lies in no file, by the digest of its bytes."""
    return f"upload:{hashlib.blake2b(picture, digest_size=16).hexdigest()}"


def completed(new: Crop, old: Crop) -> Crop:
    """A crop with what only the old one knows."""
    known = {name: getattr(old, name) for name in ("pid", "camera", "time", "tracklet") if getattr(new, name) is None}
    return replace(new, **known, extra={**old.extra, **new.extra})


def placed(crop: Crop) -> Crop:
    """A crop whose path, where it leads to a file, is absolute."""
    if crop.path.startswith(os.sep) or not Path(crop.path).is_file():
        return crop
    return replace(crop, path=os.path.abspath(crop.path))


def half(vectors: NDArray[Any]) -> Half:
    """(N, D) vectors rounded as galleries keep them: to half precision, and to steps (see `planes`).

    Raises:
        ShapeError: half precision does not hold them: a value above 65,504, or values so small that more than LEAST of
            a vector's length would be lost.
    """
    kept = np.empty(vectors.shape, np.float16)
    for part in near(slice(0, len(vectors)), vectors.shape[1]):
        exact = np.asarray(vectors[part], dtype=np.float32)
        kept[part] = rounded(vectors[part])
        with np.errstate(invalid="ignore", over="ignore"):
            lost = exact - single(kept[part])
            within = np.einsum("nd,nd->n", lost, lost) <= LEAST**2 * np.einsum("nd,nd->n", exact, exact)
        within &= np.abs(exact).max(axis=1, initial=0) < BEYOND
        bad = part.start + np.flatnonzero(~within)
        if len(bad):
            raise ShapeError(
                f"vector {bad[0]} does not fit half precision, in which galleries keep vectors; "
                "scale the model's output to values around 1"
            )
    return kept
