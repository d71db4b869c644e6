"""Galleries on servers: what is left when the server dies, what is left of erased rows, and what cannot be."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from reid.errors import DataError, MissingExtra
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.rows import Rows, Where, half, row_ids
from reid.gallery.store import Store
from reid.types import Crop
from tests import servers

psycopg = pytest.importorskip("psycopg")
pymilvus = pytest.importorskip("pymilvus")
DIM = 32
SERVERS = ("postgresql", "milvus")


def rows(numbers: range, person: str = "anna", picture: bytes | None = None) -> Rows:
    """Rows whose vectors can be told from all others."""
    crops = tuple(Crop(f"secret/{person}/{i}.jpg", f"the {person}", camera=str(i % 3), time=float(i)) for i in numbers)
    rng = np.random.default_rng([*person.encode(), numbers.start])
    vectors = half(rng.normal(size=(len(crops), DIM)))
    ids = np.array(row_ids(crops), np.int64)
    return Rows(ids, vectors, crops, (frozenset(["tagged"]),) * len(ids), (picture,) * len(ids), np.ones(len(ids)))


def opened(address: str) -> Store:
    parsed = Address.parse(address)
    return STORES[parsed.scheme](parsed, "m", DIM)


@pytest.fixture(params=SERVERS)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(scheme: str) -> str:
    return servers.fresh(scheme)


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    made = opened(address)
    yield made
    made.close()


def wait(for_what: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not for_what():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_what_was_acknowledged_outlives_a_killed_server(scheme: str, store: Store) -> None:
    server, written, told = servers.started(scheme), [], []

    def write() -> None:
        for number in range(0, 1_000_000, 50):
            batch = rows(range(number, number + 50))
            try:
                store.upsert(batch)
            except DataError as error:
                told.append(str(error))
                return
            written.append(batch)

    thread = threading.Thread(target=write)
    thread.start()
    assert wait(lambda: len(written) > 3)
    server.kill()
    thread.join(60)
    assert "try again when it is there" in told[0]
    server.start()

    def there() -> bool:
        try:
            return store.count(Where()) >= 0
        except DataError:
            return False

    assert wait(there)
    whole = Rows.join(written)
    found = Rows.join(list(store.fetch(Where(ids=frozenset(whole.ids.tolist())))))
    order = np.argsort(whole.ids)
    assert np.array_equal(found.ids, whole.ids[order])
    assert np.array_equal(found.vectors, whole.vectors[order])
    extra = store.count(Where()) - len(whole)
    assert extra in (0, 50), "a batch is there whole, or not at all"


def test_many_threads_share_a_store(store: Store) -> None:
    def work(number: int) -> int:
        mine = rows(range(100 * number, 100 * number + 20), f"person{number}")
        store.upsert(mine)
        ranking = store.query(mine.vectors.astype(np.float32), 1, Where(people={f"the person{number}"}))
        assert ranking.ids[:, 0].tolist() == mine.ids.tolist()
        return sum(len(part) for part in store.fetch(Where(people={f"the person{number}"})))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == [20] * 16
    assert store.count(Where()) == 320


def test_a_filter_of_very_many_ids(store: Store) -> None:
    some = rows(range(300))
    store.upsert(some)
    ids = frozenset(some.ids[::3].tolist()) | frozenset(range(20_000))
    ranking = store.query(some.vectors[:6].astype(np.float32), 16_384, Where(ids=ids))
    assert (ranking.ids >= 0).sum(axis=1).tolist() == [100] * 6
    assert store.count(Where(ids=ids)) == 100
    assert sum(len(part) for part in store.fetch(Where(ids=ids))) == 100
    assert store.delete(Where(ids=ids)) == 100


def test_a_missing_package_is_named(
    scheme: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    package = {"postgresql": "psycopg", "milvus": "pymilvus"}[scheme]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"reid.gallery.{scheme}", raising=False)
    with pytest.raises(MissingExtra, match=rf"pip install 'reid\[{scheme}\]'"):
        opened(f"{scheme}://user:secret@localhost/people")


def test_a_server_that_is_not_there_is_told_without_the_password(scheme: str) -> None:
    port = servers.free_port()
    with pytest.raises(DataError, match="try again") as caught:
        opened(f"{scheme}://user:secret@127.0.0.1:{port}/people")
    assert "secret" not in str(caught.value)


def left(folder: Path, words: dict[str, bytes]) -> set[str]:
    """Which of the words the files of a folder still hold, unpacked where they are Parquet."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = _contents(path)
            found |= {name for name, word in words.items() if word in data}
    return found


