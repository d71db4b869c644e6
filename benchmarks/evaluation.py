"""Evaluation and re-ranking at the sizes of the literature, beside what a user would run instead.

    python benchmarks/evaluation.py [--size market|msmt17] [--rounds 3] [--torchreid METRICS] [--original RE_RANKING.py]

Synthetic clustered vectors, 512 values, as many queries, gallery rows, people and cameras as the data set has. Beside
ours run a plain loop over queries that sorts each row, and, where they are given:

* torchreid's evaluator, written in Python and compiled: METRICS is the folder `torchreid/metrics` of a checkout of
  github.com/KaiyangZhou/deep-person-reid. Its Cython file is built outside that folder; Cython must be installed.
* the k-reciprocal authors' re-ranking: `python-version/re_ranking_ranklist.py` of
  github.com/zhunzhong07/person-re-ranking, a function `re_ranking(q_g, q_q, g_g)`.

Each runs in a process of its own, in turn; peak memory is that process's, the vectors' included (Linux). "CPU" is the
seconds that all its threads ran, which other work on the machine hardly changes. "result" is
mAP, or the sum of all re-ranked distances; for one query at a time the milliseconds that one takes once the gallery is
ready.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import runpy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reid import distance, rerank
from reid.evaluation import evaluate
from reid.types import Crop, Embeddings

Size = tuple[int, int, int, int]  # queries, gallery rows, people, cameras
Work = Callable[..., float]
Run = tuple[float, float, float, int]  # what it gave, seconds, CPU seconds, and MiB at most
SIZES: dict[str, Size] = {
    "market": (3368, 15913, 750, 6),
    "msmt17": (11659, 82161, 3060, 15),
    "small": (500, 2000, 100, 6),
}
SEARCHED = 100  # queries that are re-ranked one at a time


def data(size: Size, dim: int = 512) -> tuple[Embeddings, Embeddings]:
    """Queries and gallery: people as centres, cameras as small shifts, crops around them."""
    queries, rows, people, cameras = size
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


def torchreid(folder: str, query: Embeddings, gallery: Embeddings) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the compiled one is missing
        evaluator = runpy.run_path(str(Path(folder) / "rank.py"))["eval_market1501"]
    return _torchreid(evaluator, query, gallery)


def compiled(folder: str, build: str, query: Embeddings, gallery: Embeddings) -> float:
    return _torchreid(compile_torchreid(folder, build), query, gallery)


def _torchreid(evaluator: Callable[..., Any], query: Embeddings, gallery: Embeddings) -> float:
    matrix = distance.pairwise(query.vectors, gallery.vectors)
    (qp, qc), (gp, gc) = numbers(query), numbers(gallery)
    return float(evaluator(matrix, qp, gp, qc, gc, 50)[1])


def compile_torchreid(folder: str, build: str) -> Callable[..., Any]:
    """torchreid's Cython evaluator, built the first time."""
    import pyximport

    sys.path.insert(0, str(Path(folder) / "rank_cylib"))
    pyximport.install(build_dir=build, setup_args={"include_dirs": np.get_include()}, language_level=3)
    import rank_cy

    evaluator: Callable[..., Any] = rank_cy.evaluate_cy
    return evaluator


def reranked(query: Embeddings, gallery: Embeddings) -> float:
    return float(sum(block.sum(dtype=float) for _, block in rerank.blocks(query.vectors, gallery.vectors)))


def original(path: str, query: Embeddings, gallery: Embeddings) -> float:
    function = runpy.run_path(path)["re_ranking"]
    pairs = [(query, gallery), (query, query), (gallery, gallery)]
    return float(np.sum(function(*(distance.pairwise(a.vectors, b.vectors) for a, b in pairs)), dtype=float))


def one_by_one(query: Embeddings, gallery: Embeddings) -> float:
    kept = rerank.Reranker(gallery.vectors)
    seconds = []
    for vector in query.vectors[:SEARCHED]:
        started = time.perf_counter()
        kept.distances(vector)
        seconds.append(time.perf_counter() - started)
    print(f"kept beside {kept.gallery.nbytes >> 20} MiB of vectors: {kept.nbytes >> 20} MiB", flush=True)
    return 1000 * statistics.median(seconds)


def _child(work: Work, extra: tuple[str, ...], size: Size, pipe: Any) -> None:
    query, gallery = data(size)
    if work is compiled:
        compile_torchreid(*extra)  # loading takes longer than a small evaluation
    started, before = time.perf_counter(), time.process_time()
    value = work(*extra, query, gallery)
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory as well
    pipe.send((value, seconds, cpu, int(status.partition("VmHWM:")[2].split()[0]) >> 10))


def measure(work: Work, extra: tuple[str, ...], size: Size) -> Run:
    """Run it once."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(work, extra, size, theirs))
    process.start()
    theirs.close()
    result: Run = mine.recv()
    process.join()
    return result


def options(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("--torchreid", metavar="METRICS", help="the folder torchreid/metrics of a checkout")
    parse.add_argument("--original", metavar="FILE", help="the k-reciprocal authors' re_ranking_ranklist.py")
    parse.add_argument("--only-ours", action="store_true")
    parse.add_argument("--leave-out", nargs="*", default=[], metavar="NAME", help="whose name holds one of these")


def contenders(args: argparse.Namespace, build: str) -> dict[str, tuple[Work, tuple[str, ...]]]:
    found: dict[str, tuple[Work, tuple[str, ...]]] = {"evaluation, reid": (ours, ())}
    if not args.only_ours:
        found["evaluation, plain loop"] = (loop, ())
    if args.torchreid:
        found["evaluation, torchreid's Python"] = (torchreid, (args.torchreid,))
        try:
            compile_torchreid(args.torchreid, build)
        except ImportError as error:
            print(f"torchreid's compiled evaluator was not built: {error}")
        else:
            found["evaluation, torchreid's Cython"] = (compiled, (args.torchreid, build))
    found["re-ranking, reid"] = (reranked, ())
    found["re-ranking, reid, one query at a time"] = (one_by_one, ())
    if args.original:
        found["re-ranking, its authors' Python"] = (original, (args.original,))
    return {name: work for name, work in found.items() if not any(part in name for part in args.leave_out)}


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--size", choices=SIZES, default="market")
    parse.add_argument("--rounds", type=int, default=3)
    options(parse)
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as build:
        every = contenders(args, build)
        seen: dict[str, list[Run]] = {name: [] for name in every}
        for _ in range(args.rounds):
            for name, (work, extra) in every.items():
                seen[name].append(measure(work, extra, SIZES[args.size]))
                print(name, seen[name][-1], flush=True)
    table = {
        name: {
            "result": runs[0][0],
            "seconds, median": round(statistics.median(r[1] for r in runs), 2),
            "CPU, median": round(statistics.median(r[2] for r in runs), 2),
            "peak MiB": max(r[3] for r in runs),
        }
        for name, runs in seen.items()
    }
    print(json.dumps({"size": args.size, "cores": os.cpu_count(), "rounds": args.rounds, **table}, indent=2))


if __name__ == "__main__":
    main()
