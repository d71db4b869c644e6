"""What is asked of a gallery often and costs a walk through it, kept for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reid.errors import DataError
from reid.gallery.gallery import Gallery
from reid.gallery.records import Summary, span, summaries
from reid.gallery.rows import Where
from reid.gallery.store import state, tallies
from reid.identify import Identifier

FRESH, SHARE = 5.0, 0.05  # seconds for which what was made counts, and the share of the time that making may take
T = TypeVar("T")
State = tuple[object, object]
"""What this process has changed, and what `store.state` tells of the gallery."""


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


class Kept(Generic[T]):
    """Something that takes time to make of a gallery, and is made again when that has changed."""

    def __init__(self, make: Callable[[], T], state: Callable[[], State], clock: Callable[[], float]):
        self._make, self._state, self._clock = make, state, clock
        self._lock = threading.Lock()
        self._kept: tuple[State, float, T] | None = None

    def __call__(self) -> T:
        """What is kept, or made now."""
        with self._lock:
            state, began = self._state(), self._clock()  # before it is made, so that no change goes unseen
            kept = self._kept
            if kept and kept[0] == state and (state[1] is not None or began < kept[1]):
                return kept[2]
            self._kept = kept = None
            made = self._make()
            self._kept = (state, began + max(FRESH, (self._clock() - began) / SHARE), made)
            if self._state() != state:
                self._kept = None
            return made

    def drop(self) -> None:
        """Let go of what is kept; after a change of state also of what is being made."""
        self._kept = None


class Known:
    """Extent and identifier of a gallery.

    What this process changes is seen at once; what others change too, where the store can tell that something has
    changed, and else within seconds, or longer where a walk or a fit takes longer.
    """

    def __init__(self, gallery: Gallery, clock: Callable[[], float] = time.monotonic):
        self._gallery, self._mark = gallery, object()
        self.extent = Kept(self._walked, self._state, clock)
        """What the gallery spans."""
        self.identifier = Kept(self._fitted, self._state, clock)
        """Fitted on everybody who is enrolled. Raises DataError where nobody is."""

    def forget(self) -> None:
        """Something has changed. Nothing that was erased stays in memory here."""
        self._mark = object()
        self.extent.drop()
        self.identifier.drop()

    def _state(self) -> State:
        return self._mark, state(self._gallery.store)

    def _walked(self) -> Extent:
        tallied = tallies(self._gallery.store, Where(), "pid")
        cameras: Counter[str] = Counter()
        for tally in tallied:
            cameras.update({tally.camera: tally.crops} if tally.camera is not None else {})
        rows = sum(tally.crops for tally in tallied)
        return Extent(rows, dict(sorted(cameras.items())), *span(tallied), tuple(summaries(tallied)))

    def _fitted(self) -> Identifier:
        people = frozenset(person.name for person in self.extent().people)
        if not people:
            raise DataError("nobody is enrolled in this gallery yet; enrol people first")
        return Identifier().fit(self._gallery.embeddings(Where(people=people)))
