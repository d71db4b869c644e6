"""What is wrong with a data set, or good to know about it: each check gives a Finding with what to do, or None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reid.data import alike, splits
from reid.data.scan import MOST_THUMBS, Scan
from reid.data.splits import Moment, by_person, evaluable, propose_splits, runs
from reid.distance import top_k
from reid.errors import DataError
from reid.types import Crop
from reid.wording import many

Name = Callable[[int], str]
Rows = NDArray[np.int64]
SHOWN = 5
SCENE = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: a word to tell findings apart by.
        level: "problem" where something should be mended, "note" where it only should be known.
        text: what it is, in a sentence or two.
        todo: what to do about it.
        count: how many crops or people it concerns.
        examples: some of them, already abbreviated.
        commands: that do what is to be done.
    """

    kind: str
    level: Literal["problem", "note"]
    text: str
    todo: str
    count: int
    examples: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def some(items: Sequence[str], count: int | None = None) -> tuple[str, ...]:
    """The first few items, and how many more there are."""
    count = len(items) if count is None else count
    return (*items[:SHOWN], f"and {count - SHOWN:,} more") if count > SHOWN else tuple(items)


def unreadable(scan: Scan, name: Name) -> Finding | None:
    """Pictures that are missing, damaged or of no known format, with the reason."""
    bad = np.flatnonzero(~scan.readable)
    if not len(bad):
        return None
    listed = [f"{name(row)} {reason}" for row, reason in scan.reasons.items()]
    every = len(bad) == len(scan.sizes)
    return Finding(
        "unreadable",
        "problem",
        f"{many(len(bad), 'picture')} cannot be read{', which is every one of them' if every else ''}.",
        "Check where the paths start: those in a table or list start at its own folder."
        if every
        else "Copy them again or take them out; until then every verb leaves them out and says so.",
        len(bad),
        some(listed, len(bad)),
    )


def listed_twice(crops: Sequence[Crop]) -> Finding | None:
    """Rows of a list or table that repeat a path."""
    again = [path for path, count in Counter(crop.path for crop in crops).items() if count > 1]
    if not again:
        return None
    text = f"{many(len(again), 'picture is', 'pictures are')} listed more than once."
    return Finding("listed-twice", "problem", text, "Leave one row of each.", len(again), some(again))


def nobody(crops: Sequence[Crop], source: str) -> Finding | None:
    """No person is known at all, or not of every crop."""
    nameless = [crop.path for crop in crops if crop.pid is None and crop.role == "person"]
    if not nameless:
        return None
    how = (
        "put each person's crops into a folder of their own, or add a table crops.csv with the columns path,pid,camera"
    )
    if len(nameless) < len(crops):
        text = (
            f"Of {many(len(nameless), 'crop')} it is not known whom they show; training and evaluation leave them out."
        )
        return Finding("nameless", "note", text, f"To name them, {how}.", len(nameless), some(nameless))
    return Finding(
        "nobody-named",
        "note",
        "Nobody is named, so there is nothing to train on and nothing to evaluate against.",
        f"To name people, {how}. Without names, these work:",
        len(crops),
        commands=(
            f"reid search photo.jpg {source}",
            f"reid embed {source} -o crops.npz",
        ),
    )


def not_evaluable(crops: Sequence[Crop], by_time: bool, source: str) -> Finding | None:
    """Which people an evaluation must leave out, and why, where the crops are not yet queries and a gallery.

    `by_time` says whether a split by time is possible.
    """
    people = by_person(crops)
    if not people or any(crop.extra.get("split") == "query" for crop in crops):
        return None
    cameras = {crop.camera for theirs in people.values() for crop in theirs}
    count = len(people)
    later = ("reid evaluate splits.csv --protocol diagonal",)
    commands = (f"reid show {source} --write-split time -o splits.csv", *later) if by_time else ()
    if cameras == {None}:
        text = (
            "No camera is known. An evaluation then counts matches within one camera, which are far easier than across "
            "cameras, and one across cameras is impossible."
        )
        todo = "Add the cameras in a table (crops.csv: path,pid,camera) or in the file names (…_c2_…)"
        todo += "; or measure over time instead:" if by_time else "."
        return Finding("no-cameras", "problem", text, todo, count, commands=commands)
    second = "Add crops of the same people from a second camera"
    over_time = "; or measure over time instead:" if by_time else "."
    if len(cameras) == 1:
        text = (
            f"Every crop is from camera {next(iter(cameras))}, so evaluation across cameras is impossible: the "
            "Market-1501 protocol leaves out what the query's own camera saw, and then nothing is left to find."
        )
        return Finding("one-camera", "problem", text, second + over_time, count, commands=commands)
    alone = sorted(pid for pid, theirs in people.items() if len(theirs) == 1)
    one_camera = sorted(pid for pid, theirs in people.items() if len(theirs) > 1 and not evaluable(theirs))
    left_out = [*alone, *one_camera]
    if not left_out:
        return None
    reasons = [
        f"{many(len(pids), 'person has', 'people have')} {what}"
        for pids, what in ((alone, "one crop only"), (one_camera, "crops from one camera only"))
        if pids
    ]
    text = f"{' and '.join(reasons)}: as queries they have nothing to find in another camera, so they are skipped."
    if len(left_out) == count:
        return Finding("not-evaluable", "problem", text, second + over_time, count, some(left_out), commands)
    todo = f"Nothing, if the others suffice: in a gallery they stay useful as wrong answers. Else {second[0].lower()}"
    return Finding("not-evaluable", "note", text, todo + second[1:] + ".", len(left_out), some(left_out))


