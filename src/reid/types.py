"""The values that cross from one part of reid to another. Frozen, and checked when made."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reid.disk import replacing
from reid.errors import DataError, ShapeError
from reid.wording import many, model_named

Role = Literal["person", "distractor", "junk"]
Vectors = NDArray[np.float32]
ROLES: tuple[Role, ...] = ("person", "distractor", "junk")


@dataclass(frozen=True, slots=True)
class Crop:
    """One picture of (usually) one person, and what is known about it. Set once, by the reader of a data set.

    Attributes:
        path: where the picture is.
        pid: the person's name or number, None where unknown.
        camera: the camera's name or number, None where unknown.
        time: seconds on one clock shared by all cameras, None where unknown.
        tracklet: name of the run of consecutive frames it belongs to, None where unknown.
        role: "person"; "distractor", which is in the gallery and never right; "junk", which counts neither way.
        extra: further columns of a table, kept as they were read.
    """

    path: str
    pid: str | None = None
    camera: str | None = None
    time: float | None = None
    tracklet: str | None = None
    role: Role = "person"
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        texts = (("path", self.path), ("pid", self.pid), ("camera", self.camera), ("tracklet", self.tracklet))
        for name, value in texts:
            if value is None and name != "path":
                continue
            if not isinstance(value, str) or not value or "\0" in value:
                raise DataError(f"a crop's {name} is {value!r}; it must be text that is not empty{_or_none(name)}")
        if self.time is not None:
            if isinstance(self.time, bool) or not isinstance(self.time, int | float) or not math.isfinite(self.time):
                raise DataError(
                    f"the time of {self.path} is {self.time!r}; it must be a finite number of seconds or None"
                )
            object.__setattr__(self, "time", float(self.time))
        if self.role not in ROLES:
            raise DataError(f"the role of {self.path} is {self.role!r}; it can be {', '.join(ROLES)}")

    @property
    def name(self) -> str:
        """The file name without its folder."""
        return os.path.basename(self.path)


def _or_none(name: str) -> str:
    return "" if name == "path" else " or None"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Embeddings:
    """Vectors, the crops they were computed from, and the model that made them.

    Attributes:
        vectors: (N, D) float32, finite.
        crops: N crops, row by row.
        model: fingerprint of the model; vectors of two models cannot be compared.

    Raises:
        ShapeError: shapes, types or lengths that do not fit, or values that are not finite.
    """

    vectors: Vectors
    crops: tuple[Crop, ...]
    model: str

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise ShapeError(
                f"embeddings have shape {vectors.shape} and type {vectors.dtype}; they must be (N, D) floating point"
            )
        if len(vectors) != len(self.crops):
            raise ShapeError(f"embeddings: {len(vectors)}, crops: {len(self.crops)}; each crop needs one embedding")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        with np.errstate(invalid="ignore"):
            finite = np.isfinite(
                vectors.sum(dtype=np.float64)
            )  # one pass, no copy; a sum of float32 cannot overflow it
        if not finite:
            rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            raise ShapeError(
                f"{'1 embedding is' if len(rows) == 1 else f'{len(rows)} embeddings are'} not finite, the first in row "
                f"{rows[0]} ({self.crops[rows[0]].path}); drop them or embed those crops again"
            )
        if not self.model:
            raise ShapeError("embeddings came without the fingerprint of the model that made them; give one")
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "crops", tuple(self.crops))

    def __len__(self) -> int:
        return len(self.crops)

    def __repr__(self) -> str:
        values, model = self.vectors.shape[1], model_named(self.model)
        return f"Embeddings({many(len(self), 'crop')}, {values} values each, model {model})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Embeddings):
            return NotImplemented
        return self.model == other.model and self.crops == other.crops and np.array_equal(self.vectors, other.vectors)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any]) -> Embeddings:
        """The chosen rows, by slice, by a list of positions or by an (N,) mask."""
        chosen = np.arange(len(self))[rows]
        if chosen.ndim != 1:
            raise ShapeError("choose rows of embeddings by a slice, a list of positions or a mask")
        return Embeddings(self.vectors[chosen], tuple(self.crops[i] for i in chosen), self.model)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.npz` file that `Embeddings.load` reads back without loss. Replaces the file in one step."""
        with replacing(path) as partial, open(partial, "wb") as out:
            np.savez(out, vectors=self.vectors, crops=pack_crops(self.crops), model=np.array(self.model))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Embeddings:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or something else. Nothing in it is ever unpickled.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                if not {"vectors", "crops", "model"} <= set(file.files):
                    raise DataError(
                        f"{path} holds {', '.join(file.files) or 'nothing'}; a file of embeddings holds vectors, crops "
                        "and model, as `reid embed` writes them"
                    )
                return cls(file["vectors"], unpack_crops(file["crops"]), str(file["model"]))
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; give a file that `reid embed` wrote") from None
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{path} is not a readable file of embeddings ({error}); write it again with `reid embed`"
            ) from None


def pack_crops(crops: Sequence[Crop]) -> NDArray[np.uint8]:
    """Crops as UTF-8 bytes, one JSON object a line with unset fields left out."""
    text = io.StringIO()
    for crop in crops:
        text.write(crop_to_json(crop) + "\n")
    return np.frombuffer(text.getvalue().encode("utf-8", "surrogateescape"), dtype=np.uint8)


def unpack_crops(data: NDArray[np.uint8]) -> tuple[Crop, ...]:
    """The reverse of `pack_crops`."""
    lines = data.tobytes().decode("utf-8", "surrogateescape").split("\n")
    return tuple(crop_from_json(line) for line in lines if line)


