from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid import distance, rerank
from reid.data import read
from reid.embed import DEFAULT_MODEL, Embedder
from reid.errors import ShapeError
from reid.rerank import KReciprocal
from tests.reference import k_reciprocal as slow

MARKET = Path(__file__).parents[2] / "shared" / "data" / "market1501" / "bounding_box_train"


def labelled(count: int, crops: int, dim: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around a centre for each person, shuffled, and who they are."""
    rng = np.random.default_rng(seed)
    pids = rng.permutation(np.repeat(np.arange(count), crops))
    points = rng.normal(size=(count, dim))[pids] + rng.normal(scale=spread, size=(count * crops, dim))
    return points.astype(np.float32), pids


def people(count: int, crops: int, dim: int, spread: float, seed: int) -> np.ndarray:
    return labelled(count, crops, dim, spread, seed)[0]


@pytest.mark.parametrize("settings", [(20, 6, 0.3), (7, 3, 0.3), (15, 6, 0.0), (3, 1, 0.5), (5, 2, 1.0), (11, 8, 0.2)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_papers_algorithm(settings: tuple[int, int, float], seed: int) -> None:
    """Among them k1 = 3, 7, 11 and 15, and 5, where k1/2 is rounded down to an even number."""
    points = people(12, 7, 10, 0.5, seed)
    wanted = slow.rerank(points, 15, *settings)
    found = rerank.k_reciprocal(points[:15], points[15:], KReciprocal(*settings))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.skipif(not MARKET.is_dir(), reason="Market-1501 is not beside the clone (../shared/data)")
@pytest.mark.parametrize("settings", [(20, 6, 0.3), (7, 3, 0.3)])
def test_equals_the_papers_algorithm_on_photographs(settings: tuple[int, int, float]) -> None:
    crops = read(MARKET)[:400:2]
    points = Embedder(DEFAULT_MODEL)(crops).vectors
    wanted = slow.rerank(points, 40, *settings)
    found = rerank.k_reciprocal(points[:40], points[40:], KReciprocal(*settings))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_with_duplicates() -> None:
    """Copies of a crop tie with it, and ties go by position in both."""
    points = np.repeat(people(6, 5, 6, 0.5, 0), 3, axis=0)
    points = np.round(points * 8) / 8  # sums of such squares are exact in float32, so the ties are ties
    wanted = slow.rerank(points, 9, 8, 3, 0.3)
    np.testing.assert_allclose(rerank.k_reciprocal(points[:9], points[9:], KReciprocal(8, 3)), wanted, atol=1e-5)


def test_with_fewer_points_than_k1() -> None:
    points = people(2, 3, 4, 0.5, 0)
    wanted = slow.rerank(points, 2, 20, 6, 0.3)
    np.testing.assert_allclose(rerank.k_reciprocal(points[:2], points[2:]), wanted, atol=1e-5)


class Matrix:
    """What else sets points apart, as a plain matrix."""

    def __init__(self, values: np.ndarray):
        self.values = values.astype(np.float32)

    def block(self, rows: slice) -> np.ndarray:
        return self.values[rows]

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self.values[rows, columns]


def test_something_extra_enters_the_neighbourhoods() -> None:
    points = people(10, 7, 8, 0.6, 2)
    apart = np.random.default_rng(2).random((70, 70)) * 4
    wanted = slow.rerank(points, 12, 8, 4, 0.3, apart)
    found = rerank.k_reciprocal(points[:12], points[12:], KReciprocal(8, 4), Matrix(apart))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - rerank.k_reciprocal(points[:12], points[12:], KReciprocal(8, 4))).max() > 0.01


def by_itself(points: np.ndarray, queries: int, settings: KReciprocal, apart: np.ndarray | float = 0.0) -> np.ndarray:
    """The paper's algorithm run for each query and the gallery alone."""
    rows = []
    for i in range(queries):
        these = np.append(i, np.arange(queries, len(points)))
        extra = apart[np.ix_(these, these)] if isinstance(apart, np.ndarray) else apart
        rows.append(slow.rerank(points[these], 1, settings.k1, settings.k2, settings.weight, extra))
    return np.concatenate(rows)


ALONE = [(20, 6, 0.3), (7, 3, 0.3), (15, 6, 0.0), (3, 1, 0.5), (4, 9, 1.0), (2, 2, 0.2)]


@pytest.mark.parametrize("settings", ALONE)
@pytest.mark.parametrize("seed", range(3))
def test_one_query_by_itself_equals_the_papers_algorithm_for_it_and_the_gallery(
    settings: tuple[int, int, float], seed: int
) -> None:
    """Also with k2 beyond k1 + 1, and far-off queries that are the farthest point of most of the gallery."""
    points = people(12, 6, 10, 0.5, seed)
    points[:3] *= 3
    wanted = by_itself(points, 12, KReciprocal(*settings))
    kept = rerank.Reranker(points[12:], KReciprocal(*settings))
    found = np.stack([kept.distances(query) for query in points[:12]])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    at_once = rerank.k_reciprocal(points[:12], points[12:], KReciprocal(*settings, alone=True))
    np.testing.assert_allclose(at_once, found, atol=1e-6)
    together = rerank.k_reciprocal(points[:12], points[12:], KReciprocal(*settings))
    assert np.abs(together - found).max() > 0.001 or settings[2] == 1


@pytest.mark.parametrize("spread", [0.5, 1.1])
def test_one_query_in_a_gallery_most_of_which_it_does_not_touch(spread: float) -> None:
    points = people(90, 7, 12, spread, 7)
    points[:4] *= 2
    kept = rerank.Reranker(points[12:])
    for i in range(12):
        wanted = rerank.k_reciprocal(points[i : i + 1], points[12:])[0]
        np.testing.assert_allclose(kept.distances(points[i]), wanted, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5, 19, 20, 21, 22])
