"""Query expansion and database-side augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid import distance
from reid.errors import ShapeError
from reid.types import Vectors


def expand(vectors: NDArray[Any], gallery: NDArray[Any], k: int = 5, alpha: float = 3.0) -> Vectors:
    """Query expansion: each unit vector plus its k nearest gallery vectors, weighted by cos^α, at unit length again.

    α = 0 is average query expansion (Chum et al. 2007), α = 3 the α-QE of Radenović et al. 2019; a neighbour with a
    negative cosine gets no weight. With the gallery itself as `vectors` it is database-side augmentation.

    Args:
        vectors: (N, D).
        gallery: (G, D).
        k: neighbours added.
        alpha: exponent, at least 0.
    """
    for name, value, least in (("k", k, 1), ("alpha", alpha, 0)):
        if value < least:
            raise ShapeError(f"{name} is {value}; it must be at least {least}")
    unit, others = distance.normalise(vectors), distance.normalise(gallery)
    found = distance.top_k(unit, others, k, metric="cosine")
    cosine = np.clip(1 - found.distances, 0, 1)
    weights = np.where((found.ids >= 0) & (cosine > 0), cosine, 0) ** alpha * (cosine > 0)
    return distance.normalise(unit + np.einsum("nk,nkd->nd", weights, others[found.ids]))
