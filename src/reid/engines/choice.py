"""Which engine, in what batches, runs a model fastest here: measured once, and remembered in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from reid import cache
from reid.disk import replacing
from reid.engines import Engine, able, reopen
from reid.errors import ReidError
from reid.images import RGB, Preprocess

REMEMBERED = "engines.json"
PACKAGES = ("onnxruntime", "openvino", "torch")
TURNS = 2  # that each engine gets, after one another, as a machine may be busy for a while
BATCHES = (1, 4, 16)  # images per inference that are tried; few stay in a core's own cache, many cost fewer calls
MARGIN = 1.05  # by which another engine must be faster to be worth the change


def fastest(path: Path, own: Engine, preprocess: Preprocess, threads: int, batch: int | None) -> Engine:
    """The engine to run a model file with from now on, its usual batch set to the size that went fastest.

    Those that can run it are timed on a few batches of noise, as many at a time as there are threads, unless this was
    done before for the same file, processor, versions, threads and batch. PyTorch is among them on a GPU only; it is
    the slowest on a CPU, and slow to import.

    Args:
        path: of the model file.
        own: the engine that it was opened with, which the others must agree with.
        preprocess: how the model wants its pictures.
        threads: that work at once, each on a batch of its own.
        batch: images per inference, if somebody decided.
    """
    names = [name for name in able(path) if name != "torch" or _gpu() or name == own.name]
    if len(names) < 2:
        return own
    key = _key(own, preprocess, threads, batch)
    known = recall().get(key)
    if isinstance(known, dict) and known.get("engine") in names and isinstance(known.get("batch"), int):
        with suppress(ReidError):
            return _set(reopen(path, own, preprocess, known["engine"], "fp32"), known["batch"])
    rates: dict[tuple[str, int], float] = {}
    opened: dict[str, Engine] = {}
    for name in names * TURNS:
        with suppress(ReidError):  # an engine that cannot run this file, or not as its own does, takes no part
            engine = opened[name] = opened.get(name) or reopen(path, own, preprocess, name, "fp32")
            fixed = batch or engine.batch or (engine.usual if engine.alone else None)
            for size in (fixed,) if fixed else BATCHES:
                found = rate(engine, preprocess, threads, size, rounds=1)
                rates[name, size] = max(rates.get((name, size), 0.0), found)
    if not rates:
        return own
    name, size = max(rates, key=lambda way: rates[way] * (MARGIN if way[0] == own.name else 1))
    seen = {f"{n}, {b} at a time": round(r, 1) for (n, b), r in rates.items()}
    _remember(key, {"engine": name, "batch": size, "model": path.name, "images/s": seen})
    return _set(opened[name], size)


def _set(engine: Engine, batch: int) -> Engine:
    """The engine, with that as its usual batch."""
    engine.usual = batch
    return engine


def rate(engine: Engine, preprocess: Preprocess, threads: int, batch: int, rounds: int = 2) -> float:
    """Images per second where each of so many threads runs batches of its own, as `Embedder.stream` does."""
    size = engine.batch or batch
    noise: RGB = np.random.default_rng(0).integers(
        0, 256, (size, preprocess.height, preprocess.width, 3), dtype=np.uint8
    )
    with ThreadPoolExecutor(threads) as pool:

        def once() -> float:
            started = time.perf_counter()
            list(pool.map(lambda _: engine.run(noise, preprocess, 1), range(threads)))
            return threads * size / (time.perf_counter() - started)

        once()  # compiles, and fills caches
        return max(once() for _ in range(rounds))


def recall() -> dict[str, object]:
    """What was measured before, by key; empty where nothing was, or where the file is damaged."""
    try:
        found = json.loads((cache.folder() / REMEMBERED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(key: str, entry: dict[str, object]) -> None:
    with suppress(OSError):  # without a cache it is measured again the next time
        cache.folder().mkdir(parents=True, exist_ok=True)
        with replacing(cache.folder() / REMEMBERED) as partial:
            partial.write_text(json.dumps(recall() | {key: entry}, indent=1))


def _key(own: Engine, preprocess: Preprocess, threads: int, batch: int | None) -> str:
    versions = []
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    model = hashlib.sha256(own.data).hexdigest()
    size = preprocess.height, preprocess.width
    known = model, size, processor(), os.cpu_count(), _gpu(), threads, batch, versions
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]


def processor() -> str:
    """What the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> bool:
    """Whether there is an NVIDIA GPU to ask PyTorch about, told without importing it."""
    return Path("/dev/nvidiactl").exists()
