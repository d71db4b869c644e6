"""Images a second in training, and the share of the time spent waiting for data, beside torchreid's engine.

    python benchmarks/training.py --torchreid deep-person-reid [--data market1501:DIR] [--device cuda] [--widths 0.5 1]

Both train the same OSNet (torchreid's head; the numbers of parameters are compared) on the same crops, from scratch, in
batches of 16 people × 4 crops, with batch-hard triplet loss (margin 0.3) and cross-entropy smoothed by 0.1.

torchreid runs as its README has it: ImageTripletEngine, ImageDataManager with RandomIdentitySampler, random_flip and
random_erase, Adam, single precision; on a GPU with cudnn.benchmark, as its scripts/main.py. The loader has 4, 2 or 0
workers: the first round tries each, and the fastest stays. Times are torchreid's own meters, as it hands them to its
TensorBoard writer; the last steps, in which the loader has no further batch to prepare, are not counted.

reid runs `reid.training.train` with the settings that TrainConfig has by itself: more augmentation, AdamW, averaged
weights, bf16-mixed where the processor has it. Times are those in metrics.jsonl. Beside it: the same in single
precision, and with pictures decoded while it trains, as happens to a set too large for memory. Otherwise crops are
decoded once, before the first epoch; what that takes is told apart, for each crop.

Every measurement is a process of its own, in turn, with as many steps of warm-up as are measured. Ratios are taken
round by round. Without --data crops are drawn and shrunk to 64×128 pixels, Market-1501's size; where more are asked for
than there are, they come again.

torchreid is https://github.com/KaiyangZhou/deep-person-reid, to be cloned first; its compiled evaluator is not needed.
Stand-ins take the place of torchvision, TensorBoard and gdown where they are not installed: of torchvision the
transforms that are used, with the operations torchvision has for Pillow's pictures; of the other two nothing is used.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import simplejpeg
import torch
from stand_ins import stand_in

from reid import data, images
from reid.cli.train import named
from reid.data import table
from reid.street import draw_street

PEOPLE, CROPS = 16, 4
BATCH = PEOPLE * CROPS
SINGLE = "reid, single precision"
OURS = {  # precision, whether pictures are decoded while it trains
    "reid": ("bf16-mixed", False),
    SINGLE: ("32-true", False),
    "reid, decoding as it trains": ("bf16-mixed", True),
}
CLONE = "git clone https://github.com/KaiyangZhou/deep-person-reid, then give --torchreid deep-person-reid"


# ── a measurement, in a process of its own ──


class Busy:
    """Share of the time in which the GPU computes, asked of nvidia-smi four times a second; None on a CPU."""

    def __init__(self, cuda: bool):
        self.samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if cuda:
            self._thread.start()

    def _watch(self) -> None:
        which = f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}"
        ask = ["nvidia-smi", which, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._done.wait(0.25):
            try:
                said = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout
                self.samples.append((time.perf_counter(), float(said) / 100))
            except (OSError, ValueError, subprocess.SubprocessError):
                return  # no such program, or a GPU that does not tell

    def between(self, start: float, end: float) -> float | None:
        """The mean of what was said in that time, by time.perf_counter."""
        self._done.set()
        said = [share for at, share in self.samples if start <= at <= end]
        return statistics.mean(said) if said else None


def ours(spec: dict[str, Any]) -> dict[str, Any]:
    """Two epochs of our loop, the second one counted."""
    from reid import training
    from reid.feed import Data, Feed
    from reid.machine import suited
    from reid.nets import build
    from reid.settings import Loss, Stage, TrainConfig

    precision, decoding = OURS[spec["loop"]]
    cuda = spec["device"] == "cuda"
    crops = data.read(spec["crops"])
    config = TrainConfig(
        net_options={"width": spec["width"], "neck": "relu"},
        losses=(Loss("triplet-hard", 1.0, {"margin": 0.3}), Loss("cross-entropy", 1.0, {"smoothing": 0.1})),
        stages=(Stage(2, spec["height"], spec["wide"]),),
        people=PEOPLE,
        crops=CROPS,
        hold_out=0,
        precision=precision,
        warmup=0.5,
    )
    config = suited(config)
    started = time.perf_counter()
    Data.of({"": crops}, 0, print)
    Feed(crops, spec["height"], spec["wide"], torch.device("cuda" if cuda else "cpu"))
    before = time.perf_counter() - started
    if decoding:
        torch.cuda.mem_get_info = lambda device=None: (0, 0)

        class NoRoom(Feed):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, memory=0)

        training.Feed = NoRoom
    busy, ends = Busy(cuda), []
    with tempfile.TemporaryDirectory() as folder:
        training.train(crops, config, Path(folder) / "run", progress=lambda *_: ends.append(time.perf_counter()))
        line = json.loads((Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[1])
    return {
        "images": len(crops) // BATCH * BATCH,
        "images/s": line["images/s"],
        "waiting": line["waiting"],
        "busy": busy.between(ends[len(ends) // 2], ends[-1]),
        "before": before / len(crops),
        "parameters": parameters(build("osnet", classes=people(crops), **config.net_options)),
    }


def theirs(spec: dict[str, Any]) -> dict[str, Any]:
    """torchreid's engine for as many steps, and as many before them that are not counted."""
    sys.path.insert(0, spec["torchreid"])
    missing = stand_in()
    import torchreid

    cuda = spec["device"] == "cuda"
    crops = data.read(spec["crops"])
    steps = len(crops) // BATCH
    rows = long_epoch(crops, 2 * steps + 4 * spec["workers"])  # two batches a worker are under way

    class Ours(torchreid.data.ImageDataset):
        def __init__(self, root: str = "", **options: Any) -> None:
            super().__init__(rows, rows[:1], rows[:1], **options)

    torchreid.data.register_image_dataset("ours", Ours)
    torchreid.utils.set_random_seed(0)
    torch.backends.cudnn.benchmark = cuda
    manager = torchreid.data.ImageDataManager(
        sources="ours",
        height=spec["height"],
        width=spec["wide"],
        transforms=["random_flip", "random_erase"],
        use_gpu=cuda,
        batch_size_train=BATCH,
        workers=spec["workers"],
        num_instances=CROPS,
        train_sampler="RandomIdentitySampler",
    )
    name = f"osnet_x{float(spec['width'])}".replace(".", "_")
    model = torchreid.models.build_model(name, manager.num_train_pids, loss="triplet", pretrained=False, use_gpu=cuda)
    optimizer = torchreid.optim.build_optimizer(model.cuda() if cuda else model, optim="adam", lr=3e-4)
    engine = torchreid.engine.ImageTripletEngine(manager, model, optimizer, margin=0.3, use_gpu=cuda)
    engine.writer, engine.max_epoch = Meters(steps, 2 * steps), 1
    busy = Busy(cuda)
    with suppress(Enough):
        engine.train()
    seconds, waited, start, end = engine.writer.counted()
    return {
        "images": steps * BATCH,
        "images/s": steps * BATCH / seconds,
        "waiting": waited / seconds,
        "busy": busy.between(start, end),
        "parameters": parameters(model),
        "missing": missing,
    }


