"""Losses: functions of one batch that return one value per anchor. To add one, write it here and name it in LOSSES.

Each takes `(features, pids)`, a `Features` and (B,) integer labels, and options by keyword; the loop averages over
anchors and adds weighted losses up. Where a paper averages over pairs or triplets, the values are scaled so that their
plain mean over anchors is the paper's. A loss that remembers from batch to batch is an `nn.Module` class instead, built
once with `(classes, dim)` and its options; what it remembers is in its state_dict. `build` makes either ready to call.

Metric losses read `features.metric`, classification losses `features.logits`. An anchor without another crop of its
person in the batch, or without anybody else, forms no triplet and counts 0. All is computed in float32 (float64 where
that comes in), also from half precision and under autocast. Random choices use torch's global generator.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.errors import DataError
from reid.nets.features import Features

# ── distances, pairs and margins ──


def wide(x: Tensor) -> Tensor:
    """Half precision to single; single and double stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def vectors(features: Features, normalise: bool) -> Tensor:
    """(B, D) what metric losses compare, scaled to unit length if asked."""
    x = wide(features.metric)
    return F.normalize(x) if normalise else x


def squares(a: Tensor, b: Tensor) -> Tensor:
    """(M, D) and (N, D) to (M, N) squared Euclidean distances, at least 0."""
    a, b = wide(a), wide(b)
    with torch.autocast(a.device.type, enabled=False):
        squared = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    return squared.clamp(min=0)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(M, D) and (N, D) to (M, N) Euclidean distances, not squared, with a gradient that stays finite at zero.

    sqrt(x + 1e-12) as in Hermans, Beyer and Leibe 2017; computed in float32 even where the inputs are half.
    """
    return (squares(a, b) + 1e-12).sqrt()


def pairs(pids: Tensor) -> tuple[Tensor, Tensor]:
    """(B, B) which pairs show one person in two crops, and which show two people."""
    same = pids[:, None] == pids[None]
    return same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device), ~same


def hinge(difference: Tensor, margin: float | None) -> Tensor:
    """max(0, margin + x), or log(1 + exp(x)), the soft margin, where the margin is None; 0 at −inf either way."""
    return F.softplus(difference) if margin is None else F.relu(difference + margin)


def mean_of(values: Tensor, mask: Tensor) -> Tensor:
    """(B, B) to (B,) row means over what the mask leaves, 0 where that is nothing."""
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def log_sum_exp(values: Tensor, mask: Tensor) -> Tensor:
    """(B, B) to (B,) over what the mask leaves; −inf where that is nothing, without a NaN on the way back."""
    some = mask.any(1)
    return torch.where(some, values.masked_fill(~mask & some[:, None], -torch.inf).logsumexp(1), -torch.inf)


# ── triplets ──


def drawn(distance: Tensor, pids: Tensor, margin: float | None, sharpness: float) -> Tensor:
    """(B,) hinge of one triplet per anchor, drawn with odds exp(±sharpness × distance); 0 draws evenly."""
    positive, negative = pairs(pids)

    def choose(scores: Tensor, mask: Tensor) -> Tensor:
        """Adding Gumbel noise to log-odds and taking the largest draws in proportion to the odds."""
        noise = -torch.empty_like(scores).exponential_().log()
        return (scores + noise).masked_fill(~mask, -torch.inf).argmax(1, keepdim=True)

    scores = sharpness * distance
    difference = distance.gather(1, choose(scores, positive)) - distance.gather(1, choose(-scores, negative))
    usable = positive.any(1) & negative.any(1)
    return torch.where(usable, hinge(difference.squeeze(1), margin), 0.0)


def triplet_random(features: Features, pids: Tensor, *, margin: float = 0.2, normalise: bool = True) -> Tensor:
    """(B,) hinge between the squared distances of a positive and a negative, each drawn evenly for each anchor.

    The plain triplet loss of Schroff et al. 2015 (FaceNet), without a search for hard triplets.
    """
    x = vectors(features, normalise)
    return drawn(squares(x, x), pids, margin, sharpness=0.0)


def semi_hard(features: Features, pids: Tensor, *, margin: float = 0.2, normalise: bool = True) -> Tensor:
    """(B,) hinge of squared distances, each positive against its nearest farther negative (FaceNet, section 3.2).

    Where no negative is farther than the positive, the farthest one stands in. The mean is over positive pairs. Both
    as in TensorFlow Addons' TripletSemiHardLoss, whose margin is 1.
    """
    x = vectors(features, normalise)
    square, (positive, negative) = squares(x, x), pairs(pids)
    ascending = square.masked_fill(~negative, torch.inf).sort(1).values  # ends in inf: nobody is their own negative
    place = torch.searchsorted(ascending.detach(), square.detach(), right=True)
    farther = ascending.gather(1, place.clamp(max=len(pids) - 1))  # past the end only where features are NaN
    farthest = square.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
    value = hinge(square - torch.where(farther.isinf(), farthest, farther), margin)
    counted = positive & negative.any(1, keepdim=True)
    return torch.where(counted, value, 0.0).sum(1) * len(pids) / counted.sum().clamp(min=1)


def batch_hard(features: Features, pids: Tensor, *, margin: float | None = None, normalise: bool = False) -> Tensor:
    """(B,) hinge between each anchor's farthest positive and nearest negative (Hermans et al. 2017, equation 5)."""
    x = vectors(features, normalise)
    distance, (positive, negative) = distances(x, x), pairs(pids)
    farthest = distance.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distance.masked_fill(~negative, torch.inf).amin(1)
    return hinge(farthest - nearest, margin)


