"""Signed time differences in bins, and tables to be looked up by two cameras and such a difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.errors import ShapeError
from reid.spacetime.sightings import Floats, Side
from reid.types import Vectors

SCALE, STEP = 30.0, 0.025
_MOST_BINS = 100_000
_CHUNK = 1 << 16  # pairs looked up at once; their intermediate values stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Axis:
    """Time differences in bins: even steps close to 0, ever longer ones farther out, t seconds at ±ln(1 + |t|/scale).

    Attributes:
        half: bins on either side of the middle one. What lies beyond falls into the last.
        scale: seconds up to which bins are about equally long.
        step: width of a bin.
    """

    half: int
    scale: float = SCALE
    step: float = STEP

    def __post_init__(self) -> None:
        if not (0 < self.half <= _MOST_BINS and 0 < self.scale < math.inf and 0 < self.step < math.inf):
            raise ShapeError(
                f"an axis of {self.half} bins a side, {self.step} wide, with scale {self.scale}; all must be above 0 "
                f"and there can be {_MOST_BINS:,} bins"
            )

    @classmethod
    def reaching(cls, seconds: float) -> Axis:
        """An axis whose last bins hold no difference up to `seconds`."""
        return cls(math.ceil(math.log1p(seconds / SCALE) / STEP) + 1)

    def __len__(self) -> int:
        return 2 * self.half + 1

    def bins(self, seconds: NDArray[np.floating]) -> NDArray[np.int32]:
        """The bin of each difference."""
        place = np.abs(seconds)
        place *= 1 / self.scale
        place += 1
        np.log(place, out=place)
        place *= 1 / self.step
        np.minimum(place, self.half, out=place)
        np.copysign(place, seconds, out=place)
        place += self.half + 0.5
        whole: NDArray[np.int32] = place.astype(np.int32)
        return whole

    def seconds(self, bins: NDArray[Any]) -> Floats:
        """The middle of each bin; half-way between two bins, their border."""
        place = (bins - self.half) * self.step
        away: Floats = np.sign(place) * self.scale * np.expm1(np.abs(place))
        return away


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Q queries beside G gallery rows, ready to be looked up.

    Attributes:
        axis: of the time differences, gallery minus query.
        table: (C + 1, C + 1, len(axis)) float32 by camera of the query and of the gallery row; C is "unknown".
        query, gallery: camera codes and times.
    """

    axis: Axis
    table: Vectors
    query: Side
    gallery: Side

    def block(self, rows: slice) -> Vectors:
        """(q, G) values of some of the queries."""
        cameras, times = self.query[0][rows, None], self.query[1][rows, None]
        out = np.empty((len(times), len(self.gallery[1])), dtype=np.float32)
        step = max(1, _CHUNK // max(1, out.shape[1]))
        for start in range(0, len(out), step):
            part = slice(start, start + step)
            out[part] = self._values((cameras[part], times[part]), self.gallery)
        return out

    def at(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Vectors:
        """(N,) values of N pairs of a query and a gallery row."""
        query, gallery = self.query, self.gallery
        return self._values((query[0][rows], query[1][rows]), (gallery[0][columns], gallery[1][columns]))

    def _values(self, query: Side, gallery: Side) -> Vectors:
        place = self.axis.bins((gallery[1] - query[1]).astype(np.float32))
        place += (query[0] * np.int32(len(self.table)) + gallery[0]) * np.int32(len(self.axis))
        return self.table.ravel().take(place)
