"""How good a network is as it stands, on people held out."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from reid.evaluation import evaluate, protocol_for
from reid.feed import Feed, Held
from reid.settings import Stage
from reid.types import Crop, Embeddings, Report

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def normalise(batch: Tensor) -> Tensor:
    """(B, H, W, 3) of 0–255 RGB to (B, 3, H, W), ImageNet mean and deviation, channels last in memory."""
    mean, deviation = _statistics(batch.device)
    return ((batch.float() - mean) / deviation).permute(0, 3, 1, 2)


@functools.cache
def _statistics(device: torch.device) -> Tensor:
    return torch.tensor((MEAN, DEVIATION), device=device)


class Validation:
    """People held out of several data sets, their pictures decoded once.

    Args:
        held: (query, gallery) by name of the data set.
        stage: the input size.
        device: that the network will be on.
    """

    def __init__(self, held: Mapping[str, Held], stage: Stage, device: torch.device):
        self._parts = {
            name: [(part, Feed(part, stage.height, stage.width, device)) for part in both]
            for name, both in held.items()
        }
        self._protocols = {name: protocol_for(*both) for name, both in held.items()}

    def __call__(self, net: nn.Module) -> dict[str, Report]:
        """A report for each data set, by the protocol that suits it."""
        reports = {}
        for name, parts in self._parts.items():
            query, gallery = (embed(net, crops, feed) for crops, feed in parts)
            reports[name] = evaluate(query, gallery, protocol=self._protocols[name])
        return reports


@torch.no_grad()
def raw(net: nn.Module, feed: Feed) -> Tensor:
    """(N, D) embeddings of a feed's pictures by a network in evaluation mode, not normalised, in single precision."""
    rows = np.array_split(np.arange(len(feed.crops)), math.ceil(len(feed.crops) / 64))
    return torch.cat([net(normalise(pixels)).embedding.float() for _, pixels in feed.batches(rows)])


def embed(net: nn.Module, crops: Sequence[Crop], feed: Feed) -> Embeddings:
    """Embeddings of a network in evaluation mode as it stands; `feed` has the pictures of the crops."""
    vectors = raw(net, feed).cpu()
    if getattr(net, "unit", True):
        vectors = nn.functional.normalize(vectors)
    return Embeddings(vectors.numpy(), tuple(crops), "in training")


def figures(reports: Mapping[str, Report]) -> dict[str, float]:
    """Metrics of one data set, or of several with the set's name before each and the mean mAP."""
    if set(reports) <= {""}:
        return dict(reports[""].metrics) if reports else {}
    each = {f"{name}/{key}": value for name, report in reports.items() for key, value in report.metrics.items()}
    return each | {"mAP": float(np.mean([report.metrics["mAP"] for report in reports.values()]))}
