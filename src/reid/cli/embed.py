from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from reid.cli.common import Model, in_folder, model_options, name_skipped, progress, say
from reid.errors import DataError
from reid.wording import visible

if TYPE_CHECKING:
    from reid.embed import Skipped

ABOUT = "turn crops into embeddings"
EXAMPLE = "reid embed crops/ -o crops.npz\n  reid embed files.txt --model model.onnx > embeddings.csv"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", nargs="+", help="images, a folder, a list file or a CSV")
    verb.add_argument(
        "-o",
        "--output",
        type=in_folder,
        help=".npz, .csv or .parquet; goes on where it was stopped. Without it, prints name,v1,…,vD for each crop",
    )
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid import data, files
    from reid.job import embed_to_file

    if args.json and not args.output:
        raise DataError("--json tells what was written; give --output as well, or leave --json out to print vectors")
    embedder = Model(args)()
    crops = data.read(args.source if len(args.source) > 1 else args.source[0])
    skipped: list[Skipped] = []
    with progress("embedding", args, len(crops)) as step:
        if args.output:
            skipped = embed_to_file(embedder, crops, args.output, step)
        else:
            for batch in embedder.stream(crops):
                skipped += batch.skipped
                for crop, vector in zip(batch.crops, batch.vectors, strict=True):
                    line = files.classic_line(crop.path, vector)
                    print(visible(line) if sys.stdout.isatty() else line)
                step(len(batch.crops) + len(batch.skipped))
    name_skipped(skipped)
    if args.output:
        done = {"output": str(args.output), "embedded": len(crops) - len(skipped), "dim": embedder.dim}
        text = f"Wrote {done['embedded']:,} embeddings of {embedder.dim} values to {args.output}."
        if args.json:
            print(json.dumps(done | {"skipped": [[s.crop.path, s.reason] for s in skipped]}))
        else:
            say(text)
