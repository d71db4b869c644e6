"""Identities without labels: how well they agree with people, and what 100,000 embeddings cost.

    python benchmarks/cluster.py DATA … [--people 100] [--before 0] [--model NAME] [--prior FILE] [--sweep]
    python benchmarks/cluster.py DATA … --before 100 --choose
    python benchmarks/cluster.py --size 100000

DATA are data sets; the last so many people of each take part, as `reid evaluate --hold-out` has it, or those before the
last --before of them, with all their crops at once and without names. --embeddings FOLDER keeps embeddings. A prior is
one that `reid prior DATA --hold-out 100 -o FILE` learnt from everybody else. "With tracklets" also says which crops are
of one person in one recording of one camera, as a tracker would, and nothing about boxes of one moment. HDBSCAN
(Campello et al. 2013) is scikit-learn's, on the same Jaccard distances. --sweep prints pairwise F at other limits.
--choose takes groups of so many people instead, from before the last --before, and prints the mean pairwise F of the
neighbourhoods that are chosen beside that of the best ones.

--size clusters synthetic embeddings in a process of its own: people of 20 crops by 10 cameras, 512 values; it prints
seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid import data, distance, files
from reid.cluster import METHODS, Clusters, agreement, cluster
from reid.cluster.identities import K2, NEIGHBOURHOODS, OF_TRACKLETS
from reid.embed import DEFAULT_MODEL, Embedder
from reid.evaluation import hold_out
from reid.metrics import Rows
from reid.rerank import KReciprocal, similar_pairs
from reid.spacetime import TransitionPrior
from reid.types import Crop, Embeddings

CROPS, CAMERAS, DIM, NOISE = 20, 10, 512, 0.062


def load(source: str, people: int, before: int, model: str, kept: Path | None) -> Embeddings:
    _, query, gallery = hold_out(hold_out(data.read(source), before)[0], people)
    crops = sorted((*query, *gallery), key=lambda c: c.path)
    embedder = Embedder(model)
    name = re.sub(r"\W+", "-", source).strip("-")
    path = kept / f"{embedder.fingerprint}-{name}-{people}{f'-before-{before}' if before else ''}.npz" if kept else None
    if path and path.exists():
        return files.load(path)
    made = embedder(crops)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.save(made, path)
    return made


def with_tracklets(made: Embeddings) -> Embeddings:
    def recording(crop: Crop) -> str:
        found = re.search(r"_c\d+s(\d+)_", crop.name)
        return f"{crop.pid} {found[1] if found else ''}"

    crops = tuple(replace(c, tracklet=recording(c)) for c in made.crops)
    return Embeddings(made.vectors, crops, made.model)


def hdbscan(made: Embeddings, k1: int, smallest: int) -> Rows:
    from sklearn.cluster import HDBSCAN

    apart = 1 - similar_pairs(made.vectors, KReciprocal(k1, round(K2 * k1))).toarray().astype(float)
    np.fill_diagonal(apart, 0)
    return HDBSCAN(min_cluster_size=smallest, metric="precomputed", copy=True).fit_predict(apart)


def table(made: Embeddings, prior: TransitionPrior | None) -> None:
    ways: dict[str, Callable[[], Clusters | Rows]] = {
        "linkage (the default)": lambda: cluster(made),
        "linkage, k1 = 20": lambda: cluster(made, k1=20),
        "linkage, k1 = 10": lambda: cluster(made, k1=10),
        "linkage, k1 = 5": lambda: cluster(made, k1=5),
        "linkage, cannot-link off": lambda: cluster(made, cannot_link="off"),
        "linkage, cannot-link strict": lambda: cluster(made, cannot_link="strict"),
        "linkage, with tracklets": lambda: cluster(with_tracklets(made), cannot_link="off"),
        "dbscan": lambda: cluster(made, "dbscan"),
        "dbscan, with tracklets": lambda: cluster(with_tracklets(made), "dbscan", cannot_link="off"),
        "HDBSCAN, k1 = 20, clusters of 4 or more": lambda: hdbscan(made, 20, 4),
        "HDBSCAN, k1 = 20, clusters of 6 or more": lambda: hdbscan(made, 20, 6),
    }
    if prior:
        ways["linkage, with the prior"] = lambda: cluster(made, prior=prior)
        ways["linkage, with the prior and tracklets"] = lambda: cluster(
            with_tracklets(made), cannot_link="off", prior=prior
        )
    print("| | k1 | identities | alone | purity | precision | recall | pairwise F |\n|---|---|---|---|---|---|---|---|")
    for name, way in ways.items():
        found = way()
        labels, k1 = (found.labels, str(found.k1)) if isinstance(found, Clusters) else (found, "")
        seen = agreement(labels, made.crops)
        rates = (seen.purity, seen.precision, seen.recall, seen.f)
        print(f"| {name} | {k1} | {seen.clusters} | {seen.alone} | {' | '.join(f'{100 * r:.1f}' for r in rates)} |")


def sweep(made: Embeddings) -> None:
    for method in METHODS:
        limits = np.arange(0.3, 0.86, 0.05)
        scores = [agreement(cluster(made, method, within=float(w)).labels, made.crops).f for w in limits]
        print(f"{method}: " + ", ".join(f"{w:.2f} {100 * f:.1f}" for w, f in zip(limits, scores, strict=True)))


def choices(source: str, people: int, before: int, model: str, kept: Path | None) -> None:
    """Pairwise F with the neighbourhoods that are chosen, with the best ones, and with those for crops of no camera."""
    everybody = len({c.pid for c in hold_out(data.read(source), before)[0] if c.role == "person"})
    made = load(source, everybody, before, model, kept)
    order = np.random.default_rng(3).permutation(sorted({str(c.pid) for c in made.crops}))
    rows: dict[str, list[tuple[float, ...]]] = {"crops": [], "tracklets": []}
    for start in range(0, min(len(order) - people + 1, 6 * people), people):
        group = set(order[start : start + people])
        crops = made[[i for i, c in enumerate(made.crops) if c.pid in group]]
        for name, sizes, given in (
            ("crops", NEIGHBOURHOODS, crops),
            ("tracklets", OF_TRACKLETS + NEIGHBOURHOODS, with_tracklets(crops)),
        ):
            seen = (replace(c, camera=None, tracklet=c.tracklet and f"{c.camera} {c.tracklet}") for c in given.crops)
            blind = Embeddings(given.vectors, tuple(seen), given.model)
            found = [cluster(given, cannot_link="off"), cluster(blind, cannot_link="off")]
            found += [cluster(given, k1=k1, cannot_link="off") for k1 in sizes]
            scores = [agreement(one.labels, crops.crops).f for one in found]
            rows[name].append((scores[0], max(scores[2:]), scores[1]))
    for name, each in rows.items():
        print(f"| {source} | {name} | {len(each)} | {' | '.join(f'{100 * f:.1f}' for f in np.mean(each, axis=0))} |")


def synthetic(size: int) -> Embeddings:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(size // CROPS + 1), CROPS)[:size]
    centres = distance.normalise(rng.normal(size=(who[-1] + 1, DIM)))
    vectors = np.empty((size, DIM), np.float32)
    for start in range(0, size, 1 << 12):
        part = slice(start, start + (1 << 12))
        noise = rng.normal(scale=NOISE, size=(len(who[part]), DIM))
        vectors[part] = distance.normalise(centres[who[part]] + noise)
    cameras, times = rng.integers(0, CAMERAS, size), rng.integers(0, size, size)
    crops = (
        Crop(f"{i}.jpg", str(p), str(c), float(t)) for i, (p, c, t) in enumerate(zip(who, cameras, times, strict=True))
    )
    return Embeddings(vectors, tuple(crops), "synthetic")


def cost(size: int) -> None:
    made = synthetic(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for method in METHODS:
        started = time.perf_counter()
        found = cluster(made, method)
        row = {"method": method, "seconds": round(time.perf_counter() - started, 1)}
        row |= {"MiB with the embeddings alone": round(before), "peak MiB": 0, "k1": found.k1, "apart": found.apart}
        row["peak MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        seen = agreement(found.labels, made.crops)
        print(json.dumps(row | {"people": seen.people, "identities": seen.clusters, "F": round(seen.f, 4)}), flush=True)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", nargs="*")
    parse.add_argument("--people", type=int, default=100)
    parse.add_argument(
        "--before", type=int, default=0, help="the people before the last so many, to choose settings on"
    )
    parse.add_argument("--model", default=DEFAULT_MODEL)
    parse.add_argument("--embeddings", type=Path, metavar="FOLDER", help="keep embeddings there")
    parse.add_argument("--prior", metavar="FILE")
    parse.add_argument("--sweep", action="store_true")
    parse.add_argument("--choose", action="store_true")
    parse.add_argument("--size", type=int)
    parse.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parse.parse_args()
    if args.size and args.here:
        cost(args.size)
    elif args.size:
        subprocess.run([sys.executable, __file__, "--size", str(args.size), "--here"], check=True)
    if args.choose:
        print("| | of | groups | chosen | best | chosen without cameras |\n|---|---|---|---|---|---|")
        for source in args.data:
            choices(source, args.people, args.before, args.model, args.embeddings)
        return
    for source in args.data:
        made = load(source, args.people, args.before, args.model, args.embeddings)
        people = len({c.pid for c in made.crops})
        print(f"\n{args.model}, {source}: {len(made):,} crops of {people} people\n")
        table(made, TransitionPrior.load(args.prior) if args.prior else None)
        if args.sweep:
            sweep(made)


if __name__ == "__main__":
    main()
