"""Our prior: a bounded, shrunken likelihood ratio of transition times, and how much it weighs beside looks."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from reid import distance, evaluation
from reid.disk import replacing
from reid.distance import Metric
from reid.errors import DataError, ModelError, ShapeError
from reid.spacetime.axis import Axis, Lookup
from reid.spacetime.sightings import Floats, sightings, tells, where_when
from reid.types import Crop, Embeddings, Vectors
from reid.wording import model_named

LIMIT = 5.0
BANDWIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8)
WEIGHTS = 2 ** np.arange(-6, 3.1, 0.25)  # visual standard deviations per nat
FORMAT, VERSION = "reid transition prior", 1
_FOLDS, _NAMED = 10, 10


@dataclass(frozen=True, slots=True, eq=False)
class TransitionPrior:
    """How much likelier a time between two cameras is for one person than for two: a bounded log-likelihood ratio.

    For cameras a and b and a signed difference of times t it holds

        ln( (n(t) + 1) / (N·s(t) + 1) )

    where N people were seen by both cameras, n(t) of them about t apart, and N·s(t) would be expected if those at b
    were strangers to those at a. "About" is a Gaussian window on `Axis`, whose width is the one under which the times
    of people left out, a tenth of them in turn, are likeliest. Each person counts once per pair of cameras, spread
    over the differences of all their crops there. The added ones are a stranger's worth of doubt: the posterior mean
    of the ratio of two Poisson rates under a Gamma(1, 1) prior. So a ratio learnt from little is close to 1, and 0 is
    the value, neither for nor against, of a pair of cameras that share nobody or of which one was never seen, of a
    time beyond all that were seen, and of a crop without camera or time.

    It is 0 within one camera too: there, times tell the frames of one passage from the next, which is no evidence for
    the question asked, where else a person was seen; and who passes together cannot be told apart.

    `weighted` fits how much a nat of it is worth in visual distance. That holds for one model and one metric.

    Attributes:
        cameras: C names.
        axis: of the time differences.
        log_ratios: (C, C, len(axis)) float32, in [−limit, limit]; from camera [i] to [j] at t = from [j] to [i] at −t.
        people: (C, C) how many people each pair was learnt from.
        bandwidth: of the window, in the axis's own unit.
        limit: of the log-ratio.
        weight: visual distance per nat, None until fitted.
        model, metric: what the weight was fitted for.
        learnt_from: the people behind the ratios, by name. Nobody who is searched for may be among them.
    """

    cameras: tuple[str, ...]
    axis: Axis
    log_ratios: Vectors
    people: NDArray[np.int64]
    bandwidth: float
    limit: float = LIMIT
    weight: float | None = None
    model: str | None = None
    metric: Metric = "euclidean"
    learnt_from: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        count = len(self.cameras)
        if self.log_ratios.shape != (count, count, len(self.axis)) or self.people.shape != (count, count):
            raise ShapeError(
                f"log-ratios are {self.log_ratios.shape} and people {self.people.shape} for {count} cameras and "
                f"{len(self.axis)} bins; they must be (cameras, cameras, bins) and (cameras, cameras)"
            )
        if not 0 < self.limit < math.inf or not (np.abs(self.log_ratios) <= self.limit).all():
            raise ShapeError(
                f"the limit is {self.limit} and a log-ratio may lie beyond it; the limit must be a number above 0 and "
                "log-ratios within ± limit"
            )
        if self.weight is not None and not 0 <= self.weight < math.inf:
            raise ShapeError(f"the weight is {self.weight}; it must be a finite number, at least 0")
        if not all(isinstance(name, str) for name in self.cameras) or self.metric not in get_args(Metric):
            raise ShapeError(
                f"cameras are {self.cameras} and the metric is {self.metric!r}; cameras go by names, and the metric "
                f"can be {', '.join(get_args(Metric))}"
            )

    @classmethod
    def fit(cls, crops: Sequence[Crop], limit: float = LIMIT) -> TransitionPrior:
        """Learn from training people. Crops without person, camera or time say nothing and are left out.

        Raises:
            DataError: nobody was seen by two cameras at known times.
        """
        cameras, people = sightings(crops)
        pairs = sorted({(a, b) for person in people for a in person for b in person if a < b})
        if not pairs:
            raise DataError(
                f"people seen by two cameras at known times: none of {len(people)}; a prior on transitions needs crops "
                "that name person, camera and time"
            )
        every = np.concatenate([times for person in people for times in person.values()])
        axis = Axis.reaching(float(np.ptp(every)))
        same = _same(people, pairs, axis)
        strangers = _strangers(people, pairs, axis, same.sum(axis=0))
        bandwidth = max(BANDWIDTHS, key=lambda width: _held_out_likelihood(same, strangers, axis, width))
        ratios = np.log(_ratio(same.sum(axis=0), strangers, axis, bandwidth)).clip(-limit, limit)
        ratios = np.trunc(ratios * 1e4) / 1e4  # as many digits as the file holds
        ratios[:, [0, -1]] = 0
        table = np.zeros((len(cameras), len(cameras), len(axis)), dtype=np.float32)
        counts = np.zeros((len(cameras), len(cameras)), dtype=np.int64)
        for (a, b), row, n in zip(pairs, ratios, same.sum(axis=(0, 2)).round(), strict=True):
            table[a, b], table[b, a] = row, row[::-1]
            counts[a, b] = counts[b, a] = n
        names = frozenset(str(crop.pid) for crop in crops if tells(crop))
        return cls(cameras, axis, table, counts, bandwidth, limit, learnt_from=names)

    def __str__(self) -> str:
        weight = "without a weight" if self.weight is None else f"weight {self.weight:.3g}, {self.metric} distances"
        return f"space-time prior of {len(self.learnt_from):,} people ({weight})"

    def between(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Lookup:
        """Log-ratios of Q × G pairs, for looking up some at a time; above 0 the times speak for the same person."""
        table = np.pad(self.log_ratios, ((0, 1), (0, 1), (0, 0)))
        return Lookup(self.axis, table, where_when(query, self.cameras), where_when(gallery, self.cameras))

    def penalty(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Lookup:
        """What to add to visual distances: weight · (limit − log-ratio), at least 0."""
        if self.weight is None:
            raise DataError("the prior has no weight yet; fit it with `weighted` on people it was not learnt from")
        ratios = self.between(query, gallery)
        return replace(ratios, table=np.float32(self.weight) * (np.float32(self.limit) - ratios.table))

    def log_ratio(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Vectors:
        """(Q, G) log-ratios."""
        return self.between(query, gallery).block(slice(None))

    def blocks(self, query: Embeddings, gallery: Embeddings) -> Iterator[tuple[slice, Vectors]]:
        """As `distance.blocks`: visual distance + weight · (limit − log-ratio).

        Raises:
            DataError: the prior has no weight yet, or no crop has a camera that it knows, and a time.
            ModelError: the weight was fitted for another model.
        """
        penalty = self.penalty(query.crops, gallery.crops)
        self._check(query, gallery)
        for rows, block in distance.blocks(query.vectors, gallery.vectors, self.metric):
            block += penalty.block(rows)
            yield rows, block

    def in_graph(self, query: Embeddings, gallery: Embeddings) -> Lookup:
        """The penalty between all Q + G crops, queries first: what `rerank.blocks` adds before it looks for neighbours.

        Raises:
            DataError: the prior has no weight yet, or not one for squared distances, which re-ranking is about; or no
                crop has a camera that it knows, and a time.
            ModelError: the weight was fitted for another model.
        """
        self._check(query, gallery)
        if self.metric != "squared":
            raise DataError(
                f"the prior's weight was fitted for {self.metric} distances and re-ranking takes squared ones; fit it "
                'again with `weighted(…, metric="squared")`'
            )
        every = (*query.crops, *gallery.crops)
        return self.penalty(every, every)

    def _check(self, *sets: Embeddings) -> None:
        for made in sets:
            if made.model != self.model:
                raise ModelError(
                    f"the embeddings come from model {model_named(made.model)} and the prior's weight was fitted for "
                    f"model {model_named(self.model or 'none')}; fit it again with `reid prior`"
                )
            cameras = {str(c.camera) for c in made.crops if c.camera is not None and c.time is not None}
            if len(made) and not cameras:
                raise DataError(
                    f"the prior goes by camera and time, and none of {len(made):,} crops has both; give them, or leave "
                    "the prior out"
                )
            if len(made) and cameras.isdisjoint(self.cameras):
                raise DataError(
                    f"the prior knows none of these cameras ({_some(cameras)}), it knows {_some(self.cameras)}; name "
                    "cameras alike, or learn it again with `reid prior`"
                )

    def weighted(
        self, query: Embeddings, gallery: Embeddings, metric: Metric = "euclidean", protocol: str = "market1501"
    ) -> TransitionPrior:
        """The prior with a weight from `fit_weight`, fitted on people that it has not learnt from."""
        if query.model != gallery.model:
            raise ModelError("queries and gallery were embedded by different models; embed both with the same one")
        visual = distance.pairwise(query.vectors, gallery.vectors, metric)
        ratios = self.log_ratio(query.crops, gallery.crops)
        weight = fit_weight(visual, ratios, query.crops, gallery.crops, protocol)
        return replace(self, weight=weight, model=query.model, metric=metric)

    def curve(self, camera_a: str, camera_b: str) -> tuple[Floats, Floats]:
        """(len(axis),) seconds from camera a to camera b, and the likelihood ratio of each, for plotting.

        Raises:
            DataError: the prior does not know one of the cameras.
        """
        for name in (camera_a, camera_b):
            if name not in self.cameras:
                raise DataError(f"the prior knows no camera {name!r}; it knows {', '.join(self.cameras)}")
        row = self.log_ratios[self.cameras.index(camera_a), self.cameras.index(camera_b)]
        return self.axis.seconds(np.arange(len(self.axis))), np.exp(row.astype(np.float64))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON that `TransitionPrior.load` reads back without loss. Replaces the file in one step."""
        pairs = [
            {"from": a, "to": b, "people": int(self.people[i, j]), "log_ratio": [round(float(v), 4) for v in row]}
            for i, a in enumerate(self.cameras)
            for j, b in enumerate(self.cameras)
            if i < j and (row := self.log_ratios[i, j]).any() | self.people[i, j]
        ]
        head = {"format": FORMAT, "version": VERSION, "cameras": self.cameras}
        axis = {"scale": self.axis.scale, "step": self.axis.step, "half": self.axis.half}
        rest = {k: getattr(self, k) for k in ("bandwidth", "limit", "weight", "model", "metric")}
        people = {"learnt_from": sorted(self.learnt_from)}
        text = json.dumps(head | {"axis": axis} | rest | people | {"pairs": pairs}, indent=1)
        with replacing(path) as partial:
            partial.write_text(re.sub(r"\n +(?=-?\d)", " ", text), encoding="utf-8")  # numbers side by side

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TransitionPrior:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged, of another version or something else.
        """
        try:
            with open(path, encoding="utf-8") as file:
                read = json.load(file)
            if (read["format"], read["version"]) != (FORMAT, VERSION):
                raise ShapeError(f"it says {read['format']!r} {read['version']}, not {FORMAT!r} {VERSION}")
            axis = Axis(**read["axis"])
            names = {name: i for i, name in enumerate(read["cameras"])}
            if len(names) < len(read["cameras"]):
                raise ShapeError("it names a camera twice")
            table = np.zeros((len(names), len(names), len(axis)), dtype=np.float32)
            people = np.zeros((len(names), len(names)), dtype=np.int64)
            for pair in read["pairs"]:
                a, b = names[pair["from"]], names[pair["to"]]
                row = np.array(pair["log_ratio"], dtype=np.float32)
                if row.shape != (len(axis),):
                    raise ShapeError(f"from {pair['from']} to {pair['to']} it has {row.size} values, not {len(axis)}")
                table[a, b], table[b, a] = row, row[::-1]
                people[a, b] = people[b, a] = pair["people"]
            rest = {k: read[k] for k in ("bandwidth", "limit", "weight", "model", "metric")}
            taught = read["learnt_from"]
            if not isinstance(taught, list) or not all(isinstance(name, str) for name in taught):
                raise ShapeError("the people it was learnt from are not a list of names")
            return cls(tuple(names), axis, table, people, **rest, learnt_from=frozenset(taught))
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; give a file that `reid prior` wrote") from None
        except KeyError as error:
            raise DataError(f"{path} is not a readable prior (no {error}); learn it again") from None
        except (ValueError, TypeError, OSError) as error:
            raise DataError(f"{path} is not a readable prior ({error}); learn it again") from None


def fit_weight(
    visual: Vectors,
    log_ratio: Vectors,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
) -> float:
    """The weight under which visual − weight · log_ratio gives held-out people the highest mAP, people counting alike.

    The mAP itself is maximised, over a grid from 0: it is what is reported, it needs no assumption of how distances
    become probabilities, and it is flat around its maximum. The alternative, a conditional logistic regression of
    matches on distance and log-ratio, did no better: over ten fits on Market-1501, measured on further people, both
    lost 0.4 to 0.5 points of mAP against the best weight for those people.

    Args:
        visual, log_ratio: (Q, G).
        query, gallery: people that the prior has not learnt from, and better the model neither.
        protocol: a name from `evaluation.PROTOCOLS`.
    """
    best = (-1.0, 0.0)
    for weight in (0.0, *(float(np.std(visual)) * WEIGHTS)):
        seen = evaluation.outcomes(visual - np.float32(weight) * log_ratio, query, gallery, protocol)
        count = np.bincount(seen.people)
        each = np.bincount(seen.people, seen.plain)[count > 0] / count[count > 0]
        best = max(best, (float(each.mean()), -float(weight)))
    return -best[1]


def _some(cameras: Iterable[str]) -> str:
    """Names in order, the first few of many."""
    names = sorted(cameras)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _same(people: list[dict[int, Floats]], pairs: list[tuple[int, int]], axis: Axis) -> Floats:
    """(folds, pairs, bins) time differences of people with themselves, each person 1 in all per pair of cameras."""
    row = {pair: i for i, pair in enumerate(pairs)}
    out = np.zeros((_FOLDS, len(pairs), len(axis)))
    for number, person in enumerate(people):
        for a, b in combinations(sorted(person), 2):
            apart = (person[b] - person[a][:, None]).ravel()
            out[number % _FOLDS, row[a, b]] += np.bincount(axis.bins(apart), minlength=len(axis)) / len(apart)
    return out


def _strangers(people: list[dict[int, Floats]], pairs: list[tuple[int, int]], axis: Axis, same: Floats) -> Floats:
    """(pairs, bins) shares of the time differences of different people, who weigh alike; 0 where there are none.

    All differences are counted between two sorted lists, border by border, and those of people with themselves taken
    away: no list of pairs is ever made.
    """
    borders = axis.seconds(np.arange(1, len(axis)) - 0.5)
    out = np.zeros(same.shape)
    for i, (a, b) in enumerate(pairs):
        (s, s_weight), (t, t_weight) = _weighed(people, a), _weighed(people, b)
        below = np.concatenate([[0], np.cumsum(t_weight)])
        counts = [s_weight @ below[np.searchsorted(t, s + border)] for border in borders]
        out[i] = np.diff([0, *counts, s_weight.sum() * below[-1]])
    out = np.maximum(out - same, 0)
    out[out < 1e-9] = 0  # what rounding leaves where only people with themselves are
    shares: Floats = out / np.maximum(out.sum(axis=1, keepdims=True), 1e-9)
    return shares


def _weighed(people: list[dict[int, Floats]], camera: int) -> tuple[Floats, Floats]:
    """Sorted times at a camera, and their weights, which make 1 for each person."""
    here = [person[camera] for person in people if camera in person]
    times, weights = np.concatenate(here), np.concatenate([np.full(len(t), 1 / len(t)) for t in here])
    order = np.argsort(times, kind="stable")
    return times[order], weights[order]


def _ratio(same: Floats, strangers: Floats, axis: Axis, width: float) -> Floats:
    """(pairs, bins) people seen about so far apart, and one, by strangers to be expected there, and one."""
    place = np.arange(len(axis)) * axis.step
    window = np.exp(-(((place - place[:, None]) / width) ** 2) / 2)
    expected = same.sum(axis=1, keepdims=True) * strangers
    ratio: Floats = (same @ window + 1) / (expected @ window + 1)
    return np.where(strangers.any(axis=1, keepdims=True), ratio, 1)


def _held_out_likelihood(same: Floats, strangers: Floats, axis: Axis, width: float) -> float:
    """Σ ln of the density that the other folds give a fold's differences, over that of strangers."""
    whole, total = same.sum(axis=0), 0.0
    for fold in same:
        ratio = _ratio(whole - fold, strangers, axis, width)
        norm = (ratio * strangers).sum(axis=1, keepdims=True)
        total += float((fold * np.log(ratio / np.where(norm > 0, norm, 1))).sum())
    return total
