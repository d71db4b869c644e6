"""Market-1501 and data sets named like it (DukeMTMC-reID, and Market's own 500k distractors).

`0002_c1s1_000451_03.jpg` is person 2, camera 1, sequence 1, frame 451 of that sequence, box 3. Person −1 is junk,
person 0 a distractor (Zheng et al. 2015). DukeMTMC-reID's `0001_c2_f0046182.jpg` has no sequence.

Time is seconds. Market's frames (25 a second) restart at 0 in every sequence, and when a sequence began was not
published. MARKET_STARTS are estimates from the 651 first training people, by where else they were seen in the same
minutes (`benchmarks/clock.py`); estimates from half of these people are mostly within 11 s. st-ReID (Wang et al. 2019)
lays sequences end to end, each as long as its largest frame number, which misses that camera 6 stood still for 53
minutes after its first sequence and that nobody passed camera 4 in the last two minutes of its second. A camera with
other sequences than Market's, or longer ones, belongs to another data set: its sequences are laid end to end, the
largest frame number in each, over every split that is there, standing for its length.

Duke's frames (59.94 a second) count from each camera's own start; the published starts put them on one clock.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from reid import images
from reid.data import names
from reid.types import Crop, Role

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
EXAMPLE = "0002_c1s1_000451_03.jpg"
MARKET_RATE, DUKE_RATE = 25.0, 59.94
MARKET_STARTS = {
    "1": (5, 2916, 5902, 8894, 11893, 14895),
    "2": (31, 6595, 13198),
    "3": (23, 6482, 12946),
    "4": (0, 2911, 5912, 8896, 11909, 14888),
    "5": (1, 6456, 12928),
    "6": (1, 6717, 12000, 15884),
}
_OVERLAP = 60.0  # seconds by which a sequence may seem to run on after the next began
DUKE_STARTS = dict(zip("12345678", (5543, 3607, 27244, 31182, 1, 22402, 18968, 46766), strict=True))
_NAME = re.compile(r"(-1|\d+)_c(\d+)(?:s(\d+)_(\d+)|_f(\d+)|_\d+)(?=[_.])")


def matches(root: Path) -> str | None:
    """Why the folder looks like this layout, or None where it does not."""
    below = [name for name in SPLITS.values() if (root / name).is_dir()]
    if below and names.typical(root / below[0], _NAME):
        return f"it holds {', '.join(below)}, whose files are named by person, camera and frame"
    name = None if below else names.typical(root, _NAME)
    return f"its files are named like {name} (person, camera, frame)" if name else None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Crops of one split, or of the folder itself where it has no such sub-folders."""
    yield from names.of_split(_crops(root), split, root)


def _crops(root: Path) -> Iterator[Crop]:
    folders = {name: root / below for name, below in SPLITS.items() if (root / below).is_dir()}
    pictures = {name: list(images.walk(folder)) for name, folder in folders.items()}
    if not folders:
        pictures[""] = list(names.pictures(root))
        if root.name in SPLITS.values():  # the clock is the same whichever split is read
            beside = [root.parent / below for below in SPLITS.values() if below != root.name]
            folders = {folder.name: folder for folder in beside}
    everything = [path.name for paths in pictures.values() for path in paths]
    if "" in pictures:
        everything += [path.name for folder in folders.values() for path in images.walk(folder)]
    clock = _Clock(everything)
    for name, paths in pictures.items():
        yield from _parse(paths, clock, {"split": name} if name else {})


def read_names(paths: Iterable[Path]) -> list[Crop] | None:
    """Crops from names alone, where every one of them fits the layout; None where one does not."""
    paths = list(paths)
    if not paths or not all(_NAME.match(path.name) for path in paths):
        return None
    return list(_parse(paths, _Clock([path.name for path in paths]), {}))


def named(paths: Sequence[Path]) -> Iterator[Crop]:
    """Crops of some pictures: with person, camera and role, but without time, where every name fits the layout."""
    crops = read_names(paths) or [Crop(str(path)) for path in paths]
    return (replace(crop, time=None) for crop in crops)


def _parse(paths: Iterable[Path], clock: _Clock, extra: dict[str, str]) -> Iterator[Crop]:
    for path, found in names.parse(paths, _NAME, EXAMPLE):
        if not found:
            yield Crop(str(path), extra=extra)
            continue
        pid, camera = found.group(1, 2)
        role: Role = "junk" if pid == "-1" else "distractor" if int(pid) == 0 else "person"
        yield Crop(
            str(path), pid if role == "person" else None, camera, clock.seconds(found), role=role, extra=dict(extra)
        )


class _Clock:
    """Seconds from the numbers in a name, given all names."""

    def __init__(self, everything: Iterable[str]) -> None:
        longest: dict[str, dict[int, float]] = {}
        for name in everything:
            if (found := _NAME.match(name)) and found[3]:
                lengths = longest.setdefault(found[2], {})
                lengths[int(found[3])] = max(lengths.get(int(found[3]), 0.0), int(found[4]) / MARKET_RATE)
        self.starts: dict[tuple[str, int], float] = {}
        for camera, lengths in longest.items():
            starts = _known(camera, lengths) or _end_to_end(lengths)
            self.starts |= {(camera, sequence): start for sequence, start in starts.items()}

    def seconds(self, found: re.Match[str]) -> float | None:
        _, camera, sequence, frame, duke = found.groups()
        if sequence:
            return self.starts[camera, int(sequence)] + int(frame) / MARKET_RATE
        if duke and camera in DUKE_STARTS:
            return (DUKE_STARTS[camera] - 1 + int(duke)) / DUKE_RATE
        return None


def _known(camera: str, lengths: dict[int, float]) -> Mapping[int, float] | None:
    """The starts of a camera's sequences where these are as long as Market-1501's may be."""
    starts = dict(enumerate(MARKET_STARTS.get(camera, ()), 1))
    room = {sequence: starts.get(sequence + 1, math.inf) - start + _OVERLAP for sequence, start in starts.items()}
    return starts if all(length < room.get(sequence, 0) for sequence, length in lengths.items()) else None


def _end_to_end(lengths: dict[int, float]) -> dict[int, float]:
    order = sorted(lengths)
    return dict(zip(order, accumulate((lengths[sequence] for sequence in order), initial=0.0), strict=False))
