"""What a gallery tells of itself: who was seen where, what was erased, and filters in words."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from reid.errors import DataError
from reid.gallery.rows import Rows, Where

UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@dataclass(frozen=True, slots=True)
class Summary:
    """Where and when one person, or one tracklet, was seen.

    Attributes:
        name: of the person or tracklet.
        crops: how many there are.
        cameras: in sorted order.
        first, last: times of the earliest and the latest crop, in seconds; None where no crop has one.
    """

    name: str
    crops: int
    cameras: tuple[str, ...]
    first: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased. It holds no name, path, picture or vector.

    Attributes:
        what: the filter in words; people, tracklets and crops as the log has them.
        rows: how many crops.
        by: who.
        at: seconds since 1970 (UTC).
        entry: number of the log's entry.
        digest: of that entry.
    """

    what: str
    rows: int
    by: str
    at: float
    entry: int
    digest: str


def summaries(parts: Iterator[Rows], column: Literal["pid", "tracklet"]) -> list[Summary]:
    """Everyone, or every tracklet, that rows show, by name."""
    seen: dict[str, tuple[int, set[str], float, float]] = {}
    for part in parts:
        for crop in part.crops:
            name = getattr(crop, column)
            if name is not None:
                count, cameras, first, last = seen.get(name) or (0, set(), np.inf, -np.inf)
                cameras.update([crop.camera] if crop.camera else ())
                times = () if crop.time is None else (crop.time,)
                seen[name] = count + 1, cameras, min([first, *times]), max([last, *times])
    return [
        Summary(name, count, tuple(sorted(cameras)), *((first, last) if first <= last else (None, None)))
        for name, (count, cameras, first, last) in sorted(seen.items())
    ]


def words(where: Where, hidden: Callable[[str], str]) -> str:
    """A filter in words; names of people and tracklets as `hidden` gives them, and no crops."""
    said = [f"camera {' or '.join(sorted(where.cameras))}"] if where.cameras is not None else []
    said += [f"not camera {' or '.join(sorted(where.not_cameras))}"] if where.not_cameras else []
    said += [f"from {where.after:.16g} s"] if where.after is not None else []
    said += [f"until {where.before:.16g} s"] if where.before is not None else []
    said += [f"person {' or '.join(sorted(map(hidden, where.people)))}"] if where.people is not None else []
    said += [f"not person {' or '.join(sorted(map(hidden, where.not_people)))}"] if where.not_people else []
    said += [f"tracklet {' or '.join(sorted(map(hidden, where.tracklets)))}"] if where.tracklets is not None else []
    nobodys = sorted(map(hidden, where.not_tracklets))
    said += [f"not nobody's tracklet {' or '.join(nobodys)}"] if nobodys else []
    said += [f"tagged {' and '.join(sorted(where.tags))}"] if where.tags else []
    said += [f"{len(where.ids):,} crops by id"] if where.ids is not None else []
    said += [f"added before {moment(where.added_before)}"] if where.added_before is not None else []
    return "; ".join(said) or "everything"


def moment(at: float) -> str:
    """Seconds since 1970 as people read them, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # outside of years 1 to 9999
        return f"{at:.16g} s"


def seconds(keep: str) -> float:
    """How long "30d", "12h" or "8w" is.

    >>> seconds("2d")
    172800.0

    Raises:
        DataError: it says nothing of the kind.
    """
    try:
        found = float(keep[:-1]) * UNITS[keep[-1:]]
    except (ValueError, KeyError):
        found = 0
    if not 0 < found < float("inf"):
        raise DataError(f"{keep!r} is no time to keep; give hours, days or weeks, such as 12h, 30d or 8w")
    return found


def user() -> str:
    """Who is doing it, where nobody else is named: the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
