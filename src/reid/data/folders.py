"""One folder per person: `alice/1.jpg`, or `alice/north/1.jpg` with a folder per camera inside.

Nothing is guessed that is not there. The inner folders are cameras where they are called so (`cam2`, `c1`) or where at
least two names recur under several people; otherwise their name is kept as `extra["folder"]`. Without them, a camera
is taken from the file names where every one of them carries it (`alice_c2_17.jpg`). A frame number (`frame_101.jpg`)
becomes `extra["frame"]`. Folders called train, val, test, query and so on, with people inside, are splits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from reid import images
from reid.data import cuhk01, cuhk03, market1501, names
from reid.types import Crop

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "query", "gallery", "probe"})
_LOOK_AT = 20
_CAMERA_FOLDER = re.compile(r"c\d+$|cam(?:era)?[-_ ]?\w+$", re.IGNORECASE)
_CAMERA = re.compile(r"(?:^|(?<=[-_. ]))(?:c|cam|camera)[-_]?(\d+)(?=s\d|[-_. ]|$)", re.IGNORECASE)
_FRAME = re.compile(r"(?:^|[-_. ])(?:(?:frame|frm)[-_]?(\d+)|f(\d{3,}))(?=[-_. ]|$)", re.IGNORECASE)


class _Place(NamedTuple):
    path: Path
    split: str | None
    pid: str | None
    inner: tuple[str, ...]


def matches(root: Path) -> str | None:
    """Why the folder looks like this layout, or None where it does not."""
    if not root.is_dir():
        return None
    below, loose = _inside(root)
    splits = bool(below) and all(folder.name.lower() in SPLITS for folder in below)
    people, inside = below, f"it holds the folders {_some(below)}"
    if splits:
        levels = [_inside(folder) for folder in below]
        people = [person for folders, _ in levels for person in folders]
        loose = sum(pictures for _, pictures in levels)
    looked = people[:_LOOK_AT]
    filled = [folder for folder in looked if next(images.walk(folder), None)]
    if len(filled) < 2 or 2 * len(filled) <= len(looked) or loose >= len(people) or any(map(_is_data_set, looked)):
        return None
    return f"{inside}, each with one folder a person" if splits else f"{inside}, each read as one person"


def read(root: Path, split: str | None = None) -> Iterator[Crop]:
    """Every crop; those outside any person's folder have no person."""
    yield from names.of_split(_crops(root), split, root)


def _inside(folder: Path) -> tuple[list[Path], int]:
    """Sub-folders in sorted order, and how many pictures lie beside them; hidden ones left out."""
    with os.scandir(folder) as entries:
        shown = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    below = [folder / name for name, is_folder in sorted(shown) if is_folder]
    return below, sum(images.is_image(name) for name, is_folder in shown if not is_folder)


def _is_data_set(folder: Path) -> bool:
    """Whether a folder is a data set of its own, or a video's frames in the layout of the MOT challenge."""
    others = (market1501, cuhk03, cuhk01)
    return (folder / "seqinfo.ini").exists() or any(other.matches(folder) for other in others)


def _some(folders: Sequence[Path]) -> str:
    listed = ", ".join(folder.name for folder in islice(folders, 3))
    return f"{listed} and {len(folders) - 3:,} more" if len(folders) > 3 else listed


def _crops(root: Path) -> Iterator[Crop]:
    with_splits = all(folder.name.lower() in SPLITS for folder in _inside(root)[0])
    places = [_place(path, root, with_splits) for path in images.walk(root)]
    cameras_are_folders = _are_cameras(places)
    stems = [place.path.stem for place in places]
    cameras_in_names = not cameras_are_folders and all(_camera(stem) for stem in stems)
    for place, stem in zip(places, stems, strict=True):
        extra = {"split": place.split} if place.split else {}
        inner = place.inner[1:] if cameras_are_folders else place.inner
        if inner:
            extra["folder"] = "/".join(inner)
        if frame := _FRAME.search(stem):
            extra["frame"] = frame[1] or frame[2]
        camera = place.inner[0] if cameras_are_folders else _camera(stem) if cameras_in_names else None
        yield Crop(str(place.path), place.pid, camera, extra=extra)


def _place(path: Path, root: Path, with_splits: bool) -> _Place:
    above = path.relative_to(root).parts[:-1]
    split = above[0].lower() if with_splits and above else None
    if split:
        above = above[1:]
    return _Place(path, split, above[0] if above else None, above[1:])


def _are_cameras(places: Iterable[_Place]) -> bool:
    """Whether the folders inside people's folders are cameras."""
    people: dict[str, set[str]] = {}
    for place in places:
        if place.pid and not place.inner:
            return False
        if place.pid:
            people.setdefault(place.inner[0], set()).add(place.pid)
    if not people:
        return False
    recurring = sum(len(under) > 1 for under in people.values())
    return all(map(_CAMERA_FOLDER.match, people)) or (recurring >= 2 and 2 * recurring > len(people))


def _camera(stem: str) -> str | None:
    """The camera's number in a file name that says more than that."""
    found = _CAMERA.findall(stem)
    return found[0] if len(found) == 1 and not _CAMERA.fullmatch(stem) else None
