"""How far a file's answers drift from those of the network it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.distance import blocks, pairwise
from reid.embed import Embedder
from reid.engines import cosines
from reid.errors import DataError, ModelError
from reid.evaluation import FEWEST_PEOPLE, outcomes
from reid.images import RGB
from reid.metrics import bootstrap
from reid.types import Crop, Embeddings, Vectors
from reid.wording import many

BATCHES = (1, 2, 7, 64)
NEAREST = 10
MOST_CROPS = 1000
KEPT = 0.9
"""Least share of the ten nearest that must stay the same where labels cannot tell what a change means."""


def batches(after: Embedder, wanted: Callable[[RGB], Vectors], least: float) -> dict[str, float]:
    """Check a file on noise at several batch sizes.

    Args:
        after: the file.
        wanted: pictures of its size to embeddings, by the network that it was made of.
        least: cosine between the two; −1 where noise tells nothing, as it does of eight bits.

    Returns:
        The lowest cosine between the two, and between the file's own embeddings at batch 64 and at smaller ones.

    Raises:
        ModelError: they differ.
    """
    size = after.preprocess.height, after.preprocess.width
    noise = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *size, 3), dtype=np.uint8)
    network, itself = 1.0, 1.0
    reference, whole = wanted(noise), after.vectors(noise)
    for batch in BATCHES:
        found = after.vectors(noise[:batch])
        network = min(network, float(cosines(reference[:batch], found).min()))
        itself = min(itself, float(cosines(whole[:batch], found).min()))
        if not (network >= least and itself >= 0.9999):
            raise ModelError(
                f"the exported model differs from the network at batch {batch} (cosine {network:.5f}, and "
                f"{itself:.5f} to itself at batch {max(BATCHES)})"
            )
    return {"cosine": round(network, 6), "cosine between batches": round(itself, 6)}


def chosen(crops: Sequence[Crop], most: int = MOST_CROPS) -> list[Crop]:
    """A sample's crops to look at: all, or whole people by lot up to about so many, each person's crops together."""
    if len(crops) <= most:
        return list(crops)
    rng = np.random.default_rng(0)
    people: dict[object, list[Crop]] = {}
    for i, crop in enumerate(crops):
        people.setdefault(i if crop.pid is None else crop.pid, []).append(crop)
    groups = list(people.values())
    taken: list[Crop] = []
    for i in rng.permutation(len(groups)):
        taken += groups[i] if len(taken) + len(groups[i]) <= most else []
    return sorted(taken or crops[:most], key=lambda crop: crop.path)


def check_enough(crops: Sequence[Crop]) -> None:
    """Refuse a sample that cannot be ranked.

    Raises:
        DataError: there are fewer than three crops.
    """
    if len(crops) < 3:
        raise DataError(
            f"the sample has {many(len(crops), 'crop')} that can be read; ranking needs 3, and a few hundred tell more"
        )


@dataclass(frozen=True, slots=True)
class Drift:
    """What changes on a sample when a file takes the place of the network it was made of.

    Attributes:
        crops: of the sample that were looked at.
        cosine: lowest and mean, between embeddings of the same crop.
        kept: share of the ten nearest other crops that stay among the ten nearest.
        rank_correlation: Spearman's, of one crop's distances to all others, mean over crops.
        metrics: "rank-1" and "mAP" as (before, after), every crop searched among the others; empty without labels.
        protocol: behind the metrics.
        interval: 95 % confidence interval of the change of mAP in points, by bootstrap over people; None without
            labels or with fewer than 10 people.
    """

    crops: int
    cosine: tuple[float, float]
    kept: float
    rank_correlation: float
    metrics: dict[str, tuple[float, float]]
    protocol: str
    interval: tuple[float, float] | None

    @classmethod
    def between(cls, before: Embeddings, after: Embeddings) -> Drift:
        """Compare two models' embeddings of the same crops.

        Raises:
            DataError: there are fewer than three crops.
        """
        check_enough(before.crops)
        cosine = cosines(before.vectors, after.vectors)
        kept, correlation = _rankings(before.vectors, after.vectors)
        cameras = {crop.camera for crop in before.crops}
        protocol = "market1501" if len(cameras) > 1 and None not in cameras else "diagonal"
        metrics: dict[str, tuple[float, float]] = {}
        interval = None
        with suppress(DataError):  # nobody is there twice, so that labels tell nothing
            seen = [
                outcomes(blocks(v, v), before.crops, before.crops, protocol) for v in (before.vectors, after.vectors)
            ]
            one, two = (each.table((1,)) for each in seen)
            metrics = {name: (float(one[name].mean()), float(two[name].mean())) for name in ("rank-1", "mAP")}
            people = seen[0].people
            if len(np.unique(people)) >= FEWEST_PEOPLE:
                ((low, high),) = 100 * bootstrap((two["mAP"] - one["mAP"])[:, None], people)
                interval = float(low), float(high)
        spread = float(cosine.min()), float(cosine.mean())
        return cls(len(before.crops), spread, kept, correlation, metrics, protocol if metrics else "", interval)

    @property
    def points(self) -> float | None:
        """Points of mAP lost (negative) or won; None without labels."""
        return 100 * (self.metrics["mAP"][1] - self.metrics["mAP"][0]) if self.metrics else None

    def within(self, limit: float) -> bool:
        """Whether mAP changes by no more than so many points, or, without labels, enough of the nearest stay.

        A few hundred crops tell a drift only roughly, so the whole interval must lie within the limit; where people are
        too few for one, the drift itself, and the nearest must stay too.
        """
        if self.interval:
            return max(map(abs, self.interval)) <= limit
        return self.kept >= KEPT and abs(self.points or 0.0) <= limit

    def fields(self) -> dict[str, Any]:
        """For a file's metadata."""
        rounded = {name: [round(v, 5) for v in pair] for name, pair in self.metrics.items()}
        told = {"protocol": self.protocol, "before and after": rounded} if rounded else {}
        points: dict[str, Any] = {} if self.points is None else {"mAP points": round(self.points, 3)}
        points |= {"interval": [round(v, 3) for v in self.interval]} if self.interval else {}
        return {
            "crops": self.crops,
            "cosine": {"lowest": round(self.cosine[0], 5), "mean": round(self.cosine[1], 5)},
            "ten nearest kept": round(self.kept, 4),
            "rank correlation": round(self.rank_correlation, 5),
            **points,
            **told,
        }

    def __str__(self) -> str:
        parts = []
        if self.points is not None:
            told = (f"{n} {100 * a:.2f} → {100 * b:.2f} %" for n, (a, b) in self.metrics.items())
            sure = "; {:+.2f} to {:+.2f} with 95 % confidence".format(*self.interval) if self.interval else ""
            parts.append(f"{', '.join(told)} ({self.points:+.2f} points{sure})")
        parts.append(f"{100 * self.kept:.1f} % of the ten nearest stay")
        parts.append(f"rank correlation {self.rank_correlation:.4f}")
        parts.append(f"cosine at least {self.cosine[0]:.4f}, {self.cosine[1]:.4f} on average")
        return f"On {self.crops:,} crops: {'; '.join(parts)}."


def _rankings(before: Vectors, after: Vectors) -> tuple[float, float]:
    """Share of each row's ten nearest that stay, and the mean rank correlation of each row's distances."""
    count = len(before)
    nearest = min(NEAREST, count - 2)
    kept, correlation = 0.0, 0.0
    for i in range(count):
        one, two = (np.delete(pairwise(v[i : i + 1], v)[0], i) for v in (before, after))
        first, second = (np.argpartition(row, nearest - 1)[:nearest] for row in (one, two))
        kept += len(np.intersect1d(first, second)) / nearest
        correlation += _spearman(one, two)
    return kept / count, correlation / count


def _spearman(one: NDArray[np.floating], two: NDArray[np.floating]) -> float:
    """Rank correlation of two rows; ties are rare enough among distances to be broken by order."""
    ranks = [np.argsort(np.argsort(row, kind="stable"), kind="stable") for row in (one, two)]
    n = len(one)
    gap = (ranks[0] - ranks[1]).astype(np.float64)
    return float(1 - 6 * (gap @ gap) / (n * (n * n - 1)))
