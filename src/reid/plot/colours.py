"""Colours for any number of names, and for heat."""

from __future__ import annotations

import numpy as np

_LIGHT, _CHROMA, _GOLDEN = (0.62, 0.52, 0.72), 0.15, 137.50776405  # in OKLCH, which is even to the eye
_LMS = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def distinct(number: int) -> str:
    """A colour that differs from those of the numbers before it, and stands out on white and on black.

    Hues are a golden angle apart, in three lightnesses (OKLab: Ottosson 2020).

    >>> distinct(0), distinct(1)
    ('#c9690c', '#008180')
    """
    hue = np.deg2rad(55 + number * _GOLDEN)
    lab = np.array([_LIGHT[number % 3], _CHROMA * np.cos(hue), _CHROMA * np.sin(hue)])
    linear = np.clip(_RGB @ (_LMS @ lab) ** 3, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in srgb)
