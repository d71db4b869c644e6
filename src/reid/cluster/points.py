"""What is put into clusters: single crops and whole tracklets, and which of them cannot be one person."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from reid import distance
from reid.errors import DataError
from reid.metrics import Rows
from reid.protocols import codes, tracklet_of
from reid.types import Crop, Embeddings, Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """P points made of N crops.

    Attributes:
        vectors: (P, D) float32, a tracklet's the mean of its crops', at unit length where theirs are.
        of: (N,) which point each crop belongs to; points are numbered by first crop.
        crops: P first crops.
        model: fingerprint of the model.
        apart: symmetric (P, P) sparse, true where two points cannot be one person: each has a crop of one camera at one
            moment, and these are two crops.
    """

    vectors: Vectors
    of: Rows
    crops: tuple[Crop, ...]
    model: str
    apart: sparse.csr_array


def points_of(embeddings: Embeddings, cannot_link: bool = True) -> Points:
    """Points of embeddings: each tracklet of each camera is one, each crop without a tracklet another.

    Args:
        embeddings: crops; those with a camera and a time say who cannot be one person.
        cannot_link: false where a detector finds one person twice in one picture, and the rule would be wrong.

    Raises:
        DataError: a tracklet holds two crops of one moment.
    """
    keys = [tracklet_of(crop) or crop.path for crop in embeddings.crops]
    of = codes([f"{c.tracklet is None} {key}" for c, key in zip(embeddings.crops, keys, strict=True)])
    count = int(of.max(initial=-1)) + 1
    first = np.unique(of, return_index=True)[1]
    crops = tuple(embeddings.crops[i] for i in first)
    apart = _apart(embeddings.crops, of, count) if cannot_link else sparse.csr_array((count, count), dtype=bool)
    return Points(distance.means(embeddings.vectors, of), of, crops, embeddings.model, apart)


def _apart(crops: tuple[Crop, ...], of: Rows, count: int) -> sparse.csr_array:
    seen: defaultdict[tuple[str, float], dict[str, int]] = defaultdict(dict)
    for crop, point in zip(crops, of.tolist(), strict=True):
        if crop.camera is not None and crop.time is not None:
            others = seen[crop.camera, crop.time]
            if crop.path not in others and point in others.values():
                raise DataError(
                    f"tracklet {crop.tracklet} has two crops of camera {crop.camera} at {crop.time:.12g} s, such as "
                    f"{crop.path}; one person is in one place, so mend the table, or set cannot-link off"
                )
            others[crop.path] = point
    members = [(i, point) for i, others in enumerate(seen.values()) if len(others) > 1 for point in others.values()]
    moment, point = np.array(members, dtype=np.int64).reshape(-1, 2).T
    at = sparse.csr_array((np.ones(len(point), bool), (point, moment)), shape=(count, len(seen) or 1))
    together = (at @ at.T).tocoo()
    apart = together.row != together.col
    return sparse.csr_array(
        (np.ones(apart.sum(), bool), (together.row[apart], together.col[apart])), shape=(count, count)
    )