def queries(crops: Sequence[Crop], name: Name) -> Finding | None:
    """Which queries have no match in the gallery, and why; a split by time searches its training crops."""
    split = [crop.extra.get("split") for crop in crops]
    try:
        searched = splits.searched(crops)
    except DataError as error:
        wrong, todo = (f"{part[0].upper()}{part[1:]}." for part in str(error).split("; ", 1))
        return Finding("splits", "problem", wrong, todo, len(split) - split.count(None))
    if searched is None:
        return None
    seen: dict[str, set[str | None]] = {}
    for crop, part in zip(crops, split, strict=True):
        if part == searched and crop.pid is not None and crop.role == "person":
            seen.setdefault(crop.pid, set()).add(crop.camera)
    asked = [row for row, part in enumerate(split) if part == "query"]
    absent = [row for row in asked if (crops[row].pid or "") not in seen]
    same = [
        row for row in asked if crops[row].camera is not None and seen.get(crops[row].pid or "") == {crops[row].camera}
    ]
    if not absent and not same:
        return None
    reasons = [
        f"{many(len(rows), 'query shows', 'queries show')} {who}"
        for rows, who in (
            (absent, f"somebody who is not in the {searched} part"),
            (same, f"somebody whom the {searched} part has from the query's own camera only, which does not count"),
        )
        if rows
    ]
    return Finding(
        "queries-without-match",
        "problem" if len(absent) + len(same) == len(asked) else "note",
        f"Of {many(len(asked), 'query', 'queries')}, {'; '.join(reasons)}. They are skipped.",
        f"Add crops of these people from other cameras to the {searched} part, or accept that they do not count; where "
        "matches within one camera should count, leave the column camera empty.",
        len(absent) + len(same),
        some([name(row) for row in sorted([*absent, *same])]),
    )


def in_both(crops: Sequence[Crop]) -> Finding | None:
    """People who are trained on and tested on, where there is a gallery."""
    parts: dict[str, set[str]] = {"train": set(), "query": set(), "gallery": set()}
    for crop in crops:
        if crop.pid is not None and crop.role == "person":
            parts.get(crop.extra.get("split", ""), set()).add(crop.pid)
    both = sorted(parts["train"] & (parts["query"] | parts["gallery"]))
    if not both or not parts["gallery"]:
        return None
    text = f"{many(len(both), 'person is', 'people are')} both trained on and tested on, which flatters the result."
    return Finding("trained-and-tested", "problem", text, "Take them out of one of the two.", len(both), some(both))


def consecutive(crops: Sequence[Crop], rows: Rows, thumbs: NDArray[np.uint8], gap: Moment) -> Finding:
    """Neighbouring frames leak from one random part into the other, shown by raw pixels where there are thumbnails."""
    apart = many(round(gap.value), "frame") if gap.is_frame else f"{gap.value:.2g} s"
    text = f"Frames follow one another, mostly {apart} apart within one person, so a random split leaks."
    chosen = [crops[row] for row in rows]
    if figures := _raw_pixels(chosen, thumbs):
        part = f" (measured on {many(len(rows), 'crop')} of {len(crops):,})" if len(rows) < len(crops) else ""
        text += (
            f" Raw pixels without any model (thumbnails of {thumbs.shape[2]}×{thumbs.shape[1]}, nearest neighbour) "
            f"name {figures[0]:.1%} of a random fifth right, but {figures[1]:.1%} of each person's last fifth{part}."
        )
    todo = "Split by time or by people, never at random, and distrust figures that come from a random split."
    parted = any(crop.extra.get("split") == "query" for crop in crops)
    return Finding("consecutive-frames", "note" if parted else "problem", text, todo, len(crops))


