"""How the service lives: batches, stopping without loss, retention, and what it writes of itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.formparsers import MultiPartParser

from reid.embed import Embedder
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Where, row_id, upload_path
from reid.serve.batching import Batcher, Busy
from reid.types import Crop
from tests.served import jpeg, limits, serving

# ── batches ──


class Doubling:
    """Work that notes its batches, and may be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.go.wait(10)
        self.batches.append(list(items))
        if 13 in items:
            raise ArithmeticError("13")
        return [2 * item for item in items]


def run(work: Doubling, ask: Any, **settings: Any) -> Any:
    """Ask a batcher within a loop of its own."""

    async def whole() -> Any:
        settings_ = {"most": 4, "wait": 0.0, "queue": 100} | settings
        batcher: Batcher[int, int] = Batcher(work, name="test", **settings_)
        batcher.start()
        try:
            return await ask(batcher)
        finally:
            work.go.set()
            await batcher.close()

    return asyncio.run(whole())


def test_everybody_gets_their_own_answers() -> None:
    work = Doubling()

    async def ask(batcher: Batcher[int, int]) -> list[list[int]]:
        return await asyncio.gather(*(batcher([i, 100 + i]) for i in range(9)))

    assert run(work, ask) == [[2 * i, 200 + 2 * i] for i in range(9)]
    assert sum(map(len, work.batches)) == 18
    assert max(map(len, work.batches)) == 4


def test_those_who_come_while_a_batch_is_under_way_share_the_next() -> None:
    work = Doubling()
    work.go.clear()

    async def ask(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher([1]))
        await asyncio.sleep(0.02)
        rest = [asyncio.create_task(batcher([i])) for i in (2, 3, 4)]
        await asyncio.sleep(0.02)
        work.go.set()
        await asyncio.gather(first, *rest)

    run(work, ask)
    assert work.batches == [[1], [2, 3, 4]]


def test_a_batch_waits_for_others_but_not_for_ever() -> None:
    work = Doubling()

    async def ask(batcher: Batcher[int, int]) -> None:
        await asyncio.wait_for(batcher([7]), 0.25)  # alone, it does not wait
        await batcher([8, 9])
        tasks = [asyncio.create_task(batcher([i])) for i in (1, 2)]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(batcher([3])))
        await asyncio.gather(*tasks)
        await batcher([5])

    run(work, ask, wait=0.3)
    assert work.batches == [[7], [8, 9], [1, 2, 3], [5]]


def test_who_has_given_up_is_left_out() -> None:
    work = Doubling()
    work.go.clear()

    async def ask(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher([1]))
        await asyncio.sleep(0.02)
        gone, stays = asyncio.create_task(batcher([2])), asyncio.create_task(batcher([3]))
        await asyncio.sleep(0.02)
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        work.go.set()
        assert await first == [2]
        assert await stays == [6]

    run(work, ask)
    assert work.batches == [[1], [3]]


def test_a_failure_is_of_its_batch_alone() -> None:
    work = Doubling()

    async def ask(batcher: Batcher[int, int]) -> None:
        with pytest.raises(ArithmeticError):
            await batcher([13])
        assert await batcher([1]) == [2]

    run(work, ask)


def test_no_more_wait_than_may_and_those_who_wait_are_served_at_the_end() -> None:
    work = Doubling()
    work.go.clear()

    async def ask(batcher: Batcher[int, int]) -> Coroutine[Any, Any, Any]:
        tasks = [asyncio.create_task(batcher([0]))]
        await asyncio.sleep(0.02)
        tasks += [asyncio.create_task(batcher([i])) for i in (1, 2, 3)]
        await asyncio.sleep(0.02)
        assert batcher.waiting == 3
        with pytest.raises(Busy):
            await batcher([4])
        return asyncio.gather(*tasks)  # type: ignore[return-value]

    async def whole() -> None:
        batcher: Batcher[int, int] = Batcher(work, 4, 0, 3, "test")
        batcher.start()
        answers = await ask(batcher)
        work.go.set()
        await batcher.close()
        assert await answers == [[0], [2], [4], [6]]
        with pytest.raises(Busy):
            await batcher([5])

    asyncio.run(whole())


