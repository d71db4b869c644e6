"""Galleries under fire: killed in the middle of writing, on a full disk, with many at once.

    python benchmarks/faults.py kill [--rounds 200] [--address FILE.db]     kill -9 at random moments of mixed writes
    python benchmarks/faults.py full [--megabytes 12 | --folder SMALL_DISK]   a disk that fills up
    python benchmarks/faults.py crowd [--minutes 2]                         two writers and ten readers

`kill` starts a process that adds, names, erases and judges crops, and says on its output what it is going to do and
what was done; kills it; opens the gallery, and compares it row by row with what was said: what was done is there, what
was being done is there whole or not at all, and the log's chain holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid.errors import DataError, ReidError
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Rows, Where, half, row_ids
from reid.types import Crop, Embeddings

DIM, MODEL = 64, "faults"
ROOM = 20 << 20  # that is freed for erasing, which takes over SQLite's log of changes first, 16 MB at most
State = dict[int, tuple[int, str | None]]  # batch: how many crops, of whom; a batch that is not in it is gone


def batch(number: int, count: int, pid: str | None = None) -> Embeddings:
    """The crops of one addition, the same each time."""
    vectors = half(np.random.default_rng(number).normal(size=(count, DIM))).astype(np.float32)
    crops = tuple(Crop(f"b{number}/{i}.jpg", pid, str(number % 7), float(i), f"b{number}") for i in range(count))
    return Embeddings(vectors, crops, MODEL)


def rows_of(number: int) -> Where:
    return Where(tracklets=frozenset([f"b{number}"]))


def plan(state: State, number: int, rng: random.Random) -> tuple[str, int, int, str | None]:
    """What to do next: (what, which batch, how many crops, whom)."""
    what = rng.choice(["add", "add", "name", "erase", "judge"])
    if what == "add" or len(state) < 3:
        return "add", number, rng.choice([1, 7, 60, 400]), None
    chosen = rng.choice(sorted(state))
    return what, chosen, state[chosen][0], f"p{rng.randrange(5)}" if what == "name" else None


def do(gallery: Gallery, what: str, number: int, count: int, pid: str | None) -> None:
    if what == "add":
        pictures = [b"picture %d" % number] * count
        gallery.add(batch(number, count), pictures=pictures)
    elif what == "name":
        gallery.enrol(str(pid), rows_of(number))
    elif what == "erase":
        gallery.erase(rows_of(number))
    elif count > 1:
        ids = row_ids(batch(number, 2).crops)
        gallery.feedback(ids[0], ids[1], True)


def after(state: State, what: str, number: int, count: int, pid: str | None) -> State:
    """The state once it is done."""
    if what == "erase":
        return {n: facts for n, facts in state.items() if n != number}
    if what in ("add", "name"):
        return state | {number: (count, pid)}
    return state


def work(address: str, seed: int) -> None:
    """Write without end, saying each thing before and after."""
    rng, number = random.Random(seed), seed * 10_000
    with Gallery.open(address, MODEL, DIM) as gallery:
        state: State = {int(t.name[1:]): (t.crops, None) for t in gallery.tracklets()}
        print(json.dumps("ready"), flush=True)
        while True:
            step = plan(state, number, rng)
            print(json.dumps(["try", *step]), flush=True)
            do(gallery, *step)
            print(json.dumps(["done"]), flush=True)
            state, number = after(state, *step), number + 1


def killed(address: str, seed: int, rng: random.Random) -> Iterator[list[object]]:
    """What a worker said until it was killed."""
    command = [sys.executable, __file__, "work", "--address", address, "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert json.loads(worker.stdout.readline()) == "ready"
        threading.Timer(rng.expovariate(1 / 0.25), worker.kill).start()
        for line in worker.stdout:
            if line.endswith("\n"):
                yield json.loads(line)


def check(gallery: Gallery, possible: list[State]) -> State:
    """Which of the possible states the gallery is in, row by row."""
    rows = Rows.join(list(gallery.rows()), DIM)
    found: dict[int, list[int]] = {}
    for i, crop in enumerate(rows.crops):
        found.setdefault(int(str(crop.tracklet)[1:]), []).append(i)
    for state in possible:
        if {n: len(members) for n, members in found.items()} == {n: count for n, (count, _) in state.items()} and all(
            {rows.crops[i].pid for i in members} == {state[n][1]} for n, members in found.items()
        ):
            break
    else:
        raise AssertionError(f"the gallery holds {len(rows)} rows in {len(found)} batches, which is no state it was in")
    for number, members in found.items():
        made = batch(number, len(members), state[number][1])
        order = {crop.path: i for i, crop in enumerate(made.crops)}
        for i in members:
            at = order[rows.crops[i].path]
            assert rows.crops[i] == made.crops[at], "half a row"
            assert np.array_equal(rows.vectors[i].astype(np.float32), made.vectors[at]), "another vector"
            assert rows.pictures[i] == b"picture %d" % number, "another picture"
    assert gallery.verify_audit().broken is None, "the log is broken"
    return state


def kill(rounds: int, address: str, seed: int = 0) -> tuple[int, int]:
    """So many rounds; how many things were acknowledged, and how many interrupted."""
    rng, state, done, cut = random.Random(seed), {}, 0, 0
    for turn in range(rounds):
        pending: tuple[str, int, int, str | None] | None = None
        for line in killed(address, seed * 1000 + turn + 1, rng):
            if line[0] == "try":
                pending = line[1], line[2], line[3], line[4]  # type: ignore[assignment]
            elif pending is not None:
                state, pending, done = after(state, *pending), None, done + 1
        cut += pending is not None
        with Gallery.open(address, MODEL, DIM) as gallery:
            state = check(gallery, [state] + ([after(state, *pending)] if pending else []))
    return done, cut


def full(megabytes: int, folder: Path, limit: bool = True) -> tuple[int, str]:
    """Add until the disk is full; how many rows were acknowledged, all of which are there, and what was said."""
    address, state, said, spare = str(folder / "full.db"), {}, "", folder / "spare"
    spare.write_bytes(bytes(ROOM))
    if limit:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20, hard))
    gallery = Gallery.open(address, MODEL, DIM)
    try:
        for number in range(10_000):
            gallery.add(batch(number, 400), pictures=[b"picture %d" % number] * 400)
            state[number] = (400, None)
    except DataError as error:
        said = str(error)
        if "only the log" in said:
            state[number] = (400, None)
    assert "disk is full" in said, said
    check(gallery, [state])  # while it is still full
    gallery.close()
    with Gallery.open(address, MODEL, DIM) as gallery:
        check(gallery, [state])
    spare.unlink()
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Gallery.open(address, MODEL, DIM) as gallery:
        check(gallery, [state])
        gallery.erase(rows_of(0))
        check(gallery, [{n: facts for n, facts in state.items() if n}])
    return 400 * len(state), said


def crowd(seconds: float, address: str, writers: int = 2, readers: int = 10) -> dict[str, int]:
    """Processes that write and read at once, for so long; how often each did something."""
    Gallery.open(address, MODEL, DIM).close()
    roles = ["write"] * writers + ["read"] * readers
    commands = [
        [sys.executable, __file__, role, "--address", address, "--seed", str(i + 1), "--seconds", str(seconds)]
        for i, role in enumerate(roles)
    ]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    counts = {"write": 0, "read": 0}
    errors = []
    for role, process in zip(roles, running, strict=True):
        out, error = process.communicate()
        errors += [error] if process.returncode else []
        counts[role] += int(out or 0)
    assert not errors, errors
    return counts


def write(address: str, seed: int, seconds: float) -> int:
    """Write for so long: every batch is read back at once."""
    rng, end, number, mine = random.Random(seed), time.monotonic() + seconds, seed * 10_000, State()
    with Gallery.open(address, MODEL, DIM) as gallery:
        while time.monotonic() < end:
            step = plan(mine, number, rng)
            do(gallery, *step)
            mine, number = after(mine, *step), number + 1
            assert gallery.count(rows_of(step[1])) == mine.get(step[1], (0, None))[0]
    return number - seed * 10_000


def read(address: str, seed: int, seconds: float) -> int:
    """Search and fetch for so long: a batch is always whole."""
    rng, end, count = random.Random(seed), time.monotonic() + seconds, 0
    with Gallery.open(address) as gallery:
        while time.monotonic() < end:
            query = batch(rng.randrange(1, 3) * 10_000 + rng.randrange(20), 3)
            for found in gallery.search(replace(query, crops=tuple(Crop(f"q{i}") for i in range(3))), 5):
                assert len({m.crop.path for m in found}) == len(found)
            for tracklet in gallery.tracklets(Where(cameras=None)):
                assert tracklet.crops in (1, 7, 60, 400)
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "full", "crowd", "work", "write", "read"))
    parser.add_argument("--address", help="of a gallery that is not there yet (default: in a temporary folder)")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--folder", type=Path, help="for `full`: a small disk of its own (default: a limit on files)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        address = args.address or os.path.join(folder, "faults.db")
        started = time.monotonic()
        if args.what == "work":
            work(address, args.seed)
        elif args.what in ("write", "read"):
            print({"write": write, "read": read}[args.what](address, args.seed, args.seconds))
        elif args.what == "kill":
            done, cut = kill(args.rounds, address, args.seed)
            print(f"{args.rounds} rounds of kill -9: {done:,} acknowledged, {cut} interrupted; none lost, none half")
        elif args.what == "full":
            rows, said = full(args.megabytes, args.folder or Path(folder), args.folder is None)
            print(f"{rows:,} rows acknowledged until the disk was full, all there; said: {said}")
        else:
            counts = crowd(60 * args.minutes, address)
            print(f"2 writers did {counts['write']:,} things, 10 readers {counts['read']:,}; no error in either")
        print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except ReidError as error:
        sys.exit(f"a user would have seen: {error}")