def _contents(path: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    start, end = data.find(b"PAR1"), data.rfind(b"PAR1")
    if start == end:
        return data
    try:
        column = pyarrow.parquet.read_table(io.BytesIO(data[start : end + 4])).column(0).to_pylist()
    except pyarrow.ArrowException:
        return data
    return data + b"\0".join(v if isinstance(v, bytes) else str(v).encode() for v in column)


def test_nothing_of_erased_rows_is_left_in_postgresql() -> None:
    address = servers.fresh("postgresql")
    store, server = opened(address), servers.started("postgresql")
    picture = np.random.default_rng(1).bytes(3000)
    gone, kept = rows(range(40), "gone", picture), rows(range(40), "kept")
    words = {
        "vector": gone.vectors[7].astype("<f2").tobytes(),
        "picture": picture[500:520],
        "path": b"secret/gone",
        "person": b"the gone",
        "kept": kept.vectors[7].astype("<f2").tobytes(),
    }
    store.upsert(gone)
    store.upsert(kept)
    with psycopg.connect(server.conninfo, autocommit=True) as other:
        other.execute("CHECKPOINT")
        other.execute("ANALYZE")
    assert left(server.folder, words) == set(words)
    assert store.delete(Where(people={"the gone"})) == 40
    assert left(server.folder, words) == {"kept"}
    store.close()


def test_nothing_of_erased_rows_is_left_in_the_files_of_milvus() -> None:
    address = servers.fresh("milvus").replace("compact=no", "compact=yes")
    store, server = opened(address), servers.started("milvus")
    gone, kept = rows(range(40), "gone"), rows(range(40), "kept")
    words = {
        "vector": gone.vectors[7].astype("<f4").tobytes(),
        "path": b"secret/gone",
        "kept": kept.vectors[7].astype("<f4").tobytes(),
    }
    store.upsert(gone)
    store.upsert(kept)
    client = pymilvus.MilvusClient(f"http://127.0.0.1:{server.port}", timeout=60)
    client.flush(Address.parse(address).text.rpartition("/")[2])
    client.close()
    assert left(server.folder / "store", words) == set(words)
    assert store.delete(Where(people={"the gone"})) == 40
    wait(lambda: left(server.folder / "store", words) == {"kept"})
    assert left(server.folder / "store", words) == {"kept"}
    store.close()


def test_a_session_that_still_sees_erased_rows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.gallery.postgresql.PATIENCE", 0.2)
    store, server = opened(servers.fresh("postgresql")), servers.started("postgresql")
    store.upsert(rows(range(3)))
    with psycopg.connect(server.conninfo) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        with pytest.raises(DataError, match="VACUUM FULL"):
            store.delete(Where())
    assert store.count(Where()) == 0
    store.close()


def test_a_session_that_keeps_the_table_locked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.gallery.postgresql.PATIENCE", 0.2)
    address = servers.fresh("postgresql")
    store, table = opened(address), Address.parse(address).options["table"]
    store.upsert(rows(range(3)))
    with psycopg.connect(servers.started("postgresql").conninfo) as other:
        other.execute(f"SELECT 1 FROM {table}")
        with pytest.raises(DataError, match=r"lock timeout.*VACUUM FULL"):
            store.delete(Where())
    assert store.count(Where()) == 0
    store.close()


def test_a_lost_connection_is_told_and_opened_again() -> None:
    store, server = opened(servers.fresh("postgresql")), servers.started("postgresql")
    with psycopg.connect(server.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(DataError, match="try again when it is there"):
        store.count(Where())
    assert store.count(Where()) == 0
    store.close()


def test_a_table_of_somebody_else_is_left_alone() -> None:
    address = servers.fresh("postgresql")
    server, table = servers.started("postgresql"), Address.parse(address).options["table"]
    with psycopg.connect(server.conninfo, autocommit=True) as other:
        other.execute(f"CREATE TABLE {table} (mine text)")
    with pytest.raises(DataError, match="is no gallery"):
        opened(address)


def test_what_milvus_cannot_hold_is_refused_whole() -> None:
    store = opened(servers.fresh("milvus"))
    good, large = rows(range(5)), rows(range(5, 6), picture=b"\xff" * 50_000)
    with pytest.raises(DataError, match=r"picture is too large for Milvus, which takes 49,149 bytes"):
        store.upsert(Rows.join([good, large]))
    assert store.count(Where()) == 0
    fits = rows(range(5, 6), picture=b"\xff" * 49_149)
    store.upsert(fits)
    assert next(store.fetch(Where())).pictures == fits.pictures
    store.close()


@pytest.mark.parametrize("place", ["a-b", "people?index=ivf", "1st"])
def test_an_address_milvus_cannot_have_is_a_clear_mistake(place: str) -> None:
    with pytest.raises(DataError, match="letters, digits"):
        opened(f"milvus://127.0.0.1:1/{place}")
