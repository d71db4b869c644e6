"""Crops a second, and milliseconds for one crop, beside torchreid's FeatureExtractor and beside bare engines.

    python benchmarks/inference.py --torchreid deep-person-reid [--widths 1 0.25] [--rounds 5]

OSNet at 256×128, ×1.0 with the body of `market` and ×0.25 with that of `nano`: torchreid builds it and saves it, `reid
export` makes an ONNX file of that; both give the same vectors, up to the resizer (the lowest cosine is printed). All in
one process, in turn, round by round; ratios are of the same round, medians of all.

* torchreid: FeatureExtractor as its documentation has it, on the CPU, from paths; 64 at a time and one at a time.
* reid: Embedder, from the same paths, 64 at a time, one at a time, and all of them at once.
* Bare engines on the same file, on pictures decoded beforehand: ONNX Runtime with all cores in each inference of 16 and
  of 64, and with a core for each batch of 16; OpenVINO as it advises for throughput, with a queue of asynchronous
  inferences of 16, and with all cores in each of 64. The fastest of each counts. Beside them Embedder.arrays on those.

Crops are drawn and shrunk to 64×128 pixels, Market-1501's size. torchreid is
https://github.com/KaiyangZhou/deep-person-reid, to be cloned first; torchvision may be absent (stand_ins.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import simplejpeg
import torch
from stand_ins import stand_in

from reid import checkpoint, images
from reid.distance import normalise
from reid.embed import Embedder
from reid.engines import cosines
from reid.engines.choice import processor
from reid.export import export_model
from reid.images import RGB
from reid.street import draw_street

BATCH = 64
BODIES = {"1": ("osnet_x1_0", "market"), "0.25": ("osnet_x0_25", "nano")}  # torchreid's name, and whose weights
Rates = dict[str, float]
SPREAD: dict[str, Callable[[Any], float]] = {"min": min, "median": statistics.median, "max": max}


def their_extractor(clone: Path, folder: Path, width: str) -> tuple[Any, Path]:
    """torchreid's FeatureExtractor, and the weights that it holds."""
    name, weights = BODIES[width]
    path = folder / f"{name}.pth"
    sys.path.insert(0, str(clone))
    missing = stand_in()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its compiled evaluator and of escapes in its strings
        import torchreid

        model = torchreid.models.build_model(name, num_classes=1, pretrained=False, use_gpu=False)
        own, given = model.state_dict(), checkpoint.tensors_of(checkpoint.find(weights))
        body = {n: t.float() for n, t in given.items() if n in own and own[n].shape == t.shape}
        model.load_state_dict(body, strict=False)
        torch.save(model.state_dict(), path)
        extractor = torchreid.utils.FeatureExtractor(name, str(path), device="cpu", verbose=False)
    for module in [n for n in sys.modules if n.partition(".")[0] in missing]:
        del sys.modules[module]  # PyTorch's exporter looks for the real one
    return extractor, path


def per_second(run: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started)


def each(run: Callable[[Any], object], items: list[Any]) -> float:
    """Milliseconds for one, the median."""
    took = []
    for item in items:
        started = time.perf_counter()
        run(item)
        took.append(1000 * (time.perf_counter() - started))
    return statistics.median(took)


