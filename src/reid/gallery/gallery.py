"""A gallery: crops, the people they show, and the rules under which they are kept, over any store."""

from __future__ import annotations

import getpass
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import platformdirs

from reid.errors import DataError, ModelError, ShapeError
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.ledger import Checked, Entry, Feedback, Ledger
from reid.gallery.rows import Ids, Rows, Where, half, row_ids
from reid.gallery.store import MOST, Store
from reid.types import Crop, Embeddings, Match

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
    """What was erased. It holds nothing of what it tells of.

    Attributes:
        what: the filter in words; people as the log has them.
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


class Gallery:
    """Crops with vectors, people, feedback, a log and a time to keep, at an address. Open it with `Gallery.open`.

    May be used from several threads, and several processes may have it open at once. `by` is who does it, for the log;
    the user's name on this machine where it is left out.

    Attributes:
        address: where it is.
        model: fingerprint of the model whose vectors it holds.
        dim: length of a vector.
    """

    def __init__(self, store: Store, ledger: Ledger, address: Address, clock: Callable[[], float] = time.time):
        self._store, self._ledger, self._clock = store, ledger, clock
        self.address, self.model, self.dim = address, store.model, store.dim

    @classmethod
    def open(
        cls,
        address: str | os.PathLike[str],
        model: str | None = None,
        dim: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Gallery:
        """Open the gallery at an address; what is older than it keeps is erased.

        Args:
            address: a file that ends in .db, or the URL of a server.
            model: fingerprint of the model that is going to be used with it.
            dim: the length of that model's vectors. With both, a gallery is made where there is none.
            clock: the time now, in seconds since 1970.

        Raises:
            DataError: there is none, it is damaged, or it cannot be reached.
            ModelError: it holds vectors of another model.
            MissingExtra: a package for such addresses is not installed.
        """
        where = Address.parse(address)
        if where.scheme not in STORES:
            raise DataError(f"{where.shown} starts with {where.scheme}://; galleries are {', '.join(STORES)}")
        store = STORES[where.scheme](where, model, dim)
        gallery = cls(store, Ledger(_ledger_path(where)), where, clock)
        try:
            if model is not None:
                gallery.check(model)
            gallery.expire()
        except BaseException:
            gallery.close()
            raise
        return gallery

    def check(self, model: str) -> None:
        """Refuse another model.

        Raises:
            ModelError: the gallery holds vectors of another one.
        """
        if model != self.model:
            raise ModelError(
                f"{self.address.shown} holds vectors of model {self.model}, and this is {model}; use the model it "
                f"was made with, or embed it again with `reid index rebuild {self.address.shown} --model M`"
            )

    def add(
        self,
        made: Embeddings,
        tags: Iterable[str] = (),
        pictures: Sequence[bytes | None] | None = None,
        by: str | None = None,
    ) -> Ids:
        """Add crops, or bring up to date those that are there: by path, so that adding twice changes nothing.

        What was known of a crop and is not said again stays: person, camera, time, tracklet, tags, picture, and when it
        first came in. A path that leads to a file is kept absolute.

        Args:
            made: N crops.
            tags: words for all of them.
            pictures: N small JPEG files to keep, or None.

        Returns:
            (N,) ids of their rows.

        Raises:
            ModelError: the vectors are of another model.
            ShapeError: they do not fit half precision, or the pictures are not as many.
            DataError: they cannot be written; then none of them was.
        """
        self.check(made.model)
        if pictures is not None and len(pictures) != len(made):
            raise ShapeError(f"crops: {len(made)}, pictures: {len(pictures)}; give one, or None, for each crop")
        crops = [placed(crop) for crop in made.crops]
        ids = np.array(row_ids(crops), dtype=np.int64)
        last = {row: at for at, row in enumerate(ids.tolist())}  # a path that comes twice counts as it comes last
        chosen = np.array(sorted(last.values()), dtype=np.int64)
        now = np.full(len(made), self._clock())
        kept = tuple(pictures) if pictures is not None else (None,) * len(made)
        rows = (
            Rows(ids, half(made.vectors), tuple(crops), (frozenset(tags),) * len(made), kept, now)[chosen]
            if len(chosen)
            else Rows.join([], self.dim)
        )
        with self._ledger.alone():
            rows = self._with_what_was_known(rows)
            self._store.upsert(rows)
            self._record("add", by, rows=len(rows))
        return ids

    def search(
        self,
        query: Embeddings,
        k: int = 10,
        where: Where | None = None,
        other_cameras: bool = False,
        per: Literal["crop", "person"] = "crop",
        by: str | None = None,
    ) -> list[tuple[Match, ...]]:
        """For each of Q crops the k nearest of the gallery, exactly; a crop is never an answer to itself.

        Args:
            query: embedded by the gallery's model.
            k: answers per query, at most.
            where: which rows may be answers.
            other_cameras: leave out the camera that saw the query.
            per: "crop"; or "person", then the nearest crop of each person, and of each tracklet that is nobody's. An
                answer's row is `row_id(match.crop)`.

        Raises:
            ModelError: the query is of another model.
        """
        self.check(query.model)
        if not 1 <= k < MOST:
            raise DataError(f"k is {k}; ask for 1 to {MOST - 1:,} answers")
        if other_cameras or per == "person":
            raise NotImplementedError
        ranking = self._store.query(half(query.vectors).astype(np.float32), k + 1, where or Where())
        found = frozenset(ranking.ids[ranking.ids >= 0].tolist())
        known: dict[int, Crop] = {}
        for part in self._store.fetch(Where(ids=found), vectors=False, pictures=False):
            known |= zip(part.ids.tolist(), part.crops, strict=True)
        answers = []
        for own, ids, distances in zip(row_ids(map(placed, query.crops)), ranking.ids, ranking.distances, strict=True):
            pairs = [(i, d) for i, d in zip(ids.tolist(), distances.tolist(), strict=True) if i != own and i in known]
            answers.append(tuple(Match(known[i], d, rank) for rank, (i, d) in enumerate(pairs[:k], 1)))
        self._record("search", by, queries=len(query), k=k)
        return answers

    def rows(self, where: Where | None = None, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """Rows in the order of their ids, in parts of a few thousand. Without `vectors` they are (N, 0)."""
        return self._store.fetch(where or Where(), vectors, pictures)

    def embeddings(self, where: Where | None = None) -> Embeddings:
        """Rows as embeddings, all in memory."""
        rows = Rows.join(list(self.rows(where, pictures=False)), self.dim)
        return Embeddings(rows.vectors.astype(np.float32), rows.crops, self.model)

    def count(self, where: Where | None = None) -> int:
        """How many rows there are."""
        return self._store.count(where or Where())

    def people(self, where: Where | None = None) -> list[Summary]:
        """Everyone who is enrolled, by name."""
        raise NotImplementedError

    def tracklets(self, where: Where | None = None) -> list[Summary]:
        """All tracklets, by name."""
        raise NotImplementedError

    def enrol(self, name: str, where: Where, by: str | None = None) -> int:
        """Say that rows show this person; a new one, or one who is enrolled already. How many rows there were.

        Raises:
            DataError: no row is meant.
        """
        raise NotImplementedError

    def rename(self, name: str, new: str, by: str | None = None) -> int:
        """Give a person another name. How many rows there were.

        Raises:
            DataError: nobody has that name, or somebody has the new one already.
        """
        raise NotImplementedError

    def merge(self, names: Iterable[str], into: str, by: str | None = None) -> int:
        """Say that several people are one, called `into`. How many rows changed.

        Raises:
            DataError: nobody has one of the names.
        """
        raise NotImplementedError

    def split(self, name: str, where: Where, new: str, by: str | None = None) -> int:
        """Say that some of a person's crops show somebody else. How many rows changed.

        Raises:
            DataError: no row of that person is meant, or all of them are.
        """
        raise NotImplementedError

    def forget_person(self, name: str, by: str | None = None) -> int:
        """Forget who somebody is: the crops stay, without a person. To remove the crops, `erase` them.

        Raises:
            DataError: nobody has that name.
        """
        raise NotImplementedError

    def feedback(self, query: int, answer: int, same: bool, by: str | None = None) -> Feedback:
        """Keep a word on whether two rows show one person; a later word on the same two replaces it.

        Raises:
            DataError: one of the rows is not there. An uploaded picture must be added first.
        """
        raise NotImplementedError

    def feedbacks(self) -> list[Feedback]:
        """All feedback, oldest first."""
        return self._ledger.said()

    def export_pairs(self, path: str | os.PathLike[str]) -> int:
        """Write feedback as a table of pairs, a,b,camera_a,camera_b,same, that `reid verify --fit` reads. How many.

        Raises:
            DataError: there is none, or the file cannot be written.
        """
        raise NotImplementedError

    def export_crops(self, path: str | os.PathLike[str]) -> int:
        """Write crops whose person is known, by enrolment or feedback, as a table that `reid train` reads. How many.

        Raises:
            DataError: there is none, or the file cannot be written.
        """
        raise NotImplementedError

    def erase(self, where: Where, by: str | None = None) -> Receipt:
        """Remove rows for good: vectors, pictures, feedback on them, and their embeddings in the user's cache.

        Raises:
            DataError: nothing is asked for. A filter that no row meets is no mistake.
        """
        raise NotImplementedError

    @property
    def keep(self) -> str | None:
        """How long rows are kept, such as "30d", "12h" or "8w"; None for ever. Setting it erases nothing yet."""
        return self._ledger.get("keep")

    @keep.setter
    def keep(self, text: str | None) -> None:
        if text is not None:
            seconds(text)
        self._ledger.set("keep", text)

    def expire(self) -> Receipt | None:
        """Erase what is older than the gallery keeps; None where nothing is."""
        return None

    def audit(self) -> Iterator[Entry]:
        """The log from its start."""
        return self._ledger.entries()

    def verify_audit(self) -> Checked:
        """Whether the log is whole."""
        return self._ledger.verify()

    def close(self) -> None:
        """Close files and connections."""
        self._store.close()
        self._ledger.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _record(self, what: str, by: str | None, **detail: object) -> Entry:
        return self._ledger.record(self._clock(), by or getpass.getuser(), what, **detail)

    def _with_what_was_known(self, rows: Rows) -> Rows:
        """Rows that are there already, completed by what they do not say."""
        ids = frozenset(rows.ids.tolist())
        old = Rows.join(list(self._store.fetch(Where(ids=ids), vectors=False)))
        place = {row: at for at, row in enumerate(rows.ids.tolist())}
        crops, tags, pictures, added = list(rows.crops), list(rows.tags), list(rows.pictures), rows.added.copy()
        for i, row in enumerate(old.ids.tolist()):
            at = place[row]
            crops[at] = _completed(crops[at], old.crops[i])
            tags[at] |= old.tags[i]
            pictures[at] = pictures[at] or old.pictures[i]
            added[at] = old.added[i]
        return Rows(rows.ids, rows.vectors, tuple(crops), tuple(tags), tuple(pictures), added)


def _completed(new: Crop, old: Crop) -> Crop:
    """A crop with what only the old one knows."""
    known = {name: getattr(old, name) for name in ("pid", "camera", "time", "tracklet") if getattr(new, name) is None}
    return replace(new, **known, extra={**old.extra, **new.extra})


def placed(crop: Crop) -> Crop:
    """A crop whose path, where it leads to a file, is absolute."""
    if crop.path.startswith(os.sep) or not Path(crop.path).is_file():
        return crop
    return replace(crop, path=os.path.abspath(crop.path))


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


def _ledger_path(address: Address) -> Path:
    """The file of a gallery's ledger: its own, or for a server one in the user's data folder."""
    if "ledger" in address.options:
        return Path(address.options["ledger"])
    if address.scheme == "sqlite":
        return Path(address.path)
    folder = platformdirs.user_data_path("reid", appauthor=False, ensure_exists=True)
    return folder / f"{hashlib.sha256(address.shown.encode()).hexdigest()[:16]}.ledger.db"
