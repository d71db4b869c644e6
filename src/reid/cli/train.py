from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from reid.cli.common import metrics
from reid.errors import DataError

ABOUT = "train a model on labelled crops"
EXAMPLE = "reid train Market-1501/ --split train -o run/"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="labelled crops: a data set, a folder for each person, or a CSV")
    verb.add_argument("-o", "--output", type=Path, required=True, help="a new folder for the run")
    verb.add_argument("--recipe", default="osnet", help="settings by name (default: osnet)")
    verb.add_argument("--split", help="train on this split of the data set only")
    verb.add_argument("--hold-out", type=int, metavar="PEOPLE", help="people kept for validation")
    verb.add_argument("--seed", type=int, help="of every random choice")
    verb.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def run(args: argparse.Namespace) -> None:
    from reid import data
    from reid.recipes import RECIPES

    if args.recipe not in RECIPES:
        raise DataError(f"recipe is {args.recipe!r}; it can be {', '.join(RECIPES)}")
    chosen = {name: value for name in ("seed", "hold_out") if (value := getattr(args, name)) is not None}
    config = replace(RECIPES[args.recipe], **chosen)
    crops = data.read(args.source, split=args.split)
    from reid.training import BEST, train

    report = train(crops, config, args.output, args.resume)
    print(report.to_json() if args.json else "\n".join(metrics(report, str(args.output / BEST))))