def test_requests_at_the_same_time_share_an_inference_and_a_search(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = embedder.views

    def counted(looks: Any, *more: Any) -> Any:
        sizes.append(len(looks))
        time.sleep(0.05)
        return plain(looks, *more)

    with serving(tmp_path, embedder, limits(batch=8, wait=0.05)) as served:
        monkeypatch.setattr(embedder, "views", counted)
        entries = sum(1 for _ in served.gallery.audit())
        found: list[tuple[int, httpx.Response]] = []

        def ask(seed: int) -> None:
            files = [("crop", ("a", jpeg(seed)))]
            found.append((seed, httpx.post(f"{served.url}/v1/search", files=files, timeout=20, trust_env=False)))

        threads = [threading.Thread(target=ask, args=(10 * i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alone = {seed: served.post("/v1/search", files=[("crop", ("a", jpeg(seed)))]).json() for seed, _ in found}
        searches = [entry for entry in served.gallery.audit() if entry.what == "search"]
    assert max(sizes) > 1
    assert len(searches) < entries + 16
    for seed, answer in found:
        together = answer.json()["answers"][0]["matches"]
        assert [m["crop"]["id"] for m in together] == [m["crop"]["id"] for m in alone[seed]["answers"][0]["matches"]]


# ── stopping, keeping, telling ──


@pytest.fixture
def process(tmp_path: Path, model: Path) -> Any:
    """`reid serve`, as a user starts it."""
    command = [sys.executable, "-m", "reid", "serve", str(tmp_path / "people.db"), "--new", "--model", str(model)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [*command, "--port", "0", "--json", "--rate", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def test_stopping_loses_nothing_that_was_acknowledged(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    assert process.stdout
    url = json.loads(process.stdout.readline())["url"]
    acknowledged: list[str] = []
    others: list[Any] = []

    def write(start: int) -> None:
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            for seed in range(start, start + 400):
                try:
                    answer = client.post("/v1/crops", files=[("crop", ("a", jpeg(seed)))], data={"camera": "c1"})
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.extend(answer.json()["rows"])
                else:
                    others.append(answer.status_code)

    threads = [threading.Thread(target=write, args=(1000 * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 10 and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert error.splitlines()[-1] == "Stopped; everything that was acknowledged is kept."
    assert len(acknowledged) >= 10
    assert set(others) <= {503}
    with Gallery.open(tmp_path / "people.db") as gallery:
        assert gallery.count(Where(ids=frozenset(map(int, acknowledged)))) == len(set(acknowledged))
        assert gallery.verify_audit().broken is None


def test_what_is_older_than_is_kept_goes_by_itself(tmp_path: Path, embedder: Embedder) -> None:
    now = [1e9]
    with serving(tmp_path, embedder, limits(sweep=0.05), clock=lambda: now[0]) as served:
        served.gallery.keep = "1h"
        time.sleep(0.15)
        assert served.gallery.count() == 24
        now[0] += 3601
        until = time.monotonic() + 10
        while served.gallery.count() and time.monotonic() < until:
            time.sleep(0.02)
        assert served.gallery.count() == 0
        assert served.get("/v1/stats").json()["crops"] == 0
        assert "reid_expired_rows_total 24.0" in served.get("/v1/metrics").text


def test_the_log_names_nobody(tmp_path: Path, embedder: Embedder) -> None:
    with serving(tmp_path, embedder) as served:
        served.post("/v1/search", files=[("crop", ("secret name.jpg", jpeg(1)))])
        served.get("/v1/timeline", params={"person": "person 1"})
        served.get("/v1/crops/17")
        served.get("/secret address")
        served.post("/v1/people/enrol", json={"name": "Ada", "rows": [str(row_id(served.crops[0]))]})
        served.post("/v1/search", files=[("crop", ("a", b"broken"))])
    lines = [json.loads(line) for line in served.log.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(r["method"], r["route"], r["status"]) for r in requests] == [
        ("POST", "/v1/search", 200),
        ("GET", "/v1/timeline", 200),
        ("GET", "/v1/crops/{row}", 404),
        ("GET", "other", 404),
        ("POST", "/v1/people/enrol", 200),
        ("POST", "/v1/search", 422),
    ]
    assert len({r["id"] for r in requests}) == len(requests)
    for word in ("secret", "person 1", "Ada", "street/", upload_path(jpeg(1)), "17"):
        assert word not in json.dumps(
            [{k: v for k, v in line.items() if k not in ("at", "ms", "id")} for line in lines]
        )


def test_a_search_leaves_no_picture_behind(tmp_path: Path, embedder: Embedder) -> None:
    big = jpeg(1, (1200, 1200))
    with serving(tmp_path, embedder) as served:
        assert len(served.post("/v1/search", files=[("crop", ("a", big))]).json()["answers"]) == 1
        assert served.gallery.count() == 24
        assert MultiPartParser.spool_max_size > served.service.settings.max_bytes
        assert served.gallery.count(Where(ids=frozenset({row_id(Crop(upload_path(big)))}))) == 0
