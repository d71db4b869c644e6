"""How good a network is as it stands, on people held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from reid.evaluation import evaluate
from reid.feed import Feed, Held
from reid.recipes import Stage
from reid.types import Crop, Embeddings, Report

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def normalise(batch: Tensor) -> Tensor:
    """(B, H, W, 3) of 0–255 RGB to (B, 3, H, W), ImageNet mean and deviation, channels last in memory."""
    mean = torch.tensor(MEAN, device=batch.device)
    deviation = torch.tensor(DEVIATION, device=batch.device)
    return ((batch.float() - mean) / deviation).permute(0, 3, 1, 2)


def validate(net: nn.Module, validation: Mapping[str, Held], stage: Stage) -> dict[str, Report]:
    """A report for each data set: Market-1501's protocol where cameras are known, else that of single items."""
    reports = {}
    for name, (query, gallery) in validation.items():
        protocol = "market1501" if any(c.camera is not None for c in query) else "diagonal"
        reports[name] = evaluate(embed(net, query, stage), embed(net, gallery, stage), protocol=protocol)
    return reports


@torch.no_grad()
def embed(net: nn.Module, crops: Sequence[Crop], stage: Stage) -> Embeddings:
    """Embeddings of a network in evaluation mode as it stands."""
    device = next(net.parameters()).device
    rows = np.array_split(np.arange(len(crops)), math.ceil(len(crops) / 64))
    feed = Feed(crops, stage.height, stage.width, device)
    vectors = torch.cat([net(normalise(pixels)).embedding.float().cpu() for _, pixels in feed.batches(rows)])
    if getattr(net, "unit", True):
        vectors = nn.functional.normalize(vectors)
    return Embeddings(vectors.numpy(), tuple(crops), "in training")


def figures(reports: Mapping[str, Report]) -> dict[str, float]:
    """Metrics of one data set, or of several with the set's name before each and the mean mAP."""
    if set(reports) <= {""}:
        return dict(reports[""].metrics) if reports else {}
    each = {f"{name}/{key}": value for name, report in reports.items() for key, value in report.metrics.items()}
    return each | {"mAP": float(np.mean([report.metrics["mAP"] for report in reports.values()]))}
