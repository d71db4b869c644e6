"""A gallery in a file beside what one would pick instead, from 10,000 to 1,000,000 crops.

    python benchmarks/gallery.py [--rows 10000 100000 1000000] [--dim 512] [--only NAME …]

Contenders: `reid` (a gallery in one SQLite file), NumPy (float32 in a .npy file and one product), FAISS's flat indexes
in float32 and float16, sqlite-vec (through apsw) and LanceDB without an index; those not installed are left out.
All search exactly. Rows are people of 20 crops each, normalised, as a model gives them; 20 cameras, one crop a second.

Each contender adds the rows in batches of 2,000 that are on the disk before the next comes (FAISS and NumPy keep no log
and write one file at the end), and is then opened in a new process: seconds until the first answer, memory that the
process gained by then, the median of a query for the 50 nearest alone, and of one in a batch of 100 (of 10 where one
takes half a second); the same among two cameras of 20 (a tenth of the rows), and among the first nine tenths of the
time. Recall is the share of NumPy's answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH, K, QUERIES, CAMERAS, EACH = 2000, 50, 100, 20, 20
LONG = 500  # milliseconds of one query, from which batches are of ten


def rows(number: int, count: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch: vectors, cameras and times; people are drawn from their numbers, so that any batch can be made alone."""
    rng = np.random.default_rng(number)
    centres = rng.standard_normal((count // EACH + 1, dim), dtype=np.float32)
    vectors = np.repeat(centres, EACH, axis=0)[:count] + rng.standard_normal((count, dim), dtype=np.float32)
    at = np.arange(number * BATCH, number * BATCH + count)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), at % CAMERAS, at.astype(float)


def batches(total: int, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for number in range(-(-total // BATCH)):
        yield rows(number, min(BATCH, total - number * BATCH), dim)


def queries(total: int, dim: int) -> np.ndarray:
    """Crops like those of the gallery, of people in it."""
    rng = np.random.default_rng(12345)
    chosen = np.concatenate([rows(int(n), BATCH, dim)[0][:4] for n in rng.integers(0, total // BATCH, QUERIES // 4)])
    noisy = chosen + rng.standard_normal(chosen.shape, dtype=np.float32) / np.sqrt(dim)
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


class Reid:
    """A gallery in one SQLite file, through its store."""

    def __init__(self, folder: Path, dim: int):
        from reid.gallery.gallery import Gallery

        self.gallery = Gallery.open(folder / "people.db", "m", dim)

    def add(self, vectors: np.ndarray, cameras: np.ndarray, times: np.ndarray) -> None:
        from reid.types import Crop, Embeddings

        facts = zip(cameras.tolist(), times.tolist(), strict=True)
        crops = tuple(Crop(f"/crops/{t:09.0f}.jpg", f"{t // EACH:.0f}", str(c), t) for c, t in facts)
        self.gallery.add(Embeddings(vectors, crops, "m"))

    def done(self) -> None:
        self.gallery.close()

    def query(self, vectors: np.ndarray, cameras: list[int] | None = None, before: float | None = None) -> np.ndarray:
        from reid.gallery.rows import Where

        where = Where(cameras=None if cameras is None else frozenset(map(str, cameras)), before=before)
        return self.gallery.store.query(vectors, K, where).distances


class NumPy:
    """One array in single precision."""

    def __init__(self, folder: Path, dim: int):
        self.file, self.parts = folder / "vectors.npy", []
        if self.file.exists():
            self.vectors, self.facts = np.load(self.file), np.load(folder / "facts.npy")
            self.squares = np.einsum("nd,nd->n", self.vectors, self.vectors)

    def add(self, *part: np.ndarray) -> None:
        self.parts.append(part)

    def done(self) -> None:
        np.save(self.file, np.concatenate([p[0] for p in self.parts]))
        np.save(self.file.with_name("facts.npy"), np.concatenate([np.stack(p[1:], axis=1) for p in self.parts]))

    def query(self, vectors: np.ndarray, cameras: list[int] | None = None, before: float | None = None) -> np.ndarray:
        gallery, squares = self.vectors, self.squares
        if cameras is not None or before is not None:
            mask = np.isin(self.facts[:, 0], cameras) if cameras is not None else self.facts[:, 1] <= before
            gallery, squares = gallery[mask], squares[mask]
        scores = vectors @ gallery.T
        scores *= -2
        scores += squares
        best = np.argpartition(scores, K - 1, axis=1)[:, :K]
        found = np.take_along_axis(scores, best, axis=1) + np.einsum("nd,nd->n", vectors, vectors)[:, None]
        return np.sqrt(np.maximum(np.sort(found, axis=1), 0))


class Faiss:
    """A flat index; the filter is a selector."""

    kind = "Flat"

    def __init__(self, folder: Path, dim: int):
        import faiss

        self.faiss, self.file, self.facts = faiss, folder / "index", []
        if self.file.exists():
            self.index, self.known = faiss.read_index(str(self.file)), np.load(folder / "facts.npy")
        else:
            self.index = faiss.index_factory(dim, self.kind)

    def add(self, vectors: np.ndarray, cameras: np.ndarray, times: np.ndarray) -> None:
        self.index.add(vectors)
        self.facts.append(np.stack([cameras, times], axis=1))

    def done(self) -> None:
        self.faiss.write_index(self.index, str(self.file))
        np.save(self.file.with_name("facts.npy"), np.concatenate(self.facts))

    def query(self, vectors: np.ndarray, cameras: list[int] | None = None, before: float | None = None) -> np.ndarray:
        options = {}
        if cameras is not None or before is not None:
            mask = np.isin(self.known[:, 0], cameras) if cameras is not None else self.known[:, 1] <= before
            chosen = self.faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            options["params"] = self.faiss.SearchParameters(sel=chosen)
        return np.sqrt(np.maximum(self.index.search(vectors, K, **options)[0], 0))


class FaissHalf(Faiss):
    """The same in half precision."""

    kind = "SQfp16"


class SqliteVec:
    """sqlite-vec's virtual table, with the camera and the time as metadata columns."""

    def __init__(self, folder: Path, dim: int):
        import apsw
        import sqlite_vec

        self.connection = apsw.Connection(str(folder / "vec.db"))
        self.connection.enable_load_extension(True)
        sqlite_vec.load(self.connection)
        self.connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
        self.connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS v USING vec0(embedding float[{dim}], camera integer, time float)"
        )

    def add(self, vectors: np.ndarray, cameras: np.ndarray, times: np.ndarray) -> None:
        with self.connection:
            facts = zip(vectors, cameras.tolist(), times.tolist(), strict=True)
            values = ((v.tobytes(), c, t) for v, c, t in facts)
            self.connection.executemany("INSERT INTO v (embedding, camera, time) VALUES (?, ?, ?)", values)

    def done(self) -> None:
        self.connection.close()

    def query(self, vectors: np.ndarray, cameras: list[int] | None = None, before: float | None = None) -> np.ndarray:
        only = f" AND camera IN ({','.join(map(str, cameras))})" if cameras is not None else ""
        only += f" AND time <= {before}" if before is not None else ""
        sql = f"SELECT distance FROM v WHERE embedding MATCH ? AND k = {K}{only} ORDER BY distance"
        return np.array([[d for (d,) in self.connection.execute(sql, (v.tobytes(),))] for v in vectors])


class Lance:
    """A LanceDB table without an index."""

    def __init__(self, folder: Path, dim: int):
        import lancedb

        self.database = lancedb.connect(str(folder / "lance"))
        self.table = self.database.open_table("v") if (folder / "lance" / "v.lance").exists() else None

    def add(self, vectors: np.ndarray, cameras: np.ndarray, times: np.ndarray) -> None:
        import pyarrow as pa

        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        part = pa.table({"vector": flat, "camera": pa.array(cameras), "time": pa.array(times)})
        if self.table is None:
            self.table = self.database.create_table("v", part)
        else:
            self.table.add(part)

    def done(self) -> None:
        pass

    def query(self, vectors: np.ndarray, cameras: list[int] | None = None, before: float | None = None) -> np.ndarray:
        only = f"camera IN ({','.join(map(str, cameras))})" if cameras is not None else None
        only = f"time <= {before}" if before is not None else only
        found = []
        for vector in vectors:
            search = self.table.search(vector).limit(K)
            answer = (search.where(only, prefilter=True) if only else search).to_arrow()
            found.append(np.sqrt(np.maximum(answer["_distance"].to_numpy(), 0)))
        return np.array(found)


CONTENDERS: dict[str, type[Any]] = {
    "reid": Reid,
    "NumPy": NumPy,
    "FAISS Flat": Faiss,
    "FAISS fp16": FaissHalf,
    "sqlite-vec": SqliteVec,
    "LanceDB": Lance,
}


def resident() -> float:
    """MiB of this process's own memory and of files it has mapped."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def median(work: Callable[[], object], seconds: float, most: int = 40) -> float:
    """Milliseconds, of as many runs as fit into some seconds, three at least."""
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < seconds and len(spent) < most):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return 1000 * float(np.median(spent))


def fill(name: str, folder: Path, total: int, dim: int) -> dict[str, float]:
    store, spent = CONTENDERS[name](folder, dim), 0.0
    for part in batches(total, dim):
        started = time.perf_counter()
        store.add(*part)
        spent += time.perf_counter() - started
    started = time.perf_counter()
    store.done()
    spent += time.perf_counter() - started
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    return {"rows/s": total / spent, "MB on disk": size}


def measure(name: str, folder: Path, total: int, dim: int, seconds: float) -> dict[str, float]:

    wanted, truth = queries(total, dim), folder.parent / "truth.npy"
    np.matmul(wanted, wanted.T)
    before, started = resident(), time.perf_counter()
    store = CONTENDERS[name](folder, dim)
    store.query(wanted[:1])
    row = {"open s": time.perf_counter() - started}
    turn = iter(range(10**9))

    def one(**only: Any) -> Callable[[], object]:
        return lambda: store.query(wanted[[next(turn) % QUERIES]], **only)

    row["one ms"] = median(one(), seconds)
    slow = row["one ms"] > LONG
    batch = (lambda: store.query(wanted[:10])) if slow else (lambda: store.query(wanted))
    row["of 100 ms"] = median(batch, seconds, 7) / (10 if slow else QUERIES)
    row["a tenth ms"] = median(one(cameras=[3, 7]), seconds)
    row["nine tenths ms"] = median(one(before=total * 0.9 - 1), seconds)
    row["MiB"] = resident() - before
    found = store.query(wanted[:20])
    if name == "NumPy":
        np.save(truth, found)
    expected = np.load(truth) if truth.exists() else found
    row["recall"] = float((found <= expected[:, -1:] + 1e-3).mean())
    return row


def child(*arguments: object) -> dict[str, float] | None:
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=4, help="of each figure (default: 4)")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS))
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        what, name, folder = args.step
        total = args.rows[0]
        work = fill(name, Path(folder), total, args.dim) if what == "fill" else None
        print(json.dumps(work or measure(name, Path(folder), total, args.dim, args.seconds)))
        return
    columns: list[str] = []
    for total in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
            for name in sorted(args.only or CONTENDERS, key=lambda n: n != "NumPy"):
                folder = Path(scratch) / name.replace(" ", "-")
                folder.mkdir()
                options = ("--rows", total, "--dim", args.dim, "--seconds", args.seconds)
                filled = child("--step", "fill", name, folder, *options)
                measured = filled and child("--step", "measure", name, folder, *options)
                if not filled or not measured:
                    print(f"| {total:,} | {name} | could not be measured |", flush=True)
                    continue
                row = filled | measured
                if not columns:
                    columns = list(row)
                    print(f"{args.dim} values, {os.cpu_count()} cores, top {K}")
                    print(f"| rows | | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
                cells = [f"{row[c]:.3g}" if row[c] < 100 else f"{row[c]:,.0f}" for c in columns]
                print(f"| {total:,} | {name} | {' | '.join(cells)} |", flush=True)
                for file in folder.rglob("*"):
                    if file.is_file():
                        file.unlink()


if __name__ == "__main__":
    main()
