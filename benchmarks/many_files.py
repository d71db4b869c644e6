"""A hundred thousand small files through `reid embed`, killed half way and started again.

    python benchmarks/many_files.py [--files 100000]

Prints the peak memory of a small and of the large run, what was on disk when the process was killed, and how many
crops the second process embedded; the result is compared row by row with one made in one go from a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from reid.embed import Embedder
from reid.street import draw_street
from reid.types import Embeddings

CODE = """
import json, resource, sys, time
from reid.cli import main
started = time.perf_counter()
main(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": round(time.perf_counter() - started, 1), "peak MiB": usage.ru_maxrss >> 10}))
"""


def embed(folder: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CODE, "embed", str(folder), "-o", str(out), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    done, usage = map(json.loads, process.stdout.read().splitlines())
    if process.wait():
        raise SystemExit("reid embed failed")
    return {k: v for k, v in done.items() if k == "embedded"} | usage


def resident(pid: int) -> int:
    """MiB of memory a running process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--files", type=int, default=100_000)
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        street, small, large = (Path(temporary, name) for name in ("street", "small", "large"))
        drawn = [Path(c.path).read_bytes() for c in draw_street(street, people=24)]
        for folder, count in ((small, 1000), (large, args.files)):
            for i in range(count):
                path = folder / f"{i // 1000:04}" / f"{i:07}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn[i % len(drawn)])
        result: dict[str, object] = {"1,000 files": finish(embed(small, Path(temporary, "small.npz")))}

        out = Path(temporary, "large.npz")
        rows, vectors = out.with_name("large.npz.rows"), out.with_name("large.npz.vectors")
        process, held = embed(large, out), []
        half = args.files * Embedder().dim * 4 // 2
        while not vectors.exists() or vectors.stat().st_size < half:
            time.sleep(1)
            held.append(resident(process.pid))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = json.loads(rows.read_bytes().rsplit(b"\n", 2)[-2])["done"]
        tenth = max(1, len(held) // 10)
        result["memory while it ran, MiB"] = {"early": max(held[tenth : 2 * tenth]), "late": max(held[-tenth:])}
        before = vectors.read_bytes()[: kept * Embedder().dim * 4]
        again = finish(embed(large, out))
        made = Embeddings.load(out)
        result[f"{args.files:,} files, killed and started again"] = {
            "on disk when killed": kept,
            "embedded by the second process": args.files - kept,
            "rows in the end": len(made),
            "rows in the wrong place": sum(c.name != f"{i:07}.jpg" for i, c in enumerate(made.crops)),
            "rows from before the kill unchanged": made.vectors.tobytes().startswith(before),
            "second process": again,
        }
        sample = np.random.default_rng(0).integers(0, args.files, 64)
        fresh = Embedder()([made.crops[i] for i in sample]).vectors
        result["largest difference to 64 embedded alone"] = float(np.abs(fresh - made.vectors[sample]).max())
        result["cores"] = os.cpu_count()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
