from __future__ import annotations

import argparse
from pathlib import Path

from reid.cli.common import apart, ending, progress, say

ABOUT = "say what is in a folder of crops, and what is wrong with it"
EXAMPLE = "reid show crops/\n  reid show crops/ --write-split people -o splits.csv"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="a folder, list file, CSV or file of embeddings")
    verb.add_argument("--layout", help="read the folder as this layout instead of recognising it")
    verb.add_argument(
        "--write-split",
        choices=("people", "time"),
        help="also write a CSV that says train, query or gallery for each crop, with people or times kept apart",
    )
    verb.add_argument("-o", "--output", type=ending(".csv"), help="where (default: splits.csv)")
    verb.add_argument("--share", type=float, default=0.2, help="share held out for testing (default: 0.2)")
    verb.add_argument("--seed", type=int, default=0, help="of the choice of people (default: 0)")


def run(args: argparse.Namespace) -> None:
    from reid import data, doctor

    if args.write_split:
        args.output = args.output or Path("splits.csv")
        data.table.check_over(args.output)
        apart(args.output, [args.source])
    with progress("reading", args) as step:
        seen = 0

        def count(done: int, total: int) -> None:
            nonlocal seen
            step(done - seen)
            seen = done

        found = doctor.examine(args.source, layout=args.layout, progress=count)
    if args.write_split:
        crops = data.read(args.source, layout=args.layout)
        data.table.write(args.output, crops, doctor.propose_splits(crops, args.write_split, args.share, args.seed))
    if args.json:
        print(found.to_json())
    else:
        say(*found.text().split("\n"))
    if args.write_split and not args.json:
        say("", f"Wrote {args.output}; its column `split` says train, query or gallery.")
