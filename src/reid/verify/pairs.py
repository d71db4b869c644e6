"""Pairs that are known to show one person, or two: from labels, or from tracks alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from reid.distance import pairwise
from reid.errors import DataError, ModelError
from reid.metrics import Rows
from reid.protocols import PROTOCOLS, Sets, codes, tracklet_of
from reid.types import Crop, Embeddings, Vectors
from reid.verify.curve import Floats

MOST = 4000  # crops of one set
Name = TypeVar("Name", bound=Hashable)
FEW = 1 << 22  # pairs of people that a table has room for


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of crops, each pair once.

    Attributes:
        distances: (N,) Euclidean.
        first, second: (N,) whose crops they are, numbered through all sets; the same number is the same person.
        rows: (N, 2) which crops, numbered through all sets.
        between: (N,) which two cameras, as a place in `cameras`; −1 where one is unknown.
        cameras: names of two cameras in sorted order.
        people: how many each set shows.
        model: the fingerprint behind the distances.
    """

    distances: Vectors
    first: Rows
    second: Rows
    rows: Rows
    between: Rows
    cameras: tuple[tuple[str, str], ...]
    people: tuple[int, ...]
    model: str

    def __len__(self) -> int:
        return len(self.distances)

    @property
    def same(self) -> NDArray[np.bool_]:
        """(N,) whether it is one person."""
        return np.asarray(self.first == self.second)

    @property
    def pair(self) -> Rows:
        """(N,) one number for each two people."""
        return np.minimum(self.first, self.second) * sum(self.people) + np.maximum(self.first, self.second)

    def alike(self) -> Rows:
        """(N,) how many pairs show the same one or two people."""
        if sum(self.people) ** 2 <= FEW:
            return np.bincount(self.pair)[self.pair]
        _, place, count = np.unique(self.pair, return_inverse=True, return_counts=True)
        return np.asarray(count[place])

    def weights(self) -> Floats:
        """(N,) what each pair weighs, 1 in all: half for pairs of one person, half for pairs of two.

        Each person weighs the same, and each two people, however many crops there are of them.
        """
        each = 1 / self.alike()
        for kind in (self.same, ~self.same):
            each[kind] *= 0.5 / max(each[kind].sum(), 1e-300)
        return np.asarray(each)

    def __getitem__(self, chosen: NDArray[np.bool_] | Rows) -> Pairs:
        parts = {name: getattr(self, name)[chosen] for name in ("distances", "first", "second", "rows", "between")}
        return replace(self, **parts)

    def of(self, people: NDArray[np.bool_]) -> Pairs:
        """Those of the people chosen by a mask, both of each pair."""
        return self[people[self.first] & people[self.second]]

    def few(self, most: int) -> Pairs:
        """All of one person, and a random part of those of two people, about `most` of them."""
        share = most / max(1, int((~self.same).sum()))
        return self[self.same | (np.random.default_rng(0).random(len(self)) < share)]

    def check(self) -> Pairs:
        """Itself, where it holds pairs of one person and pairs of two.

        Raises:
            DataError: it does not.
        """
        same = int(self.same.sum())
        if not same or same == len(self):
            raise DataError(
                f"pairs of one person: {same:,}, pairs of two people: {len(self) - same:,}; a calibration needs both, "
                "of people seen by two cameras (or with the protocol diagonal, in two crops)"
            )
        return self


