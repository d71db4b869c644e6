"""Open-set search: is this anybody we know, and who?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.errors import DataError
from reid.evaluation import Distances
from reid.roc import curve
from reid.roc.cast import Cast, Floats, Weighting, few_rows
from reid.types import Crop, Vectors

FALSE_ALARMS = (1e-1, 1e-2, 1e-3)
ENOUGH = 100  # searches for strangers


@dataclass(frozen=True, slots=True)
class Alarm:
    """The highest threshold whose FPIR is at most what was asked for, and what happens there.

    Attributes:
        asked: the FPIR that may not be passed.
        threshold: a distance.
        fpir: the one that is reached; 0 says that so small a rate cannot be shown with so few searches.
        fnir, fnir_rank1: as in OpenSet.
        spread: standard deviation of fnir over the draws.
    """

    asked: float
    threshold: float
    fpir: float
    fnir: float
    fnir_rank1: float
    spread: float


@dataclass(frozen=True, slots=True, eq=False)
class OpenSet:
    """How well a watch list finds those who are on it and leaves the others alone (ISO/IEC 19795-1, NIST's FRVT 1:N).

    With d⁺ the distance of a mated search's nearest row of its own person and d⁻ that of a search's nearest row of
    anyone else, the rates at threshold t are shares of searches:

        FPIR(t)    = share of non-mated searches with d⁻ ≤ t
        FNIR(t)    = share of mated searches with d⁺ > t, at whatever rank the person comes
        FNIR(1, t) = share of mated searches with d⁺ > t or d⁺ ≥ d⁻: not found, or not the nearest of all

    A person who is as near as someone else is not the nearest. An infinite distance is never found.

    Attributes:
        protocol, weighting: how it was measured; by "person" a search weighs 1 / (its person's searches of its kind).
        mated, strangers: searches of either kind, the mean over draws.
        enrolled: people on the watch list, without distractors, which are on it too.
        draws: how often people were un-enrolled; 0 where there are strangers enough.
        thresholds: (T,) ascending distances, a thousand at most.
        fpir, fnir, fnir_rank1: (T,) at each.
        at: for an FPIR of 0.1, 0.01 and 0.001.
    """

    protocol: str
    weighting: Weighting
    mated: float
    strangers: float
    enrolled: int
    draws: int
    thresholds: Floats
    fpir: Floats
    fnir: Floats
    fnir_rank1: Floats
    at: tuple[Alarm, ...]


def open_set(
    distances: Distances,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    weighting: Weighting = "person",
    unenrolled: float = 0.5,
    draws: int = 10,
) -> OpenSet:
    """Measure search with a threshold where the person may not be in the gallery.

    A search is mated where the gallery has a row of the query's person that counts. The others are searches for
    strangers; where they are fewer than 100, a random share of the people who are searched for and enrolled is taken
    out of the gallery, several times, always the same, and each rate is the mean over these draws at one threshold.

    Args:
        distances: a (Q, G) matrix, or its rows in blocks as `distance.blocks` yields them; taken as float32.
        query, gallery: Q and G crops.
        protocol: a name from PROTOCOLS.
        weighting: "person", or "pair" for all searches alike.
        unenrolled: the share, at least one person and not all; 0 to enrol all in any case.
        draws: how often.

    Raises:
        DataError: an argument that cannot be, no mated search, or no stranger.
        ShapeError: the distances do not fit the crops, or one is not a number.
    """
    if not 0 <= unenrolled < 1 or draws < 1:
        raise DataError(
            f"the share un-enrolled is {unenrolled} in {draws} draws; it must be at least 0 and below 1, in at least 1"
        )
    cast = Cast(query, gallery, protocol, weighting)
    enrolled, drawn = enrolments(cast, unenrolled, draws)
    own, other = np.full(len(query), np.inf), np.full((len(enrolled), len(query)), np.inf)
    nearest = _Nearest(cast)
    for first, block in few_rows(distances, query, gallery):
        nearest.find(first, block, enrolled, own, other)
    return _measure(cast, protocol, enrolled, drawn, own, other)


def enrolments(cast: Cast, share: float, draws: int) -> tuple[NDArray[np.bool_], int]:
    """(D, people + 1) who is on the watch list in each draw, all distractors as one; and how many draws that is."""
    strangers = int(((cast.query >= 0) & (cast.right == 0)).sum())
    searched = np.unique(cast.query[cast.right > 0])
    all_in = np.ones((1, cast.people + 1), dtype=bool)
    if strangers >= ENOUGH or share == 0 or len(searched) == 1:
        if not strangers:
            raise DataError(
                "everyone who is searched for is in the gallery; give queries of other people, or let open_set "
                "un-enrol some of several people"
            )
        return all_in, 0
    count = min(max(1, round(share * len(searched))), len(searched) - 1)
    rng = np.random.default_rng(0)
    enrolled = np.repeat(all_in, draws, axis=0)
    for row in enrolled:
        row[rng.choice(searched, count, replace=False)] = False
    return enrolled, draws


class _Nearest:
    """Each query's nearest row of its own person and of anyone else who is enrolled."""

    def __init__(self, cast: Cast):
        self._cast = cast
        group = np.minimum(cast.gallery, cast.people)
        self._order = np.argsort(group, kind="stable")[(group < 0).sum() :]
        self._group, self._starts = np.unique(group[self._order], return_index=True)
        self._place = np.full(len(group), -1)
        self._place[self._order] = np.arange(len(self._order))

    def find(self, first: int, block: Vectors, enrolled: NDArray[np.bool_], own: Floats, other: Floats) -> None:
        """Fill in own (Q,) and other (D, Q) for the queries of a block."""
        rows = slice(first, first + len(block))
        near = np.take(block, self._order, axis=1)
        for i, row in enumerate(near, first):
            place = self._place[self._cast.rows(i)[1]]
            row[place[place >= 0]] = np.inf
        near = np.minimum.reduceat(near, self._starts, axis=1)
        who = self._cast.query[rows]
        column = np.minimum(np.searchsorted(self._group, who), len(self._group) - 1)
        known = np.flatnonzero((self._group[column] == who) & (who < self._cast.people))
        own[first + known] = near[known, column[known]]
        near[known, column[known]] = np.inf
        for found, listed in zip(other, enrolled, strict=True):
            found[rows] = near[:, listed[self._group]].min(axis=1, initial=np.inf)


def _measure(cast: Cast, protocol: str, enrolled: NDArray[np.bool_], drawn: int, own: Floats, other: Floats) -> OpenSet:
    mated = (cast.right > 0) & enrolled[:, np.minimum(cast.query, cast.people)]
    strangers = (cast.query >= 0) & ~mated
    of_mated, of_strangers = (_shares(cast, kind) for kind in (mated, strangers))
    own = np.broadcast_to(own, other.shape)
    alarms, fpir_after = _steps(other, of_strangers)
    next_alarm = alarms[np.searchsorted(fpir_after, np.array(FALSE_ALARMS) * curve.ROUNDING, side="right") - 1]
    asked = np.nextafter(next_alarm.astype(np.float32), np.float32(-np.inf)).astype(np.float64)

    def rates(thresholds: Floats) -> Floats:
        """(T, 3) FPIR, FNIR and FNIR at rank 1."""
        first = np.where(own < other, own, np.inf)
        kinds = ((other, of_strangers), (own, of_mated), (first, of_mated))
        found = [_at_most(thresholds, *_steps(values, weights)) for values, weights in kinds]
        return np.stack([found[0], 1 - found[1], 1 - found[2]], axis=1)

    seen = np.concatenate([asked, other[strangers], own[mated]]).astype(np.float32)
    seen = np.unique(seen[np.isfinite(seen)])
    thresholds = np.append(np.nextafter(seen[0], np.float32(-np.inf)), seen).astype(np.float64)
    whole = rates(thresholds)
    shown = curve.thin(whole[:, 0], whole[:, 1])
    spread = [float((of_mated * (own > t)).sum(axis=1).std()) for t in asked]
    at = np.column_stack([FALSE_ALARMS, asked, rates(asked), spread]).tolist()
    return OpenSet(
        protocol=protocol,
        weighting=cast.weighting,
        mated=float(mated.sum(axis=1).mean()),
        strangers=float(strangers.sum(axis=1).mean()),
        enrolled=int((enrolled[:, :-1] & cast.listed).sum(axis=1).mean()),
        draws=drawn,
        thresholds=thresholds[shown],
        fpir=whole[shown, 0],
        fnir=whole[shown, 1],
        fnir_rank1=whole[shown, 2],
        at=tuple(Alarm(*row) for row in at),
    )


def _shares(cast: Cast, chosen: NDArray[np.bool_]) -> Floats:
    """(D, Q) how much each chosen search weighs in its draw; 0 for the others."""
    weights = np.stack([cast.even(np.where(row, cast.query, -1)) for row in chosen])
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _steps(distances: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Ascending distances of the searches that weigh something, and the share of weight before each and after all."""
    counted = weights > 0
    order = np.argsort(distances[counted])
    return distances[counted][order], curve.rising(weights[counted][order])


def _at_most(thresholds: Floats, distances: Floats, shares: Floats) -> Floats:
    return shares[np.searchsorted(distances, thresholds, side="right")]