def batch_all(
    features: Features,
    pids: Tensor,
    *,
    margin: float | None = None,
    nonzero: bool = False,
    normalise: bool = False,
) -> Tensor:
    """(B,) hinge of every triplet (Hermans et al. 2017, "batch all").

    The mean is over all triplets, or with `nonzero` over those above 0, which with a soft margin are all.
    """
    x = vectors(features, normalise)
    distance, (positive, negative) = distances(x, x), pairs(pids)
    anchor, other = positive.nonzero(as_tuple=True)
    value = hinge(distance[anchor, other][:, None] - distance[anchor], margin)
    value = torch.where(negative[anchor], value, 0.0)
    counted = (value > 0).sum() if nonzero else negative[anchor].sum()
    spread = torch.zeros_like(distance).index_put((anchor, other), value.sum(1))
    return spread.sum(1) * len(pids) / counted.clamp(min=1)


def batch_sample(features: Features, pids: Tensor, *, margin: float | None = None, normalise: bool = False) -> Tensor:
    """(B,) hinge of one triplet per anchor: positives drawn with odds exp(distance), negatives with exp(−distance).

    "batch_sample" in the code of Hermans et al. 2017, github.com/VisualComputingInstitute/triplet-reid.
    """
    x = vectors(features, normalise)
    return drawn(distances(x, x), pids, margin, sharpness=1.0)


def lifted(features: Features, pids: Tensor, *, margin: float | None = 1.0, normalise: bool = False) -> Tensor:
    """(B,) [log Σ exp(positive distances) + log Σ exp(margin − negative distances)]₊.

    The generalised lifted structured loss of Hermans et al. 2017, not the one of Oh Song et al. 2016 it came from.
    """
    x = vectors(features, normalise)
    distance, (positive, negative) = distances(x, x), pairs(pids)
    return hinge(log_sum_exp(distance, positive) + log_sum_exp(-distance, negative), margin)


def quadruplet(
    features: Features, pids: Tensor, *, margin: float = 1.0, second_margin: float = 0.5, normalise: bool = True
) -> Tensor:
    """(B,) [d(a,p) − d(a,n) + margin]₊ + [d(a,p) − d(n,m) + second_margin]₊ with squared distances d.

    Chen et al. 2017, where a learnt distance between 0 and 1 stands in for unit length. Of all quadruplets each anchor
    takes its hardest: p the farthest positive, n the nearest negative, m the nearest to n among third people. Where
    there is no third person the second term is 0.
    """
    x = vectors(features, normalise)
    square, (positive, negative) = squares(x, x), pairs(pids)
    farthest = square.masked_fill(~positive, -torch.inf).amax(1)
    nearest, rival = square.masked_fill(~negative, torch.inf).min(1)
    between = square[rival].masked_fill(~(negative & negative[rival]), torch.inf).amin(1)
    return hinge(farthest - nearest, margin) + hinge(farthest - between, second_margin)


