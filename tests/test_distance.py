from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from reid import distance
from reid.errors import ShapeError

rng = np.random.default_rng(0)
A, B = rng.normal(size=(37, 16)).astype(np.float32), rng.normal(size=(53, 16)).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_pairwise_equals_scipy_and_blocks_equal_pairwise(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distance.pairwise(A, B, metric)  # type: ignore[arg-type]
    np.testing.assert_allclose(whole, cdist(A, B, metric), atol=2e-5)
    monkeypatch.setattr(distance, "BLOCK_VALUES", 200)
    monkeypatch.setattr(distance, "BLOCK_ROWS", 1)
    parts = list(distance.blocks(A, B, metric))  # type: ignore[arg-type]
    assert len(parts) > 5
    np.testing.assert_allclose(np.concatenate([p for _, p in parts]), whole, atol=1e-6)


def test_a_block_is_the_same_whole_and_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for metric in ("euclidean", "squared", "cosine"):
        whole = distance.pairwise(A, A, metric)  # type: ignore[arg-type]
        with monkeypatch.context() as patched:
            patched.setattr(distance, "NEAR_VALUES", 100)
            patched.setattr(distance, "_cores", lambda: 3)
            assert (distance.pairwise(A, A, metric) == whole).all()  # type: ignore[arg-type]


def test_blocks_may_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "BLOCK_ROWS", 5)
    shared = [(block, block.copy()) for _, block in distance.blocks(A, B, reuse=True)]
    assert len(shared) > 1
    assert all(np.shares_memory(shared[0][0], block) for block, _ in shared)
    own = [block for _, block in distance.blocks(A, B)]
    np.testing.assert_array_equal(np.concatenate([copy for _, copy in shared]), np.concatenate(own))


def test_half_precision_is_accumulated_in_single() -> None:
    np.testing.assert_allclose(distance.pairwise(A.astype(np.float16), B), cdist(A, B), atol=5e-3)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 25), st.integers(0, 1000), st.booleans())
def test_top_k_equals_a_stable_sort(q: int, g: int, k: int, seed: int, masked: bool) -> None:
    """On a few whole numbers, so that ties are everywhere."""
    r = np.random.default_rng(seed)
    query, gallery = r.integers(0, 3, (q, 2)).astype(float), r.integers(0, 3, (g, 2)).astype(float)
    mask = r.random((q, g)) < 0.6 if masked else np.ones((q, g), bool)
    found = distance.top_k(query, gallery, k, lambda rows: mask[rows])
    full = np.where(mask, distance.pairwise(query, gallery), np.inf)
    for row in range(q):
        order = [i for i in np.argsort(full[row], kind="stable") if mask[row, i]][:k]
        assert found.ids[row][: len(order)].tolist() == order
        assert (found.ids[row][len(order) :] == -1).all()
        assert found.distances[row][: len(order)].tolist() == full[row][order].tolist()


def test_an_empty_gallery_gives_no_answers() -> None:
    found = distance.top_k(A, np.empty((0, 16)), 3)
    assert (found.ids == -1).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="16 values each and the gallery 5"):
        distance.pairwise(A, B[:, :5])
    with pytest.raises(ShapeError, match=r"\(N, D\)"):
        distance.pairwise(A[0], B)
    with pytest.raises(ShapeError, match="'manhattan'"):
        distance.pairwise(A, B, "manhattan")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="k is 0"):
        distance.top_k(A, B, 0)


def test_a_zero_vector_stays_zero() -> None:
    assert distance.normalise(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
