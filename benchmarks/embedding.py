"""How much of the network's own speed is left once files are read, decoded, resized and written.

    python benchmarks/embedding.py [--crops 4000] [--model NAME]

Draws crops, then times in turn, several rounds: ONNX Runtime alone on batches decoded beforehand, once with all threads
in each inference and once with a thread for each inference, and `embed_to_file` from JPEG files on disk to a file of
embeddings, with the same model, threads and batch size. The ratio is to the faster of the two, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg

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
    parse.add_argument("--as-drawn", action="store_true", help="crops of about 70×180 pixels instead of 64×128")
    args = parse.parse_args()
    embedder = Embedder(args.model)
    embedder.settle(1 << 20)  # now, and not in the first round
    size = embedder.preprocess
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_street(Path(folder) / "street", people=40)
        if not args.as_drawn:
            for crop in drawn:
                small = images.resize(images.read(crop.path), 128, 64)
                Path(crop.path).write_bytes(simplejpeg.encode_jpeg(small, 90, "RGB", "420"))
        crops = [Crop(drawn[i % len(drawn)].path) for i in range(args.crops)]
        size_of = [Path(crop.path).stat().st_size for crop in drawn]
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
            shared = args.crops / (time.perf_counter() - started)
            started = time.perf_counter()
            with ThreadPoolExecutor(embedder.threads) as pool:
                list(pool.map(lambda batch: embedder.vectors(batch, threads=1), batches))
            alone.append(max(shared, args.crops / (time.perf_counter() - started)))
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
        "bytes of a crop, median": int(statistics.median(size_of)),
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
