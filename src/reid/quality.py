"""How good a crop is as evidence: five plain measures, and the ways in which crops go wrong, to learn from.

Each measure is 0 for nothing wrong and at most 1. They look at the picture alone: neither a detector nor a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from reid.images import RGB, check_rgb, resize

Floats = NDArray[np.float64]
MEASURES = ("size", "blur", "cut", "dark", "bright")
HEIGHT, WIDTH = 128, 64  # Market-1501's crops; about what models look at
DARK, BRIGHT = 32, 240  # brightness, of 255, below or above which little can be told apart
REACH = 9  # pixels of the re-blurring window


def measure(image: RGB) -> Floats:
    """(5,) what is wrong with a crop, (H, W, 3) uint8 RGB of any size, in the order of MEASURES.

    size: 1 − height / 128, at least 0: what it lacks in height.
    blur: how little a further blur changes it at 128×64 (Crété-Roffet et al. 2007), 0 sharp, 1 without any detail.
    cut: 1 − (height / width) / 2, at least 0: what it lacks to the 2:1 box of a person who stands. The picture itself
        is not looked into, so a box of that shape around half a person is not noticed.
    dark, bright: share of pixels whose brightness (Rec. 601 luma) is below 32, or above 240 of 255.

    Raises:
        ShapeError: it is not such an array.
    """
    image = check_rgb(image)
    height, width = image.shape[:2]
    seen = cv2.cvtColor(resize(image, HEIGHT, WIDTH), cv2.COLOR_RGB2GRAY)
    dark, bright = float((seen < DARK).mean()), float((seen > BRIGHT).mean())
    return np.array([max(0.0, 1 - height / HEIGHT), blur(seen), max(0.0, 1 - height / width / 2), dark, bright])


def measures(pictures: Sequence[RGB]) -> Floats:
    """(N, 5) of several crops."""
    return np.array([measure(picture) for picture in pictures]).reshape(len(pictures), len(MEASURES))


def blur(grey: NDArray[np.number]) -> float:
    """Of the differences between neighbours, the share that stays when a grey picture is blurred along them.

    The larger of the two directions; 1 for a picture without differences. Crété-Roffet, Dolmiere, Ladret and Nicolas
    2007, *The blur effect*: differences that grow do not count as lost.
    """
    shares = []
    for axis, window in ((0, (1, REACH)), (1, (REACH, 1))):
        values = grey.astype(np.float32)
        sharp = np.abs(np.diff(values, axis=axis))
        soft = np.abs(np.diff(cv2.blur(values, window, borderType=cv2.BORDER_REFLECT), axis=axis))
        total = float(sharp.sum())
        shares.append(1 - float(np.maximum(sharp - soft, 0).sum()) / total if total else 1.0)
    return max(shares)


def degrade(image: RGB, how: str, strength: float, rng: np.random.Generator) -> RGB:
    """A crop gone wrong in one of the ways of WAYS, from strength 0, hardly, to 1, badly."""
    return WAYS[how](check_rgb(image), strength, rng)


def _smaller(image: RGB, strength: float, rng: np.random.Generator) -> RGB:
    """To between 100 and 12 pixels high."""
    height = round(100 * (12 / 100) ** strength)
    return resize(image, height, max(1, round(image.shape[1] / image.shape[0] * height)))


def _blurred(image: RGB, strength: float, rng: np.random.Generator) -> RGB:
    """By a Gaussian of 1/128 to 8/128 of the height; or as much by motion to the side, every other time."""
    sigma = image.shape[0] / 128 * 8**strength
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigma)  # type: ignore[return-value]
    return cv2.blur(image, (max(1, round(3.5 * sigma)), 1))  # type: ignore[return-value]


def _darker(image: RGB, strength: float, rng: np.random.Generator) -> RGB:
    """To between a half and a fortieth of the light, with the noise of a sensor."""
    dim = image.astype(np.float32) * 0.5 * (1 / 20) ** strength + rng.normal(0, 2, image.shape)
    return _bytes(dim)


def _brighter(image: RGB, strength: float, rng: np.random.Generator) -> RGB:
    """To between 1.5 and 12 times the light; what is too bright becomes white."""
    return _bytes(image.astype(np.float32) * (1.5 * 8**strength))


def _bytes(values: NDArray[np.floating]) -> RGB:
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def _shorter(image: RGB, strength: float, rng: np.random.Generator) -> RGB:
    """Down to between nine tenths and a fifth of the person from the top; or from the bottom, every fifth time."""
    kept = max(1, round(image.shape[0] * (0.9 - 0.7 * strength)))
    return image[-kept:] if rng.random() < 0.2 else image[:kept]


WAYS: dict[str, Callable[[RGB, float, np.random.Generator], RGB]] = {
    "size": _smaller,
    "blur": _blurred,
    "cut": _shorter,
    "dark": _darker,
    "bright": _brighter,
}
"""Ways to go wrong, by the measure that should notice."""


def worsened(pictures: Sequence[RGB], seed: int = 0) -> list[RGB]:
    """Each picture gone wrong in one way, drawn at random and as badly as drawn at random; the same every time."""
    rng = np.random.default_rng(seed)
    ways = list(WAYS)
    return [degrade(picture, ways[rng.integers(len(ways))], float(rng.random()), rng) for picture in pictures]
