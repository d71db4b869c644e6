"""The three stores of galleries beside one another: writing, searching, erasing, and what they take.

    python benchmarks/stores.py [--rows 100000] [--dim 512] [--stores sqlite postgresql milvus milvus-hnsw]

Drawn people of 20 crops each, 20 cameras. Servers start on this machine with their own settings but for what
tests/servers.py says; PostgreSQL waits for the disk. Times are medians; a filter admits two cameras, a tenth of the
rows. Recall@50 is against an exact search in float64. `python scripts/milvus` fetches the Milvus server.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.servers import Milvus, Postgresql

from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.rows import Rows, Where, half, row_ids
from reid.gallery.store import Store
from reid.types import Crop, Vectors

BATCH, K, EACH, CAMERAS = 2000, 50, 20, 20
NAMES = ("sqlite", "postgresql", "milvus", "milvus-hnsw")


def drawn(count: int, dim: int, seed: int) -> Vectors:
    """Crops of people around centres, at unit length."""
    people = np.random.default_rng(0).normal(size=(max(1, count // EACH), dim)).astype(np.float32)
    rng = np.random.default_rng(seed)
    vectors = people[rng.integers(len(people), size=count)] + 0.8 * rng.normal(size=(count, dim)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def batch(vectors: Vectors, start: int) -> Rows:
    part = half(vectors[start : start + BATCH])
    crops = tuple(
        Crop(f"/data/crops/{i:09d}.jpg", f"person {i // EACH}", f"camera {i % CAMERAS}", float(i))
        for i in range(start, start + len(part))
    )
    ids = np.array(row_ids(crops), np.int64)
    return Rows(ids, part, crops, (frozenset(),) * len(ids), (None,) * len(ids), np.full(len(ids), 1.7e9))


def median(do: Callable[[], object], times: int) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        do()
        taken.append(time.perf_counter() - start)
    return 1000 * float(np.median(taken))


def megabytes(folder: Path) -> float:
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()) / 1e6


def resident(process: psutil.Process) -> float:
    """Megabytes that a process and its children hold and share with nobody."""
    return sum(p.memory_full_info().uss for p in [process, *process.children(recursive=True)]) / 1e6


def recall(store: Store, queries: Vectors, vectors: Vectors, ids: np.ndarray) -> float:
    rounded = half(vectors).astype(np.float64)
    found = store.query(queries, K, Where()).ids
    shares = []
    for query, answer in zip(queries, found, strict=True):
        nearest = np.argpartition(np.linalg.norm(rounded - query, axis=1), K)[:K]
        shares.append(len(set(ids[nearest].tolist()) & set(answer.tolist())) / K)
    return float(np.mean(shares))


def measure(address: str, folder: Path, server: psutil.Process, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    parsed = Address.parse(address)
    store = STORES[parsed.scheme](parsed, "drawn", vectors.shape[1])
    batches = [batch(vectors, start) for start in range(0, len(vectors), BATCH)]
    start = time.perf_counter()
    for rows in batches:
        store.upsert(rows)
    seen = {"rows written/s": len(vectors) / (time.perf_counter() - start)}
    if parsed.options.get("index") == "hnsw":
        start = time.perf_counter()
        settle(store)
        seen["index s"] = time.perf_counter() - start
    some = Where(cameras=frozenset(["camera 3", "camera 7"]))
    for name, many, where, times in (
        ("one query ms", 1, Where(), 20), ("100 queries ms", 100, Where(), 5),
        ("one, filtered ms", 1, some, 20), ("100, filtered ms", 100, some, 5),
    ):  # fmt: skip
        store.query(queries[:many], K, where)
        seen[name] = median(lambda many=many, where=where: store.query(queries[:many], K, where), times)
    ids = np.concatenate([rows.ids for rows in batches])
    seen["recall@50"] = recall(store, queries[:50], vectors, ids)
    seen["20 rows by id ms"] = median(lambda: list(store.fetch(Where(ids=frozenset(ids[:20].tolist())))), 10)
    start = time.perf_counter()
    total = sum(len(rows) for rows in store.fetch(Where()))
    seen["rows read/s"] = total / (time.perf_counter() - start)
    seen["memory MB"], seen["disk MB"] = resident(server), megabytes(folder)
    seen["erase a person ms"] = median(iter_erase(store), 3)
    store.close()
    start = time.perf_counter()
    STORES[parsed.scheme](parsed, None, None).close()
    seen["open ms"] = 1000 * (time.perf_counter() - start)
    return seen


def iter_erase(store: Store) -> Callable[[], int]:
    people = iter(range(1000))
    return lambda: store.delete(Where(people=frozenset([f"person {next(people)}"])))


def settle(store: Store) -> None:
    """Wait until Milvus has built its index."""
    store._client.flush(store._name)
    while store._client.describe_index(store._name, "vector")["pending_index_rows"]:
        time.sleep(0.2)
    store._client.refresh_load(store._name)


def run(name: str, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix=f"reid-stores-{name}-"))
    try:
        if name == "sqlite":
            return measure(str(folder / "people.db"), folder, psutil.Process(), vectors, queries)
        server = Postgresql(folder) if name == "postgresql" else Milvus(folder)
        try:
            address = server.fresh("people").replace("compact=no", "index=hnsw" if name.endswith("hnsw") else "")
            return measure(address, folder, psutil.Process(server.pid), vectors, queries)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--stores", nargs="+", default=[*NAMES], choices=NAMES)
    args = parser.parse_args()
    vectors, queries = drawn(args.rows, args.dim, 1), drawn(args.rows, args.dim, 2)[:100]
    seen = {}
    for name in args.stores:
        seen[name] = run(name, vectors, queries)
        print(name, json.dumps(seen[name]), file=sys.stderr, flush=True)
    names = list(dict.fromkeys(key for one in seen.values() for key in one))
    print(f"{args.rows:,} × {args.dim}".ljust(20), *(name.rjust(12) for name in seen))
    for key in names:
        cells = [f"{one[key]:12,.{3 if 'recall' in key else 1}f}" if key in one else " " * 12 for one in seen.values()]
        print(key.ljust(20), *cells)


if __name__ == "__main__":
    main()
