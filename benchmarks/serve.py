"""How many searches a second the service answers at saturation, and how long they take, with and without batching.

    python benchmarks/serve.py [--rows 100000] [--seconds 15] [--at-once 1 16 64]

Makes a gallery of so many crops with random vectors around 1,000 centres, starts `reid serve` on it once with batches
and once without (--batch 1), and asks from so many connections at once, each with its next request as soon as the last
is answered: searches from a crop of the gallery (no inference), and searches for an uploaded crop of 256×128. The
client is part of this process and takes its share of the same cores. Prints requests a second, the median and the 99th
percentile of the time of an answer, and how many searches shared one look at the gallery.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import simplejpeg

from reid import street
from reid.distance import normalise
from reid.embed import Embedder
from reid.gallery.gallery import Gallery
from reid.gallery.rows import row_ids
from reid.images import resize
from reid.types import Crop, Embeddings

PART = 20_000


def fill(path: Path, rows: int) -> list[int]:
    """A gallery of so many rows, and the ids of some of them."""
    embedder, rng = Embedder(), np.random.default_rng(0)
    centres = normalise(rng.normal(size=(1000, embedder.dim)).astype(np.float32))
    with Gallery.open(path, embedder.fingerprint, embedder.dim) as gallery:
        for start in range(0, rows, PART):
            count = min(PART, rows - start)
            owners = rng.integers(0, 1000, count)
            vectors = normalise(centres[owners] + rng.normal(scale=0.03, size=(count, embedder.dim)).astype(np.float32))
            crops = [Crop(f"{start + i}.jpg", camera=f"c{i % 16}", time=float(start + i)) for i in range(count)]
            gallery.add(Embeddings(vectors.astype(np.float32), tuple(crops), embedder.fingerprint))
    return row_ids([Crop(f"{i}.jpg") for i in range(0, rows, max(1, rows // 500))])


def by_id(ids: list[int]) -> list[bytes]:
    """Requests for searches from crops."""
    return [f"GET /v1/crops/{i}/similar?k=10 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for i in ids]


def by_upload(count: int = 50) -> list[bytes]:
    """Requests for searches of drawn people."""
    requests = []
    for number in range(count):
        picture = resize(street.draw_person(street.look(number, 0), seed=number), 256, 128)
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 90, "RGB", "420")
        part = b'--x\r\nContent-Disposition: form-data; name="crop"; filename="a"\r\n\r\n' + jpeg + b"\r\n"
        body = part + b'--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n10\r\n--x--\r\n'
        head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return requests


async def connection(port: int, requests: Iterator[bytes], until: float, taken: list[float]) -> None:
    """Ask, and ask again, over one connection; the seconds that each answer took go into `taken`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer was {head.splitlines()[0].decode()}")
        size = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        await reader.readexactly(int(size.split(b":")[1]))
        taken.append(time.perf_counter() - started)
    writer.close()


async def load(port: int, requests: list[bytes], at_once: int, seconds: float) -> list[float]:
    """The seconds that each answer took, of all connections."""

    def endless() -> Iterator[bytes]:
        place = 0
        while True:
            place += 1
            yield requests[place % len(requests)]

    taken: list[float] = []
    source, until = endless(), time.perf_counter() + seconds
    await asyncio.gather(*(connection(port, source, until, taken) for _ in range(at_once)))
    return taken


def shared(url: str, work: str) -> tuple[float, float]:
    """How many items there were of some work, and in how many batches."""
    lines = httpx.get(f"{url}/v1/metrics", timeout=60, trust_env=False).text.splitlines()

    def value(what: str) -> float:
        return next(
            (float(line.split()[1]) for line in lines if line.startswith(f'reid_batch_items_{what}{{work="{work}"}}')),
            0.0,
        )

    return value("sum"), value("count")


def measure(
    path: Path, batch: int, kinds: dict[str, list[bytes]], at_once: list[int], seconds: float
) -> dict[str, float]:
    """Start a service, load it, print, and give requests a second by kind and connections."""
    command = [sys.executable, "-m", "reid", "serve", str(path), "--port", "0", "--json", "--rate", "0"]
    command += ["--at-once", str(max(64, *at_once)), "--batch", str(batch)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rates = {}
    try:
        assert service.stdout
        url = json.loads(service.stdout.readline())["url"].rstrip("/")
        port = httpx.URL(url).port or 80
        for kind, requests in kinds.items():
            asyncio.run(load(port, requests, 4, 2))
            for count in at_once:
                before = shared(url, "search")
                began = time.perf_counter()
                taken = np.array(asyncio.run(load(port, requests, count, seconds)))
                rate = len(taken) / (time.perf_counter() - began)
                after = shared(url, "search")
                mean = (after[0] - before[0]) / max(1, after[1] - before[1])
                median, late = 1000 * np.quantile(taken, [0.5, 0.99])
                print(
                    f"{kind:<10} {batch:>5} {count:>8} {rate:>10.1f} {median:>8.1f} {late:>8.1f} {mean:>8.1f}",
                    flush=True,
                )
                rates[f"{kind}, {count} at once"] = rate
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
    return rates


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--rows", type=int, default=100_000)
    parse.add_argument("--seconds", type=float, default=15)
    parse.add_argument("--at-once", type=int, nargs="+", default=[1, 16, 64])
    parse.add_argument("--batch", type=int, default=16)
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.db"
        began = time.perf_counter()
        kinds = {"by crop": by_id(fill(path, args.rows)), "by upload": by_upload()}
        print(f"{args.rows:,} rows written in {time.perf_counter() - began:.1f} s, {os.cpu_count()} cores")
        print(f"{'search':<10} {'batch':>5} {'at once':>8} {'a second':>10} {'p50 ms':>8} {'p99 ms':>8} {'shared':>8}")
        off = measure(path, 1, kinds, args.at_once, args.seconds)
        on = measure(path, args.batch, kinds, args.at_once, args.seconds)
    print("gain of batching:", ", ".join(f"{name} ×{on[name] / off[name]:.2f}" for name in on))


if __name__ == "__main__":
    main()
