"""How far apart the clocks of cameras are, from people that several of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from reid.errors import DataError
from reid.spacetime.sightings import Floats, sightings, thinned
from reid.types import Crop

_PEOPLE = 1000


def estimate_offsets(crops: Sequence[Crop]) -> dict[str, float]:
    """By how many seconds each camera's clock is ahead of the first one's, cameras in order of names.

    To put crops on one clock, subtract: `replace(crop, time=crop.time - offsets[crop.camera])`.

    Where as many people walk from a to b as from b to a, and take as long, the differences of their times lie evenly
    around the difference of the clocks. Its estimate is the Hodges–Lehmann centre, the median of the means of all two
    differences: it bears with some who come back much later, and with up to 70 % of the people going one way. Where
    nearly all walk one way, the time they take cannot be told from the clocks' difference and is taken for it, which
    does a prior learnt on these clocks no harm. Pairs of cameras are then brought to agree by least squares, weighted
    by how many people they share and how closely those agree. Each camera has one offset: where a recording stopped
    for a while, no single one is right.

    Raises:
        DataError: nobody is named with camera and time, or some cameras share nobody with the others.
    """
    cameras, people = sightings(crops)
    if not cameras:
        raise DataError("no crop names a person, a camera and a time; clocks cannot be compared")
    rows, values, joined = [], [], {0}
    for a, b in combinations(range(len(cameras)), 2):
        apart = np.array([np.median(p[b]) - np.median(p[a]) for p in people if a in p and b in p])
        if not len(apart):
            continue
        centre = _centre(apart)
        weight = np.sqrt(len(apart)) / (1 + np.median(np.abs(apart - centre)))
        row = np.zeros(len(cameras))
        row[[a, b]] = -weight, weight
        rows.append(row)
        values.append(weight * centre)
    links = [set(np.flatnonzero(row).tolist()) for row in rows]
    while reached := set().union(*(link for link in links if link & joined)) - joined:
        joined |= reached
    if alone := [name for i, name in enumerate(cameras) if i not in joined]:
        raise DataError(
            f"no chain of people joins camera {', '.join(alone)} to camera {cameras[0]}; leave out its crops, or add "
            "people that were seen by both sides"
        )
    if len(cameras) == 1:
        return {cameras[0]: 0.0}
    offsets = np.linalg.lstsq(np.array(rows)[:, 1:], np.array(values))[0]
    return dict(zip(cameras, [0.0, *offsets.tolist()], strict=True))


def _centre(values: Floats) -> float:
    """The Hodges–Lehmann estimate of a centre of symmetry."""
    few = thinned(values, _PEOPLE)
    i, j = np.triu_indices(len(few))
    return float(np.median((few[i] + few[j]) / 2))
