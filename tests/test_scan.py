"""The exact search of a gallery in memory: planes of bytes are the vectors, and what bounds leave out is no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, load, numpy_helper

from reid import distance
from reid.errors import ShapeError
from reid.gallery import memory, planes, scan
from reid.gallery.memory import BLOCK, Memory, empty_facts
from reid.gallery.planes import ZERO, are_rounded, rounded, split
from reid.gallery.rows import half
from reid.gallery.scan import Found, Known, Part, candidates

FINITE = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = FINITE[np.isfinite(FINITE)]
KINDS = ("normal", "whole", "heavy", "long", "same", "zeros")


def drawn(kind: str, rng: np.random.Generator, count: int, dim: int) -> NDArray[np.float16]:
    """Vectors that are easy to tell apart, that tie, that have a few large values, of many lengths, or all the same."""
    values = rng.normal(size=(count, dim)) / np.sqrt(dim)
    if kind == "whole":
        values = rng.integers(-3, 4, (count, dim))
    elif kind == "heavy":
        values **= 5
    elif kind == "long":
        values *= 10.0 ** rng.integers(-2, 4, (count, 1))
    elif kind == "same":
        values[:] = values[0]
    elif kind == "zeros":
        values[rng.random(count) < 0.5] = 0
    return rounded(values)


def filled(vectors: NDArray[np.float16]) -> Memory:
    """Those rows, with their numbers as ids."""
    held = Memory(vectors.shape[1])
    for number in range(-(-len(vectors) // BLOCK)):
        block = vectors[number * BLOCK : (number + 1) * BLOCK]
        facts, padded = empty_facts(), np.zeros((BLOCK, vectors.shape[1]), np.float16)
        facts["id"][: len(block)] = np.arange(number * BLOCK, number * BLOCK + len(block))
        facts["square"][: len(block)] = np.square(block, dtype=np.float32).sum(axis=1)
        padded[: len(block)] = block
        held.put_facts(number, facts)
        held.put_vectors(number, padded.tobytes())
    return held


# ── planes ──


def test_every_half_is_the_same_after_it_was_split() -> None:
    largest = np.abs(FINITE[FINITE != 0])
    rows = rounded(np.stack([largest, -largest / 2, largest / 3, largest / 1000], axis=1))
    np.testing.assert_array_equal(rows[:, 0], largest)
    np.testing.assert_array_equal(split(rows).halves(), rows)
    np.testing.assert_array_equal(rounded(rows), rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(-65504, 65504, width=32), min_size=3, max_size=3), min_size=1, max_size=9))
@example([[0.0, 2.0, 65041.0]])  # which becomes 65,056, and steps of 4 with it
@example([[-0.002040550811216235, 0.0, -1.5153791821376217e-07]])  # which is less than halves tell exactly
def test_rounding_happens_once_and_loses_little(values: list[list[float]]) -> None:
    exact = np.array(values, np.float32)
    kept = rounded(exact)
    np.testing.assert_array_equal(rounded(kept), kept)
    parts = split(kept)
    np.testing.assert_array_equal(parts.joined(), kept.astype(np.float32))
    assert (parts.high >= 1).all()
    largest = np.abs(exact.astype(np.float16)).max(axis=1, keepdims=True).astype(np.float64)
    step = 2 * largest / planes.MOST  # or less: half of it would be too little for the largest
    assert (np.abs(kept - exact) <= np.maximum(np.abs(exact) * 2.0**-11, 2.0**-25) + step / 2).all()


def test_rounding_in_parts_is_rounding_and_names_the_vector_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    whole = half(exact)
    monkeypatch.setattr(distance, "NEAR_VALUES", 21)  # three vectors
    np.testing.assert_array_equal(half(exact), whole)
    finer = whole.copy()
    finer[40, :2] = 1, 2.0**-20
    assert are_rounded(whole)
    assert not are_rounded(finer)
    exact[41] *= 1e6
    with pytest.raises(ShapeError, match="vector 41 does not fit"):
        half(exact)


def test_steps_lose_an_eighth_of_what_halves_lose() -> None:
    exact = (np.random.default_rng(0).normal(size=(2000, 512)) / np.sqrt(512)).astype(np.float32)
    halves = exact.astype(np.float16).astype(np.float32)
    lost = np.linalg.norm(rounded(exact) - halves, axis=1) / np.linalg.norm(exact - halves, axis=1)
    assert np.median(lost) < 1 / 8


def test_the_first_bytes_tell_nearly_all() -> None:
    parts = split(drawn("normal", np.random.default_rng(0), 1000, 512))
    near = (parts.high.astype(np.float32) - ZERO) * (parts.units * parts.steps)[:, None]
    assert np.linalg.norm(parts.joined() - near, axis=1).max() < 0.012


# ── the scan ──


def test_the_graph_is_a_product_of_bytes_and_a_bound() -> None:
    one, byte, value = TensorProto.FLOAT, TensorProto.UINT8, helper.make_tensor_value_info
    steps = [
        helper.make_node("MatMulInteger", ["block", "queries", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["products"], to=one),
        helper.make_node("Mul", ["products", "weight"], ["lowered"]),
        helper.make_node("Add", ["lowered", "floor"], ["bound"]),
    ]
    own = [value("block", byte, ["n", "d"]), value("weight", one, ["n", 1]), value("floor", one, ["n", 1])]
    body = helper.make_graph(steps, "block", own, [value("bound", one, ["n", "q"])])
    node = helper.make_node("Scan", ["rows", "weights", "floors"], ["bounds"], num_scan_inputs=3, body=body)
    columns = [value(name, one, ["b", "n", 1]) for name in ("weights", "floors")]
    asked, found = [value("queries", TensorProto.INT8, ["d", "q"])], [value("bounds", one, ["b", "n", "q"])]
    zero = [numpy_helper.from_array(np.uint8(ZERO), "zero")]
    graph = helper.make_graph([node], "scan", [value("rows", byte, ["b", "n", "d"]), *columns, *asked], found, zero)
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9, producer_name="reid")
    assert load(Path(scan.__file__).with_name("scan.onnx")) == model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, scan.FEW + 1])
def test_no_row_is_nearer_than_its_bound(kind: str, count: int) -> None:
    rng = np.random.default_rng(len(kind))
    vectors = drawn(kind, rng, 3000, 24)
    held, exact = filled(vectors), vectors.astype(np.float64)
    queries = np.concatenate([exact[:count] + rng.normal(size=(count, 24)) / 50, exact[:count]])[:count]
    queries = queries.astype(np.float32)
    mask = held.facts["id"] >= 0
    known = held.known(mask)
    asked = scan._Queries(queries)
    for part in held._parts(mask):
        if count > scan.FEW:
            bounds = asked.bounds_of_many(part, known)
        else:
            bounds = asked.bounds(asked.products([part], slice(0, 1))[0], part, known)
        places = np.arange(len(mask))[part.places]
        there = mask[places]
        rows = exact[places[there]]
        truth = np.square(rows).sum(axis=1)[:, None] - 2 * rows @ queries.astype(np.float64).T
        assert (bounds[there] <= truth).all()
        assert np.isinf(bounds[~there]).all()


@pytest.mark.parametrize("dim", [1, 3, 24, 41])
def test_no_kernel_clips_large_bytes(dim: int) -> None:
    rng = np.random.default_rng(dim)
    signs = np.sign(rng.normal(size=(40, dim)))
    signs[:2] = [[1], [-1]]  # the largest sums of neighbours that there are
    held = filled(rounded(signs * rng.uniform(0.9, 1, signs.shape)))
    asked = scan._Queries((signs * rng.uniform(0.9, 1, signs.shape)).astype(np.float32))
    known = held.known(held.facts["id"] >= 0)
    for part in held._parts(known.admitted):
        few = asked.bounds(asked.products([part], slice(0, 1))[0], part, known)
        np.testing.assert_allclose(asked.bounds_of_many(part, known), few, rtol=1e-4, atol=1e-4 * dim)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_what_a_plain_one_finds(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng([seed, *kind.encode()])
    monkeypatch.setattr(memory, "WIDER", int(rng.integers(2, 9)))
    monkeypatch.setattr(memory, "EXACT", 100)
    monkeypatch.setattr(memory, "MANY", 8)
    monkeypatch.setattr(scan, "SCORES", int(rng.integers(1000, 1 << 16)))
    monkeypatch.setattr(scan, "ROWS", 600)
    vectors = drawn(kind, rng, int(rng.integers(1, 6000)), int(rng.integers(1, 40)))
    held, exact = filled(vectors), vectors.astype(np.float64)
    shares = rng.choice([0.01, 0.3, 0.9, 1], len(held))  # of each block
    places = len(held.facts["id"])
    mask = (held.facts["id"] >= 0) & (rng.random(places) < np.resize(np.repeat(shares, BLOCK), places))
    queries = exact[rng.integers(0, len(exact), int(rng.integers(1, 12)))]
    moved = (rng.random(len(queries)) < 0.5)[:, None]
    queries = (queries + moved * rng.normal(size=queries.shape) / 20).astype(np.float32)
    k = int(rng.integers(1, 80))
    found = held.query(queries, k, mask)
    allowed = np.flatnonzero(mask)
    distances = np.linalg.norm(exact[allowed] - queries[:, None].astype(np.float64), axis=2)
    expected = np.sort(distances, axis=1)[:, :k]
    assert found.ids.shape == expected.shape == (len(queries), min(k, len(allowed)))
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5, atol=1e-6)
    for ids, own, truth in zip(found.ids, found.distances, distances, strict=True):
        assert len(set(ids.tolist())) == len(ids)
        np.testing.assert_allclose(truth[np.searchsorted(allowed, ids)], own, rtol=1e-5, atol=1e-6)


def test_where_bounds_do_not_tell_rows_apart_more_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(queries: np.ndarray, parts: list[Part], known: Known, most: int) -> Found:
        asked.append(most)
        return candidates(queries, parts, known, most)

    monkeypatch.setattr(memory, "candidates", counted)
    rng = np.random.default_rng(0)
    base = rng.normal(size=128) / np.sqrt(128)
    held = filled(rounded(base + rng.normal(size=(3000, 128)) * 1e-4))  # all within what the first bytes leave out
    found = held.query(base[None].astype(np.float32), 3, held.facts["id"] >= 0)
    assert asked == [24, 192, 1536, 12288]
    exact = held.take(np.arange(3000)).joined()
    assert found.ids[0].tolist() == np.argsort(np.linalg.norm(exact - base, axis=1))[:3].tolist()


def test_memory_takes_two_bytes_a_value_and_forgets_what_is_wiped() -> None:
    vectors = drawn("normal", np.random.default_rng(0), 2 * BLOCK, 8)
    held = filled(vectors)
    assert [plane.dtype.itemsize for plane in held.slabs[0]] == [1, 1]
    np.testing.assert_array_equal(held.take(np.arange(2 * BLOCK)).halves(), vectors)
    held.put_facts(1, empty_facts())
    assert not any(plane[BLOCK : 2 * BLOCK].any() for plane in held.slabs[0])
    np.testing.assert_array_equal(held.take(np.arange(BLOCK)).halves(), vectors[:BLOCK])
    assert planes.ZERO == 128
