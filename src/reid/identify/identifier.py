"""The people who are enrolled, and who of them a query shows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np

from reid import distance
from reid.errors import DataError, ModelError
from reid.identify import stored
from reid.identify.calibration import Calibration, Threshold, calibrate
from reid.identify.kinds import KINDS, Learnt
from reid.identify.queries import Together, by_group, forms, grouped
from reid.identify.trial import alarms, try_out
from reid.types import Embeddings, Vectors
from reid.wording import model_named


@dataclass(frozen=True, slots=True)
class Candidate:
    """One enrolled person as an answer.

    Attributes:
        pid: who.
        distance: from the query, lower is closer; comparable within one identifier only, and below 0 for planes.
        probability: that the query shows them: in a closed set given that it shows one of those enrolled, in an open
            one outright. None where it could not be learnt.
    """

    pid: str
    distance: float
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a query shows.

    Attributes:
        pid: the nearest person; None in an open set for nobody who is enrolled.
        candidates: the nearest few, nearest first.
        enrolled: the probability that the query's person is enrolled, where as many queries show someone who is as
            someone who is not; None in a closed set, or where it could not be learnt.
        threshold: of an open set; None in a closed one.
        rows: of the query's crops.
    """

    pid: str | None
    candidates: tuple[Candidate, ...]
    enrolled: float | None
    threshold: Threshold | None
    rows: tuple[int, ...]


