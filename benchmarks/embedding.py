"""How much of the network's own speed is left once files are read, decoded, resized and written.

    python benchmarks/embedding.py [--crops 4000] [--model NAME]

Draws crops, then times in turn, several rounds: ONNX Runtime alone on batches decoded beforehand, and `embed_to_file`
from JPEG files on disk to a file of embeddings, with the same model, threads and batch size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from reid import images
from reid.embed import DEFAULT_MODEL, Embedder
from reid.job import embed_to_file
from reid.street import draw_street
from reid.types import Crop


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--crops", type=int, default=4000)
    parse.add_argument("--rounds", type=int, default=5)
    parse.add_argument("--model", default=DEFAULT_MODEL)
    args = parse.parse_args()
    embedder = Embedder(args.model)
    size = embedder.preprocess
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_street(Path(folder) / "street", people=40)
        crops = [Crop(drawn[i % len(drawn)].path) for i in range(args.crops)]
        pixels = [images.resize(images.read(c.path), size.height, size.width) for c in drawn]
        batches = [
            np.stack([pixels[j % len(pixels)] for j in range(i, min(i + embedder.batch, args.crops))])
            for i in range(0, args.crops, embedder.batch)
        ]
        alone, whole = [], []
        for _ in range(args.rounds):
            started = time.perf_counter()
            for batch in batches:
                embedder.vectors(batch)
            alone.append(args.crops / (time.perf_counter() - started))
            out = Path(folder) / "out.npz"
            out.unlink(missing_ok=True)
            started = time.perf_counter()
            embed_to_file(embedder, crops, out)
            whole.append(args.crops / (time.perf_counter() - started))
    ratios = [w / a for w, a in zip(whole, alone, strict=True)]
    result = {
        "model": embedder.name,
        "cores": os.cpu_count(),
        "batch": embedder.batch,
        "crops": args.crops,
        "onnxruntime alone, crops/s": round(statistics.median(alone), 1),
        "files to embeddings, crops/s": round(statistics.median(whole), 1),
        "ratio": {
            "min": round(min(ratios), 3),
            "median": round(statistics.median(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
