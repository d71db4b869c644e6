"""What each ingredient of our recipe gives: trainings that lack one, over several seeds, as a table and a picture.

    python benchmarks/ablation.py DATA -o FOLDER [--people 300] [--epochs 8] [--seeds 0 1 2] [--picture ablation.svg]

A small setting: OSNet ×0.25 at 96×48 for a few epochs on a few people, from scratch, with an average of the weights as
much shorter; what holds there need not hold for a large network and a long schedule. DATA is one labelled data set,
whose last 100 people are held out; figures are their mAP (plain) and rank-1 by Market-1501's protocol. Finished runs in
FOLDER are not done again, interrupted ones go on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from reid import data
from reid.disk import replacing
from reid.machine import suited
from reid.recipes import RECIPES
from reid.runs import LOG
from reid.settings import Stage, TrainConfig
from reid.training import train
from reid.types import Crop

Scores = dict[str, dict[int, dict[str, float]]]  # by variant and seed


def variants(epochs: int, held: int) -> Iterator[tuple[str, TrainConfig]]:
    """Our recipe, and our recipe less one thing at a time."""
    ours = RECIPES["market"]()
    whole = replace(
        ours,
        net_options={"width": 0.25},
        stages=(Stage(epochs, 96, 48),),
        rate=2e-3,
        warmup=1,
        average=0.98,
        validate_every=epochs,
        hold_out=held,
    )
    classes = [loss for loss in ours.losses if loss.name == "cross-entropy"]
    yield "our recipe", whole
    yield "without triplets", replace(whole, losses=tuple(classes))
    yield "without classes", replace(whole, losses=tuple(loss for loss in ours.losses if loss not in classes))
    yield (
        "without label smoothing",
        replace(whole, losses=tuple(replace(loss, options={}) if loss in classes else loss for loss in ours.losses)),
    )
    yield "without BNNeck", replace(whole, net_options={"width": 0.25, "neck": "relu"})
    yield "without random erasing", replace(whole, augment=replace(whole.augment, erase=0.0))
    yield "without colour jitter", replace(whole, augment=replace(whole.augment, jitter=0.0))
    yield "without shift and flip", replace(whole, augment=replace(whole.augment, shift=0.0, flip=0.0))
    yield "without the average of weights", replace(whole, average=0.0)
    yield "with a level rate", replace(whole, schedule="step", milestones=(1.0,))


def few(crops: Sequence[Crop], people: int, held: int) -> list[Crop]:
    """Crops of the first people and of those held out, the last."""
    pids = sorted({str(crop.pid) for crop in crops if crop.pid is not None})
    kept = {*pids[: min(people, len(pids) - held)], *pids[-held:]}
    return [crop for crop in crops if crop.pid in kept]


def measured(args: argparse.Namespace) -> Scores:
    """Every training, or what is left of it to do."""
    crops, found = few(data.read(args.data), args.people, args.hold_out), Scores()
    for seed in args.seeds:
        for name, config in variants(args.epochs, args.hold_out):
            run = args.output / f"{name.replace(' ', '-')}-{seed}"
            logged = [json.loads(line) for line in (run / LOG).read_text().splitlines()] if (run / LOG).exists() else []
            if len(logged) < args.epochs:
                train(crops, suited(replace(config, seed=seed)), run, resume=run.exists())
                logged = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
            found.setdefault(name, {})[seed] = {key: 100 * logged[-1][key] for key in ("mAP", "rank-1")}
            print(name, seed, found[name][seed], flush=True)
    return found


def table(scores: Scores) -> str:
    """Markdown: means over seeds, the smallest and the largest, and the difference to our recipe, seed by seed."""
    whole = scores["our recipe"]
    rows = ["| | mAP | smallest – largest | less than our recipe, mean over seeds | rank-1 |", "|---|---|---|---|---|"]
    for name, by_seed in scores.items():
        maps = [by_seed[seed]["mAP"] for seed in by_seed]
        less = np.mean([whole[seed]["mAP"] - by_seed[seed]["mAP"] for seed in by_seed])
        ranks = np.mean([by_seed[seed]["rank-1"] for seed in by_seed])
        gap = "" if by_seed is whole else f"{less:.1f}"
        rows.append(f"| {name} | {np.mean(maps):.1f} | {min(maps):.1f} – {max(maps):.1f} | {gap} | {ranks:.1f} |")
    return "\n".join(rows)


def picture(scores: Scores) -> str:
    """A row for each variant, a dot for each seed, a stroke at their mean."""
    values = [one["mAP"] for by_seed in scores.values() for one in by_seed.values()]
    low, high = 5 * np.floor(min(values) / 5), 5 * np.ceil(max(values) / 5)
    bottom = 24 + 28 * len(scores)

    def at(value: float) -> float:
        return float(round(220 + 380 * (value - low) / (high - low), 1))

    parts = []
    for mark in np.arange(low, high + 1, 5):
        parts.append(f'<path d="M{at(mark)} 16V{bottom - 8}" stroke="#dfe4ea"/>')
        parts.append(f'<text x="{at(mark)}" y="{bottom + 8}" text-anchor="middle">{mark:.0f} %</text>')
    for row, (name, by_seed) in enumerate(scores.items()):
        y, colour = 28 + 28 * row, "#b4532a" if row == 0 else "#2458c5"
        maps = [one["mAP"] for one in by_seed.values()]
        mean = at(float(np.mean(maps)))
        parts.append(f'<text x="208" y="{y + 4}" text-anchor="end" fill="#1d2530">{escape(name)}</text>')
        parts += [f'<circle cx="{at(m)}" cy="{y}" r="4" fill="{colour}" fill-opacity=".55"/>' for m in maps]
        parts.append(f'<path d="M{mean} {y - 9}v18" stroke="{colour}" stroke-width="2"/>')
    parts.append(f'<text x="410" y="{bottom + 28}" text-anchor="middle">mAP of people held out, a dot a seed</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {bottom + 40}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="#5b6672"><rect width="620" height="{bottom + 40}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled crops")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--people", type=int, default=300, help="to train on")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--hold-out", type=int, default=100, metavar="PEOPLE")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    args = parser.parse_args()
    scores = measured(args)
    print(table(scores))
    if args.picture:
        with replacing(args.picture) as partial:
            partial.write_text(picture(scores), encoding="utf-8")


if __name__ == "__main__":
    main()