# ── pairs ──


def circle(features: Features, pids: Tensor, *, margin: float = 0.25, gamma: float = 128.0) -> Tensor:
    """(B,) log(1 + Σ exp γ·αₙ·(sₙ − m) · Σ exp −γ·αₚ·(sₚ − 1 + m)) of cosine similarities s.

    Circle loss in its pairwise form (Sun et al. 2020, section 3); the weights αₙ = [sₙ + m]₊ and αₚ = [1 + m − sₚ]₊
    pass no gradient.
    """
    x = vectors(features, normalise=True)
    with torch.autocast(x.device.type, enabled=False):
        similarity = x @ x.T
    positive, negative = pairs(pids)
    fixed = similarity.detach()
    push = gamma * F.relu(fixed + margin) * (similarity - margin)
    pull = -gamma * F.relu(1 + margin - fixed) * (similarity - 1 + margin)
    return F.softplus(log_sum_exp(push, negative) + log_sum_exp(pull, positive))


def contrastive(features: Features, pids: Tensor, *, margin: float = 1.0, normalise: bool = False) -> Tensor:
    """(B,) mean of ½d² over each anchor's positives plus mean of ½[margin − d]₊² over its negatives.

    Hadsell, Chopra and LeCun 2006, who add up all pairs; with means, few positives weigh as much as many negatives.
    """
    x = vectors(features, normalise)
    distance, (positive, negative) = distances(x, x), pairs(pids)
    return mean_of(distance.square() / 2, positive) + mean_of(F.relu(margin - distance).square() / 2, negative)


def pair_cross_entropy(features: Features, pids: Tensor) -> Tensor:
    """(B,) half the mean binary cross-entropy of each anchor's positive pairs, plus half that of its negative ones.

    Raises:
        DataError: the network has no head that compares pairs.
    """
    if features.pairs is None:
        raise DataError(
            "pair-cross-entropy needs a network that compares pairs; this one does not, choose another network or loss"
        )
    logits, (positive, negative) = wide(features.pairs), pairs(pids)
    return (mean_of(F.softplus(-logits), positive) + mean_of(F.softplus(logits), negative)) / 2


# ── people ──