def labelled(sets: Sequence[Embeddings], protocol: str = "market1501") -> Pairs:
    """All pairs of known people within each set that the protocol counts; never across sets.

    Of a set with more than MOST crops, one crop of everyone in every camera is taken, then a second, and so on.

    Raises:
        ModelError: the sets come from different models.
        DataError: the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol is {protocol!r}; it can be {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol].ignored

    def judge(crops: Sequence[Crop]) -> tuple[Rows, NDArray[np.bool_]]:
        counted = np.ones((len(crops), len(crops)), dtype=bool)
        sides = Sets(crops, crops)
        for i, row in enumerate(counted):
            row[sides.judged(rule, i)[1]] = False
        return codes([c.pid if c.role == "person" else None for c in crops]), counted

    return _collect(sets, judge)


def tracked(sets: Sequence[Embeddings]) -> Pairs:
    """Pairs that need no label: two crops of one track, and two crops of one camera at one moment on different tracks.

    Tracks of one name in two cameras are two, since trackers count from 1 in each. Tracks take the place of people.
    A track is seen by one camera, so its pairs are closer than those of one person in two cameras: a curve from
    them takes people for different too easily across cameras. Labels are better.

    Raises:
        ModelError: the sets come from different models.
        DataError: no crop names its track.
    """
    if not any(c.tracklet for made in sets for c in made.crops):
        raise DataError("no crop names its track, so pairs cannot be told from tracks; give the column tracklet")

    def judge(crops: Sequence[Crop]) -> tuple[Rows, NDArray[np.bool_]]:
        tracks, cameras = codes([tracklet_of(c) for c in crops]), codes([c.camera for c in crops])
        times = np.array([np.nan if c.time is None else c.time for c in crops])
        together = (cameras[:, None] == cameras) & (cameras[:, None] >= 0) & (times[:, None] == times)
        return tracks, together | (tracks[:, None] == tracks)

    return _collect(sets, judge)


def judged(sets: Sequence[Embeddings], words: Mapping[tuple[str, str], bool]) -> Pairs:
    """Pairs that somebody has judged, by two paths each: whether they show one person.

    Crops that words join, directly or through others, show one person, and all their pairs count; of two people only
    pairs that were judged do. Where a word within one person says otherwise, that person is left out whole. People
    judge what a search showed them, so such pairs are nearer than those of any two people: the curve holds for answers
    of a search, and thresholds from it for no rate but among those.

    Raises:
        ModelError: the sets come from different models.
        DataError: no word is about the sets' crops.
    """
    alike = Groups[str]()
    for (a, b), same in words.items():
        if same:
            alike.join(a, b)
    torn = {alike.of(a) for (a, b), same in words.items() if not same and alike.of(a) == alike.of(b)}

    def judge(crops: Sequence[Crop]) -> tuple[Rows, NDArray[np.bool_]]:
        known = {path for pair in words for path in pair}
        of = [alike.of(crop.path) if crop.path in known else None for crop in crops]
        whose = codes([None if name in torn else name for name in of])
        counted = whose[:, None] == whose
        rows: dict[str, list[int]] = {}
        for i, crop in enumerate(crops):
            rows.setdefault(crop.path, []).append(i)
        for a, b in words:
            both = rows.get(a, []), rows.get(b, [])
            counted[np.ix_(*both)] = counted[np.ix_(*both[::-1])] = True
        return whose, counted

    return _collect(sets, judge)


class Groups(Generic[Name]):
    """Names that were said to be one, in groups (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Name, Name] = {}

    def of(self, name: Name) -> Name:
        """The name that stands for a name's group."""
        while (above := self._above.get(name, name)) != name:
            name = above
        return name

    def join(self, a: Name, b: Name) -> None:
        """Say that two names are one."""
        self._above[self.of(b)] = self.of(a)


def _collect(sets: Sequence[Embeddings], judge: Callable[[Sequence[Crop]], tuple[Rows, NDArray[np.bool_]]]) -> Pairs:
    """The pairs that `judge` counts: given crops, whose each is (−1 unknown) and a mask of pairs."""
    if len({made.model for made in sets}) != 1:
        raise ModelError("a calibration holds for one model; embed every set with the same one")
    columns: list[tuple[Vectors, Rows, Rows, Rows, Rows]] = []
    names: list[tuple[str, str]] = []
    people: list[int] = []
    start = 0
    for made in sets:
        kept = thinned(made.crops, MOST)
        part = made[kept]
        whose, counted = judge(part.crops)
        paths = codes([crop.path for crop in part.crops])
        counted &= paths[:, None] != paths  # a picture and itself, or what was made of it, are no two pictures
        _, dense = np.unique(np.append(whose, -1), return_inverse=True)
        whose = dense[:-1] - 1
        counted &= (whose[:, None] >= 0) & (whose >= 0) & ~np.tri(len(part), dtype=bool)
        i, j = np.nonzero(counted)
        between, names = _cameras(part.crops, i, j) if len(sets) == 1 else (np.full(len(i), -1), [])
        found = pairwise(part.vectors, part.vectors)[i, j]
        shift = sum(people)
        columns.append(
            (found, whose[i] + shift, whose[j] + shift, np.stack([kept[i], kept[j]], axis=1) + start, between)
        )
        people.append(int(whose.max(initial=-1)) + 1)
        start += len(made)
    distances, first, second, rows, between = (np.concatenate(part) for part in zip(*columns, strict=True))
    return Pairs(distances, first, second, rows, between, tuple(names), tuple(people), sets[0].model)


def thinned(crops: Sequence[Crop], most: int) -> Rows:
    """At most so many rows, ascending: one crop of everyone in every camera, at random, then a second, and so on."""
    order = np.random.default_rng(0).permutation(len(crops))
    seen: Counter[tuple[str | None, str | None, str | None]] = Counter()
    turn = np.zeros(len(crops), dtype=np.int64)
    for row in order.tolist():
        key = crops[row].pid, crops[row].tracklet, crops[row].camera
        turn[row] = seen[key]
        seen[key] += 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def _cameras(crops: Sequence[Crop], i: Rows, j: Rows) -> tuple[Rows, list[tuple[str, str]]]:
    """Which two cameras each pair is between, and the names of each two."""
    known = sorted({c.camera for c in crops if c.camera is not None})
    place = {name: n for n, name in enumerate(known)}
    camera = np.array([-1 if c.camera is None else place[c.camera] for c in crops], dtype=np.int64)
    low, high = np.minimum(camera[i], camera[j]), np.maximum(camera[i], camera[j])
    used, between = np.unique(np.where(low < 0, -1, low * len(known) + high), return_inverse=True)
    unknown = int((used < 0).any())
    return between - unknown, [(known[k // len(known)], known[k % len(known)]) for k in used.tolist() if k >= 0]