def bare_onnxruntime(data: bytes) -> dict[str, Callable[[RGB], object]]:
    """Ways to run a file that a user of ONNX Runtime would try."""
    cores = os.cpu_count() or 1

    def session(threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    shared, alone = session(cores), session(1)

    def split(pictures: RGB) -> object:
        with ThreadPoolExecutor(cores) as pool:
            return list(
                pool.map(lambda i: alone.run(None, {"images": pictures[i : i + 16]}), range(0, len(pictures), 16))
            )

    def whole(size: int) -> Callable[[RGB], object]:
        return lambda p: [shared.run(None, {"images": p[i : i + size]}) for i in range(0, len(p), size)]

    return {"all cores, 16": whole(16), "all cores, 64": whole(64), "a core a batch of 16": split}


def bare_openvino(path: Path) -> dict[str, Callable[[RGB], object]]:
    """Ways to run a file that a user of OpenVINO would try, in fp32."""
    import openvino

    core = openvino.Core()
    fp32 = {"INFERENCE_PRECISION_HINT": "f32"}
    many = core.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **fp32})
    one = core.compile_model(str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY", **fp32})
    queue = openvino.AsyncInferQueue(many)

    def queued(pictures: RGB) -> None:
        for i in range(0, len(pictures), 16):
            queue.start_async({0: pictures[i : i + 16]})
        queue.wait_all()

    return {
        "queue, 16": queued,
        "all cores, 64": lambda p: [one({0: p[i : i + 64]})[0] for i in range(0, len(p), 64)],
    }


def draw(folder: Path, count: int) -> list[str]:
    drawn = draw_street(folder / "street", people=max(2, min(40, count // 8)))
    for crop in drawn:
        small = images.resize(images.read(crop.path), 128, 64)
        Path(crop.path).write_bytes(simplejpeg.encode_jpeg(small, 90, "RGB", "420"))
    return [drawn[i % len(drawn)].path for i in range(count)]


def one_round(
    extractor: Any, ours: Embedder, bare: dict[str, dict[str, Any]], paths: list[str], decoded: RGB, ones: int
) -> Rates:
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    few = batches[: max(1, len(batches) // 4)]
    found = {
        "torchreid, 64 at a time": per_second(lambda: [extractor(b) for b in few], sum(map(len, few))),
        "reid, 64 at a time": per_second(lambda: [ours(b) for b in batches], len(paths)),
        "torchreid, one crop, ms": each(extractor, paths[:ones]),
        "reid, one crop, ms": each(lambda path: ours([path]), paths[:ones]),
        "reid, all at once": per_second(lambda: ours(paths), len(paths)),
        "reid, decoded arrays": per_second(lambda: ours.arrays(list(decoded)), len(decoded)),
    }
    for engine, ways in bare.items():
        for way, run in ways.items():
            found[f"{engine}, {way}"] = per_second(lambda run=run: run(decoded), len(decoded))  # type: ignore[misc]
    return found


def ratios(found: Rates) -> Rates:
    bare = max(rate for name, rate in found.items() if name.startswith("bare"))
    return {
        "reid / torchreid, 64 at a time": found["reid, 64 at a time"] / found["torchreid, 64 at a time"],
        "torchreid / reid, ms of one crop": found["torchreid, one crop, ms"] / found["reid, one crop, ms"],
        "reid, decoded arrays / fastest bare": found["reid, decoded arrays"] / bare,
        "reid, from files / fastest bare": found["reid, all at once"] / bare,
    }


def measured(args: argparse.Namespace, folder: Path, paths: list[str], width: str) -> dict[str, Any]:
    """All of it for one width."""
    extractor, weights = their_extractor(args.torchreid, folder, width)
    file = weights.with_suffix(".onnx")
    export_model(weights, file)
    ours = Embedder(file)
    ours.settle(1 << 20)
    theirs = normalise(extractor(paths[:16]).numpy())
    same = float(cosines(theirs, ours(paths[:16]).vectors).min())
    decoded = np.stack([images.resize(images.read(p), 256, 128) for p in paths])
    bare = {"bare onnxruntime": bare_onnxruntime(file.read_bytes()), "bare openvino": bare_openvino(file)}
    one_round(extractor, ours, bare, paths[:BATCH], decoded[:BATCH], 3)  # warm
    rounds = [one_round(extractor, ours, bare, paths, decoded, args.ones) for _ in range(args.rounds)]
    middle = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    own = [ratios(r) for r in rounds]
    return {
        "lowest cosine to torchreid": round(same, 5),
        "reid's engine": f"{ours.engine.name}, {ours.batch} at a time",
        "crops/s": middle,
        "crops/s and core": round(middle["reid, all at once"] / ours.threads, 1),
        "ratios": {name: {what: round(of(r[name] for r in own), 2) for what, of in SPREAD.items()} for name in own[0]},
    }


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--torchreid", type=Path, required=True, metavar="PATH", help="a clone of deep-person-reid")
    parse.add_argument("--widths", nargs="+", default=[*BODIES], choices=BODIES)
    parse.add_argument("--crops", type=int, default=512)
    parse.add_argument("--ones", type=int, default=40, help="crops that are embedded one at a time")
    parse.add_argument("--rounds", type=int, default=5)
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as name:
        paths = draw(Path(name), args.crops)
        found = {f"OSNet ×{width}": measured(args, Path(name), paths, width) for width in args.widths}
    print(json.dumps({"processor": processor(), "cores": os.cpu_count(), "crops": args.crops} | found, indent=2))


if __name__ == "__main__":
    main()
