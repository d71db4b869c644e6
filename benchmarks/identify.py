"""How often enrolled people are found, and strangers left alone, by each kind of `Identifier`.

    python benchmarks/identify.py DATA [--people 100] [--draws 20] [--model NAME] [--embeddings FOLDER]

DATA is a data set with cameras, such as Market-1501's folder `bounding_box_train`; its last so many people take part,
as `reid evaluate --hold-out` has it. In each draw a random half of them is enrolled, with the crops of a random half of
each one's cameras (one at least); their crops of the other cameras are searched for, and all crops of everybody else
are searches for strangers. Who was seen by one camera only is always a stranger. A query is one crop, or all crops of
one person in one camera's recording: what a tracklet would be, in a data set that has none. Market-1501 names the
recording in its file names (`c1s3`); elsewhere it is all crops of one person in one camera.

FNIR is the share of searches for enrolled people that do not name them: nobody, or somebody else. FPIR is the share of
searches for strangers that name anybody. People weigh alike. "at FPIR 1 %" sets the threshold on the strangers who are
searched for, which shows what is possible; "asked" sets it as a user does, on the enrolled people alone, by
`Identifier.threshold`, and what FPIR that led to stands beside it. Error of probabilities (ECE) in ten bins of equally
many searches: "who" is the nearest person's probability in a closed set, "known" that of being enrolled at all.
Figures are means over the draws; in brackets, what 95 % of the draws lie within.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid import data, files, identify
from reid.embed import DEFAULT_MODEL, Embedder
from reid.evaluation import hold_out
from reid.identify import Identifier
from reid.identify.calibration import even
from reid.protocols import codes
from reid.types import Crop, Embeddings

ASKED = (0.01, 0.1)
Floats = NDArray[np.float64]


def load(source: str, people: int, before: int, model: str, kept: Path | None) -> Embeddings:
    """So many people before the last ones, each crop with a tracklet: its person in one recording of one camera."""
    _, query, gallery = hold_out(hold_out(data.read(source), before)[0], people)
    crops = sorted((*query, *gallery), key=lambda c: c.path)
    embedder = Embedder(model)
    name = re.sub(r"\W+", "-", source).strip("-")
    path = kept / f"{embedder.fingerprint}-{name}-{people}{f'-before-{before}' if before else ''}.npz" if kept else None
    if path and path.exists():
        made = files.load(path)
    else:
        made = embedder(crops)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.save(made, path)
    return Embeddings(made.vectors, tuple(replace(c, tracklet=recording(c)) for c in made.crops), made.model)


def recording(crop: Crop) -> str:
    found = re.search(r"_c\d+s(\d+)_", crop.name)
    return f"{crop.pid} {found[1] if found else ''}"


def draw(crops: Sequence[Crop], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Rows that are enrolled, searched for, and strangers."""
    rng = np.random.default_rng(seed)
    cameras = defaultdict(set)
    for crop in crops:
        cameras[crop.pid].add(crop.camera)
    seen_twice = sorted(pid for pid, theirs in cameras.items() if len(theirs) > 1)
    chosen = rng.permutation(seen_twice)[: len(cameras) // 2]
    taken = {pid: set(rng.permutation(sorted(cameras[pid]))[: max(1, len(cameras[pid]) // 2)]) for pid in chosen}
    kinds: tuple[list[int], list[int], list[int]] = ([], [], [])
    for i, crop in enumerate(crops):
        kinds[2 if crop.pid not in taken else 0 if crop.camera in taken[crop.pid] else 1].append(i)
    return kinds


def ece(chance: NDArray[np.object_], right: NDArray[np.bool_], weight: Floats) -> float:
    if any(p is None for p in chance):
        return np.nan  # nothing could be left out to learn it from
    order = np.argsort(chance)
    bins = np.array_split(order, 10)
    return float(sum(abs(weight[b] @ (chance[b].astype(float) - right[b])) for b in bins))


def measure(made: Identifier, mated: Embeddings, strange: Embeddings, together: identify.Together) -> dict[str, float]:
    """One draw's figures."""
    found = {fpir: [made.identify(q, fpir, together, 1) for q in (mated, strange)] for fpir in ASKED}
    who = [
        np.array([q.crops[a.rows[0]].pid for a in answers])
        for q, answers in zip((mated, strange), found[0.1], strict=True)
    ]
    weights = [even(codes(w.tolist())) for w in who]
    closed = made.identify(mated, None, together, 1)
    first = [a.candidates[0] for a in closed]
    right = np.array([c.pid for c in first]) == who[0]
    near = [np.array([a.candidates[0].distance for a in answers], dtype=np.float32) for answers in found[0.1]]
    out = {"rank-1": float(weights[0] @ right)}
    order = np.argsort(near[1])
    shares = np.cumsum(weights[1][order])
    for fpir in ASKED:
        nearest_not_allowed = near[1][order][
            min(np.searchsorted(shares, fpir * (1 + 1e-9), side="right"), len(order) - 1)
        ]
        out[f"FNIR at FPIR {100 * fpir:g} %"] = 1 - float(weights[0] @ (right & (near[0] < nearest_not_allowed)))
        named = np.array([a.pid for a in found[fpir][0]], dtype=object)
        alarm = np.array([a.pid is not None for a in found[fpir][1]])
        out[f"FNIR, {100 * fpir:g} % asked"] = 1 - float(weights[0] @ (named == who[0]))
        out[f"FPIR, {100 * fpir:g} % asked"] = float(weights[1] @ alarm)
    out["ECE who"] = ece(np.array([c.probability for c in first], dtype=object), right, weights[0])
    known = np.array([a.enrolled for answers in found[0.1] for a in answers], dtype=object)
    truth = np.repeat([True, False], [len(w) for w in who])
    out["ECE known"] = ece(known, truth, np.concatenate(weights) / 2)
    return out


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data")
    parse.add_argument("--people", type=int, default=100)
    parse.add_argument("--before", type=int, default=0, help="the people before the last so many")
    parse.add_argument("--draws", type=int, default=20)
    parse.add_argument("--model", default=DEFAULT_MODEL)
    parse.add_argument("--embeddings", type=Path, metavar="FOLDER", help="keep embeddings there")
    parse.add_argument("--kinds", nargs="+", default=list(identify.KINDS))
    args = parse.parse_args()
    every = load(args.data, args.people, args.before, args.model, args.embeddings)
    rows: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    seconds = defaultdict(float)
    for seed in range(args.draws):
        enrolled, mated, strange = (every[part] for part in draw(every.crops, seed))
        for kind in args.kinds:
            started = time.perf_counter()
            made = Identifier(kind).fit(enrolled)
            seconds[kind] += time.perf_counter() - started
            for together in ("crop", "tracklet"):
                rows[kind, together].append(measure(made, mated, strange, together))
    print(f"{args.model}, {len(every):,} crops of {args.people} people, {args.draws} draws\n")
    names = list(next(iter(rows.values()))[0])
    print(f"| kind | query | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for (kind, together), found in rows.items():
        cells = []
        for name in names:
            values = 100 * np.array([f[name] for f in found])
            low, high = np.percentile(values, [2.5, 97.5])
            cells.append("" if np.isnan(low) else f"{values.mean():.1f} ({low:.1f}–{high:.1f})")
        print(f"| {kind} | {together} | {' | '.join(cells)} |")
    print("\nfitting with calibration: " + ", ".join(f"{k} {s / args.draws:.2f} s" for k, s in seconds.items()))


if __name__ == "__main__":
    main()
