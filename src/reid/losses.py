"""Losses: functions of one batch that return one value per anchor. To add one, write it here and name it in LOSSES.

Each takes `(features, pids)`, a `Features` and (B,) integer labels, and options by keyword; the loop averages over
anchors and adds weighted losses up. Metric losses read `features.metric`, classification losses `features.logits`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from reid.nets.features import Features


def wide(x: Tensor) -> Tensor:
    """Half precision to single; single and double stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(M, D) and (N, D) to (M, N) Euclidean distances, not squared, with a gradient that stays finite at zero.

    sqrt(x + 1e-12) as in Hermans, Beyer and Leibe 2017; computed in float32 even where the inputs are half.
    """
    a, b = wide(a), wide(b)
    with torch.autocast(a.device.type, enabled=False):
        squared = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    return (squared.clamp(min=0) + 1e-12).sqrt()


def hinge(difference: Tensor, margin: float | None) -> Tensor:
    """max(0, margin + x), or log(1 + exp(x)), the soft margin, where the margin is None."""
    return F.softplus(difference) if margin is None else F.relu(difference + margin)


def batch_hard(features: Features, pids: Tensor, margin: float | None = None) -> Tensor:
    """(B,) hinge between each anchor's farthest positive and nearest negative (Hermans et al. 2017, equation 5).

    An anchor without another crop of its person, or without any other person, in the batch counts 0.
    """
    distance = distances(features.metric, features.metric)
    same = pids[:, None] == pids[None]
    positive = same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    farthest = distance.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    usable = positive.any(1) & ~same.all(1)
    return torch.where(usable, hinge(farthest - nearest, margin), 0.0)


def cross_entropy(features: Features, pids: Tensor, smoothing: float = 0.0) -> Tensor:
    """(B,) mean over the net's classifiers of cross-entropy against (1−ε)·onehot + ε/C."""
    if not features.logits:
        raise ValueError("cross-entropy needs a net built with classes; this one has no classifier")
    values = [F.cross_entropy(wide(x), pids, reduction="none", label_smoothing=smoothing) for x in features.logits]
    return torch.stack(values).mean(0)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "batch-hard": batch_hard,
    "cross-entropy": cross_entropy,
}
