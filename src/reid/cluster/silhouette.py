"""How well clusters stand apart in looks, without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid import distance
from reid.metrics import Rows
from reid.types import Vectors

SAMPLE = 4096  # points that are asked


def silhouette(vectors: Vectors, labels: Rows, cameras: Rows | None = None) -> float:
    """Mean silhouette (Rousseeuw 1987) of points at unit length, in [−1, 1]; higher is better.

    With a a point's mean squared distance from the others of its cluster and b that from the nearest other cluster, it
    is (b − a) / max(a, b), and 0 for a point that is alone. Of many points a sample is asked, the same each time. Mean
    squared distances come from the clusters' sums, so that memory is that of the vectors.

    Where there are two cameras it is the mean of that and of the same among points of other cameras only, 0 for a point
    whose cluster has none: what one camera saw of a person stands apart very well, and is half a person.

    Args:
        vectors: (N, D).
        labels: (N,) clusters from 0; −1 is a cluster by itself.
        cameras: (N,) camera of each, −1 where it is unknown.
    """
    single = np.where(labels < 0, labels.max(initial=-1) + 1 + np.arange(len(labels)), labels)
    _, own = np.unique(single, return_inverse=True)
    unit, asked = distance.normalise(vectors), _sample(len(own))
    everything = np.ones(len(own), dtype=bool)
    plain = _total(unit, own, asked, everything, itself=True) / max(1, len(asked))
    names = np.unique(cameras[cameras >= 0]) if cameras is not None else ()
    if cameras is None or len(names) < 2:
        return plain
    known = asked[cameras[asked] >= 0]
    others = [
        _total(unit, own, known[cameras[known] == name], (cameras >= 0) & (cameras != name), itself=False)
        for name in names
    ]
    return (plain + sum(others) / max(1, len(known))) / 2


def _total(unit: Vectors, own: Rows, asked: Rows, among: NDArray[np.bool_], itself: bool) -> float:
    """The sum of the silhouettes of `asked` among those of a mask, which hold a point itself or do not."""
    sizes = np.bincount(own[among], minlength=int(own.max(initial=-1)) + 1)
    sums = np.zeros((len(sizes), unit.shape[1]), dtype=np.float32)
    np.add.at(sums, own[among], unit[among])
    means = sums / np.maximum(sizes, 1)[:, None].astype(np.float32)
    total, step = 0.0, max(1, distance.BLOCK_VALUES // max(1, len(sizes)))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        mine, place = own[rows], np.arange(len(rows))
        left = sizes[mine] - itself
        toward = np.einsum("nd,nd->n", unit[rows], unit[rows]) if itself else 0.0
        within = 2 - 2 * (np.einsum("nd,nd->n", unit[rows], sums[mine]) - toward) / np.maximum(left, 1)
        others = np.where(sizes > 0, unit[rows] @ means.T, -np.inf)
        others[place, mine] = -np.inf
        nearest = 2 - 2 * others.max(axis=1, initial=-np.inf)
        defined = (left > 0) & np.isfinite(nearest)
        scale = np.maximum(np.maximum(within, nearest), 1e-9)
        total += float(((nearest[defined] - within[defined]) / scale[defined]).sum())
    return total


def _sample(count: int) -> Rows:
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))