def cross_entropy(features: Features, pids: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """(B,) mean over the network's classifiers of cross-entropy against (1−ε)·onehot + ε/C (Szegedy et al. 2016).

    Raises:
        DataError: the network has no classifier.
    """
    if not features.logits:
        raise DataError(
            "cross-entropy needs a network with a classifier; this one has none, choose another network or loss"
        )
    values = [F.cross_entropy(wide(x), pids, reduction="none", label_smoothing=smoothing) for x in features.logits]
    return torch.stack(values).mean(0)


def distil(features: Features, pids: Tensor) -> Tensor:
    """(B,) 1 − cosine between each embedding and its teacher's, in [0, 2]: the network learns to stand in for another.

    The teacher sees the pictures unchanged, so that what augmentation does to them is learnt away (feature regression:
    Romero et al. 2015; with directions only, Duong et al. 2019).

    Raises:
        DataError: there is no teacher, or its embeddings are of another length.
    """
    if features.taught is None:
        raise DataError("distil needs a teacher; name a model with --teacher or TrainConfig(teacher=...)")
    x, y = wide(features.embedding), wide(features.taught)
    if x.shape != y.shape:
        raise DataError(
            f"the teacher's embeddings have {y.shape[1]} values and the network's {x.shape[1]}; they must be as many"
        )
    return 1 - F.cosine_similarity(x, y)


class Centre(nn.Module):
    """Half the squared distance of each crop to the centre of its person (Wen et al. 2016, equation 2).

    Centres start at 0 and follow the features in training mode, without an optimiser: after each batch with n crops x
    of a person, c ← c − rate · Σ(c − x) / (1 + n) (equation 4). Processes that are given the same batches, gathered
    from all of them, keep the same centres. Bag of Tricks (Luo et al. 2019) weighs this loss 5e-4.

    Args:
        classes, dim: how many people, and D of the metric vectors.
        rate: of the centres, α in the paper.
    """

    centres: Tensor

    def __init__(self, classes: int, dim: int, *, rate: float = 0.5):
        super().__init__()
        self.rate = rate
        self.register_buffer("centres", torch.zeros(classes, dim))

    def forward(self, features: Features, pids: Tensor) -> Tensor:
        """(B,) values against the centres as they were before this batch."""
        x = wide(features.metric)
        value = (x - self.centres[pids].to(x.dtype)).square().sum(1) / 2
        if self.training:
            self.follow(x, pids)
        return value

    @torch.no_grad()
    def follow(self, x: Tensor, pids: Tensor) -> None:
        """Move the centres of the people in the batch."""
        same = pids[:, None] == pids[None]
        count = same.sum(1, keepdim=True)
        with torch.autocast(x.device.type, enabled=False):
            gap = count * self.centres[pids] - same.to(x.dtype) @ x
        moved = self.centres[pids] - self.rate * gap / (1 + count)
        first = same.int().argmax(1)  # all of a person's rows write one sum; their own may differ in the last bit
        self.centres[pids] = moved[first].to(self.centres.dtype)


LOSSES: dict[str, Callable[..., Any]] = {
    "cross-entropy": cross_entropy,
    "triplet-random": triplet_random,
    "triplet-semihard": semi_hard,
    "triplet-hard": batch_hard,
    "batch-all": batch_all,
    "batch-sample": batch_sample,
    "lifted": lifted,
    "quadruplet": quadruplet,
    "centre": Centre,
    "circle": circle,
    "contrastive": contrastive,
    "pair-cross-entropy": pair_cross_entropy,
    "distil": distil,
}
NEVER_ZERO = {"distil", "cross-entropy", "pair-cross-entropy", "centre", "circle"}


def check(name: str) -> None:
    """Raises DataError: there is no such loss."""
    if name not in LOSSES:
        raise DataError(f"there is no loss {name!r}; choose from {', '.join(LOSSES)}")


def build(name: str, classes: int, dim: int, /, **options: Any) -> Callable[[Features, Tensor], Tensor]:
    """A loss with its options, ready for batches; an nn.Module where it remembers something.

    Args:
        name: from LOSSES.
        classes, dim: people to tell apart, and D of the metric vectors.
        options: what the loss takes by keyword.

    Raises:
        DataError: there is no such loss, or it has no such option.
    """
    check(name)
    entry = LOSSES[name]
    remembers = inspect.isclass(entry)
    known = list(inspect.signature(entry).parameters)[2:]
    if unknown := sorted(options.keys() - set(known)):
        allowed = f"it takes {', '.join(known)}" if known else "it takes none"
        raise DataError(f"the loss {name} has no option {', '.join(unknown)}; {allowed}")
    return entry(classes, dim, **options) if remembers else functools.partial(entry, **options)


@torch.no_grad()
def statistics(features: Features, pids: Tensor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What to watch in training, each without dimensions and on the features' device.

    Args:
        features, pids: of a batch.
        values: (B,) of each loss, by its name.

    Returns:
        "active/NAME", the share of anchors above 0, for losses that can be 0; "distance/positive" and
        "distance/negative", mean Euclidean distances of pairs of metric vectors, 0 where there is no such pair; "norm",
        the mean length of the embeddings.
    """
    found = {f"active/{name}": (v > 0).float().mean() for name, v in values.items() if name not in NEVER_ZERO}
    distance = distances(features.metric, features.metric)
    for name, mask in zip(("positive", "negative"), pairs(pids), strict=True):
        found[f"distance/{name}"] = torch.where(mask, distance, 0.0).sum() / mask.sum().clamp(min=1)
    return found | {"norm": wide(features.embedding).norm(dim=1).mean()}
