from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid.cli.common import card

ABOUT = "write a trained model as ONNX"
EXAMPLE = "reid export run/best.safetensors -o model.onnx"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("weights", type=Path, help="a weights file that `reid train` wrote")
    verb.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")
    verb.add_argument("--card", type=Path, help="a JSON file with further facts to keep in the model's metadata")


def run(args: argparse.Namespace) -> None:
    from reid.export import export_onnx

    export_onnx(args.weights, args.output, card(args.card))
    done = {"output": str(args.output), "bytes": args.output.stat().st_size}
    text = f"Wrote {args.output} ({done['bytes']:,} bytes); checked against the network at batch 1, 2, 7 and 64."
    print(json.dumps(done) if args.json else text)
