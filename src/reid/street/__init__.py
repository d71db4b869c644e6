"""A street that exists only as arithmetic: people walk past three cameras and come out as crops.

It is the data of `reid demo`, of the tests and of the pictures in the documentation. Nobody in it is real, it takes
seconds to draw, and the same seed draws the same street. `people` makes who walks, `scenes` where, `cameras` how it is
seen; all are put together from `solids`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from reid.data import table
from reid.errors import DataError
from reid.images import RGB
from reid.street.cameras import CAMERAS, Camera, add, develop, empty, project, shade
from reid.street.people import Person, body, look
from reid.street.solids import Array, join
from reid.types import Crop

__all__ = ["CAMERAS", "Camera", "Person", "draw_person", "draw_street", "look"]

FRAMES, FRAME_SECONDS = 4, 0.4  # of a tracklet
STREET_SECONDS = 1200.0  # within which everybody sets out
CAMERA_METRES = 42.0  # on foot from one camera to the next


def draw_street(folder: str | os.PathLike[str], people: int = 24, seed: int = 0) -> list[Crop]:
    """Draw a street into a folder: JPEGs below `crops`, and the table `crops.csv` of who, where and when.

    Everybody walks along the street once, one way or the other, past the cameras c1, c2 and c3 with some 30 to 50
    seconds between neighbours, and each camera that notices them makes a tracklet of four frames. Every fifth person
    escapes one camera and every twelfth is seen by only one. The names of files and tracklets do not tell who it is.
    The table's column split is left empty: how to split is for the user of the crops to say.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        people: at least 1. More of them change nothing about the first ones except the numbers of their tracklets.
        seed: at least 0. The same seed draws the same bytes, given the same versions of the libraries.

    Returns:
        The crops as `reid.data.table.read` reads them.

    Raises:
        DataError: people or seed is out of range.
    """
    for name, value, least in (("people", people, 1), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name} is {value}; it must be at least {least}")
    folder = Path(folder)
    (folder / "crops").mkdir(parents=True, exist_ok=True)
    persons = [look(number, seed) for number in range(people)]
    counts = [0] * len(CAMERAS)
    crops = []
    for walk in sorted(walk for number, person in enumerate(persons) for walk in _walks(number, person, seed)):
        camera = CAMERAS[walk.camera]
        counts[walk.camera] += 1
        tracklet = f"{camera.name}t{counts[walk.camera]:03d}"
        for frame, (time, picture) in enumerate(_frames(persons[walk.number], walk, seed), 1):
            path = folder / "crops" / f"{tracklet}_{frame}.jpg"
            path.write_bytes(simplejpeg.encode_jpeg(picture, camera.quality, "RGB", "420"))
            crops.append(Crop(str(path), f"p{walk.number:03d}", camera.name, time, tracklet))
    table.write(folder / table.NAME, crops)
    return crops


class _Walk(NamedTuple):
    """Somebody comes by a camera, along its path or against it."""

    camera: int
    time: float
    number: int
    along: bool


def _walks(number: int, person: Person, seed: int) -> list[_Walk]:
    """Where and when a person is noticed on the way along the street."""
    rng = np.random.default_rng([seed, number, 1])
    along = bool(rng.random() < 0.5)
    time = float(rng.uniform(0, STREET_SECONDS))
    walks = []
    for camera in range(len(CAMERAS)) if along else reversed(range(len(CAMERAS))):
        walks.append(_Walk(camera, time, number, along))
        time += CAMERA_METRES / person.speed + float(rng.gamma(2.0, 3.0))
    chosen = int(rng.integers(len(CAMERAS)))
    if number % 12 == 7:
        return walks[chosen : chosen + 1]
    return walks[:chosen] + walks[chosen + 1 :] if number % 5 == 3 else walks


def _frames(person: Person, walk: _Walk, seed: int) -> Iterator[tuple[float, RGB]]:
    """When a camera takes a picture of somebody who walks by, and the picture."""
    camera = CAMERAS[walk.camera]
    rng = np.random.default_rng([seed, walk.number, 2, walk.camera])
    start, end = (np.array(point) + rng.normal(0, 0.25, 2) for point in camera.path[:: 1 if walk.along else -1])
    ahead = (end - start) / np.linalg.norm(end - start)
    middle, phase = start + (end - start) * rng.uniform(0.4, 0.6), rng.random()
    for frame in range(FRAMES):
        since = frame * FRAME_SECONDS
        x, y = middle + ahead * person.speed * (since - FRAMES * FRAME_SECONDS / 2)
        heading, step = math.atan2(ahead[0], ahead[1]), phase + since * person.cadence / 2
        picture = draw_person(person, camera, heading, step, (x, y), [seed, walk.number, 3, walk.camera, frame])
        yield round(walk.time + since, 2), picture


def draw_person(
    person: Person,
    camera: Camera = CAMERAS[0],
    heading: float = math.pi,
    phase: float = 0.0,
    place: tuple[float, float] | None = None,
    seed: int | Sequence[int] = 0,
) -> RGB:
    """One crop of somebody in the street, (height, width, 3), as a detector would cut it out.

    Args:
        heading: where the person walks, radians clockwise from straight away: 0 shows the back, π/2 the right side, π
            the front.
        phase: moment of the gait, 0 to 1 for two steps.
        place: (x, y) metres on the ground; by default the middle of the camera's path.
        seed: of the sensor's noise and the detector's inaccuracy.

    Raises:
        DataError: the camera does not see that place.
    """
    (x0, y0), (x1, y1) = camera.path
    x, y = place or ((x0 + x1) / 2, (y0 + y1) / 2)
    rng = np.random.default_rng(seed)
    faces, colours = body(person, phase)
    sin, cos = math.sin(heading), math.cos(heading)
    faces = faces @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) + [x, y, 0]
    seen = project(camera, faces[:, 0])
    left, top, right, bottom = _detect(seen[:, 0], seen[:, 1], camera.size, rng)
    if min(right - left, bottom - top) < 8 or seen[:, 2].min() < 1:
        raise DataError(f"camera {camera.name} does not see ({x}, {y}); choose a place near its path, {camera.path}")
    frame, (solids, paints) = empty(camera)
    picture = shade(camera, frame[top:bottom, left:right], (left, top), (faces, colours))
    nearer = solids[:, 0, 1] < y
    picture = add(camera, picture, (left, top), join([(faces, colours), (solids[nearer], paints[nearer])]))
    return develop(camera, picture, rng)


def _detect(x: Array, y: Array, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A detector's box (left, top, right, bottom) around pixels: a little off, now and then without the feet."""
    left, top, right, bottom = x.min(), y.min(), x.max(), y.max()
    tall = bottom - top
    wide = max(right - left, 0.34 * tall) * rng.uniform(1.04, 1.2)
    middle = (left + right) / 2 + rng.normal(0, 0.02) * tall
    top -= rng.uniform(0, 0.05) * tall
    bottom += (rng.uniform(0, 0.04) if rng.random() > 0.1 else rng.uniform(-0.18, -0.08)) * tall
    edges = np.clip(np.rint([middle - wide / 2, top, middle + wide / 2, bottom]), 0, [*size, *size])
    return int(edges[0]), int(edges[1]), int(edges[2]), int(edges[3])
