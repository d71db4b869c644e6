"""What is asked of a gallery often and costs a walk through it, kept for a while."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reid.errors import DataError, ReidError
from reid.gallery.gallery import Gallery
from reid.gallery.records import Summary, span, summaries
from reid.gallery.rows import Where, row_ids
from reid.gallery.store import state, tallies
from reid.identify import Identifier
from reid.types import Embeddings

FRESH, SHARE = 5.0, 0.05  # seconds for which a look counts, and the share of the time that looking may take
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


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """What was made of a gallery, in which state of it, and until when it counts where the store tells of no change."""

    made: T
    state: State
    until: float

    def counts(self, state: State, now: float) -> bool:
        """Whether nothing can have changed, or not for long."""
        return self.state == state and (state[1] is not None or now < self.until)


@dataclass(frozen=True, slots=True)
class Fitted:
    """An identifier, the rows it was fitted on, and a digest of what it was told of them."""

    identifier: Identifier
    rows: frozenset[int]
    digest: bytes


class Known:
    """Extent and identifier of a gallery.

    What this process changes is seen at once; what others change too, where the store can tell that something has
    changed, and else within seconds, or longer where a look takes longer.
    """

    def __init__(self, gallery: Gallery, clock: Callable[[], float] = time.monotonic):
        self._gallery, self._clock, self._mark = gallery, clock, object()
        self._walking, self._fitting = threading.Lock(), threading.Lock()
        self._extent: Kept[Extent] | None = None
        self._identifier: Kept[Fitted] | None = None

    def forget(self) -> None:
        """Something has changed. Nothing that was erased stays in memory here."""
        self._mark, self._extent = object(), None
        self._drop_erased()

    def extent(self) -> Extent:
        """What the gallery spans."""
        with self._walking:
            kept, state, began = self._extent, self._state(), self._clock()
            if kept is None or not kept.counts(state, began):
                kept = self._extent = Kept(self._walked(), state, self._until(began))
                if self._mark is not state[0]:
                    self._extent = None
            return kept.made

    def identifier(self) -> Identifier:
        """Fitted on everybody who is enrolled, and again only when what is known of their crops has changed.

        Raises:
            DataError: nobody is.
        """
        with self._fitting:
            kept, state, began = self._identifier, self._state(), self._clock()
            if kept is None or not kept.counts(state, began):
                enrolled = self._enrolled()
                told, until, made = _digest(enrolled), self._until(began), kept.made if kept else None
                if made is None or made.digest != told:
                    self._identifier = kept = made = None
                    made = Fitted(Identifier().fit(enrolled), frozenset(row_ids(enrolled.crops)), told)
                kept = self._identifier = Kept(made, state, until)
                if self._mark is not state[0]:
                    self._drop_erased()
            return kept.made.identifier

    def _state(self) -> State:
        """Taken before anything is read of the gallery, so that no change goes unseen."""
        return self._mark, state(self._gallery.store)

    def _until(self, began: float) -> float:
        return began + max(FRESH, (self._clock() - began) / SHARE)

    def _walked(self) -> Extent:
        tallied = tallies(self._gallery.store, Where(), "pid")
        cameras: Counter[str] = Counter()
        for tally in tallied:
            cameras.update({tally.camera: tally.crops} if tally.camera is not None else {})
        rows = sum(tally.crops for tally in tallied)
        return Extent(rows, dict(sorted(cameras.items())), *span(tallied), tuple(summaries(tallied)))

    def _enrolled(self) -> Embeddings:
        people = frozenset(person.name for person in self.extent().people)
        if not people:
            self._identifier = None
            raise DataError("nobody is enrolled in this gallery yet; enrol people first")
        return self._gallery.embeddings(Where(people=people))

    def _drop_erased(self) -> None:
        """Let go of the identifier unless all rows that it was fitted on are still there."""
        kept = self._identifier
        try:
            if kept and self._gallery.count(Where(ids=kept.made.rows)) < len(kept.made.rows):
                self._identifier = None
        except ReidError:
            self._identifier = None


def _digest(enrolled: Embeddings) -> bytes:
    told = repr([(crop.pid, crop.camera, crop.role) for crop in enrolled.crops]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told + enrolled.vectors.tobytes(), digest_size=16).digest()
