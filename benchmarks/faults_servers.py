"""Servers of galleries killed with SIGKILL in the middle of writing, again and again.

    python benchmarks/faults_servers.py [--rounds 20] [--stores postgresql milvus]

Each round a thread writes, replaces and deletes batches of random size; the server is killed at a random moment and
started again on the same data; then every row is compared with what was acknowledged: what was written is there, what
was deleted is not, and of the one operation that was cut off PostgreSQL has all or nothing, Milvus each row whole.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.servers import Milvus, Postgresql

from reid.errors import DataError
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.copy import digests
from reid.gallery.rows import Rows, Where, half, row_ids
from reid.gallery.store import Store
from reid.types import Crop

DIM, NAMES = 64, 2000
LATE = 20.0  # seconds in which an answer that lacks rows may become complete
State = dict[int, bytes]  # row: digest of all that is in it


def drawn(rng: random.Random) -> Rows:
    numbers = rng.sample(range(NAMES), rng.choice([1, 10, 100, 500]))
    crops = tuple(Crop(f"{n}.jpg", f"p{rng.randrange(20)}", str(n % 7), rng.random()) for n in numbers)
    vectors = half(np.random.default_rng(rng.randrange(1 << 30)).normal(size=(len(crops), DIM)))
    pictures = tuple(rng.randbytes(rng.choice([10, 3000])) for _ in crops)
    ids = np.array(row_ids(crops), np.int64)
    return Rows(ids, vectors, crops, (frozenset(),) * len(ids), pictures, np.full(len(ids), rng.random()))


class Writer(threading.Thread):
    """Changes a store until it cannot be reached; keeps what was acknowledged and what was cut off."""

    def __init__(self, store: Store, state: State, rng: random.Random):
        super().__init__()
        self.store, self.state, self.rng = store, state, rng
        self.done, self.before, self.after = 0, dict(state), dict(state)

    def run(self) -> None:
        while True:
            self.before = self.after
            self.after = dict(self.before)
            try:
                if self.rng.random() < 0.2 and self.before:
                    gone = frozenset(self.rng.sample(sorted(self.before), min(40, len(self.before))))
                    self.after = {row: digest for row, digest in self.before.items() if row not in gone}
                    self.store.delete(Where(ids=gone))
                else:
                    rows = drawn(self.rng)
                    self.after |= zip(rows.ids.tolist(), digests(rows), strict=True)
                    self.store.upsert(rows)
            except DataError:
                return
            self.done += 1


def there(store: Store, seconds: float = 120) -> State:
    """What a store holds, once its server answers again."""
    end = time.monotonic() + seconds
    while True:
        try:
            return {
                row: digest
                for rows in store.fetch(Where())
                for row, digest in zip(rows.ids.tolist(), digests(rows), strict=True)
            }
        except DataError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def check(name: str, found: State, writer: Writer) -> tuple[dict[str, int], int]:
    """How many rows are not what was acknowledged, and whether the operation that was cut off is there."""
    before, after = writer.before, writer.after
    either = {row: (before.get(row), after.get(row)) for row in {*found, *before, *after}}
    wrong = {
        "lost": sum(row not in found and None not in known for row, known in either.items()),
        "back again": sum(row in found and known == (None, None) for row, known in either.items()),
        "older": sum(row in found and any(known) and found[row] not in known for row, known in either.items()),
        "half": int(name == "postgresql" and found not in (before, after)),
    }
    return wrong, int(found == after != before)


def torture(name: str, rounds: int, seed: int) -> dict[str, object]:
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix=f"reid-faults-{name}-"))
    server = Postgresql(folder) if name == "postgresql" else Milvus(folder)
    acknowledged, kept, wrong, starts, late = 0, 0, dict[str, int](), list[float](), list[float]()
    try:
        address = Address.parse(server.fresh("people"))
        store, state = STORES[address.scheme](address, "drawn", DIM), State()
        for _ in range(rounds):
            writer = Writer(store, state, rng)
            writer.start()
            time.sleep(rng.uniform(0.1, 3))
            server.kill()
            writer.join()
            begun = time.monotonic()
            server.start()
            state = there(store)
            starts.append(time.monotonic() - begun)
            found = check(name, state, writer)
            begun = time.monotonic()
            while any(found[0].values()) and time.monotonic() - begun < LATE:
                time.sleep(0.5)
                state = there(store)
                found, late = check(name, state, writer), [*late, time.monotonic() - begun]
            acknowledged, kept = acknowledged + writer.done, kept + found[1]
            wrong = {what: wrong.get(what, 0) + many for what, many in found[0].items()}
            print(name, writer.done, found[0], file=sys.stderr, flush=True)
        store.close()
        return {
            "store": name,
            "rounds": rounds,
            "acknowledged": acknowledged,
            "rows wrong or lost": wrong,
            "cut off but kept": kept,
            "rows": len(state),
            "all there again after s": round(max(late, default=0), 1),
            "back after s": round(float(np.median(starts)), 1),
        }
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--stores", nargs="+", default=["postgresql", "milvus"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.stores:
        print(json.dumps(torture(name, args.rounds, args.seed)), flush=True)


if __name__ == "__main__":
    main()
