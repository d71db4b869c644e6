"""What every store of galleries must do. A line in STORES is enough to be tested here, and one in ADDRESSES.

One random script of upserts, queries, fetches, counts, deletions and reopenings runs against a store and against the
plainest possible one; after each step both must say the same, up to ties.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from reid.errors import ReidError
from reid.gallery import STORES
from reid.gallery.address import Address
from reid.gallery.records import Column, span, summaries
from reid.gallery.rows import Rows, Where, half, row_ids
from reid.gallery.store import Store, state, tallies
from reid.types import Crop
from tests import servers
from tests.reference.store import Plain

DIM, STEPS, NAMES = 16, 2000, 150
CAMERAS = ["1", "2", "front door", 'o"dd\\', "três"]
PEOPLE, TRACKLETS, TAGS = [*"abcdefgh", "Zoë"], [f"t{i}" for i in range(12)], ["night", "bag", "with space", "[x"]

ADDRESSES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: str(folder / "people.db"),
    "postgresql": lambda _: servers.fresh("postgresql"),
    "milvus": lambda _: servers.fresh("milvus"),
}
"""An address of an empty store for each scheme, in a folder of its own. May skip, with the reason."""


@pytest.fixture(params=sorted(STORES))
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address.parse(ADDRESSES[request.param](tmp_path))


def open_store(address: Address, model: str | None = "m", dim: int | None = DIM) -> Store:
    return STORES[address.scheme](address, model, dim)


@pytest.fixture
def store(address: Address) -> Iterator[Store]:
    opened = open_store(address)
    yield opened
    opened.close()


class Script:
    """Random rows, filters and queries from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def maybe(self, values: list[Any], share: float = 0.8) -> Any:
        return values[self.rng.integers(len(values))] if self.rng.random() < share else None

    def some(self, values: list[Any], share: float = 0.4) -> frozenset[Any]:
        return frozenset(value for value in values if self.rng.random() < share)

    def rows(self, most: int = 12) -> Rows:
        count = int(self.rng.integers(1, most + 1))
        numbers = self.rng.choice(NAMES, count, replace=False)
        crops = tuple(
            Crop(
                f"crops/{n}.jpg",
                self.maybe(PEOPLE),
                self.maybe(CAMERAS),
                self.maybe([float(t) / 4 for t in range(40)]),
                self.maybe(TRACKLETS, 0.5),
                self.rng.choice(["person", "distractor", "junk"]),
                {"note": "näher"} if self.rng.random() < 0.2 else {},
            )
            for n in numbers
        )
        coarse = self.rng.integers(-3, 4, (count, DIM)).astype(np.float16)  # so that there are ties
        fine = half(self.rng.normal(size=(count, DIM)))
        vectors = coarse if self.rng.random() < 0.3 else fine
        pictures = tuple(self.maybe([b"\xff\xd8\0one", b"\xff\xd8two"], 0.3) for _ in range(count))
        tags = tuple(self.some(TAGS, 0.3) for _ in range(count))
        added = self.rng.integers(1_700_000_000, 1_700_000_050, count) + 0.5
        return Rows(np.array(row_ids(crops), np.int64), vectors, crops, tags, pictures, added)

    def where(self, ids: list[int]) -> Where:
        def given(share: float = 0.25) -> bool:
            return bool(self.rng.random() < share)

        chosen = [int(i) for i in self.rng.choice(ids, min(len(ids), 8), replace=False)] if ids else []
        return Where(
            ids=frozenset([*chosen, 12345]) if given(0.15) else None,
            cameras=self.some([*CAMERAS, "nowhere"]) if given() else None,
            not_cameras=self.some(CAMERAS) if given() else frozenset(),
            after=float(self.rng.integers(0, 40)) / 4 if given() else None,
            before=float(self.rng.integers(0, 40)) / 4 if given() else None,
            people=self.some([*PEOPLE, "nobody"]) if given() else None,
            not_people=self.some([*PEOPLE, "nobody"]) if given(0.15) else frozenset(),
            tracklets=self.some(TRACKLETS) if given(0.15) else None,
            not_tracklets=self.some([*TRACKLETS, "none"]) if given(0.15) else frozenset(),
            tags=self.some(TAGS, 0.25) if given() else frozenset(),
            added_before=1_700_000_000.5 + float(self.rng.integers(0, 50)) if given(0.15) else None,
        )


def same_rows(store: Store, plain: Plain, where: Where, vectors: bool, pictures: bool) -> None:
    parts = list(store.fetch(where, vectors, pictures))
    assert all(len(part) for part in parts)
    rows = Rows.join(parts, DIM)
    assert rows.ids.tolist() == plain.admitted(where)
    for i, row in enumerate(rows.ids.tolist()):
        vector, crop, tags, picture, added = plain.rows[row]
        assert (rows.crops[i], rows.tags[i], rows.added[i]) == (crop, tags, added)
        assert rows.pictures[i] == (picture if pictures else None)
        assert rows.vectors[i].tobytes() == (vector.tobytes() if vectors else b"")


