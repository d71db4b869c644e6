"""What every loss must do. A line in LOSSES is enough to be tested here, but for the slow loop it must agree with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from reid.losses import LOSSES, distances
from reid.nets import Features
from tests.reference import losses as slow

CLASSES = 6
SLOW: dict[str, Callable[[Features, list[int]], list[float]]] = {
    "batch-hard": lambda f, pids: slow.batch_hard(f.metric.numpy(), pids, None),
    "cross-entropy": lambda f, pids: slow.cross_entropy(f.logits[0].numpy(), pids, 0.0),
}
SLOW_WITH = [
    ("batch-hard", {"margin": 0.3}, lambda f, pids: slow.batch_hard(f.metric.numpy(), pids, 0.3)),
    ("cross-entropy", {"smoothing": 0.1}, lambda f, pids: slow.cross_entropy(f.logits[0].numpy(), pids, 0.1)),
]
BATCHES = {
    "3 people × 3": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "uneven": [0, 1, 1, 2, 2, 2, 3, 3, 3, 3],
    "one person": [4, 4, 4],
    "one crop each": [0, 1, 2, 3],
    "one crop": [5],
}


def features(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Features:
    rng = np.random.default_rng(seed)
    metric = torch.from_numpy(rng.normal(size=(count, 4))).to(dtype)
    logits = torch.from_numpy(rng.normal(size=(count, CLASSES))).to(dtype)
    return Features(metric, metric, (logits,))


@pytest.fixture(params=list(LOSSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("batch", BATCHES)
def test_equals_the_slow_loop(name: str, batch: str) -> None:
    pids = BATCHES[batch]
    out = LOSSES[name](features(len(pids)), torch.tensor(pids))
    assert out.shape == (len(pids),)
    np.testing.assert_allclose(out, SLOW[name](features(len(pids)), pids), atol=1e-5)


@pytest.mark.parametrize(("name", "options", "loop"), SLOW_WITH)
@pytest.mark.parametrize("batch", BATCHES)
def test_options_equal_the_slow_loop(
    name: str, options: dict[str, float], loop: Callable[[Features, list[int]], list[float]], batch: str
) -> None:
    pids = BATCHES[batch]
    out = LOSSES[name](features(len(pids)), torch.tensor(pids), **options)
    np.testing.assert_allclose(out, loop(features(len(pids)), pids), atol=1e-5)


def test_order_does_not_matter(name: str) -> None:
    pids = torch.tensor(BATCHES["uneven"])
    whole, order = features(10), torch.randperm(10, generator=torch.Generator().manual_seed(0))
    shuffled = Features(whole.embedding[order], whole.metric[order], (whole.logits[0][order],))
    torch.testing.assert_close(LOSSES[name](shuffled, pids[order]), LOSSES[name](whole, pids)[order])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_and_finite(name: str, dtype: torch.dtype) -> None:
    pids = torch.tensor(BATCHES["uneven"])
    out = LOSSES[name](features(10, dtype=dtype), pids)
    assert out.isfinite().all()
    torch.testing.assert_close(out.float(), LOSSES[name](features(10), pids), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("batch", BATCHES)
def test_gradients_are_finite_even_where_crops_coincide(name: str, batch: str) -> None:
    pids = torch.tensor(BATCHES[batch])
    metric = torch.zeros(len(pids), 4, requires_grad=True)
    logits = torch.zeros(len(pids), CLASSES, requires_grad=True)
    out = LOSSES[name](Features(metric, metric, (logits,)), pids).sum()
    if out.requires_grad:
        out.backward()
    for leaf in (metric, logits):
        assert leaf.grad is None or leaf.grad.isfinite().all()


def test_gradient_is_the_slope(name: str) -> None:
    """In double precision, away from the kinks of max and hinge."""
    pids = torch.tensor(BATCHES["3 people × 3"])
    at = features(9, seed=3, dtype=torch.float64)

    def value(metric: Tensor, logits: Tensor) -> Tensor:
        return LOSSES[name](Features(metric, metric, (logits,)), pids)

    leaves = tuple(x.clone().requires_grad_() for x in (at.metric, at.logits[0]))
    assert torch.autograd.gradcheck(value, leaves)


def test_cross_entropy_needs_a_classifier() -> None:
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="no classifier"):
        LOSSES["cross-entropy"](Features(x, x), torch.tensor([0, 1]))


def test_distances_are_euclidean_and_their_gradient_is_finite_at_zero() -> None:
    x = torch.zeros(3, 2, requires_grad=True)
    distances(x, x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    a, b = torch.randn(5, 3), torch.randn(4, 3)
    torch.testing.assert_close(distances(a, b), torch.cdist(a, b), atol=1e-5, rtol=1e-4)
