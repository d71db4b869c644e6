"""What re-ranking one query at a time costs and gives with embeddings of one's own.

    python benchmarks/one_query.py EMBEDDINGS.npz [--queries 200]

So many rows, drawn at random, are queries, all others the gallery. Prints the time to get the gallery ready, what is
kept beside its vectors, the time of a query, and how far the distances lie from those of `k_reciprocal` for the first
three queries.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from reid import files, rerank
from reid.distance import normalise


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("embeddings")
    parse.add_argument("--queries", type=int, default=200)
    args = parse.parse_args()
    unit = normalise(files.load(args.embeddings).vectors)
    order = np.random.default_rng(0).permutation(len(unit))
    query, gallery = unit[order[: args.queries]], unit[order[args.queries :]]
    started = time.perf_counter()
    kept = rerank.Reranker(gallery)
    ready = time.perf_counter() - started
    seconds = []
    for vector in query:
        started = time.perf_counter()
        kept.distances(vector)
        seconds.append(time.perf_counter() - started)
    off = max(np.abs(kept.distances(q) - rerank.k_reciprocal(q[None], gallery)[0]).max() for q in query[:3])
    print(f"{len(gallery):,} rows of {gallery.shape[1]} values, {gallery.nbytes >> 20} MiB: ready after {ready:.1f} s")
    print(f"kept beside them: {kept.nbytes >> 20} MiB")
    print(f"a query: {1000 * np.median(seconds):.1f} ms, 95 % within {1000 * np.quantile(seconds, 0.95):.1f} ms")
    print(f"from k_reciprocal with that query alone: {off:.1e} at most")


if __name__ == "__main__":
    main()
