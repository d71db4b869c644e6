"""Evaluation and re-ranking at the sizes of the literature, beside what a user would run instead.

    python benchmarks/evaluation.py [--size market|msmt17] [--rounds 3] [--torchreid RANK.py] [--original RE_RANKING.py]

Synthetic clustered vectors, 512 values, as many queries, gallery rows, people and cameras as the data set has. Beside
ours run: a plain loop over queries that sorts each row; and, where their files are given, the user's own copies of
torchreid's `metrics/rank.py` and of the k-reciprocal authors' `re_ranking.py` (function `re_ranking(q_g, q_q, g_g)`).
Each runs in a process of its own, in turn; peak memory is that process's, the vectors' included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import runpy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from reid import distance, rerank
from reid.evaluation import evaluate
from reid.types import Crop, Embeddings

SIZES = {"market": (3368, 15913, 750, 6), "msmt17": (11659, 82161, 3060, 15), "small": (500, 2000, 100, 6)}


def data(size: str, dim: int = 512) -> tuple[Embeddings, Embeddings]:
    """Queries and gallery: people as centres, cameras as small shifts, crops around them."""
    queries, rows, people, cameras = SIZES[size]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, dim)).astype(np.float32)
    shifts = 0.7 * rng.normal(size=(cameras, dim)).astype(np.float32)

    def draw(count: int, name: str) -> Embeddings:
        who, where = rng.integers(0, people, count), rng.integers(0, cameras, count)
        vectors = centres[who] + shifts[where] + 2.2 * rng.normal(size=(count, dim)).astype(np.float32)
        crops = (Crop(f"{name}{i}", str(p), str(c)) for i, (p, c) in enumerate(zip(who, where, strict=True)))
        return Embeddings(distance.normalise(vectors), tuple(crops), "synthetic")

    return draw(queries, "q"), draw(rows, "g")


def numbers(made: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    return np.array([int(c.pid or 0) for c in made.crops]), np.array([int(c.camera or 0) for c in made.crops])


def ours(query: Embeddings, gallery: Embeddings) -> float:
    return evaluate(query, gallery).metrics["mAP"]


def loop(query: Embeddings, gallery: Embeddings) -> float:
    """What one writes in an afternoon: sort each row, mask, walk the matches."""
    matrix = distance.pairwise(query.vectors, gallery.vectors)
    (qp, qc), (gp, gc) = numbers(query), numbers(gallery)
    found = []
    for i in range(len(query)):
        order = np.argsort(matrix[i])
        keep = ~((gp[order] == qp[i]) & (gc[order] == qc[i]))
        right = (gp[order] == qp[i])[keep].astype(int)
        if right.any():
            precision = [x / (j + 1.0) for j, x in enumerate(right.cumsum())]
            found.append((np.asarray(precision) * right).sum() / right.sum())
    return float(np.mean(found))


def torchreid(path: str, query: Embeddings, gallery: Embeddings) -> float:
    evaluator = runpy.run_path(path)["eval_market1501"]
    matrix = distance.pairwise(query.vectors, gallery.vectors)
    (qp, qc), (gp, gc) = numbers(query), numbers(gallery)
    return float(evaluator(matrix, qp, gp, qc, gc, 50)[1])


def reranked(query: Embeddings, gallery: Embeddings) -> float:
    return float(sum(block.sum(dtype=float) for _, block in rerank.blocks(query.vectors, gallery.vectors)))


def original(path: str, query: Embeddings, gallery: Embeddings) -> float:
    function = runpy.run_path(path)["re_ranking"]
    pairs = [(query, gallery), (query, query), (gallery, gallery)]
    return float(np.sum(function(*(distance.pairwise(a.vectors, b.vectors) for a, b in pairs)), dtype=float))


def _child(work: Callable[..., float], extra: tuple[str, ...], size: str, pipe: Any) -> None:
    query, gallery = data(size)
    started = time.perf_counter()
    value = work(*extra, query, gallery)
    seconds = time.perf_counter() - started
    pipe.send((value, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10))


def measure(work: Callable[..., float], extra: tuple[str, ...], size: str) -> tuple[float, float, int]:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(work, extra, size, theirs))
    process.start()
    result: tuple[float, float, int] = mine.recv()
    process.join()
    return result


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--size", choices=SIZES, default="market")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--torchreid", help="a copy of torchreid's metrics/rank.py")
    parse.add_argument("--original", help="a copy of the k-reciprocal authors' re_ranking.py")
    parse.add_argument("--only-ours", action="store_true")
    args = parse.parse_args()
    contenders: dict[str, tuple[Callable[..., float], tuple[str, ...]]] = {"evaluation, ours": (ours, ())}
    if not args.only_ours:
        contenders["evaluation, loop"] = (loop, ())
    if args.torchreid:
        contenders["evaluation, torchreid"] = (torchreid, (args.torchreid,))
    contenders["re-ranking, ours"] = (reranked, ())
    if args.original:
        contenders["re-ranking, original"] = (original, (args.original,))
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, (work, extra) in contenders.items():
            seen[name].append(measure(work, extra, args.size))
            print(name, seen[name][-1], flush=True)
    table = {
        name: {
            "result": runs[0][0],
            "seconds, median": round(statistics.median(r[1] for r in runs), 2),
            "peak MiB": max(r[2] for r in runs),
        }
        for name, runs in seen.items()
    }
    print(json.dumps({"size": args.size, "cores": os.cpu_count(), "rounds": args.rounds, **table}, indent=2))


if __name__ == "__main__":
    main()
