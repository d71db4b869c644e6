"""DenseNet-121 (Huang, Liu, van der Maaten, Weinberger; CVPR 2017) with a head that judges pairs of people.

The siamese head follows jutanke/person_reid (layers of 128 and 32, then one logit), but is symmetric: where that one
joins two vectors end to end, this one sees |a − b| and a·b, element by element, which do not know which came first.
Parameter names of the trunk are torchvision's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.nets.features import Features

BLOCKS, GROWTH, STEM = (6, 12, 24, 16), 32, 64


class DenseLayer(nn.Module):
    """Adds GROWTH channels to its input, computed from all of it."""

    def __init__(self, cin: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * GROWTH)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat((x, self.conv2(torch.relu(self.norm2(y)))), 1)


class DenseNet(nn.Module):
    """DenseNet-121 to an embedding, and pairs of embeddings to logits.

    Args:
        classes: people in the training set; 0 builds no classifier.
        dim: length of the embedding.
    """

    size = (256, 128)
    unit = True

    def __init__(self, classes: int = 0, dim: int = 256):
        super().__init__()
        self.features, channels = _trunk()
        self.fc = nn.Sequential(nn.Linear(channels, dim), nn.BatchNorm1d(dim))
        self.pairs = nn.Sequential(
            nn.Linear(2 * dim, 128), nn.ReLU(inplace=True), nn.Linear(128, 32), nn.ReLU(inplace=True), nn.Linear(32, 1)
        )
        self.classifier = nn.Linear(dim, classes, bias=False) if classes else None
        self.features.apply(_initialise)
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, 0, 0.001)
        self.fc[1].bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free from 32 on, 256×128 is usual.

        `pairs` holds the logits of all (B, B) pairs of the batch, exactly symmetric. It takes about 16·B²·D bytes,
        17 MB for 64 images and D = 256: thousands of images should come in batches.
        """
        raw = self.fc[0](torch.relu(self.features(x)).mean((2, 3)))
        embedding = self.fc[1](raw)
        logits = self.pair(embedding[:, None], embedding[None])
        pairs = (logits + logits.T) / 2  # a matrix product may round rows differently by where they stand
        return Features(embedding, raw, () if self.classifier is None else (self.classifier(embedding),), pairs=pairs)

    def pair(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, D) and (…, D) embeddings, of unit length or not, to (…) logits that each two are one person.

        Leading dimensions broadcast. Exactly symmetric: `pair(a, b)` and `pair(b, a)` are the same.
        """
        scale = a.shape[-1] ** 0.5  # values of unit length have a mean square of 1/D; the layers expect about 1
        a, b = F.normalize(a, dim=-1) * scale, F.normalize(b, dim=-1) * scale
        return self.pairs(torch.cat(((a - b).abs(), a * b), -1)).squeeze(-1)

    @staticmethod
    def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names of torchvision's older checkpoints, `denselayer1.norm.1`, to those of today, `denselayer1.norm1`."""
        old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
        return {old.sub(r"\1\2", name): tensor for name, tensor in state.items()}


def _trunk() -> tuple[nn.Sequential, int]:
    """The convolutions, and how many channels they end in."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(STEM),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = STEM
    for i, count in enumerate(BLOCKS, start=1):
        block = nn.Sequential()
        for k in range(count):
            block.add_module(f"denselayer{k + 1}", DenseLayer(channels + k * GROWTH))
        layers[f"denseblock{i}"] = block
        channels += count * GROWTH
        if i < len(BLOCKS):
            layers[f"transition{i}"] = nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(channels),
                    relu=nn.ReLU(inplace=True),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(2, 2),
                )
            )
            channels //= 2
    layers["norm5"] = nn.BatchNorm2d(channels)
    return nn.Sequential(layers), channels


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
