"""Evaluation by protocol: which gallery rows count for which query, then the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid import metrics
from reid.data.splits import searched
from reid.distance import Metric, blocks, in_threads, means
from reid.errors import DataError, ModelError, ShapeError
from reid.metrics import Rows
from reid.protocols import PROTOCOLS as PROTOCOLS
from reid.protocols import Protocol as Protocol
from reid.protocols import Sets as Sets
from reid.protocols import codes as codes
from reid.protocols import row_judge as row_judge
from reid.protocols import tracklet_of
from reid.types import Crop, Embeddings, Report, Vectors

if TYPE_CHECKING:
    from reid.rerank import KReciprocal
    from reid.spacetime import TransitionPrior

RANKS = 50  # of the CMC that are kept at least
FEWEST_PEOPLE = 10  # that an interval is drawn from
WIDE = 1 << 15  # gallery rows from which threads help: with fewer they wait for each other's Python
_NONE = np.empty(0, dtype=np.int64)
Distances = NDArray[np.floating] | Iterable[tuple[slice, Vectors]]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of each query.

    Attributes:
        counted: (V,) queries with a valid match.
        skipped: (S,) queries without one; they enter no figure.
        first: (V,) 0-based rank of the first correct row.
        within: (V, R) probability that a correct row comes within each rank; 0 or 1 unless rows are drawn.
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
        most = self.within.shape[1]
        if list(ranks) != sorted(set(ranks)) or min(ranks, default=1) < 1:
            raise ShapeError(f"ranks are {list(ranks)}; they must ascend, each once, from 1 on")
        if max(ranks, default=1) > most:
            raise ShapeError(f"ranks are {list(ranks)}, of outcomes up to rank {most}; ask `outcomes` for more")
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
    prior: TransitionPrior | None = None,
) -> Report:
    """Rank the gallery for each query and measure how good the rankings are.

    Rows with role "junk" are taken out, "distractor" rows stay and are always wrong, and a crop in both sets (same
    path) is not searched for itself. A query without a valid match is skipped: it enters neither mAP nor CMC. Unknown
    people and cameras are all different from each other. Ties are broken by gallery order.

    Args:
        query, gallery: embedded by the same model.
        protocol: a name from PROTOCOLS.
        metric: how distances are computed.
        ranks: of the CMC, any.
        intervals: also give 95 % confidence intervals by bootstrap over people, where there are 10 or more.
        reranking: re-rank with these settings first; the report says so.
        prior: also go by when and where; its weight says with which metric. The report says so.

    Raises:
        ModelError: the two sets come from different models, or the prior's weight was fitted for another.
        DataError: the protocol is unknown, no query has a valid match, or the prior has no weight that fits.
    """
    found = distances(query, gallery, reranking, metric, prior)
    report = evaluate_distances(found(), query.crops, gallery.crops, protocol, ranks, intervals)
    return replace(report, reranking=changes(query.crops, reranking, prior))


def distances(
    query: Embeddings,
    gallery: Embeddings,
    reranking: KReciprocal | None = None,
    metric: Metric = "euclidean",
    prior: TransitionPrior | None = None,
) -> Callable[[], Distances]:
    """Something that gives the distances of two sets, afresh on each call; a block is gone when the next one comes.

    With a prior they are the visual ones plus its penalty. With a prior and re-ranking, that sum is what neighbours are
    looked for by: somebody who cannot have been there in time never gets among them.

    Raises:
        ModelError: the two sets come from different models.
    """
    if query.model != gallery.model:
        raise ModelError("queries and gallery were embedded by different models; embed both with the same one")
    if reranking is None:
        return lambda: (
            prior.blocks(query, gallery) if prior else blocks(query.vectors, gallery.vectors, metric, reuse=True)
        )
    from reid import rerank  # SciPy's sparse matrices take a while to import

    extra = prior.in_graph(query, gallery) if prior else None
    return lambda: rerank.blocks(query.vectors, gallery.vectors, reranking, extra)


def changes(query: Sequence[Crop], reranking: KReciprocal | None = None, prior: TransitionPrior | None = None) -> str:
    """How distances were changed before they were measured, for `Report.reranking`; empty where they were not."""
    parts = [str(reranking)] if reranking else []
    if prior:
        known = len(prior.learnt_from & {c.pid for c in query if c.pid is not None})
        leak = f", learnt from {known:,} of the people searched for, so that figures are too good" if known else ""
        parts.append(f"a {prior}{leak}")
    return " on distances with ".join(parts)


def evaluate_distances(
    found: Distances,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    ranks: Sequence[int] = (1, 5, 10),
    intervals: bool = False,
) -> Report:
    """As `evaluate`, from distances: a (Q, G) matrix, or its rows in blocks as `distance.blocks` yields them."""
    return summary(
        outcomes(found, query, gallery, protocol, max(ranks, default=1)), gallery, protocol, ranks, intervals
    )


def summary(
    seen: Outcomes,
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    ranks: Sequence[int] = (1, 5, 10),
    intervals: bool = False,
) -> Report:
    """The report of some outcomes. Intervals are left out where the queries show fewer than FEWEST_PEOPLE people."""
    table = seen.table(ranks)
    people, bounds = len(np.unique(seen.people)), {}
    if intervals and people >= FEWEST_PEOPLE:
        drawn = metrics.bootstrap(np.stack(list(table.values()), axis=1), seen.people)
        bounds = {name: (float(low), float(high)) for name, (low, high) in zip(table, drawn, strict=True)}
    return Report(
        {name: float(values.mean()) for name, values in table.items()},
        protocol,
        queries=len(seen.counted),
        skipped=len(seen.skipped),
        gallery=sum(c.role != "junk" for c in gallery),
        intervals=bounds,
        people=people,
    )


def outcomes(
    found: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501", ranks: int = RANKS
) -> Outcomes:
    """What became of each query; `evaluate_distances` averages it. CMC is kept up to `ranks`, and RANKS at least.

    Raises:
        DataError: the protocol is unknown or asks for cameras that no query names, or no query has a valid match.
        ShapeError: the distances do not fit the crops, or one is not a number.
    """
    sets, judged = row_judge(query, gallery, protocol)
    if protocol == "cross-camera" and not any(crop.camera for crop in query):
        raise DataError(
            "the cross-camera protocol takes out what the query's camera saw, and no query names its camera; give "
            "cameras, or evaluate with the diagonal protocol"
        )
    hits: list[Rows] = [_NONE] * len(query)
    within = np.zeros((len(query), max(ranks, RANKS)))

    def measure(first: int, block: NDArray[np.floating], some: slice) -> None:
        for i, row in enumerate(block[some], first + some.start):
            correct, ignored = judged(i)
            if not len(correct):
                continue
            ignored = np.concatenate([sets.junk, ignored])
            hits[i] = metrics.hits(row, correct, ignored)
            if PROTOCOLS[protocol].single_shot:
                within[i] = metrics.single_shot(row, correct, ignored, sets.gallery_pids, within.shape[1])
            else:
                within[i, hits[i][0] :] = 1

    for first, block in rows_of(found, query, gallery):
        if len(gallery) >= WIDE:
            in_threads(partial(measure, first, block), len(block))
        else:
            measure(first, block, slice(0, len(block)))
    counted = np.flatnonzero([len(h) for h in hits])
    if not len(counted):
        raise unmatched(query, gallery, protocol)
    kept = [hits[i] for i in counted]
    return Outcomes(
        counted,
        np.setdiff1d(np.arange(len(query)), counted),
        np.array([h[0] for h in kept]),
        within[counted],
        np.array([metrics.average_precision(h) for h in kept]),
        np.array([metrics.average_precision_trapezoid(h) for h in kept]),
        np.array([metrics.inverse_negative_penalty(h) for h in kept]),
        sets.pids[counted],
    )


def unmatched(query: Sequence[Crop], gallery: Sequence[Crop], protocol: str) -> DataError:
    """What to say where no query can be counted: why not."""
    asked, there = ({c.pid for c in side if c.pid is not None and c.role == "person"} for side in (query, gallery))
    if not asked or not there:
        return _nobody("" if not asked and not there else " in the gallery" if asked else " among the queries")
    if not asked & there:
        return DataError(
            f"nobody is both among the queries (such as {min(asked)}) and in the gallery (such as {min(there)}); name "
            "people alike in both"
        )
    if protocol == "diagonal":
        return DataError("a query's own picture is all that the gallery has of its person; add crops of these people")
    cameras = {c.camera for c in (*query, *gallery) if c.role == "person" and c.pid in asked & there}
    where = (
        f"all crops are from camera {min(map(str, cameras))}"
        if len(cameras - {None}) == len(cameras) == 1
        else ("everybody is in one camera or one picture only")
    )
    return DataError(
        f"{where}, and the {protocol} protocol takes out what the query's own camera saw; add crops of these people "
        "from another camera, or evaluate with the diagonal protocol"
    )


def _nobody(where: str = "") -> DataError:
    return DataError(
        f"nobody is named{where}, so there is nobody to search for; name people, in a table with a column pid or by a "
        "folder for each"
    )


def rows_of(
    found: Distances, query: Sequence[Crop], gallery: Sequence[Crop]
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Distances a few rows at a time, checked: pairs of (the first row's query, (q, G) distances).

    Raises:
        ShapeError: they do not fit the crops, a query comes twice or not at all, or one is not a number.
    """
    if isinstance(found, np.ndarray):
        found = [(slice(0, len(query)), found)]
    seen = np.zeros(len(query), dtype=bool)
    for rows, block in found:
        first, last, _ = rows.indices(len(query))
        if block.shape != (last - first, len(gallery)) or seen[first:last].any():
            whole = block.shape if last - first == len(query) else f"{block.shape} from query {first} on"
            raise ShapeError(
                f"distances are {whole}, for {len(query)} queries and a gallery of {len(gallery)}; they must be "
                "(queries, gallery), and each query come once"
            )
        seen[first:last] = True
        if block.dtype.kind == "f" and np.isnan(block.max(initial=-np.inf)):
            bad = first + int(np.isnan(block).any(axis=1).argmax())
            raise ShapeError(f"a distance of query {bad} ({query[bad].path}) is not a number; compute it again")
        yield first, block
    if not seen.all():
        raise ShapeError(f"queries without distances: {(~seen).sum()} of {len(query)}; give those of all")


