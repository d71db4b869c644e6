"""How far apart the clocks of cameras are, from people that several of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from reid.errors import DataError
from reid.spacetime.sightings import Floats, sightings, tells, thinned
from reid.types import Crop

_PEOPLE = 1000
_SPREAD, _ROUNDS = 30.0, 500


def estimate_offsets(crops: Sequence[Crop]) -> dict[str, float]:
    """By how many seconds each camera's clock is ahead of the first one's, cameras in order of names.

    To put crops on one clock, subtract: `replace(crop, time=crop.time - offsets[crop.camera])`.

    Where as many people walk from a to b as from b to a, and take as long, the differences of their times lie evenly
    around the difference of the clocks. Its estimate is the Hodges–Lehmann centre, the median of the means of all two
    differences: it bears with some who come back much later, and with up to 70 % of the people going one way. Where
    nearly all walk one way, the time they take cannot be told from the clocks' difference and is taken for it, which
    does a prior learnt on these clocks no harm. Pairs of cameras are then brought to agree by least squares, weighted
    by how many people they share and how closely those agree. Each camera has one offset: where a recording stopped
    for a while, no single one is right, see `align_recordings`.

    Raises:
        DataError: nobody is named with camera and time, or some cameras share nobody with the others.
    """
    cameras, people = sightings(crops)
    if not cameras:
        raise DataError("no crop names a person, a camera and a time; clocks cannot be compared")
    rows, values = [], []
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
    _check_joined([set(np.flatnonzero(row).tolist()) for row in rows], [f"camera {name}" for name in cameras])
    if len(cameras) == 1:
        return {cameras[0]: 0.0}
    offsets = np.linalg.lstsq(np.array(rows)[:, 1:], np.array(values))[0]
    return dict(zip(cameras, [0.0, *offsets.tolist()], strict=True))


def align_recordings(crops: Sequence[Crop], recordings: Sequence[str]) -> dict[str, float]:
    """How many seconds to add to each recording's times, so that they agree; the first in order of names stays.

    A recording is what one camera filmed in one go. Where cameras were stopped and started again, the time that passed
    in between is unknown, and each recording has a shift of its own. The shifts minimise

        Σ ln(1 + (Δ / 30 s)²)

    over all people and all two recordings of theirs by different cameras, Δ being the time between the medians of their
    times. Who comes back hours later hardly counts (Cauchy's likelihood, by iteratively reweighted least squares).

    It is a local minimum, found from the times given: they must be a good guess for most recordings, such as recordings
    laid end to end; a few may be far off. As for `estimate_offsets`, where nearly all walk one way, the time they take
    is mended as if it were the clocks' fault.

    Args:
        crops: of people seen by several cameras.
        recordings: the name of each crop's recording.

    Raises:
        DataError: names and crops differ in number, nobody is named with camera and time, or no chain of people joins
            some recordings to the others.
    """
    if len(recordings) != len(crops):
        raise DataError(f"there are {len(recordings):,} names of recordings for {len(crops):,} crops; each needs one")
    times: dict[tuple[str, str], list[float]] = {}
    camera: dict[str, str] = {}
    for crop, name in zip(crops, recordings, strict=True):
        if tells(crop) and crop.time is not None:
            times.setdefault((str(crop.pid), name), []).append(crop.time)
            camera[name] = str(crop.camera)
    if not camera:
        raise DataError("no crop names a person, a camera and a time; recordings cannot be compared")
    names = sorted(camera)
    person: dict[str, list[tuple[int, float]]] = {}
    for (pid, name), seen in times.items():
        person.setdefault(pid, []).append((names.index(name), float(np.median(seen))))
    pairs = [
        (i, j, t - s)
        for seen_in in person.values()
        for (i, s), (j, t) in combinations(sorted(seen_in), 2)
        if camera[names[i]] != camera[names[j]]
    ]
    _check_joined([{i, j} for i, j, _ in pairs], [f"recording {name}" for name in names])
    if not pairs:
        return dict.fromkeys(names, 0.0)
    return dict(zip(names, _settled(pairs, len(names)).tolist(), strict=True))


def _settled(pairs: Sequence[tuple[int, int, float]], count: int) -> Floats:
    """(count,) the shifts x, the first 0, with Σ ln(1 + ((x_j − x_i + Δ) / 30)²) least over pairs (i, j, Δ)."""
    i, j = np.array([pair[:2] for pair in pairs]).T
    apart = np.array([pair[2] for pair in pairs])
    shifts = np.zeros(count)
    for _ in range(_ROUNDS):
        weights = 1 / (1 + ((shifts[j] - shifts[i] + apart) / _SPREAD) ** 2)
        matrix = np.zeros((count, count))
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            np.add.at(matrix, (a, b), sign * weights)
        pull = np.bincount(i, weights * apart, count) - np.bincount(j, weights * apart, count)
        before, shifts = shifts, np.append(0, np.linalg.lstsq(matrix[1:, 1:], pull[1:])[0])
        if np.abs(shifts - before).max() < 1e-3:
            break
    return shifts


def _check_joined(links: Sequence[set[int]], names: Sequence[str]) -> None:
    joined = {0}
    while reached := set().union(*(link for link in links if link & joined)) - joined:
        joined |= reached
    if alone := [name for i, name in enumerate(names) if i not in joined]:
        raise DataError(
            f"no chain of people joins {', '.join(alone)} to {names[0]}; leave out its crops, or add people that were "
            "seen by both sides"
        )


def _centre(values: Floats) -> float:
    """The Hodges–Lehmann estimate of a centre of symmetry."""
    few = thinned(values, _PEOPLE)
    i, j = np.triu_indices(len(few))
    return float(np.median((few[i] + few[j]) / 2))
