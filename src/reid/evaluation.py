"""Evaluation by protocol: which gallery rows count for which query, then the metrics.

To add a protocol, write its rule here and name it in PROTOCOLS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid import metrics
from reid.distance import Metric, blocks, normalise
from reid.errors import DataError, ModelError, ShapeError
from reid.metrics import Rows
from reid.types import Crop, Embeddings, Report, Vectors

if TYPE_CHECKING:
    from reid.rerank import KReciprocal

MAX_RANK = 50
_RANKS = np.arange(MAX_RANK)
Distances = NDArray[np.floating] | Iterable[tuple[slice, Vectors]]


class Sets:
    """Who is in the query and gallery, as integers, and the gallery's rows by person and by camera.

    Equal codes are equal names; −1 is unknown and equal to nothing.
    """

    def __init__(self, query: Sequence[Crop], gallery: Sequence[Crop]):
        both, q = (*query, *gallery), len(query)
        pids = codes([c.pid if c.role == "person" else None for c in both])
        cameras, paths = codes([c.camera for c in both]), codes([c.path for c in both])
        self.pids, self.cameras, self.paths = pids[:q], cameras[:q], paths[:q]
        self.gallery_pids, self.gallery_cameras = pids[q:], cameras[q:]
        self.junk = np.flatnonzero([c.role == "junk" for c in gallery])
        self._people, self._rows_by_camera, self._copies = _Groups(pids[q:]), _Groups(cameras[q:]), _Groups(paths[q:])

    def person(self, i: int) -> Rows:
        """Gallery rows of query i's person."""
        return self._people[self.pids[i]]

    def camera(self, i: int) -> Rows:
        """Gallery rows of query i's camera."""
        return self._rows_by_camera[int(self.cameras[i])]

    def itself(self, i: int) -> Rows:
        """Gallery rows that are query i's own picture."""
        return self._copies[self.paths[i]]


class _Groups:
    """Ascending rows by code."""

    def __init__(self, values: Rows):
        self._order: Rows = np.argsort(values, kind="stable")
        self._starts = np.searchsorted(values[self._order], np.arange(-1, values.max(initial=-1) + 2))

    def __getitem__(self, code: int) -> Rows:
        known = 0 <= code < len(self._starts) - 2
        rows: Rows = self._order[self._starts[code + 1] : self._starts[code + 2]] if known else self._order[:0]
        return rows


def _same_person_same_camera(sets: Sets, i: int) -> Rows:
    person = sets.person(i)
    here = (sets.gallery_cameras[person] == sets.cameras[i]) & (sets.cameras[i] >= 0)
    return np.compress(here, person)


def _same_camera(sets: Sets, i: int) -> Rows:
    return sets.camera(i)


