"""How well clusters stand apart in looks, without labels."""

from __future__ import annotations

import numpy as np

from reid import distance
from reid.metrics import Rows
from reid.types import Vectors

SAMPLE = 4096  # points that are asked


def silhouette(vectors: Vectors, labels: Rows) -> float:
    """Mean silhouette (Rousseeuw 1987) of points at unit length, in [−1, 1]; higher is better.

    With a a point's mean squared distance from the others of its cluster and b that from the nearest other cluster, it
    is (b − a) / max(a, b), and 0 for a point that is alone. Of many points a sample is asked, the same each time. Mean
    squared distances come from the clusters' sums, so that memory is that of the vectors.

    Args:
        vectors: (N, D).
        labels: (N,) clusters from 0; −1 is a cluster by itself.
    """
    single = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, own = np.unique(single, return_inverse=True)
    sizes = np.bincount(own)
    unit = distance.normalise(vectors)
    sums = np.zeros((len(sizes), unit.shape[1]), dtype=np.float32)
    np.add.at(sums, own, unit)
    means = sums / sizes[:, None].astype(np.float32)
    total, asked = 0.0, _sample(len(own))
    step = max(1, distance.BLOCK_VALUES // len(sizes))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        mine, place = own[rows], np.arange(len(rows))
        toward = np.einsum("nd,nd->n", unit[rows], unit[rows])
        within = 2 - 2 * (np.einsum("nd,nd->n", unit[rows], sums[mine]) - toward) / np.maximum(sizes[mine] - 1, 1)
        others = unit[rows] @ means.T
        others[place, mine] = -np.inf
        nearest = 2 - 2 * others.max(axis=1)
        defined = (sizes[mine] > 1) & np.isfinite(nearest)
        scale = np.maximum(np.maximum(within, nearest), 1e-9)
        total += float(((nearest[defined] - within[defined]) / scale[defined]).sum())
    return total / max(1, len(asked))


def _sample(count: int) -> Rows:
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
