"""Which gallery rows count for which query.

To add a protocol, write its rule here and name it in PROTOCOLS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reid.errors import DataError
from reid.metrics import Rows
from reid.types import Crop


class Sets:
    """Who is in the query and gallery, as integers, and the gallery's rows by person and by camera.

    Equal codes are equal names; −1 is unknown and equal to nothing.
    """

    def __init__(self, query: Sequence[Crop], gallery: Sequence[Crop]):
        both, q = (*query, *gallery), len(query)
        pids = codes([c.pid if c.role == "person" else None for c in both])
        cameras, paths = codes([c.camera for c in both]), codes([c.path for c in both])
        self.pids, self.cameras, self.paths = pids[:q], cameras[:q], paths[:q]
        self.gallery_pids, self.gallery_cameras = pids[q:], cameras[q:]
        junk = np.array([c.role == "junk" for c in gallery], dtype=bool)
        self.junk = np.flatnonzero(junk)
        groups = (_Groups(np.where(junk, -1, values[q:])) for values in (pids, cameras, paths))
        self._people, self._rows_by_camera, self._copies = groups

    def judged(self, rule: Callable[[Sets, int], Rows], i: int) -> tuple[Rows, Rows]:
        """Gallery rows that are right for query i, and those, beside junk, that do not count for it, each once."""
        person, ignored, itself = self.person(i), rule(self, i), self.itself(i)
        if len(itself):
            ignored = np.union1d(ignored, itself)
        return _without(person, ignored), ignored

    def person(self, i: int) -> Rows:
        """Gallery rows of query i's person; like those below, without junk."""
        return self._people[self.pids[i]]

    def camera(self, i: int) -> Rows:
        """Gallery rows of query i's camera."""
        return self._rows_by_camera[int(self.cameras[i])]

    def itself(self, i: int) -> Rows:
        """Gallery rows that are query i's own picture."""
        return self._copies[self.paths[i]]


class _Groups:
    """Ascending rows by code."""

    def __init__(self, values: Rows):
        self._order: Rows = np.argsort(values, kind="stable")
        self._starts = np.searchsorted(values[self._order], np.arange(-1, values.max(initial=-1) + 2))

    def __getitem__(self, code: int) -> Rows:
        known = 0 <= code < len(self._starts) - 2
        rows: Rows = self._order[self._starts[code + 1] : self._starts[code + 2]] if known else self._order[:0]
        return rows


def _without(rows: Rows, others: Rows) -> Rows:
    """Of ascending rows those that are not among ascending others."""
    if not len(others):
        return rows
    kept: Rows = rows[others[np.minimum(others.searchsorted(rows), len(others) - 1)] != rows]
    return kept


def _same_person_same_camera(sets: Sets, i: int) -> Rows:
    person = sets.person(i)
    here = (sets.gallery_cameras[person] == sets.cameras[i]) & (sets.cameras[i] >= 0)
    return np.compress(here, person)


def _same_camera(sets: Sets, i: int) -> Rows:
    return sets.camera(i)


def _nothing(sets: Sets, i: int) -> Rows:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a ranking is judged.

    Attributes:
        ignored: gallery rows taken out for query i, ascending, beside junk and the query's own picture.
        about: what it is for, and which rows it takes out.
        compare: with which figures its own can be compared.
        single_shot: whether CMC is over one gallery crop a person, drawn at random (mAP is over all of them).
    """

    ignored: Callable[[Sets, int], Rows]
    about: str
    compare: str
    single_shot: bool = False


PROTOCOLS: dict[str, Protocol] = {
    "market1501": Protocol(
        _same_person_same_camera,
        "Market-1501 (Zheng et al. 2015), also DukeMTMC-reID, MSMT17 and CUHK03's 767/700 split: the query's person in "
        "the query's camera is taken out",
        "single-query figures of nearly every paper since 2015, on the same split",
    ),
    "cuhk03": Protocol(
        _same_person_same_camera,
        "CUHK03's first protocol (Li et al. 2014) and VIPeR: CMC over one gallery crop a person, the exact mean over "
        "all draws",
        "single-gallery-shot CMC; mAP is over all crops here, and nobody publishes it for these data sets",
        single_shot=True,
    ),
    "cross-camera": Protocol(
        _same_camera,
        "every row of the query's camera is taken out, whoever it shows",
        "itself only: it is easier than market1501",
    ),
    "diagonal": Protocol(
        _nothing,
        "only the query's own picture is taken out, like triplet-reid's `diagonal`; for a single camera",
        "itself only",
    ),
}


def row_judge(
    query: Sequence[Crop], gallery: Sequence[Crop], protocol: str
) -> tuple[Sets, Callable[[int], tuple[Rows, Rows]]]:
    """Who is in the sets; and for query i the gallery rows that are right, and those, beside junk, that do not count.

    Raises:
        DataError: the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol is {protocol!r}; it can be {', '.join(PROTOCOLS)}")
    sets = Sets(query, gallery)
    return sets, partial(sets.judged, PROTOCOLS[protocol].ignored)


def tracklet_of(crop: Crop) -> str | None:
    """A name for the crop's tracklet, another in each camera, since trackers count from 1 in each; None for none."""
    return None if crop.tracklet is None else repr((crop.camera, crop.tracklet))


def codes(values: Sequence[str | None]) -> Rows:
    """Names as integers, the same name the same integer; None is −1."""
    known: dict[str, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values], dtype=np.int64)
