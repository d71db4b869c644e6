"""A gallery: crops, the people they show, and the rules under which they are kept, over any store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from reid import cache
from reid.disk import discard
from reid.errors import DataError, ModelError, NotFound, ShapeError, StoreError
from reid.gallery import STORES, exports
from reid.gallery.address import Address
from reid.gallery.answers import Per, by_camera, crops_of, nearest
from reid.gallery.ledger import Checked, Entry, Feedback, Ledger
from reid.gallery.records import Receipt, Summary, seconds, summaries, user, words
from reid.gallery.rows import Ids, Rows, Where, completed, half, new_rows, placed, row_ids, with_known
from reid.gallery.store import MOST, Store, tallies
from reid.types import Embeddings, Match
from reid.wording import many, model_named

FEW = 100  # queries of one search that the log names
ERASING = "erasing"  # the setting that tells what an erasure is about until it is done
NOTHING = Where(ids=frozenset())
NOT_THERE = {
    "people": "nobody in the gallery is called {}; `reid index list` and GET /v1/people tell who is",
    "cameras": "the gallery has no crop of camera {}; leave it out, or check its name",
    "tracklets": "the gallery has no crop of tracklet {}; leave it out, or check its name",
    "tags": "no crop of the gallery is tagged {}; leave it out, or check the word",
}
"""What to say of a name of which there is no crop, by the field of `Where` that it is asked for with."""


class Gallery:
    """Crops with vectors, people, feedback, a log and a time to keep, at an address. Open it with `Gallery.open`.

    May be used from several threads, and several processes may have it open at once. `by` is who does it, for the log;
    the user's name on this machine where it is left out.

    Attributes:
        address: where it is.
        model: fingerprint of the model whose vectors it holds.
        dim: length of a vector.
        store, ledger: what it is made of, for moving it; whoever changes rows through the store leaves no trace in the
            log.
    """

    def __init__(self, store: Store, ledger: Ledger, address: Address, clock: Callable[[], float] = time.time):
        self.store, self.ledger, self._clock = store, ledger, clock
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
        gallery = cls(store, Ledger(where.ledger), where, clock)
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
                f"{self.address.shown} holds vectors of model {model_named(self.model)}, and this is "
                f"{model_named(model)}; use the model it "
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
            DataError: they cannot be written; then none of them was, unless it says that only the log has no entry.
        """
        self.check(made.model)
        if pictures is not None and len(pictures) != len(made):
            raise ShapeError(f"crops: {len(made)}, pictures: {len(pictures)}; give one, or None, for each crop")
        rows, ids = new_rows(made, tags, pictures, self._clock())
        with self.ledger.alone():
            known = self.store.fetch(Where(ids=frozenset(rows.ids.tolist())), vectors=False)
            rows = with_known(rows, Rows.join(list(known)))
            self.store.upsert(rows)
            self._changed("add", by, rows=len(rows))
        return ids

    def search(
        self,
        query: Embeddings,
        k: int = 10,
        where: Where | None = None,
        other_cameras: bool = False,
        per: Per = "crop",
        by: str | None = None,
    ) -> list[tuple[Match, ...]]:
        """For each of Q crops the k nearest of the gallery, exactly; a crop is never an answer to itself.

        Args:
            query: embedded by the gallery's model.
            k: answers per query, at most.
            where: which rows may be answers.
            other_cameras: leave out the camera that saw the query; of a query that is in the gallery it is known.
            per: "crop"; or "person", then the nearest crop of each person, and of each tracklet that is nobody's. An
                answer's row is `row_id(match.crop)`.

        Raises:
            ModelError: the query is of another model.
        """
        self.check(query.model)
        if not 1 <= k < MOST:
            raise DataError(f"k is {k}; ask for 1 to {MOST - 1:,} answers")
        where = where or Where()
        self._check_there(cameras=where.cameras)
        vectors = half(query.vectors).astype(np.float32)
        crops = [placed(crop) for crop in query.crops]
        own = row_ids(crops)
        if other_cameras:
            known = crops_of(self.store, frozenset(own))
            crops = [completed(crop, known.get(row, crop)) for row, crop in zip(own, crops, strict=True)]
        answers: list[tuple[Match, ...]] = [()] * len(query)
        for rows, only in by_camera(crops, where, other_cameras).items():
            found = nearest(self.store, vectors[list(rows)], [own[i] for i in rows], k, only, per)
            for i, matches in zip(rows, found, strict=True):
                answers[i] = matches
        about = [self.ledger.pseudonym(crop.path) for crop in query.crops[:FEW]]
        self.record("search", by, queries=len(query), k=k, per=per, where=words(where, self.ledger.pseudonym), of=about)
        return answers

    def _check_there(self, **asked: frozenset[str] | None) -> None:
        """Refuse names of which there is no crop, by the field of `Where` that they are asked for with."""
        for field, names in asked.items():
            for name in sorted(names or ()):
                if not self.count(Where(**{field: frozenset([name])})):  # type: ignore[arg-type]
                    raise NotFound(NOT_THERE[field].format(name))

    def rows(self, where: Where | None = None, vectors: bool = True, pictures: bool = True) -> Iterator[Rows]:
        """Rows in the order of their ids, in parts of a few thousand. Without `vectors` they are (N, 0)."""
        return self.store.fetch(where or Where(), vectors, pictures)

    def embeddings(self, where: Where | None = None) -> Embeddings:
        """Rows as embeddings, all in memory."""
        rows = Rows.join(list(self.rows(where, pictures=False)), self.dim)
        return Embeddings(rows.vectors.astype(np.float32), rows.crops, self.model)

    def count(self, where: Where | None = None) -> int:
        """How many rows there are."""
        return self.store.count(where or Where())

    def people(self, where: Where | None = None) -> list[Summary]:
        """Everyone who is enrolled, by name."""
        return summaries(tallies(self.store, where or Where(), "pid"))

    def tracklets(self, where: Where | None = None) -> list[Summary]:
        """All tracklets, by name."""
        return summaries(tallies(self.store, where or Where(), "tracklet"))

    def enrol(self, name: str, what: Where | Embeddings, by: str | None = None) -> int:
        """Say that crops show this person, a new one or one who is enrolled already. How many there were.

        Args:
            name: of the person.
            what: rows of the gallery, or new crops, which are added.

        Raises:
            DataError: no row is meant.
            ModelError: new crops are of another model.
        """
        if isinstance(what, Embeddings):
            crops = tuple(replace(crop, pid=name, role="person") for crop in what.crops)
            self.add(Embeddings(what.vectors, crops, what.model), by=by)
            count = len(what)
        else:
            count = self._name(what, name)
        if not count:
            raise DataError(f"no crop was given to enrol {name} with; choose some that are in the gallery, or add them")
        self._changed("enrol", by, person=self.ledger.pseudonym(name), rows=count)
        return count

    def rename(self, name: str, new: str, by: str | None = None) -> int:
        """Give a person another name. How many rows there were.

        Raises:
            NotFound: nobody has that name.
            DataError: somebody has the new one already.
        """
        with self.ledger.alone():
            if self._known(new):
                raise DataError(f"{new} is somebody already; to make {name} and {new} one person, merge them")
            self._check_there(people=frozenset([name]))
            return self._renamed("rename", [name], new, by)

    def merge(self, names: Iterable[str], into: str, by: str | None = None) -> int:
        """Say that several people are one, called `into`. How many rows changed.

        Raises:
            NotFound: nobody has one of the names.
            DataError: no other person than `into` is named.
        """
        self._check_there(people=frozenset(names := set(names)))
        if not names - {into}:
            raise DataError(f"nobody but {into} was named; to merge people, name another one whom {into} is")
        return self._renamed("merge", sorted(names - {into}), into, by)

    def split(self, name: str, where: Where, new: str, by: str | None = None) -> int:
        """Say that some of a person's crops show somebody else. How many rows changed.

        Raises:
            NotFound: nobody has that name.
            DataError: no row of that person is meant, or all of them are.
        """
        if where.people not in (None, frozenset([name])):
            raise DataError(f"the crops to split off are asked for among other people than {name}; leave people out")
        own = frozenset([name])
        chosen = replace(where, people=own)
        self._check_there(people=own)
        some, all_of_them = self.count(chosen), self._known(name)
        if not 0 < some < all_of_them:
            raise DataError(
                f"{some} of {name}'s {many(all_of_them, 'crop')} would be split off; choose some and leave some, "
                "or rename"
            )
        count = self._name(chosen, new)
        self._changed("split", by, person=self.ledger.pseudonym(name), into=self.ledger.pseudonym(new), rows=count)
        return count

    def forget_person(self, name: str, by: str | None = None) -> int:
        """Forget who somebody is: the crops stay, without a person. To remove the crops, `erase` them.

        Raises:
            NotFound: nobody has that name.
        """
        self._check_there(people=frozenset([name]))
        count = self._name(Where(people=frozenset([name])), None)
        self.store.delete(NOTHING)  # which leaves nothing of what was written over either
        self._changed("forget", by, person=self.ledger.pseudonym(name), rows=count)
        return count

    def _changed(self, what: str, by: str | None, **detail: object) -> None:
        """Append to the log what has just been done."""
        try:
            self.record(what, by, **detail)
        except StoreError as error:
            raise StoreError(f"{error}; the gallery has been changed, and only the log has no entry of it") from None

    def _known(self, name: str) -> int:
        return self.count(Where(people=frozenset([name])))

    def _renamed(self, what: str, names: Sequence[str], new: str, by: str | None) -> int:
        count = self._name(Where(people=frozenset(names)), new)
        of = [self.ledger.pseudonym(name) for name in names]
        self._changed(what, by, people=of, into=self.ledger.pseudonym(new), rows=count)
        return count

    def _name(self, where: Where, name: str | None) -> int:
        """Write rows again with another person."""
        with self.ledger.alone():
            rows = Rows.join(list(self.store.fetch(where)), self.dim)
            crops = tuple(replace(crop, pid=name, role="person") for crop in rows.crops)
            self.store.upsert(replace(rows, crops=crops))
        return len(rows)

    def feedback(self, query: int, answer: int, same: bool, by: str | None = None) -> Feedback:
        """Keep a word on whether two rows show one person; a later word on the same two replaces it.

        Raises:
            NotFound: one of them is not there. An uploaded picture must be added first.
            DataError: they are one row.
        """
        with self.ledger.alone():
            if query == answer:
                raise DataError(f"row {query} was given twice; give two crops of the gallery")
            for row in (query, answer):
                if not self.count(Where(ids=frozenset([row]))):
                    raise NotFound(f"row {row} is no crop of the gallery; add the picture first")
            word = Feedback(query, answer, bool(same), by or user(), self._clock())
            self.ledger.say(word)
            self.record("feedback", by, same=bool(same), of=[self.ledger.pseudonym(str(i)) for i in (query, answer)])
        return word

    def feedbacks(self) -> list[Feedback]:
        """All feedback, oldest first."""
        return self.ledger.said()

    def export_pairs(self, path: str | os.PathLike[str]) -> int:
        """Write feedback as a table of pairs, a,b,camera_a,camera_b,same, that `reid verify --fit` reads. How many.

        Raises:
            DataError: there is none of crops whose pictures are left, or the file cannot be written.
        """
        count = exports.pairs(Path(path), self.ledger.said(), self._pictured)
        self.record("export", pairs=count)
        return count

    def export_crops(self, path: str | os.PathLike[str]) -> int:
        """Write crops whose person is known, by name or by feedback, as a table that `reid train` reads. How many.

        Raises:
            DataError: there is none whose picture is left, or the file cannot be written.
        """
        count = exports.crops(Path(path), self.ledger.said(), self._pictured)
        self.record("export", crops=count)
        return count

    def _pictured(self, ids: frozenset[int] | None) -> Iterator[Rows]:
        """Rows with their pictures, without vectors."""
        return self.store.fetch(Where(ids=ids), vectors=False)

    def erase(self, where: Where, by: str | None = None, expect: int | None = None) -> Receipt:
        """Remove rows for good: vectors, pictures, feedback on them, and their embeddings in the user's cache.

        Args:
            expect: how many rows that must be.

        Raises:
            NotFound, DataError: as `erasable`, or there are more or fewer rows than expected; then none is erased.
            StoreError: the gallery or the cache cannot be written. Where rows are gone nevertheless the log says so,
                and the next erasure does what is left.
        """
        with self.ledger.alone():
            count = self.erasable(where)
            if expect is not None and count != expect:
                raise DataError(f"that would be {many(count, 'row')} and not {expect:,}; look again, then ask again")
            return self._erase("erase", where, by or user())

    def erasable(self, where: Where) -> int:
        """How many rows `erase` would remove; it may be none where every name is known, but no row meets all that is
        asked for. While an erasure that was cut off waits to be finished, names need not be known: it may have
        removed their rows already.

        Raises:
            NotFound: a person, camera, tracklet, tag or row that is asked for is not there.
            DataError: nothing is asked for.
        """
        if where.everything:
            raise DataError("nothing was chosen, which would erase everything; choose crops, or delete the gallery")
        if self.ledger.get(ERASING) is None:
            cameras = where.not_cameras | (where.cameras or frozenset())
            self._check_there(people=where.people, cameras=cameras, tracklets=where.tracklets, tags=where.tags)
            ids = where.ids or frozenset()
            if missing := len(ids) - self.count(Where(ids=ids)):
                which = "the crop" if len(ids) == 1 else f"{missing:,} of the {len(ids):,} crops"
                are = "is" if missing == 1 else "are"
                raise NotFound(f"{which} asked for {are} not in the gallery, or no longer; leave out what is not there")
        return self.count(where)

    def _erase(self, what: str, where: Where, by: str) -> Receipt:
        said = words(where, self.ledger.pseudonym)
        with self.ledger.alone():
            if self.address.scheme == "sqlite":
                discard(self.address.rebuilding)
            ids: list[int] = []
            for part in self.store.fetch(where, pictures=False):
                ids += part.ids.tolist()
                cache.forget(self.model, part.vectors, [crop.path for crop in part.crops])
            earlier = self.ledger.get(ERASING)
            self.ledger.set(ERASING, said)
            try:
                rows = self.store.delete(where)
                if earlier and not rows:
                    self.store.delete(NOTHING)
                self.ledger.unsay(ids)
                self.ledger.scrub()
            except BaseException:
                self._tell_gone(ids, what, by, said)
                raise
            more = {"cut_off": earlier} if earlier else {}
            entry = self.record(what, by, where=said, rows=rows, **more)
            self.ledger.set(ERASING, None)
        return Receipt(said, rows, by, entry.at, entry.number, entry.digest)

    def _tell_gone(self, ids: list[int], what: str, by: str, said: str) -> None:
        """Log which rows an erasure that was cut off has removed; where that cannot be said either, the next one's
        entry tells of it."""
        with suppress(StoreError):
            gone = sorted(set(ids) - crops_of(self.store, frozenset(ids)).keys())
            if gone:
                self.record(what, by, where=said, rows=len(gone), unfinished=True)
                self.ledger.unsay(gone)

    @property
    def keep(self) -> str | None:
        """How long rows are kept, such as "30d", "12h" or "8w"; None for ever. Setting it erases nothing yet."""
        return self.ledger.get("keep")

    @keep.setter
    def keep(self, text: str | None) -> None:
        if text is not None:
            seconds(text)
        with self.ledger.alone():
            self.ledger.set("keep", text)
            self.record("keep", keep=text)

    def expire(self) -> Receipt | None:
        """Erase what is older than the gallery keeps, and do what is left of an erasure that was cut off; None where
        there is neither."""
        keep = self.keep
        if keep is None:
            return None
        old = Where(added_before=self._clock() - seconds(keep))
        if not self._due(old):
            return None
        with self.ledger.alone():
            return self._erase("expire", old, f"keep {keep}") if self._due(old) else None

    def _due(self, old: Where) -> bool:
        return self.ledger.get(ERASING) is not None or self.count(old) > 0

    @property
    def made_with(self) -> dict[str, str]:
        """How the model was named when the gallery was made: options of `Embedder` by name. Empty where nobody said."""
        return dict(json.loads(self.ledger.get("made with") or "{}"))

    @made_with.setter
    def made_with(self, options: Mapping[str, str]) -> None:
        self.ledger.set("made with", json.dumps(dict(options)))

    def audit(self) -> Iterator[Entry]:
        """The log from its start."""
        return self.ledger.entries()

    def verify_audit(self, head: str | None = None) -> Checked:
        """Whether the log is whole, and still holds the entry with digest `head` that was kept elsewhere, if any."""
        return self.ledger.verify(head)

    def pseudonym(self, name: str) -> str:
        """What the log calls a person, a tracklet or the path of a crop."""
        return self.ledger.pseudonym(name)

    def close(self) -> None:
        """Close files and connections."""
        self.store.close()
        self.ledger.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def record(self, what: str, by: str | None = None, **detail: object) -> Entry:
        """Append to the log what was done by other ways than these methods."""
        return self.ledger.record(self._clock(), by or user(), what, **detail)
