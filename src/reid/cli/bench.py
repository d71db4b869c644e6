from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from reid.cli.common import name_skipped, progress, say

if TYPE_CHECKING:
    from reid.bench import Machine, Speed
    from reid.embed import Skipped

ABOUT = "measure how fast a model is on this machine, by engine, precision and batch"
EXAMPLE = "reid bench market\n  reid bench mine.onnx --sample crops/ --json"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", help="a model file, or the name of one that comes with reid")
    verb.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64], help="images per inference (1 16 64)")
    verb.add_argument("--sample", nargs="+", metavar="CROPS", help="crops, labelled or not, to measure drift on")
    verb.add_argument("--like", metavar="CONVENTION", help="how it wants its pictures, where the file does not say so")


def run(args: argparse.Namespace) -> None:
    from reid import bench, data
    from reid.errors import DataError

    if min(args.batches) < 1 or max(args.batches) > 4096:
        raise DataError(f"batches are {args.batches}; each may have 1 to 4096 images")
    skipped: list[Skipped] = []
    sample = data.read(args.sample) if args.sample else []
    on = bench.machine(args.model)
    with progress("measuring", args) as step:
        rows = list(bench.speeds(args.model, on, args.batches, sample, args.like, step, skipped.append))
    name_skipped(skipped)
    if args.json:
        peaks = {name: round(peak / 1e9, 1) for name, peak in on.peaks.items()}
        about = {"processor": on.processor, "cores": on.cores, "operations": on.operations, "peak GFLOP/s": peaks}
        print(json.dumps({"model": args.model, **about, "speeds": [row.fields() for row in rows]}))
        return
    say(*lines(args.model, on, rows))


def lines(model: str, on: Machine, rows: list[Speed]) -> Iterator[str]:
    """The measurements as a table."""
    peaks = ", ".join(f"{peak / 1e9:.0f} in {name}" for name, peak in on.peaks.items())
    work = f", {on.operations / 1e9:.2f} GFLOP an image" if on.operations else ""
    yield f"{model}{work}, on {on.processor}, {on.cores} cores, whose peak is {peaks} GFLOP/s."
    batches = list(rows[0].rates) if rows else []
    head = "".join(f"{batch:>8}" for batch in batches)
    yield f"{'':22}images/s at batch"
    yield f"{'engine':<13}{'in':<6}{head}   one crop, ms: p50    p99   peak  cosine"
    for row in rows:
        rates = "".join(f"{r:8.1f}" for r in row.rates.values())
        share = "     –" if row.share is None else f"{row.share:6.0%}"
        yield f"{row.engine:<13}{row.precision:<6}{rates}{row.p50:20.2f}{row.p99:7.2f} {share} {row.cosine:7.4f}"
    for row in rows:
        if row.drift:
            yield f"{row.engine} in {row.precision}: {str(row.drift)[0].lower()}{str(row.drift)[1:]}"
