from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid.cli.common import card, in_folder, name_skipped, progress, say

ABOUT = "write a model as a file that is fast to run, after checking what becomes of its answers"
EXAMPLE = (
    "reid export run/best.safetensors -o model.onnx\n"
    "  reid export run/best.safetensors -o model.onnx --precision int8 --sample crops/\n"
    "  reid export market -o market.xml"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "model", help="weights of ours or another toolkit, an .onnx file, or a model that comes with reid"
    )
    verb.add_argument(
        "-o", "--output", type=in_folder, required=True, help="the .onnx file to write, or OpenVINO's .xml"
    )
    verb.add_argument(
        "--precision",
        default="fp32",
        help="fp32 (default); fp16, weights stored in half precision; int8, which needs --sample",
    )
    verb.add_argument(
        "--inside",
        default="pixels",
        help="what goes into the file: nothing but the network; pixels, their scaling too (default); views, test-time "
        "views as well",
    )
    verb.add_argument("--views", help="test-time views: plain, mirror or ten")
    verb.add_argument(
        "--sample", nargs="+", metavar="CROPS", help="crops, labelled or not, to measure on how far rankings drift"
    )
    verb.add_argument(
        "--drift",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="of mAP that may change on the sample, with 95 %% confidence (default: 0.5)",
    )
    verb.add_argument("--net", help="the architecture, NAME or NAME:option=value,…, where the file does not show it")
    verb.add_argument("--like", metavar="CONVENTION", help="how it wants its pictures, where the file does not say so")
    verb.add_argument("--card", type=Path, help="a JSON file with further facts to keep in the model's metadata")


def run(args: argparse.Namespace) -> None:
    from reid import data
    from reid.embed import Skipped
    from reid.export import Export, export_model

    how = Export(args.precision, args.inside, args.views, args.net, args.like, args.drift)
    facts, skipped = card(args.card), list[Skipped]()
    sample = data.read(args.sample) if args.sample else []
    with progress("comparing", args) as step:
        done = export_model(args.model, args.output, how, sample, facts, step, skipped.append)
    name_skipped(skipped)
    files = [args.output, *([args.output.with_suffix(".bin")] if args.output.suffix.lower() == ".xml" else [])]
    size = sum(file.stat().st_size for file in files)
    if args.json:
        beside = str(done.calibration) if done.calibration else None
        told = {"output": [str(file) for file in files], "bytes": size, "calibration": beside}
        print(json.dumps(told | {"export": done.about["export"]}))
        return
    checked, wants = done.about["export"], done.about["preprocess"]
    takes = "bytes" if wants.get("inside") else "floats, prepared"
    say(
        f"Wrote {' and '.join(map(str, files))}: {size:,} bytes, {args.precision}, {wants['height']}×{wants['width']}, "
        f"takes {takes}."
    )
    say(
        f"Checked at batch 1, 2, 7 and 64: cosine to the network at least {checked['batches']['cosine']:.4f} on noise, "
        f"between batches {checked['batches']['cosine between batches']:.4f}."
    )
    if done.drift:
        say(str(done.drift))
    if done.calibration:
        say(f"Its vectors are the source's, and so is the calibration that `reid verify` takes: {done.calibration}.")
    else:
        say(f"For `reid verify` it needs a calibration: reid verify --fit CROPS --model {args.output}")
