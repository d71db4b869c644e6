from __future__ import annotations

import argparse
import json
from pathlib import Path

from reid.cli.common import card, in_folder, say

ABOUT = "write another toolkit's model as one of ours"
EXAMPLE = (
    "reid convert osnet_x0_25_msmt17.pth -o osnet.safetensors osnet.onnx\n"
    "  reid convert trinet-mars.npz -o trinet.onnx\n"
    "  reid convert theirs.onnx --like torchreid -o ours.onnx"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("old", type=Path, help="Keras .h5 or .hdf5, torchreid .pth or .pth.tar, TriNet .npz, any .onnx")
    verb.add_argument(
        "-o", "--output", type=in_folder, required=True, nargs="+", help="the .safetensors and .onnx files to write"
    )
    verb.add_argument("--net", help="the architecture, NAME or NAME:option=value,…, where the file does not show it")
    verb.add_argument(
        "--like",
        metavar="CONVENTION",
        help="how it wants its pictures, where the file does not say so: torchreid, bgr255, … (docs/convert.md)",
    )
    verb.add_argument("--card", type=Path, help="a JSON file with further facts to keep in the model's metadata")


def run(args: argparse.Namespace) -> None:
    from reid.convert import convert

    header = convert(args.old, args.output, args.net, args.like, card(args.card))
    if args.json:
        print(json.dumps({"output": [str(p) for p in args.output], **header}))
        return
    options = ", ".join(f"{k} {v}" for k, v in header.get("net_options", {}).items())
    what = f"{header['converted']['format']}: {header.get('net', 'a graph')}{f' ({options})' if options else ''}"
    wants = header["preprocess"]
    say(f"{what}, {wants['height']}×{wants['width']} {wants['channels']}")
    say(f"Wrote {' and '.join(str(p) for p in args.output)}.")
