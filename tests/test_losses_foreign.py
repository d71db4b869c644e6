"""Losses against pytorch-metric-learning, where it has the same definition: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import AvgNonZeroReducer, DoNothingReducer, MeanReducer
from torch import Tensor

from reid.losses import build
from reid.nets import Features

PIDS = torch.arange(6).repeat_interleave(4)
BATCHES = {
    "apart": torch.from_numpy(np.random.default_rng(0).normal(size=(24, 8))),
    "mixed": torch.from_numpy(np.random.default_rng(1).normal(size=(6, 8)).repeat(4, 0))
    + torch.from_numpy(np.random.default_rng(2).normal(scale=0.7, size=(24, 8))),
}


@pytest.fixture(params=list(BATCHES))
def batch(request: pytest.FixtureRequest) -> Tensor:
    return BATCHES[request.param]


def ours(name: str, x: Tensor, **options: Any) -> Tensor:
    return build(name, 6, x.shape[1], **options)(Features(x, x), PIDS).mean()


def same(batch: Tensor, mine: Any, theirs: Any) -> None:
    """Two functions of a batch have one value and one gradient; both are above 0, so that there is something to see."""
    a, b = batch.clone().requires_grad_(), batch.clone().requires_grad_()
    left, right = mine(a), theirs(b)
    assert left.item() > 0
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-8)
    left.backward()
    right.backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("margin", [None, 0.3, 2.0])
def test_batch_hard(batch: Tensor, margin: float | None, normalise: bool) -> None:
    distance = LpDistance(normalize_embeddings=normalise)
    mined = miners.BatchHardMiner(distance=distance)
    theirs = losses.TripletMarginLoss(
        margin or 0.0, smooth_loss=margin is None, distance=distance, reducer=MeanReducer()
    )
    same(
        batch,
        lambda x: ours("triplet-hard", x, margin=margin, normalise=normalise),
        lambda x: theirs(x, PIDS, mined(x, PIDS)),
    )


@pytest.mark.parametrize("margin", [None, 0.3, 2.0])
@pytest.mark.parametrize("nonzero", [False, True])
def test_batch_all(batch: Tensor, margin: float | None, nonzero: bool) -> None:
    theirs = losses.TripletMarginLoss(
        margin or 0.0,
        smooth_loss=margin is None,
        distance=LpDistance(normalize_embeddings=False),
        reducer=AvgNonZeroReducer() if nonzero else MeanReducer(),
    )
    same(batch, lambda x: ours("batch-all", x, margin=margin, nonzero=nonzero), lambda x: theirs(x, PIDS))


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_lifted(batch: Tensor, margin: float) -> None:
    theirs = losses.GeneralizedLiftedStructureLoss(
        neg_margin=margin, distance=LpDistance(normalize_embeddings=False), reducer=MeanReducer()
    )
    same(batch, lambda x: ours("lifted", x, margin=margin), lambda x: theirs(x, PIDS))


@pytest.mark.parametrize(("margin", "gamma"), [(0.25, 128.0), (0.25, 64.0), (0.4, 80.0)])
def test_circle(batch: Tensor, margin: float, gamma: float) -> None:
    theirs = losses.CircleLoss(m=margin, gamma=gamma, reducer=MeanReducer())
    same(batch, lambda x: ours("circle", x, margin=margin, gamma=gamma), lambda x: theirs(x, PIDS))


@pytest.mark.parametrize("normalise", [False, True])
def test_contrastive(batch: Tensor, normalise: bool) -> None:
    """Theirs leaves hinges as they are; Hadsell et al. square and halve them."""
    margin = 1.5 if normalise else 4.0
    theirs = losses.ContrastiveLoss(
        neg_margin=margin, distance=LpDistance(normalize_embeddings=normalise), reducer=DoNothingReducer()
    )

    def squared(x: Tensor) -> Tensor:
        terms = theirs(x, PIDS)
        return sum((terms[k]["losses"].square() / 2).mean() for k in ("pos_loss", "neg_loss"))

    same(batch, lambda x: ours("contrastive", x, margin=margin, normalise=normalise), squared)
