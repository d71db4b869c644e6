"""`reid search one.jpg folder/` from a cold start: where the time goes.

    python benchmarks/cold_search.py [--crops 1000] [--rounds 5]

Each round is a new process with an empty cache. The wall time is "start" (the interpreter, imports, opening the model,
reading names, printing), "embed" and "search". Embedding runs on every core; it is split into decoding and inference in
proportion to the thread-seconds these took. A last round finds the cache filled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reid.street import draw_street


def search(query: str, folder: Path, cache: Path) -> dict[str, float]:
    """One process; its wall time and what it says of its parts, in seconds."""
    command = [sys.executable, "-m", "reid", "search", query, str(folder), "--json"]
    started = time.perf_counter()
    out = subprocess.run(command, env=os.environ | {"XDG_CACHE_HOME": str(cache)}, capture_output=True, check=True)
    wall = time.perf_counter() - started
    inside = json.loads(out.stdout)["seconds"]
    share = inside["waiting"] / (inside["decode"] + inside["inference"])
    return {
        "whole": wall,
        "start": wall - inside["waiting"] - inside["search"],
        "decode": share * inside["decode"],
        "inference": share * inside["inference"],
        "search": inside["search"],
    }


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--crops", type=int, default=1000)
    parse.add_argument("--rounds", type=int, default=5)
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        street, folder = Path(temporary, "street"), Path(temporary, "crops")
        folder.mkdir()
        drawn = draw_street(street, people=100)[: args.crops]
        for i, crop in enumerate(drawn):
            Path(crop.path).rename(folder / f"{i:05}.jpg")
        query = str(folder / "00000.jpg")
        cold = [search(query, folder, Path(temporary, f"cache{i}")) for i in range(args.rounds)]
        warm = search(query, folder, Path(temporary, "cache0"))
    parts = {name: round(statistics.median(r[name] for r in cold), 3) for name in cold[0]}
    print(json.dumps({"crops": len(drawn), "cores": os.cpu_count(), "cold, median": parts, "cached": warm}, indent=2))


if __name__ == "__main__":
    main()