def hold_out(crops: Sequence[Crop], people: int) -> tuple[list[Crop], list[Crop], list[Crop]]:
    """Split labelled crops by person, for choosing a model: (training, query, gallery).

    The last `people` people in sorted order are held out. Of each, the first crop by path in each camera is a query and
    all others are the gallery.
    """
    named = [c for c in crops if c.pid is not None and c.role == "person"]
    everyone = sorted({c.pid for c in named if c.pid is not None})
    if not 0 <= people <= len(everyone):
        raise _not_so_many(people, len(everyone))
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


def _not_so_many(people: int, everyone: int) -> DataError:
    return DataError(f"people to be held out: {people}, of {everyone}; hold out 1 to {everyone}")


def protocol_for(query: Sequence[Crop], gallery: Sequence[Crop]) -> str:
    """The protocol for people held out: Market-1501's where somebody was seen by two cameras, else "diagonal".

    Raises:
        DataError: nobody has two crops.
    """
    shown: dict[str | None, list[Crop]] = {}
    for crop in gallery:
        shown.setdefault(crop.pid, []).append(crop)
    pairs = [(a, b) for a in query for b in shown.get(a.pid, ()) if a.path != b.path]
    if not pairs:
        raise DataError(
            f"people held out: {len({crop.pid for crop in query})}, none of whom has two crops, so nothing can be "
            "validated; hold out others, or nobody"
        )
    across = any(None not in (a.camera, b.camera) and a.camera != b.camera for a, b in pairs)
    return "market1501" if across else "diagonal"


