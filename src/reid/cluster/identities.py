"""From embeddings to identities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from reid.cluster.density import dbscan
from reid.cluster.linkage import average_linkage
from reid.cluster.points import points_of
from reid.cluster.silhouette import silhouette
from reid.errors import DataError
from reid.metrics import Rows
from reid.protocols import codes
from reid.rerank.encoding import KReciprocal, neighbours
from reid.rerank.pairs import similar_pairs
from reid.types import Embeddings

if TYPE_CHECKING:
    from reid.spacetime import TransitionPrior

Method = Literal["linkage", "dbscan"]
METHODS: dict[Method, float] = {"linkage": 0.65, "dbscan": 0.45}
"""Ways by name, and within which Jaccard distance each sees one person; docs/cluster.md says how these were chosen."""
CannotLink = Literal["unless-alike", "strict", "off"]
CANNOT_LINK: tuple[CannotLink, ...] = ("unless-alike", "strict", "off")
NEIGHBOURHOODS, OF_TRACKLETS = (5, 7, 10, 14, 20), (2, 3)  # that are tried; the latter where points are tracklets too
SLACK = 0.015  # of tracklets, silhouettes this close are equal, and the narrowest neighbourhood is taken
K2 = 0.3  # of k1, as in the paper


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Crops in identities.

    Attributes:
        labels: (N,) identity of each crop, the largest 0; −1 for a crop that is alone.
        points: how many tracklets and single crops there were to put together.
        apart: how many pairs of them cannot be one person.
        method, within, k1: how it was done.
        silhouette: how well the clusters stand apart, in [−1, 1]; where cameras are known, also across them.
    """

    labels: Rows
    points: int
    apart: int
    method: Method
    within: float
    k1: int
    silhouette: float

    @property
    def count(self) -> int:
        """Identities of two crops or more."""
        return int(self.labels.max(initial=-1)) + 1

    @property
    def alone(self) -> int:
        """Crops that belong to none."""
        return int((self.labels < 0).sum())


def cluster(
    embeddings: Embeddings,
    method: Method = "linkage",
    within: float | None = None,
    k1: int | None = None,
    cannot_link: CannotLink = "unless-alike",
    prior: TransitionPrior | None = None,
) -> Clusters:
    """Sort crops into identities, without labels.

    Args:
        embeddings: of any number of crops. Their people, where known, are not looked at.
        method: "linkage", average linkage, or "dbscan"; both keep apart what cannot be one person.
        within: the largest Jaccard distance, in [0, 1), of one person's crops; the method's own by default.
        k1: size of the neighbourhoods that are compared: about as many points as a person has. By default that of
            NEIGHBOURHOODS whose clusters stand apart best, by `silhouette` within and across cameras. Where crops come
            in tracklets OF_TRACKLETS are tried too, and of nearly equal ones the smallest is taken.
        cannot_link: "strict", two crops of one camera at one moment are two people; "unless-alike", they are unless
            they are within the limit, since detectors find some people twice; "off", nothing follows from it.
        prior: also go by when and where; its weight must be for squared distances.

    Raises:
        DataError: an argument that cannot be, or a tracklet with two crops of one moment.
        ModelError: the prior's weight was fitted for another model.
    """
    limit = _limit(method, within, k1, cannot_link)
    points = points_of(embeddings, cannot_link != "off")
    if not len(points.crops):
        return Clusters(np.empty(0, np.int64), 0, 0, method, limit, k1 or NEIGHBOURHOODS[0], 0.0)
    if k1 is not None and k1 >= max(2, len(points.crops)):
        raise DataError(
            f"k1 is {k1} of {len(points.crops):,} crops or tracklets; it must be below that, about as many as a person "
            "has"
        )
    extra = None
    if prior is not None:
        made = Embeddings(points.vectors, points.crops, points.model)
        extra = prior.in_graph(made, made[:0])
    tracked = len(points.crops) < len(embeddings)
    sizes = (k1,) if k1 is not None else OF_TRACKLETS + NEIGHBOURHOODS if tracked else NEIGHBOURHOODS
    near = neighbours(points.vectors, max(sizes) + 1, extra)
    cameras = codes([crop.camera for crop in points.crops])

    def with_neighbours(k1: int) -> Clusters:
        alike = similar_pairs(points.vectors, KReciprocal(k1, max(1, round(K2 * k1))), extra, near)
        apart = _unless(points.apart, alike, 1 - limit) if cannot_link == "unless-alike" else points.apart
        labels = (average_linkage if method == "linkage" else dbscan)(alike, apart, limit)
        well = silhouette(points.vectors, labels, cameras)
        return Clusters(_by_size(labels[points.of]), len(points.crops), apart.nnz // 2, method, limit, k1, well)

    found = [with_neighbours(size) for size in sizes]
    best = max(each.silhouette for each in found)
    return next(each for each in found if each.silhouette >= best - SLACK * tracked)


def _limit(method: Method, within: float | None, k1: int | None, cannot_link: CannotLink) -> float:
    """The limit that arguments ask for, all of them checked."""
    if method not in METHODS:
        raise DataError(f"the method is {method!r}; it can be {', '.join(METHODS)}")
    limit = METHODS[method] if within is None else within
    if not 0 <= limit < 1:
        raise DataError(f"within is {limit}; it must be at least 0 and below 1")
    if k1 is not None and k1 < 1:
        raise DataError(f"k1 is {k1}; it must be at least 1")
    if cannot_link not in CANNOT_LINK:
        raise DataError(f"cannot_link is {cannot_link!r}; it can be {', '.join(CANNOT_LINK)}")
    return limit


def _unless(apart: sparse.csr_array, alike: sparse.csr_array, least: float) -> sparse.csr_array:
    """Pairs that cannot be one person, less those that are as alike as one person's."""
    pairs = apart.multiply(alike >= least).astype(np.int8)
    kept: sparse.csr_array = (apart.astype(np.int8) - pairs).tocsr()
    kept.eliminate_zeros()
    return kept.astype(bool)


def _by_size(labels: Rows) -> Rows:
    """The same clusters, the largest 0, equal ones by first crop; −1 for those of one crop."""
    single = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, first, inverse, sizes = np.unique(single, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(sizes), dtype=np.int64)
    place[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return np.asarray(np.where(sizes[inverse] > 1, place[inverse], -1), dtype=np.int64)
