"""Who shares neighbours with whom: Jaccard similarities of k-reciprocal encodings, those above 0 and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from reid.rerank.encoding import PAPER, Extra, KReciprocal, Near, encode, overlap, similarity
from reid.types import Vectors

LEAST = 0.01  # what shares less shares nothing: it would fill memory and tell nothing


def similar_pairs(
    points: NDArray[Any],
    settings: KReciprocal = PAPER,
    extra: Extra | None = None,
    near: Near | None = None,
    least: float = LEAST,
) -> sparse.csr_array:
    """Pairs of (N, D) points that share neighbours: a symmetric (N, N) matrix of 1 − Jaccard distance, in (0, 1].

    Its diagonal is empty. Memory is that of a few hundred values per point; time is that of all N² distances.

    Args:
        points: (N, D).
        settings: of the encoding; the weight has no part in it.
        extra: what else sets the points apart, added to their squared distances before neighbours are looked for.
        near: what is nearest to each point, where that is known, with `settings.listed` points or more.
        least: pairs below are left out.
    """
    vectors: Vectors = np.ascontiguousarray(points, dtype=np.float32)
    encoding = encode(vectors, settings, extra, near).encoding
    by_neighbour = encoding.tocsc()
    columns, values, counts = [np.empty(0, np.int32)], [np.empty(0, np.float32)], np.zeros(len(vectors) + 1, np.int64)
    for i in range(len(vectors)):
        entries = slice(encoding.indptr[i], encoding.indptr[i + 1])
        shared = overlap(encoding.indices[entries], encoding.data[entries], by_neighbour)[i + 1 :]
        some = np.flatnonzero(shared)
        alike = similarity(shared[some])
        kept = alike >= least
        columns.append((some[kept] + i + 1).astype(np.int32))
        values.append(np.minimum(alike[kept], 1).astype(np.float32))
        counts[i + 1] = kept.sum()
    upper = sparse.csr_array(
        (np.concatenate(values), np.concatenate(columns), np.cumsum(counts)), shape=(len(vectors), len(vectors))
    )
    both: sparse.csr_array = upper + upper.T.tocsr()
    return both
