"""What a gallery tells of itself: who was seen where, what was erased, and filters in words."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from reid.errors import DataError
from reid.gallery.rows import Rows, Where
from reid.wording import many

Column = Literal["pid", "tracklet"]
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


class Tally(NamedTuple):
    """How many crops one camera took of one person, or of one tracklet.

    Attributes:
        name, camera: None for crops without.
        crops: at least 1.
        first, last: times of the earliest and the latest, in seconds; None where none has one.
    """

    name: str | None
    camera: str | None
    crops: int
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


def tallied(parts: Iterator[Rows], column: Column) -> list[Tally]:
    """Rows counted by person, or by tracklet, and camera, in any order."""
    seen: dict[tuple[str | None, str | None], Tally] = {}
    for part in parts:
        for crop in part.crops:
            name, camera = getattr(crop, column), crop.camera
            one = Tally(name, camera, 1, crop.time, crop.time)
            known = seen.get((name, camera))
            seen[name, camera] = one if known is None else Tally(name, camera, known.crops + 1, *span([known, one]))
    return list(seen.values())


def span(tallies: Iterable[Tally]) -> tuple[float | None, float | None]:
    """Their earliest and latest time; None where none has one."""
    times = [time for tally in tallies for time in (tally.first, tally.last) if time is not None]
    return (min(times), max(times)) if times else (None, None)


def summaries(tallies: Iterable[Tally]) -> list[Summary]:
    """Everyone, or every tracklet, that is tallied, by name."""
    seen: dict[str, list[Tally]] = {}
    for tally in tallies:
        if tally.name is not None:
            seen.setdefault(tally.name, []).append(tally)
    return [_summary(name, own) for name, own in sorted(seen.items())]


def _summary(name: str, own: Sequence[Tally]) -> Summary:
    cameras = sorted(tally.camera for tally in own if tally.camera is not None)
    return Summary(name, sum(tally.crops for tally in own), tuple(cameras), *span(own))


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
    said += [f"{many(len(where.ids), 'crop')} by id"] if where.ids is not None else []
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
