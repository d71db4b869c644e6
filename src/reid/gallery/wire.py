"""How rows travel to servers and rankings come back."""

from __future__ import annotations

import string
from collections.abc import Iterable
from urllib.parse import quote, unquote

import numpy as np

from reid.types import Ranking

SAFE = "".join(c for c in string.printable[:95] if c not in "%\"'\\")


def plain(text: str) -> str:
    """Text as servers keep it: ASCII, no quotes, the rest as %XX, so that file names that are no UTF-8 pass too.

    >>> plain("Jürgen's")
    'J%C3%BCrgen%27s'
    """
    return quote(text, safe=SAFE, errors="surrogateescape")


def original(text: str) -> str:
    """The reverse of `plain`."""
    return unquote(text, errors="surrogateescape")


def nearest(rankings: Iterable[Ranking], k: int) -> Ranking:
    """The k best of several rankings of the same queries; each row of the gallery comes in one of them only."""
    several = list(rankings)
    ids = np.concatenate([one.ids for one in several], axis=1)
    distances = np.concatenate([one.distances for one in several], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Ranking(np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1))
