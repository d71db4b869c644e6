"""Market-1501 and data sets named like it (DukeMTMC-reID, and Market's own 500k distractors).

`0002_c1s1_000451_03.jpg` is person 2, camera 1, sequence 1, frame 451 of that sequence, box 3. Person −1 is junk,
person 0 a distractor (Zheng et al. 2015). DukeMTMC-reID's `0001_c2_f0046182.jpg` has no sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reid import images
from reid.types import Crop

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
FRAMES_PER_SECOND = 25.0
_NAME = re.compile(r"(-1|\d+)_c(\d+)(?:s(\d+))?_f?(\d+)(?:_(\d+))?\.")


def matches(root: Path) -> str | None:
    """Why the folder looks like this layout, or None where it does not."""
    below = [name for name in SPLITS.values() if (root / name).is_dir()]
    if below:
        return f"it holds {', '.join(below)}"
    names = [path.name for path, _ in zip(images.walk(root), range(200), strict=False)]
    if names and sum(bool(_NAME.match(name)) for name in names) > 0.95 * len(names):
        return f"its files are named like {names[0]} (person, camera, sequence, frame)"
    return None


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Crops of one split, or of the folder itself where it has no such sub-folders."""
    folders = [(s, root / d) for s, d in SPLITS.items() if (root / d).is_dir() and split in (None, s)]
    clock = _Clock()
    crops = [(name, path) for name, folder in folders or [("", root)] for path in images.walk(folder)]
    for _, path in crops:
        clock.see(path.name)
    for name, path in crops:
        yield _crop(path, clock, name)


def _crop(path: Path, clock: _Clock, split: str) -> Crop:
    found = _NAME.match(path.name)
    extra = {"split": split} if split else {}
    if not found:
        return Crop(str(path), extra=extra)
    pid, camera, sequence, frame, _ = found.groups()
    if pid == "-1":
        return Crop(str(path), None, camera, clock.seconds(camera, sequence, frame), role="junk", extra=extra)
    if int(pid) == 0:
        return Crop(str(path), None, camera, clock.seconds(camera, sequence, frame), role="distractor", extra=extra)
    return Crop(str(path), pid, camera, clock.seconds(camera, sequence, frame), extra=extra)


class _Clock:
    """Market's frame numbers restart in each sequence: its length is taken as the largest number seen in it."""

    def __init__(self) -> None:
        self.longest: dict[tuple[str, int], int] = {}

    def see(self, name: str) -> None:
        if found := _NAME.match(name):
            _, camera, sequence, frame, _ = found.groups()
            key = (camera, int(sequence or 1))
            self.longest[key] = max(self.longest.get(key, 0), int(frame))

    def seconds(self, camera: str, sequence: str | None, frame: str) -> float:
        before = sum(length for (c, s), length in self.longest.items() if c == camera and s < int(sequence or 1))
        return (before + int(frame)) / FRAMES_PER_SECOND