def _nothing(sets: Sets, i: int) -> Rows:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a ranking is judged.

    Attributes:
        ignored: gallery rows taken out for query i, beside junk and the query's own picture.
        about: what it is for, and with which figures it can be compared.
        single_shot: whether CMC is over one gallery crop a person, drawn at random (mAP is over all of them).
    """

    ignored: Callable[[Sets, int], Rows]
    about: str
    single_shot: bool = False


PROTOCOLS: dict[str, Protocol] = {
    "market1501": Protocol(
        _same_person_same_camera,
        "Market-1501 (Zheng et al. 2015), also DukeMTMC-reID, MSMT17 and CUHK03's 767/700 split: the query's person in "
        "the query's camera is taken out; comparable with single-query figures of those data sets",
    ),
    "cuhk03": Protocol(
        _same_person_same_camera,
        "CUHK03's first protocol (Li et al. 2014) and VIPeR: CMC over one gallery crop a person, the exact mean over "
        "all draws; comparable with single-gallery-shot CMC, whose published mAP is over all crops",
        single_shot=True,
    ),
    "cross-camera": Protocol(
        _same_camera,
        "every row of the query's camera is taken out, whoever it shows; easier than market1501, do not compare",
    ),
    "diagonal": Protocol(
        _nothing, "only the query's own picture is taken out, like triplet-reid's `diagonal`; for a single camera"
    ),
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of each query.

    Attributes:
        counted: (V,) queries with a valid match.
        skipped: (S,) queries without one; they enter no figure.
        first: (V,) 0-based rank of the first correct row.
        within: (V, MAX_RANK) probability that a correct row comes within each rank; 0 or 1 unless rows are drawn.
        plain, trapezoid, inp: (V,) average precision by either definition, and inverse negative penalty.
        people: (V,) codes of the counted queries' people.
    """

    counted: Rows
    skipped: Rows
    first: Rows
    within: NDArray[np.float64]
    plain: NDArray[np.float64]
    trapezoid: NDArray[np.float64]
    inp: NDArray[np.float64]
    people: Rows

    def table(self, ranks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """Each metric's value for each counted query, by the metric's name; a metric is the mean."""
        if not all(1 <= r <= MAX_RANK for r in ranks):
            raise ShapeError(f"ranks are {list(ranks)}; they can be 1 to {MAX_RANK}")
        found = {f"rank-{r}": self.within[:, r - 1] for r in ranks}
        return found | {"mAP": self.plain, "mAP-trapezoid": self.trapezoid, "mINP": self.inp}


def evaluate(
    query: Embeddings,
    gallery: Embeddings,
    protocol: str = "market1501",
    metric: Metric = "euclidean",
    ranks: Sequence[int] = (1, 5, 10),
    intervals: bool = False,
    reranking: KReciprocal | None = None,
) -> Report:
    """Rank the gallery for each query and measure how good the rankings are.

    Rows with role "junk" are taken out, "distractor" rows stay and are always wrong, and a crop in both sets (same
    path) is not searched for itself. A query without a valid match is skipped: it enters neither mAP nor CMC. Unknown
    people and cameras are all different from each other. Ties are broken by gallery order.

    Args:
        query, gallery: embedded by the same model.
        protocol: a name from PROTOCOLS.
        metric: how distances are computed.
        ranks: of the CMC.
        intervals: also give 95 % confidence intervals by bootstrap over people.
        reranking: re-rank with these settings first; the report says so.

    Raises:
        ModelError: the two sets come from different models.
        DataError: the protocol is unknown, or no query has a valid match.
    """
    found = distances(query, gallery, reranking, metric)
    report = evaluate_distances(found(), query.crops, gallery.crops, protocol, ranks, intervals)
    return replace(report, reranking=str(reranking)) if reranking else report


def distances(
    query: Embeddings, gallery: Embeddings, reranking: KReciprocal | None = None, metric: Metric = "euclidean"
) -> Callable[[], Distances]:
    """Something that gives the distances of two sets, re-ranked where settings are given, afresh on each call.

    Raises:
        ModelError: the two sets come from different models.
    """
    if query.model != gallery.model:
        raise ModelError("queries and gallery were embedded by different models; embed both with the same one")
    if reranking is None:
        return lambda: blocks(query.vectors, gallery.vectors, metric)
    from reid import rerank  # SciPy's sparse matrices take a while to import

    return lambda: rerank.blocks(query.vectors, gallery.vectors, reranking)


def evaluate_distances(
    found: Distances,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    ranks: Sequence[int] = (1, 5, 10),
    intervals: bool = False,
) -> Report:
    """As `evaluate`, from distances: a (Q, G) matrix, or its rows in blocks as `distance.blocks` yields them."""
    seen = outcomes(found, query, gallery, protocol)
    table = seen.table(ranks)
    bounds = {}
    if intervals:
        drawn = metrics.bootstrap(np.stack(list(table.values()), axis=1), seen.people)
        bounds = {name: (float(low), float(high)) for name, (low, high) in zip(table, drawn, strict=True)}
    return Report(
        {name: float(values.mean()) for name, values in table.items()},
        protocol,
        queries=len(seen.counted),
        skipped=len(seen.skipped),
        gallery=sum(c.role != "junk" for c in gallery),
        intervals=bounds,
    )


def outcomes(
    found: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501"
) -> Outcomes:
    """What became of each query; `evaluate_distances` averages it.

    Raises:
        DataError: the protocol is unknown, or no query has a valid match.
        ShapeError: the distances do not fit the crops, or one is not a number.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol is {protocol!r}; it can be {', '.join(PROTOCOLS)}")
    if isinstance(found, np.ndarray):
        if found.shape != (len(query), len(gallery)):
            raise ShapeError(
                f"distances are {found.shape} for {len(query)} queries and a gallery of {len(gallery)}; "
                "they must be (queries, gallery)"
            )
        found = [(slice(0, len(query)), found)]
    sets, rule = Sets(query, gallery), PROTOCOLS[protocol]
    counted: list[int] = []
    skipped: list[int] = []
    rows: list[Rows] = []
    within: list[NDArray[Any]] = []
    for block_rows, block in found:
        if np.isnan(block).any():
            bad = block_rows.start + int(np.isnan(block).any(axis=1).argmax())
            raise ShapeError(f"a distance of query {bad} ({query[bad].path}) is not a number; compute it again")
        for i, row in enumerate(block, block_rows.start):
            ignored = np.concatenate([sets.junk, rule.ignored(sets, i), sets.itself(i)])
            person = sets.person(i)
            correct = person[~np.isin(person, ignored)]
            if not len(correct):
                skipped.append(i)
                continue
            counted.append(i)
            rows.append(metrics.hits(row, correct, ignored))
            if rule.single_shot:
                within.append(metrics.single_shot(row, correct, ignored, sets.gallery_pids, MAX_RANK))
            else:
                within.append(rows[-1][0] <= _RANKS)
    if not counted:
        raise DataError(
            f"none of the {len(query)} queries has a match in the gallery that the {protocol} protocol counts; "
            "`reid show` explains which people can be evaluated"
        )
    return Outcomes(
        np.array(counted),
        np.array(skipped, dtype=np.int64),
        np.array([h[0] for h in rows]),
        np.array(within, dtype=float),
        np.array([metrics.average_precision(h) for h in rows]),
        np.array([metrics.average_precision_trapezoid(h) for h in rows]),
        np.array([metrics.inverse_negative_penalty(h) for h in rows]),
        sets.pids[counted],
    )


def codes(values: Sequence[str | None]) -> Rows:
    """Names as integers, the same name the same integer; None is −1."""
    known: dict[str, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values], dtype=np.int64)


def hold_out(crops: Sequence[Crop], people: int) -> tuple[list[Crop], list[Crop], list[Crop]]:
    """Split labelled crops by person, for choosing a model: (training, query, gallery).

    The last `people` people in sorted order are held out. Of each, the first crop by path in each camera is a query and
    all others are the gallery.
    """
    named = [c for c in crops if c.pid is not None and c.role == "person"]
    everyone = sorted({c.pid for c in named if c.pid is not None})
    if not 0 <= people <= len(everyone):
        raise DataError(f"{people} people are to be held out of {len(everyone)}; hold out 1 to {len(everyone)}")
    held = set(everyone[-people:] if people else ())
    train = [c for c in named if c.pid not in held]
    query: list[Crop] = []
    gallery: list[Crop] = []
    seen = set()
    for crop in sorted((c for c in named if c.pid in held), key=lambda c: c.path):
        is_first = (crop.pid, crop.camera) not in seen
        seen.add((crop.pid, crop.camera))
        (query if is_first else gallery).append(crop)
    return train, query, gallery


def query_and_gallery(crops: Sequence[Crop], people: int | None = None) -> tuple[list[Crop], list[Crop]]:
    """The queries and the gallery of a data set.

    Where the crops' `split` names queries, those are searched in the gallery, or where there is none, as after a split
    by time, in the training crops. Otherwise, or when a number of people is given, those of `hold_out`: the last so
    many people, or all.
    """
    if people is None:
        split = [c.extra.get("split") for c in crops]
        searched = "gallery" if "gallery" in split else "train"
        if "query" in split and searched in split:
            chosen = [[c for c, s in zip(crops, split, strict=True) if s == name] for name in ("query", searched)]
            return chosen[0], chosen[1]
    _, query, gallery = hold_out(crops, len({c.pid for c in crops if c.pid}) if people is None else people)
    return query, gallery


def halves(crops: Sequence[Crop], seed: int) -> tuple[list[Crop], list[Crop]]:
    """VIPeR's test: a random half of the people, the crops of one camera as queries and all their others as gallery.

    Gray and Tao 2008 repeat this ten times and use each half both ways; average over seeds, and swap the two lists.

    Raises:
        DataError: fewer than two people or two cameras.
    """
    named = [c for c in crops if c.pid is not None and c.camera is not None and c.role == "person"]
    people, cameras = sorted({c.pid for c in named if c.pid}), sorted({c.camera for c in named if c.camera})
    if len(people) < 2 or len(cameras) < 2:
        raise DataError(f"there are {len(people)} people and {len(cameras)} cameras; halves need two of each")
    chosen = set(np.random.default_rng(seed).permutation(people)[: len(people) // 2])
    half = [c for c in named if c.pid in chosen]
    return [c for c in half if c.camera == cameras[0]], [c for c in half if c.camera != cameras[0]]


def pool_tracklets(embeddings: Embeddings) -> Embeddings:
    """One row for each tracklet: the mean of its crops' vectors, at unit length where theirs is, and its first crop.

    As MARS is evaluated (Zheng et al. 2016). Crops without a tracklet keep their row.
    """
    keys = [c.tracklet if c.tracklet is not None else f"\0{i}" for i, c in enumerate(embeddings.crops)]
    _, first, index = np.unique(codes(keys), return_index=True, return_inverse=True)
    sums = np.zeros((len(first), embeddings.vectors.shape[1]))
    np.add.at(sums, index, embeddings.vectors)
    means = sums / np.bincount(index)[:, None]
    unit = np.allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-3)
    crops = tuple(embeddings.crops[i] for i in first)
    return Embeddings((normalise(means) if unit else means).astype(np.float32), crops, embeddings.model)
