"""Whether the service can be brought down, slowed or robbed by requests that are wrong.

    python benchmarks/fuzz_serve.py [--requests 10000] [--seed 0]

Starts `reid serve` on a drawn street and sends it so many requests: half are made by schemathesis from the service's
own description, nine in ten of them against it; a quarter are uploads (cut short, scratched, bombs of pixels, other
files, wrong forms); a quarter are bytes on a bare connection (huge, broken and dawdling heads and bodies). Counts the
answers by status, and says how much memory was in use early and late, and whether the gallery holds what it should and
its log is whole. Ends with an error where an answer was 5xx other than 503, or anything was lost.
Needs `pip install 'reid[fuzz]'`.
"""

from __future__ import annotations

import argparse
import atexit
import io
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image

from reid import street
from reid.embed import Embedder
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Where

Statuses = Counter[int]
ROUNDS = 4
FORMS = ("/v1/search", "/v1/crops", "/v1/verify", "/v1/identify")


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """A service on a street of twelve people, and its address."""
    embedder = Embedder()
    crops = street.draw_street(folder, people=12)
    with Gallery.open(folder / "people.db", embedder.fingerprint, embedder.dim) as gallery:
        gallery.add(embedder(crops))
    command = [sys.executable, "-m", "reid", "serve", str(folder / "people.db"), "--port", "0", "--json", "--rate", "0"]
    log = (folder / "log").open("w")
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert started.stdout
    return started, json.loads(started.stdout.readline())["url"].rstrip("/")


def described(url: str, count: int, number: int, statuses: Statuses) -> None:
    """Requests made from the description; schemathesis writes no report."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    modes = schemathesis.GenerationMode
    for place, operation in enumerate(operations):
        for mode, share in ((modes.NEGATIVE, 0.9), (modes.POSITIVE, 0.1)):
            if operation.path == ("/health" if mode is modes.NEGATIVE else "/v1/erase"):
                continue  # the one can hardly be asked wrongly, the other would soon leave nothing to lose

            @seed(number + place)
            @settings(
                max_examples=max(1, round(share * count / len(operations))),
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case: schemathesis.Case) -> None:
                try:
                    statuses[case.call(timeout=60).status_code] += 1
                except (UnicodeError, ValueError, requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                    statuses[0] += 1  # what the client itself cannot send; or too long, and cut off while it was sent

            one()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """A PNG that says it has side × side pixels, and unpacks to 40 MB."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(40_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pictures(rng: random.Random, whole: list[bytes], bombs: list[bytes]) -> bytes:
    """A file that is no picture, or a bad one, or now and then a good one."""
    data = bytearray(rng.choice(whole))
    kind = rng.randrange(9)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:
        for _ in range(rng.randrange(1, 200)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 2:
        return rng.choice(bombs)
    if kind == 3:
        return rng.choice([b"", b"%PDF-1.7", b"PK\x03\x04", b"<svg/>", b"GIF89a", b"RIFF\0\0\0\0WEBP"]) + rng.randbytes(
            99
        )
    return rng.randbytes(rng.randrange(5000)) if kind == 4 else bytes(data)  # as it is, in four of nine


def uploads(url: str, count: int, rng: random.Random, whole: list[bytes], statuses: Statuses) -> None:
    """Forms with files."""
    bombs = [bomb(3_000), bomb(60_000), bomb(2**31 - 1)]
    wrong = ["", "-1", "nan", "9" * 400, "a\0b", "true", "\u2028", "{}", "../../etc/passwd", "' OR 1=1 --", "x" * 300]
    fields = [
        "k",
        "per",
        "after",
        "before",
        "cameras",
        "camera",
        "time",
        "tags",
        "prior",
        "far",
        "open",
        "together",
        "odd",
    ]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for _ in range(count):
            path = rng.choice(FORMS)
            names = ["first", "second"] if path == "/v1/verify" else ["crop"] * rng.randrange(1, 4)
            names = [name if rng.random() < 0.9 else rng.choice(["file", "crop", ""]) for name in names]
            files = [(name, (rng.choice(wrong), pictures(rng, whole, bombs))) for name in names]
            form = {rng.choice(fields): rng.choice(wrong) for _ in range(rng.choice([0, 0, 1, 3]))}
            statuses[client.post(path, data=form, files=files).status_code] += 1


def heads(rng: random.Random) -> Iterator[bytes]:
    """Bytes that are nearly HTTP, for ever."""
    while True:
        host = rng.choice(
            [
                b"Host: localhost",
                b"Host: evil.example",
                b"Host: [",
                b"",
                b"Host: \xff\xfe",
                b"Host: localhost\r\nHost: b",
            ]
        )
        long = b"X: " + b"a" * rng.choice([10, 20_000, 200_000])
        size = rng.choice([b"Content-Length: -1", b"Content-Length: 99999999999", b"Content-Length: 5", b"", long])
        kind = rng.choice(
            [b"Content-Type: application/json", b"Content-Type: multipart/form-data; boundary=" + b"b" * 999, b""]
        )
        coding = rng.choice(
            [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue", b""]
        )
        token = rng.choice(
            [b"Authorization: Bearer \xff", b"Authorization: " + b"B" * 5000, b"Origin: null", b"Origin: //[", b""]
        )
        method = rng.choice([b"GET", b"POST", b"post", b"BREW", b"\0", b"PUT"])
        path = rng.choice(
            [
                b"/v1/stats",
                b"/v1/erase",
                b"/v1/crops/%00",
                b"//",
                b"/%ff%fe",
                b"*",
                b"http://evil/",
                b"/v1/" + b"a" * 9000,
            ]
        )
        version = rng.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""])
        lines = [b" ".join([method, path, version]), *filter(None, [host, size, kind, coding, token])]
        data = (
            b"\r\n".join(lines) + b"\r\n\r\n" + rng.choice([b"", b"{", b"zz\r\n", b"5\r\n{}\r\n", rng.randbytes(300)])
        )
        yield rng.choice([data, data[: rng.randrange(len(data))], rng.randbytes(200)])


