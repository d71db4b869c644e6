"""Splits of a data set into training and test parts that do not leak, and what is known of the order of crops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from reid.errors import DataError
from reid.types import Crop

Kind = Literal["people", "time"]
KINDS: tuple[Kind, ...] = ("people", "time")
PARTS = ("train", "query", "gallery")
ALIKE = 0.8  # difflib's similarity from which a name is taken for a misspelt part; "training" has 0.77
CLOSE_FRAMES, CLOSE_SECONDS = 5, 0.2


def propose_splits(crops: Sequence[Crop], kind: Kind, share: float = 0.2, seed: int = 0) -> dict[str, str]:
    """The split of each crop by its path.

    Args:
        crops: of people known by name; crops that cannot be placed are left out of the answer.
        kind: "people" holds out a share of the people, drawn from those who can be evaluated: seen by two cameras or,
            where no camera is known, in two crops. Of each, the first crop by path in each camera becomes "query", or
            the last share of those without a camera; the others are "gallery", where distractors and junk go too.
            Every query has a match in the gallery. Everyone else is "train".
            "time" holds out the last share of each person's crops in each camera as "query"; the earlier ones are
            "train", and the gallery to search. It measures how well known people are recognised later.
        share: of people or of crops to hold out, between 0 and 1.
        seed: of the draw of people.

    Raises:
        DataError: the kind or share is not allowed, or the data cannot be split like this.
    """
    if kind not in KINDS:
        raise DataError(f"the kind of split is {kind!r}; it can be {', '.join(KINDS)}")
    if not 0 < share < 1:
        raise DataError(f"the share to hold out is {share}; it must lie between 0 and 1")
    return _by_people(crops, share, seed) if kind == "people" else _by_time(crops, share)


def names(crops: Sequence[Crop]) -> list[str]:
    """The splits that crops are in, in order of names.

    Raises:
        DataError: one is a misspelt part.
    """
    there = sorted({crop.extra["split"] for crop in crops if "split" in crop.extra})
    for name in there:
        meant = get_close_matches(name.strip().lower(), PARTS, 1, ALIKE)
        if meant and name not in PARTS:
            raise DataError(
                f"split has {name!r}, which looks like {meant[0]} (it has {', '.join(there)}); write {meant[0]}, or "
                "call another part otherwise"
            )
    return there


def searched(crops: Sequence[Crop]) -> str | None:
    """The part that queries are searched in: "gallery", or "train" after a split by time; None without queries.

    Raises:
        DataError: a split is a misspelt part, or there are queries without a gallery, or a gallery without queries.
    """
    there = names(crops)
    if "query" in there and "gallery" in there:
        return "gallery"
    if there == ["query", "train"]:
        return "train"
    for one, other in (("query", "gallery"), ("gallery", "query")):
        if one in there:
            raise DataError(
                f"split has {one} but no {other} (it has {', '.join(there)}); call the crops that are the {other} so, "
                "or hold people out instead"
            )
    return None


def _by_people(crops: Sequence[Crop], share: float, seed: int) -> dict[str, str]:
    people = by_person(crops)
    testable = sorted(pid for pid, theirs in people.items() if evaluable(theirs))
    count = min(max(1, round(share * len(people))), len(testable), len(people) - 1)
    if count < 1:
        raise DataError(
            f"of {len(people)} people {len(testable)} can be held out; a split by people needs 2 people, at least one "
            "of them in two cameras or, where cameras are unknown, in two crops"
        )
    drawn = np.random.default_rng(seed).permutation(len(testable))[:count]
    held = {testable[i] for i in drawn}
    splits = {crop.path: "gallery" for crop in crops if crop.role != "person"}
    for pid, theirs in people.items():
        splits |= _ask(theirs, share) if pid in held else {crop.path: "train" for crop in theirs}
    return splits


def _ask(theirs: Sequence[Crop], share: float) -> dict[str, str]:
    """One person's crops as queries and gallery, so that each query has a match of another or an unknown camera."""
    unknown = [crop for crop in theirs if crop.camera is None]
    unknown.sort(key=lambda crop: (moment(crop) or Moment(0, False), crop.path))
    queries = {crop.camera: crop for crop in sorted(theirs, key=lambda crop: crop.path, reverse=True) if crop.camera}
    asked = [queries[camera] for camera in sorted(queries, key=str)]
    asked += unknown[len(unknown) - max(1, round(share * len(unknown))) :] if len(unknown) > 1 else []
    while True:
        chosen = {crop.path for crop in asked}
        rest = {crop.camera for crop in theirs if crop.path not in chosen}
        if all(None in rest or rest - {crop.camera} for crop in asked):
            return {crop.path: "query" if crop.path in chosen else "gallery" for crop in theirs}
        asked.pop()


def _by_time(crops: Sequence[Crop], share: float) -> dict[str, str]:
    splits = {}
    for theirs in runs(crops, within="camera"):
        held = min(round(share * len(theirs)), len(theirs) - 1)
        for place, (_, row) in enumerate(theirs):
            splits[crops[row].path] = "query" if place >= len(theirs) - held else "train"
    if "query" not in splits.values():
        raise DataError(f"no person has enough crops with a time or a frame number to hold out the last {share:.0%}")
    return splits


def by_person(crops: Sequence[Crop]) -> dict[str, list[Crop]]:
    """Crops by person, distractors, junk and the nameless left out."""
    people: dict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        if crop.pid is not None and crop.role == "person":
            people[crop.pid].append(crop)
    return dict(people)


def evaluable(theirs: Sequence[Crop]) -> bool:
    """Whether one of a person's crops can find another under the Market-1501 protocol; unknown cameras all differ."""
    cameras = [crop.camera for crop in theirs]
    return len(cameras) > 1 and (len(set(cameras)) > 1 or cameras[0] is None)


class Moment(NamedTuple):
    """When a crop was taken: seconds, or a frame number of its own video."""

    value: float
    is_frame: bool


def moment(crop: Crop) -> Moment | None:
    """A crop's time or else its `extra["frame"]`; None where neither is known."""
    if crop.time is not None:
        return Moment(crop.time, False)
    frame = crop.extra.get("frame", "")
    return Moment(float(frame), True) if frame.isdecimal() else None


def runs(crops: Sequence[Crop], within: Literal["camera", "tracklet"]) -> list[list[tuple[Moment, int]]]:
    """For each person in each camera, or narrower, their crops that have a moment in order: (moment, row)."""
    found: dict[tuple[str | None, ...], list[tuple[Moment, int]]] = defaultdict(list)
    for row, crop in enumerate(crops):
        when = moment(crop)
        if crop.pid is not None and crop.role == "person" and when is not None:
            finer = (crop.tracklet, crop.extra.get("folder")) if within == "tracklet" else ()
            found[crop.pid, crop.camera, *finer].append((when, row))
    return [sorted(theirs) for theirs in found.values()]


def step(crops: Sequence[Crop]) -> Moment | None:
    """How far apart successive crops of one person mostly are, None where no times are known."""
    for is_frame in (False, True):
        gaps = [
            later.value - earlier.value
            for theirs in runs(crops, within="tracklet")
            for (earlier, _), (later, _) in pairwise(theirs)
            if later.is_frame == earlier.is_frame == is_frame and later.value > earlier.value
        ]
        if gaps:
            return Moment(float(np.median(gaps)), is_frame)
    return None


def is_close(gap: Moment) -> bool:
    """Whether crops this far apart are neighbouring frames of one video."""
    return gap.value <= (CLOSE_FRAMES if gap.is_frame else CLOSE_SECONDS)