def same_answers(store: Store, plain: Plain, queries: np.ndarray, k: int, where: Where) -> None:
    ranking = store.query(queries, k, where)
    assert len(ranking) == len(queries)
    assert ranking.ids.shape[1] <= k
    for vector, ids, distances in zip(queries, ranking.ids, ranking.distances, strict=True):
        every = plain.distances(vector, where)
        expected = sorted(every.values())[:k]
        found = ids[ids >= 0].tolist()
        assert len(set(found)) == len(found) == len(expected)
        tolerance = 1e-3 * (1 + float(np.linalg.norm(vector)))
        np.testing.assert_allclose(distances[: len(found)], expected, atol=tolerance)
        np.testing.assert_allclose([every[row] for row in found], expected, atol=tolerance)


def same_people(store: Store, plain: Plain, where: Where) -> None:
    crops = [plain.rows[row][1] for row in plain.admitted(where)]
    assert store.count(where) == len(crops)
    times = [crop.time for crop in crops if crop.time is not None]
    for column in get_args(Column):
        told = tallies(store, where, column)
        assert summaries(told) == plain.summaries(where, column)
        assert {(t.name, t.camera): t.crops for t in told} == Counter((getattr(c, column), c.camera) for c in crops)
        assert span(told) == (min(times, default=None), max(times, default=None))


def test_the_same_script_gives_the_same_answers(address: Address) -> None:
    store, plain, script = open_store(address), Plain(), Script(20261126)
    for _ in range(STEPS):
        where = script.where(list(plain.rows))
        match script.rng.choice(6, p=[0.3, 0.3, 0.15, 0.1, 0.12, 0.03]):
            case 0:
                rows = script.rows()
                store.upsert(rows)
                plain.upsert(rows)
            case 1:
                queries = script.rows(4).vectors.astype(np.float32)
                same_answers(store, plain, queries, int(script.rng.choice([1, 3, 10, 300])), where)
            case 2:
                same_rows(store, plain, where, script.rng.random() < 0.5, script.rng.random() < 0.5)
            case 3:
                same_people(store, plain, where)
            case 4:
                small = replace(where, people=script.some(PEOPLE, 0.2))  # so that something stays
                assert store.delete(small) == plain.delete(small)
            case 5:
                store.close()
                store = open_store(address, None, None)
                assert (store.model, store.dim) == ("m", DIM)
    assert store.count(Where()) == len(plain.rows) > NAMES // 3
    same_rows(store, plain, Where(), True, True)
    store.close()


def test_an_empty_store_answers(store: Store) -> None:
    assert store.count(Where()) == 0
    assert list(store.fetch(Where())) == []
    assert store.delete(Where()) == 0
    found = store.query(np.zeros((3, DIM), np.float32), 5, Where())
    assert len(found) == 3
    assert (found.ids == -1).all()


def test_nothing_is_no_mistake(store: Store) -> None:
    store.upsert(Rows.join([], DIM))
    store.upsert(Script(1).rows())
    assert store.query(np.zeros((0, DIM), np.float32), 5, Where()).ids.shape[0] == 0
    assert tallies(store, Where(ids=frozenset()), "pid") == []
    assert store.count(Where(ids=frozenset())) == store.count(Where(cameras=frozenset())) == 0


def test_more_than_one_part_comes_in_order(store: Store) -> None:
    count = 5000
    crops = tuple(Crop(f"{i}.jpg", camera=str(i % 3), time=float(i)) for i in range(count))
    rng = np.random.default_rng(3)
    vectors = half(rng.normal(size=(count, DIM)))
    rows = Rows(
        np.array(row_ids(crops), np.int64), vectors, crops, (frozenset(),) * count, (None,) * count, np.ones(count)
    )
    store.upsert(rows)
    got = Rows.join(list(store.fetch(Where())))
    order = np.argsort(rows.ids)
    assert np.array_equal(got.ids, rows.ids[order])
    assert np.array_equal(got.vectors, vectors[order])
    query = rng.normal(size=(20, DIM)).astype(np.float32)
    for where, mask in ((Where(), np.ones(count, bool)), (Where(cameras={"1"}, after=700), np.arange(count) % 3 == 1)):
        mask = mask & (np.arange(count) >= (where.after or 0))
        distances = np.linalg.norm(vectors[mask].astype(float)[None] - query[:, None].astype(float), axis=2)
        found = store.query(query, 40, where)
        np.testing.assert_allclose(found.distances, np.sort(distances, axis=1)[:, :40], atol=5e-3)
        assert set(found.ids.ravel().tolist()) <= set(rows.ids[mask].tolist())


def test_two_that_have_it_open_see_each_other(address: Address) -> None:
    first, second, script = open_store(address), open_store(address, None, None), Script(5)
    plain = Plain()
    for turn in range(30):
        writer, reader = (first, second) if turn % 2 else (second, first)
        rows = script.rows()
        writer.upsert(rows)
        plain.upsert(rows)
        same_rows(reader, plain, Where(), True, True)
        same_answers(reader, plain, rows.vectors.astype(np.float32), 5, Where())
        where, before = Where(people=script.some(PEOPLE, 0.1)), state(reader)
        assert state(reader) == before
        assert writer.delete(where) == plain.delete(where)
        assert before is None or state(reader) != before
        assert reader.count(Where()) == len(plain.rows)
    first.close()
    second.close()


def test_a_store_that_is_not_there_is_a_clear_mistake(address: Address) -> None:
    with pytest.raises(ReidError, match="reid index add"):
        open_store(address, None, None)


def test_closing_twice_is_no_mistake(store: Store) -> None:
    store.close()
    store.close()
