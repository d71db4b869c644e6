"""When Market-1501's cameras began each sequence, and what a clock that knows it is worth.

    python benchmarks/clock.py MARKET1501 [--embeddings FOLDER] [--model NAME] [--beside FILE.onnx FILE.xml]

MARKET1501 is the folder that holds `bounding_box_train`. Frame numbers restart in every sequence, and how long the
cameras stood still in between is not known. The starts are estimated from where else the training people but the last
100 were seen (`reid.spacetime.align_recordings`), the first guess being sequences laid end to end with the lengths that
st-ReID published (`parse_frame` in its prepare.py). What is printed is `MARKET_STARTS` in reid's reader.

With --embeddings FOLDER, where they are kept or put, the last 100 people are then searched with a prior learnt on each
clock, as in prior.py.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import prior as table

from reid import data
from reid.data.market1501 import MARKET_RATE, MARKET_STARTS
from reid.evaluation import hold_out
from reid.spacetime import align_recordings
from reid.types import Crop

LENGTHS = {
    "1": (72681, 74546, 74881, 74661, 74891, 54346),
    "2": (163691, 164677, 98102),
    "3": (161708, 161769, 104469),
    "4": (72107, 72373, 74810, 74541, 74910, 50616),
    "5": (161095, 161724, 103487),
    "6": (87551, 131268, 95817, 30952),
}
Starts = Mapping[str, Sequence[float]]


def recording(crop: Crop) -> tuple[str, int, float]:
    """Camera, sequence from 0, and seconds since the sequence began."""
    _, camera, sequence, frame = re.split(r"_c|s|_", crop.name)[:4]
    return camera, int(sequence) - 1, int(frame) / MARKET_RATE


def retimed(crops: Sequence[Crop], starts: Starts) -> list[Crop]:
    found = ((crop, *recording(crop)) for crop in crops)
    return [replace(crop, time=starts[camera][sequence] + seconds) for crop, camera, sequence, seconds in found]


def seen(crops: Sequence[Crop]) -> Starts:
    """Starts from the largest frame number seen in each sequence."""
    longest = {camera: [0.0] * len(lengths) for camera, lengths in LENGTHS.items()}
    for camera, sequence, seconds in map(recording, crops):
        longest[camera][sequence] = max(longest[camera][sequence], seconds)
    return {camera: np.cumsum([0, *lengths[:-1]]).tolist() for camera, lengths in longest.items()}


def estimated(crops: Sequence[Crop], guess: Starts) -> Starts:
    names = ["".join(map(str, recording(crop)[:2])) for crop in crops]
    shifts = align_recordings(retimed(crops, guess), names)
    return {c: [s + shifts.get(f"{c}{i}", 0) for i, s in enumerate(starts)] for c, starts in guess.items()}


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data")
    table.options(parse)
    args = parse.parse_args()
    crops = data.read(args.data, split="train")
    train, *_ = hold_out(crops, table.PEOPLE)
    published = {c: (np.cumsum([0, *n[:-1]]) / MARKET_RATE).tolist() for c, n in LENGTHS.items()}
    found = estimated(train, published)
    rng, people = np.random.default_rng(0), sorted({crop.pid for crop in train if crop.pid})
    halves = []
    for _ in range(10):
        half = set(rng.permutation(people)[: len(people) // 2])
        halves.append(estimated([crop for crop in train if crop.pid in half], published))
    first = min(map(min, found.values()))
    print("| camera, sequence | lengths seen | lengths published | estimated | halves deviate by | at most |")
    print("|---|---|---|---|---|---|")
    for camera, starts in found.items():
        for i, start in enumerate(starts):
            spread = [abs(half[camera][i] - start) for half in halves]
            row = [seen(crops)[camera][i], published[camera][i], start - first, np.median(spread), max(spread)]
            print(f"| {camera}, {i + 1} | {' | '.join(f'{value:.0f}' for value in row)} |")
    print({camera: tuple(round(start - first) for start in starts) for camera, starts in found.items()})
    if args.embeddings is None:
        return
    for model in (args.model, *args.beside):
        known = table.load(args.data, args.embeddings, model)
        print(
            f"\n{model}\n\n| clock | rank-1 | mAP | mINP | both: rank-1 | mAP | mINP |\n|---|---|---|---|---|---|---|"
        )
        for name, clock in (
            ("lengths seen", seen(crops)),
            ("lengths published", published),
            ("estimated", MARKET_STARTS),
        ):
            scores = table.with_prior({c.name: (c, known[c.name][1]) for c in retimed(crops, clock)})
            print(f"| {name} | {' | '.join(f'{100 * score:.1f}' for score in scores)} |", flush=True)


if __name__ == "__main__":
    main()