def thumbs_wanted(crops: Sequence[Crop]) -> Rows:
    """Rows of whole people, at most 20,000, to measure raw pixels on."""
    wanted: list[int] = []
    by_pid: dict[str | None, list[int]] = {}
    for theirs in runs(crops, within="camera"):
        by_pid.setdefault(crops[theirs[0][1]].pid, []).extend(row for _, row in theirs)
    for rows in by_pid.values():
        if len(wanted) + len(rows) <= MOST_THUMBS:
            wanted += rows
    return np.array(sorted(wanted), dtype=np.int64)


def _raw_pixels(crops: Sequence[Crop], thumbs: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Share of crops whose nearest neighbour shows the same person: (random fifth held out, last fifth held out)."""
    pids = np.array([crop.pid or "" for crop in crops])
    try:
        splits = propose_splits(crops, "time")
    except DataError:
        return None
    late = np.array([splits.get(crop.path) == "query" for crop in crops], dtype=bool)
    if len(set(pids)) < 2:
        return None
    pixels = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    random = np.zeros(len(crops), dtype=bool)
    draw = np.random.default_rng(0)
    for pid in np.unique(pids):
        theirs = np.flatnonzero(pids == pid)
        random[draw.permutation(theirs)[: int(late[theirs].sum())]] = True
    found = []
    for held in (random, late):
        nearest = top_k(pixels[held], pixels[~held], 1).ids[:, 0]
        found.append(float((pids[~held][nearest] == pids[held]).mean()))
    return found[0], found[1]


def exact_copies(groups: Sequence[Rows], crops: Sequence[Crop], name: Name) -> Finding | None:
    """Files of equal content, those of different people or splits first."""
    if not groups:
        return None
    spare = sum(len(group) - 1 for group in groups)
    wrong = [group for group in groups if len({crops[row].pid for row in group} - {None}) > 1]
    leaks = [group for group in groups if len({crops[row].extra.get("split") for row in group}) > 1]
    text = f"{many(spare, 'file is an exact copy', 'files are exact copies')} of another."
    todo = "Keep one of each."
    if wrong:
        text += f" {many(len(wrong), 'group names', 'groups name')} different people, so one name is wrong."
        todo = "Look at those of different people, listed first, and keep one of each."
    if leaks:
        text += f" {many(len(leaks), 'group lies', 'groups lie')} in different splits, which leaks."
    first = {int(group[0]): group for group in (*wrong, *leaks, *groups[: SHOWN + 1])}.values()
    listed = [" = ".join(some([name(row) for row in group])) for group in list(first)[: SHOWN + 1]]
    return Finding(
        "exact-copies", "problem" if wrong or leaks else "note", text, todo, spare, some(listed, len(groups))
    )


def near_copies(pairs: Rows, complete: bool, crops: Sequence[Crop], name: Name) -> Finding | None:
    """Pictures that look alike, those of different people first."""
    if not len(pairs):
        return None
    count = len(np.unique(pairs))
    chosen = [(int(a), int(b)) for a, b in pairs]
    wrong = [pair for pair in chosen if len({crops[row].pid for row in pair} - {None}) > 1]
    text = (
        f"{'' if complete else 'At least '}{many(count, 'picture has', 'pictures have')} a near copy: at most "
        f"{alike.BITS} of the 128 bits of a difference hash apart."
    )
    todo = "Keep near copies in the same split, or one of each."
    if wrong:
        text += f" {many(len(wrong), 'pair names', 'pairs name')} different people."
        todo = "Look at those of different people, listed first; keep near copies in the same split, or one of each."
    first = list(dict.fromkeys([*wrong, *chosen[: SHOWN + 1]]))[: SHOWN + 1]
    listed = [f"{name(a)} ~ {name(b)}" for a, b in first]
    level: Literal["problem", "note"] = "problem" if wrong else "note"
    return Finding("near-copies", level, text, todo, count, some(listed, len(pairs)))


def blank(scan: Scan, name: Name) -> Finding | None:
    """Pictures that show nothing."""
    rows = np.flatnonzero(scan.blank)
    if not len(rows):
        return None
    text = f"{many(len(rows), 'picture is', 'pictures are')} one flat colour."
    return Finding(
        "blank", "problem", text, "Take them out.", len(rows), some([name(row) for row in rows[: SHOWN + 1]], len(rows))
    )


def whole_scenes(scan: Scan) -> Finding | None:
    """Most pictures are large and wider than high, so hardly one standing person each."""
    sizes = scan.sizes[scan.readable]
    wide = int(((sizes[:, 0] > sizes[:, 1]) & (sizes[:, 0] >= SCENE)).sum())
    if not len(sizes) or 2 * wide <= len(sizes):
        return None
    return Finding(
        "whole-scenes",
        "problem",
        f"{many(wide, 'picture is', 'pictures are')} large and wider than high, so they look like whole scenes; reid "
        "compares pictures of one person each, cut to that person.",
        "Cut the people out with a person detector first, and give the cut-outs to reid.",
        wide,
    )