def long_epoch(crops: Sequence[Any], steps: int) -> list[tuple[str, int, int]]:
    """(path, person, camera) of the crops, repeated until torchreid's sampler finds so many batches in them."""
    cameras = sorted({str(c.camera) for c in crops})
    own: dict[str, list[Any]] = {}
    for crop in crops:
        own.setdefault(crop.pid, []).append(crop)
    hands = min(steps, 2 * steps * PEOPLE // len(own) + 10)  # a person is in PEOPLE of len(own) batches
    return [
        (crop.path, person, cameras.index(str(crop.camera)))
        for person, theirs in enumerate(own.values())
        for crop in itertools.islice(itertools.cycle(theirs), CROPS * hands)
    ]


class Enough(Exception):
    """The steps that are measured are done."""


class Meters:
    """Takes the place of torchreid's TensorBoard writer and keeps the two running means of time it is handed."""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last
        self.sums: dict[str, dict[int, float]] = {"Train/time": {}, "Train/data": {}}
        self.at: dict[int, float] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if name in self.sums:
            self.sums[name][step + 1] = value * (step + 1)
        if name == "Train/lr":  # the last of a step
            self.at[step + 1] = time.perf_counter()
            if step + 1 == self.last:
                raise Enough

    def counted(self) -> tuple[float, float, float, float]:
        """Seconds of the steps from `first` to `last`, those of them that data were waited for, start and end."""
        seconds, waited = (sums[self.last] - sums[self.first] for sums in self.sums.values())
        return seconds, waited, self.at[self.first], self.at[self.last]


def parameters(net: Any) -> int:
    return sum(p.numel() for p in net.parameters())


def people(crops: Sequence[Any]) -> int:
    return len({crop.pid for crop in crops})


# ── stand-ins for what torchreid imports ──


# ── all of them in turn ──


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Run this file once more for one measurement."""
    hide = {} if spec["device"] == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", __file__, "--measure", json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | hide)
    if done.returncode:
        sys.exit(f"{spec['loop']} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    workers = f", {spec['workers']} workers" if "workers" in spec else ""
    shown = f"{found['images/s']:.1f} images/s, waiting {found['waiting']:.1%}"
    print(f"OSNet ×{spec['width']}, {spec['loop']}{workers}: {shown}", file=sys.stderr, flush=True)
    return found


def crops_for(args: argparse.Namespace, folder: Path) -> Path:
    """A table of the crops that are trained on: whole people in sorted order, at least as many as a batch needs."""
    if args.data:
        ((_, every),) = named([args.data], None)
    else:
        every = draw_street(folder / "street", people=max(PEOPLE, min(64, args.crops // 9)))
        for crop in every:
            small = images.resize(images.read(crop.path), 128, 64)
            Path(crop.path).write_bytes(simplejpeg.encode_jpeg(small, 90, "RGB", "420"))
    chosen: list[Any] = []
    for crop in sorted(every, key=lambda c: str(c.pid)):
        if len(chosen) >= args.crops and people(chosen) >= PEOPLE and crop.pid != chosen[-1].pid:
            break
        chosen.append(crop)
    if people(chosen) < PEOPLE:
        sys.exit(f"{args.data} has {people(chosen)} people; a batch needs {PEOPLE}")
    chosen += [chosen[i % len(chosen)] for i in range(args.crops - len(chosen))]
    table.write(folder / "crops.csv", chosen)
    return folder / "crops.csv"


def rounds(args: argparse.Namespace, spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What each loop did in each round at one width; the first round settles torchreid's workers."""
    mixed = args.device == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ours = [loop for loop in OURS if mixed or loop != SINGLE]  # without bfloat16 all of them are in single precision
    found: dict[str, list[dict[str, Any]]] = {loop: [] for loop in (["torchreid"] if args.torchreid else []) + ours}
    workers = args.workers
    for _ in range(args.rounds):
        for loop, measured in found.items():
            if loop in OURS:
                measured.append(measure(spec | {"loop": loop}))
                continue
            tried = {w: measure(spec | {"loop": loop, "workers": w}) for w in workers}
            workers = [max(tried, key=lambda w: tried[w]["images/s"])]
            measured.append(tried[workers[0]] | {"workers": workers[0]})
    if len({m["parameters"] for measured in found.values() for m in measured}) > 1:
        sys.exit("the networks differ in their number of parameters")
    return found


def row(width: float, loop: str, found: dict[str, list[dict[str, Any]]]) -> str:
    """A row of the table: medians over the rounds, and the ratio's least and most."""
    measured = found[loop]

    def median(key: str, form: str) -> str:
        values = [m[key] for m in measured if m[key] is not None]
        return format(statistics.median(values), form) if values else "–"

    ratio = "–"
    if "torchreid" in found:
        each = [m["images/s"] / t["images/s"] for m, t in zip(measured, found["torchreid"], strict=True)]
        ratio = "1" if loop == "torchreid" else f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
    name = f"torchreid, {measured[-1]['workers']} workers" if loop == "torchreid" else loop
    cells = [f"×{width:g}", name, median("images/s", ".1f"), ratio, median("waiting", ".1%"), median("busy", ".0%")]
    return f"| {' | '.join(cells)} |"


def options() -> argparse.Namespace:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--torchreid", type=Path, metavar="PATH", help="a clone of deep-person-reid")
    parse.add_argument("--data", help="a folder or data set with people's names, instead of drawn crops")
    parse.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parse.add_argument("--widths", type=float, nargs="+", default=[0.5, 1.0], choices=(0.25, 0.5, 0.75, 1.0))
    parse.add_argument("--size", default="256x128", metavar="HxW")
    parse.add_argument("--crops", type=int, help="measured in each round (320; 12,800 on a GPU)")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--workers", type=int, nargs="+", default=[4, 2, 0], help="of torchreid's loader, to be tried")
    parse.add_argument("--measure", help=argparse.SUPPRESS)
    args = parse.parse_args()
    args.crops = args.crops or (12_800 if args.device == "cuda" else 320)
    if args.torchreid and not (args.torchreid / "torchreid" / "engine").is_dir():
        parse.error(f"{args.torchreid} holds no torchreid/engine; {CLONE}")
    return args


def main() -> None:
    args = options()
    if args.measure:
        spec = json.loads(args.measure)
        print("\n" + json.dumps((ours if spec["loop"] in OURS else theirs)(spec)))
        return
    if not args.torchreid:
        print(f"torchreid is left out; {CLONE}", file=sys.stderr)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here; leave --device out")
    height, wide = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        crops = crops_for(args, Path(folder))
        spec = {"crops": str(crops), "torchreid": str(args.torchreid), "device": args.device}
        spec |= {"height": height, "wide": wide}
        results = {width: rounds(args, spec | {"width": width}) for width in args.widths}
    every = [m for found in results.values() for measured in found.values() for m in measured]
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{device}, torch {torch.__version__}, {args.size}, {args.rounds} rounds of {every[0]['images']} images each")
    before = 1000 * statistics.median(m["before"] for m in every if "before" in m)
    print(f"reid looks at each file and decodes it before the first epoch: {before:.2f} ms a crop")
    if missing := {name for m in every for name in m.get("missing", ())}:
        print(f"stand-ins for {', '.join(sorted(missing))}")
    print("\n| OSNet | loop | images/s | ratio | waiting for data | GPU busy |\n|---|---|---|---|---|---|")
    for width, found in results.items():
        for loop in found:
            print(row(width, loop, found))


if __name__ == "__main__":
    main()