def bare(url: str, count: int, rng: random.Random, statuses: Statuses) -> None:
    """Bare connections, a hundred at a time, some of which are left open and silent."""
    place = (httpx.URL(url).host, httpx.URL(url).port or 80)
    source, waiting = heads(rng), []
    for number in range(count):
        line = socket.create_connection(place, timeout=60)
        waiting.append(line)
        try:
            line.sendall(next(source))
            if rng.random() < 0.9:
                line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed before all was sent
        if len(waiting) == 100 or number == count - 1:
            for line in waiting:
                statuses[answered(line)] += 1
            waiting.clear()


def answered(line: socket.socket) -> int:
    """The status of the first answer; 0 where the line was closed without one."""
    data = b""
    line.settimeout(40)
    try:
        while len(data) < 12 and (part := line.recv(4096)):
            data += part
    except ConnectionError:
        pass
    line.close()
    return int(data[9:12]) if data[9:12].isdigit() else 0


def memory(url: str) -> float:
    """Resident memory of the service in MiB, as it says itself."""
    text = httpx.get(f"{url}/v1/metrics", timeout=60, trust_env=False).text
    return (
        float(next(x for x in text.splitlines() if x.startswith("process_resident_memory_bytes ")).split()[1]) / 2**20
    )


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--requests", type=int, default=10_000)
    parse.add_argument("--seed", type=int, default=0)
    args = parse.parse_args()
    warnings.simplefilter("ignore")
    rng, statuses = random.Random(args.seed), Counter[int]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        service, url = start(folder)
        atexit.register(service.kill)
        whole = [path.read_bytes() for path in sorted((folder / "crops").glob("*.jpg"))]
        out = io.BytesIO()
        Image.new("RGB", (4000, 3000), (90, 120, 60)).save(out, "JPEG")
        whole.append(out.getvalue())
        parts: list[tuple[str, Callable[[int], None]]] = [
            ("described", lambda n: described(url, n, args.seed, statuses)),
            ("uploads", lambda n: uploads(url, n, rng, whole, statuses)),
            ("bare", lambda n: bare(url, n, rng, statuses)),
        ]
        uploads(url, 60, rng, whole, Counter())  # what is made on first use has been made
        shares = {"described": 0.5 / ROUNDS, "uploads": 0.25 / ROUNDS, "bare": 0.25 / ROUNDS}
        used = [memory(url)]
        for _ in range(ROUNDS):
            for part, work in parts:
                began, before = time.perf_counter(), statuses.total()
                work(round(shares[part] * args.requests))
                print(f"{part}: {statuses.total() - before:,} in {time.perf_counter() - began:.0f} s", flush=True)
            used.append(memory(url))
        alive = httpx.get(f"{url}/health", timeout=60, trust_env=False).status_code
        service.send_signal(signal.SIGTERM)
        code = service.wait(60)
        log = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
        with Gallery.open(folder / "people.db") as gallery:
            rows, checked = gallery.count(), gallery.verify_audit()
            street_rows = gallery.count(Where(cameras=frozenset({"c1", "c2", "c3"})))
            erased = sum(int(entry.detail["rows"]) for entry in gallery.audit() if entry.what == "erase")
    bad = {status: n for status, n in statuses.items() if status >= 500 and status != 503}
    bugs = [line for line in log if line["event"] == "bug"]
    print("answers:", ", ".join(f"{status or 'closed'}: {n:,}" for status, n in sorted(statuses.items())))
    print(f"memory: {used[0]:.0f} MiB before, and after each round {', '.join(f'{each:.0f}' for each in used[1:])}")
    print(f"gallery: {street_rows} of {len(whole) - 1} crops of the street, {erased} erased as asked, {rows} in all; "
          f"log {'whole' if checked.broken is None else 'broken'}; health {alive}, exit code {code}")  # fmt: skip
    for bug in bugs[:5]:
        print("bug:", bug)
    if bad or bugs or code or alive != 200 or checked.broken or street_rows + erased < len(whole) - 1:
        sys.exit("the service did not hold")


if __name__ == "__main__":
    main()
