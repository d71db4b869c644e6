"""Vectors in half precision as two planes of bytes, so that a search may read the first alone.

The values of a row are whole multiples of one power of two, its step, and the first bytes count units of some steps,
the second bytes what is left: v = (unit · (high − 128) + low) · step. Where values are above 2¹⁰ steps, half precision
knows no finer ones; smaller ones are rounded to steps before a gallery keeps them (`rounded`), which loses a
tenth of what rounding to half precision loses. After that, halves and planes are the same to the last bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.distance import near
from reid.types import Vectors

Half = NDArray[np.float16]
Bytes = NDArray[np.uint8]
ZERO = 128
MOST = 32_512  # steps of the largest value: the largest that a half holds and units of less than 256 steps reach
LEAST = -38  # the power of two of the finest step, that of the least half


class Planes(NamedTuple):
    """N vectors.

    Attributes:
        high: (N, D) uint8.
        low: (N, D) int8.
        units: (N,) float32, steps in each of `high`.
        steps: (N,) float32.
    """

    high: Bytes
    low: NDArray[np.int8]
    units: Vectors
    steps: Vectors

    def halves(self) -> Half:
        """(N, D) float16, exactly what they were made of."""
        return self.joined().astype(np.float16)

    def joined(self) -> Vectors:
        """(N, D) float32, the same."""
        values = self.high.astype(np.float32)
        values -= ZERO
        values *= self.units[:, None]
        values += self.low
        values *= self.steps[:, None]
        return values


def split(halves: Half) -> Planes:
    """(N, D) vectors as planes, which are the same vectors if they were `rounded`."""
    values = single(halves)
    steps = _steps(values)
    values /= steps[:, None]
    units = np.floor(np.abs(values).max(axis=1, initial=0) / (ZERO - 0.5)) + 1
    high = np.rint(values / units[:, None])
    values -= high * units[:, None]
    high += ZERO
    return Planes(high.astype(np.uint8), values.astype(np.int8), units, steps)


def rounded(vectors: NDArray[Any]) -> Half:
    """(N, D) vectors in half precision and in steps; not finite where half precision does not hold them."""
    with np.errstate(over="ignore"):
        halves = np.array(vectors, np.float16, order="C")
    whole, changed = _in_steps(halves)
    np.copyto(halves, whole, casting="same_kind", where=changed)
    return halves


def are_rounded(halves: Half) -> bool:
    """Whether rounding would change nothing."""
    return not any(_in_steps(halves[part])[1].any() for part in near(slice(0, len(halves)), halves.shape[1]))


def single(halves: Half) -> Vectors:
    """In single precision, by their bits: NumPy takes one value at a time, which is five times as slow. Of what is not
    finite it makes something finite."""
    bits = np.ascontiguousarray(halves).view(np.int16).astype(np.int32)
    bits <<= 13  # the fraction is where it belongs, and the sign in four places
    bits &= ~0x70000000
    values = bits.view(np.float32)
    values *= np.float32(2**112)  # by what exponents are counted from
    return values


def _in_steps(halves: Half) -> tuple[Vectors, NDArray[np.bool_]]:
    """Values in whole steps, and which are others than before."""
    values = single(halves)
    steps = _steps(values)[:, None]
    whole = np.rint(values / steps)
    whole *= steps
    return whole, whole != values


def _steps(values: Vectors) -> Vectors:
    """(N,) the least power of two of which no value of a row is more than MOST, as far as halves reach."""
    largest, power = np.frexp(np.abs(values).max(axis=1, initial=0))
    power = np.maximum(power - 15 + (largest > MOST / 2**15), LEAST)
    return np.asarray(np.ldexp(np.float32(1), power))
