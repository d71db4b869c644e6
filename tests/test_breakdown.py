from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reid.breakdown import camera_pairs, nearest, row_judge, spread
from reid.distance import blocks, pairwise
from reid.errors import DataError
from reid.evaluation import PROTOCOLS, evaluate_distances
from reid.types import Crop, Embeddings

Case = tuple[np.ndarray, list[Crop], list[Crop]]


def drawn(seed: int) -> Case:
    """Distances with ties, strangers, distractors, junk, crops without a camera, and a crop that is in both sets."""
    rng = np.random.default_rng(seed)

    def crop(name: str) -> Crop:
        kind = rng.choice(["person"] * 8 + ["distractor", "junk"])
        pid = str(rng.integers(12)) if kind == "person" and rng.random() < 0.95 else None
        return Crop(name, pid, None if rng.random() < 0.05 else f"c{rng.integers(8, 12)}", role=kind)

    query, gallery = [crop(f"q{i}") for i in range(40)], [crop(f"g{i}") for i in range(150)]
    gallery[7] = query[3]
    same = np.array([[q.pid == g.pid and q.pid is not None for g in gallery] for q in query])
    return np.round(rng.random(same.shape) + 0.5 * ~same, 2), query, gallery


def rows(distances: np.ndarray, chosen: Sequence[int], columns: Sequence[int]) -> np.ndarray:
    return np.ascontiguousarray(distances[np.ix_(chosen, columns)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_a_cell_is_an_evaluation_in_one_camera(seed: int, protocol: str) -> None:
    distances, query, gallery = drawn(seed)
    found = camera_pairs(distances, query, gallery, protocol)
    assert found.query_cameras == found.gallery_cameras == ("c8", "c9", "c10", "c11")
    filled = 0
    for r, a in enumerate(found.query_cameras):
        for c, b in enumerate(found.gallery_cameras):
            here = [i for i, crop in enumerate(query) if crop.camera == a]
            there = [i for i, crop in enumerate(gallery) if crop.camera == b]
            try:
                report = evaluate_distances(
                    rows(distances, here, there), [query[i] for i in here], [gallery[i] for i in there], protocol
                )
            except DataError:  # no query has a match
                assert found.queries[r, c] == 0
                assert np.isnan([found.mean_ap[r, c], found.rank1[r, c]]).all()
                continue
            filled += 1
            assert found.queries[r, c] == report.queries
            assert found.mean_ap[r, c] == pytest.approx(report.metrics["mAP"], abs=1e-12)
            assert found.rank1[r, c] == pytest.approx(report.metrics["rank-1"], abs=1e-12)
    assert filled >= 12 if protocol != "diagonal" else filled == 16


def test_blocks_and_matrix_give_the_same(people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pairwise(people.vectors, people.vectors)
    parts = [(slice(start, start + 25), whole[start : start + 25]) for start in range(0, len(whole), 25)]
    monkeypatch.setattr("reid.breakdown._ROWS", 10)
    for function in (camera_pairs, nearest, spread):
        one, other = function(whole, people.crops, people.crops), function(iter(parts), people.crops, people.crops)
        names = [n for n in ("mean_ap", "rank1", "queries", "ids", "distances", "edges", "same") if hasattr(one, n)]
        for name in names:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert names


@pytest.mark.parametrize("k", [1, 4, 500])
def test_nearest_are_the_first_of_the_ranking_and_the_first_match(k: int) -> None:
    distances, query, gallery = drawn(5)
    found = nearest(distances, query, gallery, "market1501", k)
    assert found.ids.shape == (40, min(k, 150) + 1)
    late = 0
    for i, q in enumerate(query):
        kept = [
            j
            for j, g in enumerate(gallery)
            if g.role != "junk"
            and g.path != q.path
            and not (q.role == "person" and q.pid is not None and (g.pid, g.camera) == (q.pid, q.camera) and q.camera)
        ]
        order = sorted(kept, key=lambda j: (distances[i, j], j))
        right = [j for j in order if q.role == "person" and q.pid is not None and gallery[j].pid == q.pid]
        expected = order[:k] + right[: 1 if right[:1] and right[0] not in order[:k] else 0]
        late += len(expected) > k
        assert [j for j in found.ids[i] if j >= 0] == expected
    assert late or k == 500


def test_spread_counts_every_pair_once() -> None:
    distances, query, gallery = drawn(2)
    distances[0] = np.inf
    found = spread(distances, query, gallery, bins=7)
    _, judged = row_judge(query, gallery, "market1501")
    same, different = [], []
    for i in (i for i, q in enumerate(query) if q.role == "person" and q.pid is not None and i):
        correct, ignored = judged(i)
        same += [distances[i, j] for j in correct]
        known = [j for j, g in enumerate(gallery) if g.role == "distractor" or (g.role == "person" and g.pid)]
        different += [distances[i, j] for j in set(known) - set(correct.tolist()) - set(ignored.tolist())]
    assert (found.same.sum(), found.different.sum()) == (len(same), len(different))
    np.testing.assert_allclose([found.edges[0], found.edges[-1]], [min(same + different), max(same + different)], 5e-4)
    for counts, values in ((found.same, same), (found.different, different)):
        exact = np.histogram(values, found.edges * (1 + 2e-4))[0]  # distances are rounded, none lies near an edge
        assert np.abs(counts - exact).sum() <= 4


def test_spread_takes_negative_and_equal_distances() -> None:
    query, gallery = [Crop("q", "1", "A")], [Crop("a", "1", "B"), Crop("b", "2", "B")]
    found = spread(np.array([[-0.5, 0.25]]), query, gallery, bins=3)
    assert (found.same.tolist(), found.different.tolist()) == ([1, 0, 0], [0, 0, 1])
    np.testing.assert_allclose(found.edges[[0, -1]], [-0.5, 0.25], 1e-3)
    found = spread(np.array([[0.5, 0.5]]), query, gallery, bins=4)
    assert (found.same.sum(), found.different.sum()) == (1, 1)
    with pytest.raises(DataError, match="two known people and a finite distance"):
        spread(np.array([[np.inf, np.inf]]), query, gallery)


def test_levels_keep_the_order_and_lose_little() -> None:
    query, gallery = [Crop("q", "1", "A")], [Crop(f"{i}", "2", "B") for i in range(2001)]
    values = np.linspace(-3, 5, 2001)[None]
    found = spread(values, query, gallery, bins=2000)
    assert found.different.sum() == 2001
    np.testing.assert_allclose(found.edges[[0, -1]], [-3, 5], 5e-4)


def test_an_unknown_protocol_is_named(people: Embeddings) -> None:
    found = blocks(people.vectors, people.vectors)
    with pytest.raises(DataError, match="protocol is 'x'; it can be market1501"):
        camera_pairs(found, people.crops, people.crops, "x")