def query_and_gallery(crops: Sequence[Crop], people: int | None = None) -> tuple[list[Crop], list[Crop]]:
    """The queries and the gallery of a data set.

    Where the crops' `split` names queries, those are searched in the gallery, or where there is none, as after a split
    by time, in the training crops. Otherwise, or when a number of people is given, those of `hold_out`: the last so
    many people, or all.

    Raises:
        DataError: nobody is named, so many people cannot be held out, or the splits are misspelt or half there.
    """
    if people is None and (part := searched(crops)):
        query, gallery = ([c for c in crops if c.extra.get("split") == name] for name in ("query", part))
        return query, gallery
    everyone = len({c.pid for c in crops if c.pid is not None and c.role == "person"})
    if not everyone:
        raise _nobody()
    if people is not None and people < 1:
        raise _not_so_many(people, everyone)
    _, query, gallery = hold_out(crops, everyone if people is None else people)
    return query, gallery or query


def halves(crops: Sequence[Crop], seed: int) -> tuple[list[Crop], list[Crop]]:
    """VIPeR's test: a random half of the people, the crops of one camera as queries and all their others as gallery.

    Gray and Tao 2008 repeat this ten times and use each half both ways; average over seeds, and swap the two lists.

    Raises:
        DataError: fewer than two people or two cameras.
    """
    named = [c for c in crops if c.pid is not None and c.camera is not None and c.role == "person"]
    people, cameras = sorted({c.pid for c in named if c.pid}), sorted({c.camera for c in named if c.camera})
    if len(people) < 2 or len(cameras) < 2:
        raise DataError(f"people: {len(people)}, cameras: {len(cameras)}; halves need two of each")
    chosen = set(np.random.default_rng(seed).permutation(people)[: len(people) // 2])
    half = [c for c in named if c.pid in chosen]
    return [c for c in half if c.camera == cameras[0]], [c for c in half if c.camera != cameras[0]]


def evaluate_halves(
    made: Embeddings, draws: int = 10, protocol: str = "cuhk03", ranks: Sequence[int] = (1, 5, 10)
) -> Report:
    """VIPeR's test (Gray and Tao 2008): random halves of the people, each used both ways; the mean of all.

    Args:
        made: all crops, embedded.
        draws: how many halves; the same ones on each call.
        protocol: a name from PROTOCOLS.
        ranks: of the CMC.

    Returns:
        The mean of each metric over 2 · draws evaluations, the queries of all of them, and the gallery and people of
        one. There are no intervals: halves overlap.

    Raises:
        DataError: fewer than two people or two cameras, or draws is below 1.
    """
    if draws < 1:
        raise DataError(f"halves are to be drawn {draws} times; draw at least 1")
    row = {crop.path: i for i, crop in enumerate(made.crops)}
    reports = []
    for seed in range(draws):
        query, gallery = (made[[row[crop.path] for crop in side]] for side in halves(made.crops, seed))
        reports += [evaluate(*pair, protocol, ranks=ranks) for pair in ((query, gallery), (gallery, query))]
    mean = {name: float(np.mean([r.metrics[name] for r in reports])) for name in reports[0].metrics}
    counted, skipped = sum(r.queries for r in reports), sum(r.skipped for r in reports)
    return replace(reports[0], metrics=mean, queries=counted, skipped=skipped)


def pool_tracklets(embeddings: Embeddings) -> Embeddings:
    """One row for each tracklet: the mean of its crops' vectors, at unit length where theirs is, and its first crop.

    As MARS is evaluated (Zheng et al. 2016). Crops without a tracklet keep their row; tracklets of one name in two
    cameras are two.
    """
    keys = [tracklet_of(crop) or f"\0{i}" for i, crop in enumerate(embeddings.crops)]
    _, first, index = np.unique(codes(keys), return_index=True, return_inverse=True)
    crops = tuple(embeddings.crops[i] for i in first)
    return Embeddings(means(embeddings.vectors, index), crops, embeddings.model)
