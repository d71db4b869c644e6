"""Market-1501 and data sets named like it (DukeMTMC-reID, and Market's own 500k distractors).

`0002_c1s1_000451_03.jpg` is person 2, camera 1, sequence 1, frame 451 of that sequence, box 3. Person −1 is junk,
person 0 a distractor (Zheng et al. 2015). DukeMTMC-reID's `0001_c2_f0046182.jpg` has no sequence.

Time is seconds. Market's frames (25 a second) restart at 0 in every sequence, so a camera's sequences are laid end to
end. How long each one is was published with st-ReID (Wang et al. 2019), not with the data; here the largest frame
number seen in a sequence, over every split that is there, stands for its length: short by a few hundred frames, and
the more so the fewer crops there are. The cameras are taken to start together. Duke's frames (59.94 a second) count
from each camera's own start; the published starts put them on one clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reid import images
from reid.data import names
from reid.types import Crop, Role

SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
EXAMPLE = "0002_c1s1_000451_03.jpg"
MARKET_RATE, DUKE_RATE = 25.0, 59.94
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
        longest: dict[str, dict[int, int]] = {}
        for name in everything:
            if (found := _NAME.match(name)) and found[3]:
                camera = longest.setdefault(found[2], {})
                camera[int(found[3])] = max(camera.get(int(found[3]), 0), int(found[4]))
        self.before: dict[tuple[str, int], int] = {}
        for name, sequences in longest.items():
            total = 0
            for sequence in sorted(sequences):
                self.before[name, sequence] = total
                total += sequences[sequence]

    def seconds(self, found: re.Match[str]) -> float | None:
        _, camera, sequence, frame, duke = found.groups()
        if sequence:
            return (self.before[camera, int(sequence)] + int(frame)) / MARKET_RATE
        if duke and camera in DUKE_STARTS:
            return (DUKE_STARTS[camera] - 1 + int(duke)) / DUKE_RATE
        return None