class Identifier:
    """Recognises enrolled people, and where asked to, that a query shows none of them.

    Thresholds and probabilities are learnt by leaving people out in turn, a fifth of them each time, whose crops are
    then strangers; and by leaving out in turn one camera of everybody seen by several, or else a tracklet or a crop,
    whose crops are then queries. They hold for queries that resemble those: of the same cameras, and people who come
    by like those enrolled.

    Args:
        kind: a name from KINDS.

    Attributes:
        people_: P names, sorted.
        learnt_: what tells them apart.
        model_: fingerprint of the model that embedded them.
        calibrations_: by the form of a query, "crop" for one crop and "several" for the mean of more; without those
            that could not be learnt.
        across_: share of the people who are enrolled from several cameras; None where no camera is known. Where it is
            small, thresholds and probabilities were learnt within one camera, and are too sure for pictures of another.
    """

    def __init__(self, kind: str = "mean"):
        if kind not in KINDS:
            raise DataError(f"the kind of identifier is {kind!r}; it can be {', '.join(KINDS)}")
        self.kind = kind
        self.people_: tuple[str, ...] = ()
        self.learnt_: Learnt
        self.model_ = ""
        self.calibrations_: dict[str, Calibration] = {}
        self.across_: float | None = None

    def __repr__(self) -> str:
        return f"Identifier({self.kind!r}, {len(self.people_):,} people enrolled, model {self.model_ or 'none yet'})"

    def fit(self, enrolled: Embeddings, impostors: Embeddings | None = None) -> Identifier:
        """Enrol people.

        Args:
            enrolled: labelled crops. Those that name nobody, distractors and junk are left out.
            impostors: crops of people who are not enrolled, from whom thresholds are learnt instead of from enrolled
                people left out in turn. Those who are named weigh alike, however many crops they have.

        Raises:
            DataError: no crop names anybody, an impostor is enrolled, or the kind needs more people.
            ModelError: the impostors were embedded by another model.
            MissingExtra: the kind is fitted by scikit-learn, which is not installed.
        """
        known = enrolled[[i for i, c in enumerate(enrolled.crops) if c.pid is not None and c.role == "person"]]
        if not len(known):
            raise DataError(
                f"crops that name a person: none of {len(enrolled)}; enrol one folder a person (of a single "
                "person as folders:DIR), or a CSV with the columns path,pid"
            )
        self.people_ = tuple(sorted({str(c.pid) for c in known.crops}))
        place = {pid: i for i, pid in enumerate(self.people_)}
        owners = np.array([place[str(c.pid)] for c in known.crops])
        self.model_ = enrolled.model
        if impostors is not None:
            self._check(impostors, "the impostors")
            both = sorted({c.pid for c in impostors.crops if c.pid in place and c.role == "person"}, key=str)
            if both:
                raise DataError(
                    f"impostors who are enrolled: {len(both)}, such as {both[0]}; give people who are not enrolled"
                )
        self.learnt_ = KINDS[self.kind](known.vectors, owners)
        seen = {(c.pid, c.camera) for c in known.crops if c.camera is not None}
        several = [pid for pid, n in Counter(pid for pid, _ in seen).items() if n > 1]
        self.across_ = len(several) / len(self.people_) if seen else None
        self.calibrations_ = {}
        for form, tried in try_out(KINDS[self.kind], known, owners).items():
            strange = (tried.strange, tried.of_strange, tried.growth)
            if impostors is not None:
                strange = alarms(self.learnt_, impostors, form)
            if len(strange[0]):
                self.calibrations_[form] = calibrate(*strange, tried.own, tried.of_own, tried.own_growth)
        return self

    def distances(self, query: Embeddings) -> Vectors:
        """(Q, P) distances of each crop from each person.

        Raises:
            DataError: nobody is enrolled yet.
            ModelError: the query was embedded by another model.
        """
        self._check(query, "the query")
        return self.learnt_.distances(query.vectors)

    def threshold(self, fpir: float, form: str = "crop") -> Threshold:
        """Up to which distance a query shows someone who is enrolled, for a wanted rate of false alarms.

        Args:
            fpir: the share of searches for strangers that may name somebody (false-positive identification rate).
            form: of the query, "crop" or "several".

        Raises:
            DataError: the rate cannot be, or no strangers were there to learn from.
        """
        return self._calibration(form).threshold(fpir)

    def identify(
        self, query: Embeddings, fpir: float | None = None, together: Together = "crop", k: int = 3
    ) -> list[Identity]:
        """Who the queries show.

        Args:
            query: crops, embedded by the model that embedded those enrolled.
            fpir: open set: a query farther than `threshold(fpir)` shows nobody. None for a closed set.
            together: what is one query: each crop; all crops of a tracklet; or all. Several crops become the mean of
                their vectors. A crop without a tracklet is alone.
            k: candidates an answer names at most.

        Returns:
            An answer for each query, in the order of its first crop.

        Raises:
            DataError: nobody is enrolled, k is below 1, or as `threshold` does.
            ModelError: the query was embedded by another model.
        """
        self._check(query, "the query")
        if k < 1:
            raise DataError(f"k is {k}; ask for at least 1 candidate")
        if together not in get_args(Together):
            raise DataError(f"together is {together!r}; it can be {', '.join(get_args(Together))}")
        if not len(query):
            return []
        groups = grouped(query.crops, together)
        members = [tuple(rows.tolist()) for rows in by_group(groups)]
        apart = self.learnt_.distances(distance.means(query.vectors, groups))
        found: list[Identity] = []
        for form, chosen in forms(members):
            for i, answer in zip(chosen, self._answers(apart[chosen], form, fpir, k), strict=True):
                found.append(Identity(*answer, members[i]))
        return sorted(found, key=lambda identity: identity.rows)

    def _answers(
        self, apart: Vectors, form: str, fpir: float | None, k: int
    ) -> Iterator[tuple[str | None, tuple[Candidate, ...], float | None, Threshold | None]]:
        """The first four fields of `Identity` for (Q, P) distances of queries of one form."""
        limit = None if fpir is None else self.threshold(fpir, form)
        sure = self._calibration(form) if self.calibrations_ else None
        among = sure.among(apart) if sure else None
        enrolled = sure.enrolled(apart) if sure and limit else None
        if among is not None and enrolled is not None:
            among = among * enrolled[:, None]
        ids, near = distance.smallest(apart, min(k, apart.shape[1]))
        for i, (people, distances) in enumerate(zip(ids, near, strict=True)):
            chances = [None] * len(people) if among is None else [float(among[i, p]) for p in people]
            candidates = tuple(
                Candidate(self.people_[p], float(d), chance)
                for p, d, chance in zip(people, distances, chances, strict=True)
            )
            nobody = limit is not None and distances[0] > limit.distance
            yield (
                None if nobody else candidates[0].pid,
                candidates,
                None if enrolled is None else float(enrolled[i]),
                limit,
            )

    def _calibration(self, form: str) -> Calibration:
        """That of a form, or else of the other."""
        self._check_fitted()
        if not self.calibrations_:
            raise DataError(
                f"people enrolled: {len(self.people_)}, too few to leave some out as strangers; give impostors, or ask "
                "who it is in a closed set"
            )
        return self.calibrations_.get(form) or next(iter(self.calibrations_.values()))

    def _check_fitted(self) -> None:
        if not self.people_:
            raise DataError("nobody is enrolled yet; call fit with labelled embeddings")

    def _check(self, given: Embeddings, what: str) -> None:
        self._check_fitted()
        if given.model != self.model_:
            raise ModelError(
                f"{what} came from model {model_named(given.model)}, the people enrolled from "
                f"{model_named(self.model_)}; embed both with one"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file that `Identifier.load` reads back without loss. Replaces the file in one step.

        Of the kind nearest it holds the embeddings of everybody's crops, of the others one vector a person.
        """
        self._check_fitted()
        it = stored.Stored(self.kind, self.model_, self.people_, self.learnt_, self.calibrations_, self.across_)
        stored.save(path, it)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identifier:
        """Read what `save` wrote. Nothing in the file is ever unpickled, and its size is checked before it is read.

        Raises:
            DataError: the file is missing, damaged, too large, of another version or something else.
        """
        read = stored.load(path)
        if read.kind not in KINDS:
            raise DataError(f"{path} holds an identifier of kind {read.kind!r}; kinds are {', '.join(KINDS)}")
        made = cls(read.kind)
        made.model_, made.people_, made.learnt_ = read.model, read.people, read.learnt
        made.calibrations_, made.across_ = dict(read.calibrations), read.across
        return made