def test_one_query_beside_few_rows(rows: int) -> None:
    points = people(5, 6, 4, 0.5, rows)[: rows + 4]
    wanted = by_itself(points, 4, KReciprocal())
    np.testing.assert_allclose(rerank.k_reciprocal(points[:4], points[4:], KReciprocal(alone=True)), wanted, atol=1e-5)


def test_one_query_among_its_own_copies() -> None:
    points = np.repeat(people(6, 4, 6, 0.5, 0), 3, axis=0)
    points = np.round(points * 8) / 8
    wanted = by_itself(points, 9, KReciprocal(8, 3))
    found = rerank.k_reciprocal(points[:9], points[9:], KReciprocal(8, 3, alone=True))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    same = np.ones((5, 3), dtype=np.float32)  # where all is one, there is no largest distance to divide by
    np.testing.assert_allclose(
        rerank.k_reciprocal(same[:1], same[1:], KReciprocal(2, 2, alone=True)),
        rerank.k_reciprocal(same[:1], same[1:], KReciprocal(2, 2)),
        atol=1e-6,
    )


def test_one_query_with_something_extra() -> None:
    points = people(10, 7, 8, 0.6, 2)
    apart = np.random.default_rng(2).random((70, 70)) * 4
    apart += apart.T
    wanted = by_itself(points, 12, KReciprocal(8, 4), apart)
    found = rerank.k_reciprocal(points[:12], points[12:], KReciprocal(8, 4, alone=True), Matrix(apart))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_kept_gallery_is_not_changed_by_queries() -> None:
    points = people(12, 6, 10, 0.5, 0)
    kept = rerank.Reranker(points[12:])
    first = kept.distances(points[0])
    for query in points[1:12]:
        kept.distances(query)
    np.testing.assert_array_equal(kept.distances(points[0]), first)
    assert kept.nbytes > 60 * 21 * 8


@pytest.mark.parametrize(
    ("gallery", "query", "said"),
    [
        (np.zeros((0, 4)), np.zeros((1, 4)), "at least one row"),
        (np.zeros(4), np.zeros((1, 4)), "at least one row"),
        (np.zeros((3, 4)), np.zeros((1, 5)), "embed them with one model"),
        (np.zeros((3, 4)), np.zeros(4), "embed them with one model"),
    ],
)
def test_a_kept_gallery_says_what_does_not_fit(gallery: np.ndarray, query: np.ndarray, said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        next(rerank.Reranker(gallery).blocks(query))


def test_blocks_are_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    points = people(10, 6, 8, 0.5, 4)
    whole = rerank.k_reciprocal(points[:20], points[20:])
    monkeypatch.setattr(distance, "BLOCK_VALUES", 100)
    monkeypatch.setattr(distance, "BLOCK_ROWS", 1)
    parts = list(rerank.blocks(points[:20], points[20:]))
    assert len(parts) > 5
    np.testing.assert_allclose(np.concatenate([block for _, block in parts]), whole, atol=1e-6)


def test_it_brings_people_together() -> None:
    points, pids = labelled(20, 8, 16, 0.9, 5)
    before = distance.pairwise(points[:40], points[40:])
    after = rerank.k_reciprocal(points[:40], points[40:], KReciprocal(7, 3))
    same = pids[:40, None] == pids[None, 40:]

    def precision(distances: np.ndarray) -> float:
        """Of the seven nearest, the share of the same person."""
        return float(np.take_along_axis(same, distances.argsort(axis=1)[:, :7], axis=1).mean())

    assert 0.3 < precision(before) < precision(after)
    assert after.min() >= 0
    assert after.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"k1": 0}, "k1 is 0; it must be at least 1"),
        ({"k2": 0}, "k2 is 0; it must be at least 1"),
        ({"weight": 1.5}, "the weight is 1.5; it must lie in [0, 1]"),
    ],
)
def test_settings_are_checked(bad: dict[str, float], said: str) -> None:
    with pytest.raises(ShapeError) as error:
        KReciprocal(**bad)  # type: ignore[arg-type]
    assert str(error.value) == said


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_expansion_equals_a_loop(alpha: float) -> None:
    points = people(6, 5, 4, 0.8, 1)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = rerank.expand(points[:7], points[7:], k=4, alpha=alpha)
    for i in range(7):
        total = points[i].astype(float)
        cosines = points[7:] @ points[i]
        for j in np.argsort(-cosines, kind="stable")[:4]:
            if cosines[j] > 0:
                total = total + cosines[j] ** alpha * points[7 + j]
        np.testing.assert_allclose(found[i], total / np.linalg.norm(total), atol=1e-5)


def test_opposite_neighbours_get_no_weight() -> None:
    """A negative similarity must not reach a fractional power."""
    found = rerank.expand(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0], [-0.9, 0.1]]), k=2, alpha=0.5)
    np.testing.assert_allclose(found, [[1, 0]])
