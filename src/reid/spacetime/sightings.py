"""Who was where when, out of crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid.types import Crop

Floats = NDArray[np.float64]
Side = tuple[NDArray[np.int32], Floats]  # for each crop the code of its camera, and its time in seconds
CROPS_EACH = 20


def tells(crop: Crop) -> bool:
    """Whether a crop says who was where when."""
    return crop.role == "person" and None not in (crop.pid, crop.camera, crop.time)


def sightings(crops: Sequence[Crop]) -> tuple[tuple[str, ...], list[dict[int, Floats]]]:
    """Cameras by name, and for each person, in order of names, the sorted times at each camera's position.

    Crops without person, camera or time are left out. Where somebody has more than CROPS_EACH crops in a camera, so
    many spread evenly over them stand for all: people count once, however long they were filmed.
    """
    people: dict[str, dict[str, list[float]]] = {}
    for crop in crops:
        if tells(crop) and crop.time is not None:
            people.setdefault(str(crop.pid), {}).setdefault(str(crop.camera), []).append(crop.time)
    cameras = tuple(sorted({camera for person in people.values() for camera in person}))
    code = {camera: i for i, camera in enumerate(cameras)}
    return cameras, [{code[c]: thinned(times, CROPS_EACH) for c, times in people[p].items()} for p in sorted(people)]


def thinned(values: Sequence[float] | Floats, most: int) -> Floats:
    """Values in ascending order; of more than `most`, that many quantiles of them."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return ordered if len(ordered) <= most else ordered[np.linspace(0, len(ordered) - 1, most).round().astype(int)]


def where_when(crops: Sequence[Crop], cameras: Sequence[str]) -> Side:
    """(N,) each crop's camera as a position among C cameras, and its time; C and 0 where either is unknown."""
    code = {camera: i for i, camera in enumerate(cameras)}
    unknown = len(cameras)
    places = [unknown if c.camera is None or c.time is None else code.get(c.camera, unknown) for c in crops]
    times = [0.0 if c.time is None else c.time for c in crops]
    return np.array(places, dtype=np.int32), np.array(times, dtype=np.float64)
