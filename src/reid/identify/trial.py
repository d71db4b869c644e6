"""Enrolment tried out: people, or views of them, are left out in turn, and searched for among the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reid.identify.kinds import Learnt
from reid.identify.queries import FORMS, labelled
from reid.metrics import Rows
from reid.protocols import codes
from reid.types import Crop, Embeddings, Vectors

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What was seen of queries of one form whose answers are known; the arguments of `calibrate`, in its order.

    Attributes:
        strange: (S,) distances of people left out from whoever is nearest.
        of_strange: (S,) who they are.
        growth: how many times more people are enrolled in the end than were then.
        own: (Q, P) distances of views left out from everybody.
        of_own: (Q,) who they are.
        own_growth: how many times more there is to find of each in the end than was then; see `_regained`.
    """

    strange: Vectors
    of_strange: Rows
    growth: float
    own: Vectors
    of_own: Rows
    own_growth: float


def try_out(fit: Callable[[Vectors, Rows], Learnt], known: Embeddings, owners: Rows) -> dict[str, Tried]:
    """Leave out people in turn, and views of people, for either form of query."""
    people, enrolled = int(owners.max()) + 1, [0]
    strange: dict[str, list[Vectors]] = {form: [np.empty(0, np.float32)] for form in FORMS}
    own: dict[str, list[Vectors]] = {form: [np.empty((0, people), np.float32)] for form in FORMS}
    of_strange: dict[str, list[Rows]] = {form: [np.empty(0, np.int64)] for form in FORMS}
    of_own: dict[str, list[Rows]] = {form: [np.empty(0, np.int64)] for form in FORMS}
    for out, kept in _without_people(owners):
        learnt = fit(known.vectors[kept], np.unique(owners[kept], return_inverse=True)[1])
        enrolled.append(learnt.people)
        for form in FORMS:
            vectors, first = labelled(known[out], form)
            strange[form].append(learnt.distances(vectors).min(axis=1))
            of_strange[form].append(owners[out][first])
    for out in rotations(known.crops, owners):
        kept = np.setdiff1d(np.arange(len(owners)), out)
        learnt = fit(known.vectors[kept], owners[kept])
        for form in FORMS:
            vectors, first = labelled(known[out], form)
            own[form].append(learnt.distances(vectors))
            of_own[form].append(owners[out][first])
    growth = people / max(1.0, float(np.mean(enrolled[1:] or [people])))
    regained = _regained(known.crops, owners)
    return {
        form: Tried(
            np.concatenate(strange[form]),
            np.concatenate(of_strange[form]),
            growth,
            np.concatenate(own[form]),
            np.concatenate(of_own[form]),
            regained,
        )
        for form in FORMS
    }


def _without_people(owners: Rows) -> Iterator[tuple[Rows, Rows]]:
    """(rows left out, rows kept), everybody out once, and at least two people kept."""
    people = int(owners.max()) + 1
    folds = min(FOLDS, people)
    turn = np.random.default_rng(0).permutation(people) % folds
    for fold in range(folds if people > 2 else 0):
        yield np.flatnonzero(turn[owners] == fold), np.flatnonzero(turn[owners] != fold)


def alarms(learnt: Learnt, impostors: Embeddings, form: str) -> tuple[Vectors, Rows, float]:
    """`Tried.strange`, `of_strange` and `growth` of people who are not enrolled."""
    vectors, first = labelled(impostors, form)
    who = codes([c.pid if c.role == "person" else None for c in impostors.crops])
    return learnt.distances(vectors).min(axis=1, initial=np.inf), who[first], 1.0


def rotations(crops: Sequence[Crop], owners: Rows) -> Iterator[Rows]:
    """Rows to leave out, a view of each person at a time, each view once in at most FOLDS turns.

    A view is what one camera saw of a person where the crops name two; else a tracklet where there are two of those;
    else a crop. Who has one view only is never left out.

    Args:
        crops: N labelled crops.
        owners: (N,) whose each is.
    """
    turn = _turns(crops, owners)
    for fold in range(int(turn.max(initial=-1)) + 1):
        yield np.flatnonzero(turn == fold)


def _turns(crops: Sequence[Crop], owners: Rows) -> Rows:
    """(N,) when each crop is left out, −1 for never."""
    turn = np.full(len(crops), -1)
    for person in np.unique(owners):
        rows = np.flatnonzero(owners == person)
        view = _views([crops[i] for i in rows.tolist()])
        if view.max() > 0:
            turn[rows] = view % FOLDS
    return turn


def _regained(crops: Sequence[Crop], owners: Rows) -> float:
    """How much more of a person there is to find when nothing is left out, on average.

    With one of n views left out it would be n / (n − 1) if views were independent. They resemble one another, so that
    half of the gain is counted, which fits people a model was trained on.
    """
    turn = _turns(crops, owners)
    views = [len(np.unique(turn[owners == person])) for person in np.unique(owners[turn >= 0])]
    return 1 + 0.5 * float(np.mean([1 / (n - 1) for n in views])) if views else 1.0


def _views(theirs: Sequence[Crop]) -> Rows:
    """(N,) the view of each of a person's crops, numbered from 0; what names no camera or tracklet is one view more."""
    for names in ([c.camera for c in theirs], [c.tracklet for c in theirs]):
        if len({name for name in names if name is not None}) > 1:
            found = codes(names)
            return np.where(found < 0, found.max() + 1, found)
    return np.arange(len(theirs))
