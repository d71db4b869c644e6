"""What is asked of a gallery often and costs a walk through it, kept for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reid.errors import DataError
from reid.gallery.gallery import Gallery
from reid.gallery.records import Summary, summaries
from reid.gallery.rows import Rows, Where
from reid.identify import Identifier

FRESH, SHARE = 5.0, 0.05  # seconds for which a walk counts, and the share of the time that walking may take


@dataclass(frozen=True, slots=True)
class Extent:
    """What a gallery spans.

    Attributes:
        rows: crops.
        cameras: how many of them each camera took, by name; without those of no known camera.
        first, last: their earliest and latest time in seconds; None where none has one.
        people: everybody who is enrolled, by name.
    """

    rows: int
    cameras: dict[str, int]
    first: float | None
    last: float | None
    people: tuple[Summary, ...]


class Known:
    """Extent and identifier of a gallery.

    What this process changes is seen at once, others' changes within seconds, or longer where a walk takes longer.
    """

    def __init__(self, gallery: Gallery, clock: Callable[[], float] = time.monotonic):
        self._gallery, self._clock = gallery, clock
        self._walking, self._fitting = threading.Lock(), threading.Lock()
        self._changes = 0
        self._extent: tuple[int, float, Extent] | None = None
        self._identifier: tuple[tuple[Summary, ...], Identifier] | None = None

    def forget(self) -> None:
        """Something has changed."""
        self._changes += 1

    def extent(self) -> Extent:
        """What the gallery spans."""
        with self._walking:
            if self._extent and self._extent[0] == self._changes and self._clock() < self._extent[1]:
                return self._extent[2]
            changes, began = self._changes, self._clock()
            found = self._walk()
            took = self._clock() - began
            self._extent = (changes, began + max(FRESH, took / SHARE), found)
            return found

    def identifier(self) -> Identifier:
        """Fitted on everybody who is enrolled.

        Raises:
            DataError: nobody is.
        """
        people = self.extent().people
        if not people:
            raise DataError("nobody is enrolled in this gallery yet; enrol people first")
        with self._fitting:
            if self._identifier is None or self._identifier[0] != people:
                names = frozenset(person.name for person in people)
                self._identifier = (people, Identifier().fit(self._gallery.embeddings(Where(people=names))))
            return self._identifier[1]

    def _walk(self) -> Extent:
        cameras: Counter[str] = Counter()
        rows, first, last = 0, float("inf"), float("-inf")

        def passing() -> Iterator[Rows]:
            nonlocal rows, first, last
            for part in self._gallery.rows(vectors=False, pictures=False):
                rows += len(part)
                cameras.update(crop.camera for crop in part.crops if crop.camera is not None)
                times = [crop.time for crop in part.crops if crop.time is not None]
                first, last = min([first, *times]), max([last, *times])
                yield part

        people = tuple(summaries(passing(), "pid"))
        timed = first <= last
        return Extent(rows, dict(sorted(cameras.items())), first if timed else None, last if timed else None, people)