def crop_to_json(crop: Crop) -> str:
    """One line; put together here, because an encoder takes five times as long and galleries write a million."""
    line = f'{{"path":{_QUOTE(crop.path)}'
    if crop.pid is not None:
        line += f',"pid":{_QUOTE(crop.pid)}'
    if crop.camera is not None:
        line += f',"camera":{_QUOTE(crop.camera)}'
    if crop.time is not None:
        line += f',"time":{crop.time!r}'
    if crop.tracklet is not None:
        line += f',"tracklet":{_QUOTE(crop.tracklet)}'
    if crop.role != "person":
        line += f',"role":{_QUOTE(crop.role)}'
    if crop.extra:
        line += f',"extra":{_ENCODE(dict(crop.extra))}'
    return line + "}"


_QUOTE = json.encoder.encode_basestring_ascii
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # made once, since making one takes longer than using it


def crop_from_json(line: str) -> Crop:
    try:
        return Crop(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise DataError(f"a line that should describe a crop does not ({error}): {line[:80]}") from None


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """For each query, the nearest rows of a gallery.

    Attributes:
        ids: (Q, K) int64 rows of the gallery, nearest first; −1 where fewer than K were allowed.
        distances: (Q, K) float32, ascending in each row; infinite where the id is −1.
    """

    ids: NDArray[np.int64]
    distances: Vectors

    def __post_init__(self) -> None:
        ids, distances = np.asarray(self.ids), np.asarray(self.distances)
        if ids.ndim != 2 or ids.shape != distances.shape:
            raise ShapeError(f"ids are {ids.shape} and distances {distances.shape}; both must be the same (Q, K)")
        if ids.dtype.kind not in "iu" or distances.dtype.kind != "f":
            raise ShapeError(f"ids are {ids.dtype} and distances {distances.dtype}; they must be integers and floats")
        if np.isnan(distances).any():
            raise ShapeError("a ranking holds a distance that is not a number")
        if not ((ids < 0) == np.isinf(distances)).all():
            raise ShapeError("a ranking pads with id −1 and infinite distance together, never with one alone")
        if ids.shape[1] > 1 and (distances[:, 1:] < distances[:, :-1]).any():
            raise ShapeError("a ranking's distances must ascend in each row")
        object.__setattr__(self, "ids", np.ascontiguousarray(ids, dtype=np.int64))
        object.__setattr__(self, "distances", np.ascontiguousarray(distances, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.ids)

    def matches(self, gallery: Sequence[Crop]) -> Iterator[tuple[Match, ...]]:
        """For each query its matches, nearest first, padding left out."""
        for ids, distances in zip(self.ids, self.distances, strict=True):
            yield tuple(
                Match(gallery[i], float(d), rank)
                for rank, (i, d) in enumerate(zip(ids, distances, strict=True), 1)
                if i >= 0
            )


@dataclass(frozen=True, slots=True)
class Match:
    """One row of an answer.

    Attributes:
        crop: what was found.
        distance: from the query, lower is closer, at least 0.
        rank: 1 for the nearest.
        probability: that it is the same person, in [0, 1]; None without a calibrated verifier.
    """

    crop: Crop
    distance: float
    rank: int
    probability: float | None = None

    def __post_init__(self) -> None:
        if not self.distance >= 0 or math.isinf(self.distance):
            raise ShapeError(f"a match's distance is {self.distance}; it must be a finite number, at least 0")
        if self.rank < 1:
            raise ShapeError(f"a match's rank is {self.rank}; ranks start at 1")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ShapeError(f"a match's probability is {self.probability}; it must lie in [0, 1]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two crops show one person.

    Attributes:
        same: None where the crops are too poor to tell, whatever their distance.
        probability: that they do, in [0, 1]; poor crops draw it towards the prior.
        distance: between their embeddings, at least 0.
        threshold: the largest distance that counts as same; below 0 where none does, infinite where all do.
        evidence: the share of the distance's evidence that the crops' quality leaves, in [0, 1].
        reasons: what takes most of it, such as "first: blur".
    """

    same: bool | None
    probability: float
    distance: float
    threshold: float
    evidence: float = 1.0
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 <= self.evidence <= 1:
            raise ShapeError(
                f"a verdict's probability is {self.probability} and its evidence {self.evidence}; both must lie "
                "in [0, 1]"
            )
        if not self.distance >= 0 or math.isnan(self.threshold):
            raise ShapeError(
                f"a verdict's distance is {self.distance} and its threshold {self.threshold}; both must be numbers, "
                "the distance at least 0"
            )


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    Attributes:
        metrics: values in [0, 1] by name: "rank-1", "mAP" (plain), "mAP-trapezoid", "mINP".
        protocol: which rows counted for which query, by the name the literature uses.
        average_precision: the definition behind "mAP".
        queries: how many were counted.
        skipped: how many had no valid match in the gallery and were left out of every metric alike.
        gallery: rows searched.
        intervals: by metric name, a (low, high) confidence interval, where one was asked for.
        reranking: how the ranking was changed before it was measured, with its settings; empty where it was not.
        people: how many the counted queries show.
    """

    metrics: Mapping[str, float]
    protocol: str
    queries: int
    skipped: int
    gallery: int
    average_precision: str = "plain"
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reranking: str = ""
    people: int = 0

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not 0 <= value <= 1:
                raise ShapeError(f"{name} is {value}; metrics lie in [0, 1]")
        if min(self.queries, self.skipped, self.gallery, self.people) < 0:
            raise ShapeError("counts of queries, skipped queries, gallery rows and people cannot be negative")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Report:
        row = json.loads(text)
        row["intervals"] = {k: (v[0], v[1]) for k, v in row["intervals"].items()}
        return cls(**row)
