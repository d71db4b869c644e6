"""What the service refuses: strangers, other sites, too much, too slowly, and what is no picture."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reid.embed import Embedder
from reid.errors import DataError
from reid.serve.guard import Guard
from reid.serve.rates import Rates
from reid.serve.running import check_reach
from reid.serve.settings import Settings, is_loopback
from reid.serve.tokens import Tokens, grant
from tests.conftest import Run
from tests.served import Served, jpeg, limits, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Served]:
    settings = limits(max_bytes=200_000, max_pixels=100_000, max_crops=4, body_seconds=0.6, head_seconds=0.6)
    with serving(tmp_path_factory.mktemp("limits"), embedder, settings) as served:
        yield served


def photo(data: bytes = jpeg(1)) -> list[tuple[str, tuple[str, bytes]]]:
    return [("crop", ("photo", data))]


def problem(answer: httpx.Response, status: int) -> str:
    """The sentence of a refusal, which must be one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["title"]
    return str(told["detail"])


# ── where it listens, and for whom ──


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_others_are_not_served_without_tokens(host: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give --tokens FILE"):
        check_reach(host, None)
    grant(tmp_path / "tokens", "a", ["read"])
    check_reach(host, Tokens(tmp_path / "tokens"))
    assert not is_loopback(host)


def test_the_verb_refuses_before_it_opens_anything(run: Run, tmp_path: Path) -> None:
    code, _, error = run("serve", tmp_path / "none.db", "--host", "0.0.0.0")
    assert (code, "can be reached by others" in error) == (2, True)
    assert "there is no gallery" in run("serve", tmp_path / "none.db")[2]
    assert "no gallery was given" in run("serve")[2]
    assert "needs a file" in run("serve", "--new-token", "anna")[2]
    assert not list(tmp_path.glob("none*"))


def test_a_token_is_shown_once_and_kept_as_a_digest(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    code, out, _ = run("serve", "--tokens", path, "--new-token", "anna", "--roles", "read,erase", "--json")
    token = json.loads(out)["token"]
    assert (code, path.stat().st_mode & 0o777) == (0, 0o600)
    assert token not in path.read_text()
    caller = Tokens(path).find(token)
    assert caller
    assert (caller.name, caller.roles) == ("anna", {"read", "erase"})
    assert Tokens(path).find(token[:-1]) is None
    assert "already; remove that line" in run("serve", "--tokens", path, "--new-token", "anna")[2]
    assert "can be read, write, erase" in run("serve", "--tokens", path, "--new-token", "bo", "--roles", "all")[2]
    assert "up to 64 letters" in run("serve", "--tokens", path, "--new-token", "b o")[2]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("anna read " + 64 * "0", 0o640, "chmod 600"),
        ("anna read " + 63 * "0", 0o600, "is no token"),
        ("anna rule " + 64 * "0", 0o600, "can be read, write, erase"),
        ("# nobody\n\n", 0o600, "holds no token"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_files_of_tokens_that_will_not_do(tmp_path: Path, text: str | None, mode: int, said: str) -> None:
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(DataError, match=said):
        Tokens(path)


def test_another_name_is_refused(served: Served) -> None:
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "user@localhost",
        "",
        "[",
        "[x]",
    ):
        assert "--name" in problem(served.get("/v1/stats", headers={"Host": host}), 421)
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000", "10.0.0.7"):
        assert served.get("/v1/stats", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_refused(served: Served, headers: dict[str, str]) -> None:
    for path in ("/v1/erase", "/v1/crops", "/v1/people/merge"):
        assert "other sites" in problem(served.post(path, headers=headers, json={"people": ["person 0"]}), 403)
    assert served.get("/v1/stats", headers=headers).status_code == 403
    assert served.gallery.count() == 24
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.get("/", headers=link).status_code == 200


def test_its_own_page_goes_on(served: Served) -> None:
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert served.post("/v1/count", json={}, headers=own).json() == {"rows": 24}


def test_every_answer_is_dressed(served: Served) -> None:
    answers = [
        served.get("/"),
        served.get("/v1/stats"),
        served.get("/nothing"),
        served.get("/v1/stats", headers={"Host": "evil.example"}),
        served.get("/v1/stats", headers={"Host": "["}),
        served.post("/v1/search", files=photo(b"")),
        served.client.options("/v1/search"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control") or name == "server"]


# ── too much, too fast, too slow ──


def test_requests_may_be_so_large(served: Served) -> None:
    assert "200,000 bytes" in problem(served.post("/v1/search", files=photo(bytes(300_000))), 413)

    def parts() -> Iterator[bytes]:
        yield b"--x\r\nContent-Disposition: form-data; name=crop; filename=a\r\n\r\n"
        for _ in range(100):
            yield bytes(4000)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(served.post("/v1/search", content=parts(), headers=kind), 413)
    problem(served.post("/v1/count", content=b"[" * 250_000, headers={"Content-Type": "application/json"}), 413)


def test_so_many_pictures_of_so_many_pixels(served: Served) -> None:
    assert "5 pictures were sent" in problem(served.post("/v1/search", files=5 * photo()), 422)
    assert "400×400 pixels" in problem(served.post("/v1/search", files=photo(jpeg(1, (400, 400)))), 422)


def bomb() -> bytes:
    """A PNG of 60,000 × 60,000 pixels in a few kilobytes."""
    rows = zlib.compress(bytes(10_000_000), 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_bad_pictures_are_told_in_a_sentence_and_lose_nothing(served: Served) -> None:
    rng = random.Random(0)
    whole = jpeg(3, kind="JPEG")
    bad = [b"", b"\0", b"GIF89a", whole[: len(whole) // 2], bomb(), b"%PDF-1.4", bytes(rng.randbytes(5000))]
    bad += [whole[:i] + bytes([rng.randrange(256)]) + whole[i + 1 :] for i in rng.sample(range(20), 10)]
    for data in bad:
        for path in ("/v1/search", "/v1/identify", "/v1/crops"):
            answer = served.post(path, files=photo(data))
            assert answer.status_code < 500, answer.text
            if answer.status_code > 201:
                assert "picture" in problem(answer, 422)
    assert served.gallery.count() - 24 <= len(bad)  # some of the scratched ones can be read
    assert served.gallery.verify_audit().broken is None


BAD = [
    ("POST", "/v1/search", {"data": {"k": "5"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"k": "0"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"k": "9" * 400}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"per": "camera"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"after": "nan"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"prior": "1"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"nonsense": "1"}}),
    ("POST", "/v1/search", {"files": photo(), "data": {"cameras": "c99"}}),
    ("POST", "/v1/search", {"data": {"crop": "not a file"}}),
    ("POST", "/v1/search", {"content": b"--", "headers": {"Content-Type": "multipart/form-data"}}),
    ("POST", "/v1/search", {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
    ("POST", "/v1/search", {"json": {"crop": "a"}}),
    ("POST", "/v1/crops", {"files": photo(), "data": {"time": "inf"}}),
    ("POST", "/v1/crops", {"files": photo(), "data": {"camera": "a\0b"}}),
    ("POST", "/v1/crops", {"files": photo(), "data": {"camera": " "}}),
    ("GET", "/v1/crops/99999999999999999999", {}),
    ("GET", "/v1/crops/-1", {}),
    ("GET", "/v1/crops/٣", {}),
    ("GET", "/v1/crops/17/similar", {"params": {"k": "many"}}),
    ("GET", "/v1/people", {"params": {"limit": -1}}),
    ("GET", "/v1/people", {"params": {"offset": 10**30}}),
    ("GET", "/v1/timeline", {"params": {"person": "x" * 201}}),
    ("POST", "/v1/erase", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"content": b'{"people": ["\\ud800"]}', "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"content": b'{"after": NaN}', "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"content": b'{"after": 1e999}', "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/erase", {"json": {"added_before": 1e14}}),
    ("POST", "/v1/erase", {"json": {"rows": [1.5]}}),
    ("POST", "/v1/erase", {"json": {"rows": [True]}}),
    ("POST", "/v1/erase", {"json": {"rows": "17"}}),
    ("POST", "/v1/erase", {"json": {"people": [None]}}),
    ("POST", "/v1/erase", {"json": [1]}),
    ("POST", "/v1/erase", {"json": {"everything": True}}),
    ("POST", "/v1/people/enrol", {"json": {"name": "", "rows": ["17"]}}),
    ("POST", "/v1/people/enrol", {"json": {"name": "a\nb", "rows": ["17"]}}),
    ("POST", "/v1/people/enrol", {"json": {"name": "Ada", "rows": []}}),
    ("POST", "/v1/people/merge", {"json": {"names": [], "into": "Ada"}}),
    ("POST", "/v1/feedback", {"json": {"query": "1", "answer": "2", "same": "perhaps"}}),
    ("DELETE", "/v1/people", {}),
    ("GET", "/v1/erase", {}),
    ("GET", "/v1/../../etc/passwd", {}),
    ("GET", "/docs", {}),
    ("BREW", "/v1/stats", {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "more"), BAD)
def test_bad_requests_are_told_in_a_sentence(served: Served, method: str, path: str, more: dict[str, object]) -> None:
    before = served.gallery.count()
    answer = served.client.request(method, path, **more)  # type: ignore[arg-type]
    assert 400 <= answer.status_code < 500, answer.text
    assert problem(answer, answer.status_code)
    assert served.gallery.count() == before


def test_a_body_that_is_not_json_is_told_in_a_sentence(served: Served) -> None:
    bad = {"content": b'{"people": [}', "headers": {"Content-Type": "application/json"}}
    said = problem(served.post("/v1/erase", **bad), 422)
    assert said.startswith("the body is not JSON (Expecting value, character 12); "), said


def raw(served: Served, *parts: bytes) -> bytes:
    """What comes back until the service closes the line, the parts being sent a moment after one another."""
    with socket.create_connection((served.client.base_url.host, served.client.base_url.port or 0), timeout=10) as line:
        answer = b""
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(0.05)
            while received := line.recv(65536):
                answer += received
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def test_bodies_that_dawdle_are_cut_off(served: Served) -> None:
    head = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    answer = raw(served, head + b"Content-Length: 1000\r\n\r\n--x")
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"did not come within 0.6 s" in answer


def test_heads_that_dawdle_are_cut_off(served: Served) -> None:
    started = time.monotonic()
    assert raw(served, b"GET /health HTTP/1.1\r\nHost: loc") == b""
    assert raw(served, b"") == b""
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(served, whole, b"GET /hea")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused(served: Served, data: bytes) -> None:
    answer = raw(served, data)
    assert b" 4" in answer.split(b"\r\n")[0][:16]
    assert served.get("/health").status_code == 200


def test_a_body_that_is_no_http_is_no_bug(served: Served) -> None:
    head = b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    for _ in range(5):
        assert raw(served, head, b"2\r\n{}\r\n", b"zz\r\n").count(b"HTTP/1.1 400") == 1
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(served, whole, b"\0\r\n\r\n").count(b"HTTP/1.1") == 2
    assert '"bug"' not in served.log.getvalue()


def test_one_caller_may_ask_so_often(tmp_path: Path, embedder: Embedder) -> None:
    with serving(tmp_path, embedder, limits(rate=2.0)) as served:
        answers = [served.get("/v1/me") for _ in range(12)]
    assert [a.status_code for a in answers[:4]] == [200] * 4
    late = [a for a in answers if a.status_code == 429]
    assert late
    assert "2 requests a second" in problem(late[0], 429)
    assert int(late[0].headers["retry-after"]) >= 1


def test_guesses_of_an_address_are_counted_and_good_tokens_are_not_held_up(tmp_path: Path, embedder: Embedder) -> None:
    token = grant(tmp_path / "tokens", "anna", ["read"])

    def answered(token: str) -> httpx.Response:
        return served.get("/v1/me", headers={"Authorization": f"Bearer {token}"})

    with serving(tmp_path, embedder, limits(rate=0.01), Tokens(tmp_path / "tokens")) as served:
        assert answered("wrong").status_code == 401
        assert int(answered("wrong").headers["retry-after"]) > 1
        problem(served.get("/v1/me"), 429)
        assert answered(token).status_code == 200
        assert answered(token).status_code == 429
        assert served.get("/health").status_code == 200


def test_rates_recover_and_forget_the_oldest() -> None:
    now = [0.0]
    rates = Rates(10, 2, lambda: now[0])
    assert [rates.late("a") > 0 for _ in range(3)] == [False, False, True]
    assert rates.late("b") == 0
    now[0] = 0.1
    assert rates.late("a") == 0
    for i in range(10_001):
        rates.late(str(i))
    assert len(rates._left) == 10_000
    assert Rates(0, 1).late("a") == 0


def test_more_than_may_wait_are_told_to_come_again(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, plain = threading.Event(), embedder.views

    def slow(*arguments: object) -> object:
        gate.wait(10)
        return plain(*arguments)  # type: ignore[arg-type]

    found: list[httpx.Response] = []
    with serving(tmp_path, embedder, limits(queue=2, batch=1, at_once=6)) as served:
        monkeypatch.setattr(embedder, "views", slow)

        def ask() -> None:
            found.append(httpx.post(f"{served.url}/v1/search", files=photo(), timeout=20, trust_env=False))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        while len(found) < 6 and time.monotonic() < until:
            time.sleep(0.01)
        gate.set()
        for thread in threads:
            thread.join()
    refused = [answer for answer in found if answer.status_code == 503]
    assert len(refused) + sum(answer.status_code == 200 for answer in found) == 12
    assert len(refused) >= 6
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    problem(refused[0], 503)


def test_an_answer_that_takes_too_long_is_given_up(
    tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    with serving(tmp_path, embedder, limits(seconds=0.3)) as served:
        monkeypatch.setattr(embedder, "views", lambda *arguments: [None] * gate.wait(5))
        answer = served.post("/v1/search", files=photo())
        gate.set()
    assert "no answer within 0.3 s" in problem(answer, 503)


def test_a_bug_tells_nothing_of_itself(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, embedder) as served:
        monkeypatch.setattr(served.gallery, "count", lambda where=None: 1 / 0)
        assert "should not" in problem(served.get("/health"), 500)
        monkeypatch.setattr(Guard, "_admit", lambda *arguments: 1 / 0)
        mistake = served.get("/health")
        assert "should not" in problem(mistake, 500)
        assert "content-security-policy" in mistake.headers
    told = [json.loads(line) for line in served.log.getvalue().splitlines() if '"bug"' in line]
    assert [one["error"] for one in told] == 2 * ["ZeroDivisionError"]


def test_limits_that_cannot_be() -> None:
    with pytest.raises(DataError, match="queue is 0"):
        Settings(queue=0)
    with pytest.raises(DataError, match="rate is -1"):
        Settings(rate=-1)
