"""ResNet-50 (He, Zhang, Ren, Sun; CVPR 2016) and three heads for it: plain, BNNeck and TriNet.

Parameter names are torchvision's, so that its weights, timm's and torchreid's fit as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.nets.features import Features
from reid.nets.osnet import initialise

CHANNELS = 2048


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions, added to the input."""

    def __init__(self, cin: int, mid: int, stride: int, caffe: bool):
        super().__init__()
        cout = 4 * mid
        self.conv1 = nn.Conv2d(cin, mid, 1, stride if caffe else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.conv2 = nn.Conv2d(mid, mid, 3, 1 if caffe else stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3 = nn.Conv2d(mid, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = (
            nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))
            if cin != cout
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class Trunk(nn.Module):
    """ResNet-50 up to the last feature map; the networks below and PCB add what follows.

    Args:
        last_stride: of the fourth stage, 2 or 1; 1 keeps a map of twice the height and width.
        caffe: build it as the authors' Caffe model and Lasagne's copy of it are: a stage halves its map in its first
            1×1 convolution, the first convolution has a bias, and the max pooling has no padding and rounds up.
            Parameter names stay the same, but weights of one kind do not work in the other.
    """

    def __init__(self, last_stride: int = 2, caffe: bool = False):
        super().__init__()
        if last_stride not in (1, 2):
            raise ValueError(f"last_stride is {last_stride}; it can be 1 or 2")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=caffe)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=0 if caffe else 1, ceil_mode=caffe)
        self.layer1 = _stage(64, 64, 3, 1, caffe)
        self.layer2 = _stage(256, 128, 4, 2, caffe)
        self.layer3 = _stage(512, 256, 6, 2, caffe)
        self.layer4 = _stage(1024, 512, 3, last_stride, caffe)
        self.apply(initialise)

    def feature_map(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 2048, H/32, W/32), or /16 with a last stride of 1."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class ResNet50(Trunk):
    """Channel means and a classifier: torchreid's `resnet50`; with a last stride of 1 and `dim` 512 `resnet50_fc512`.

    Args:
        classes: people in the training set; 0 builds no classifier.
        last_stride: as in Trunk.
        dim: length of the embedding, made by a linear layer, batch norm and ReLU; 0 takes the 2,048 means themselves.
    """

    size = (256, 128)
    unit = True

    def __init__(self, classes: int = 0, last_stride: int = 2, dim: int = 0):
        super().__init__(last_stride)
        layers = (nn.Linear(CHANNELS, dim), nn.BatchNorm1d(dim), nn.ReLU(inplace=True)) if dim else ()
        self.fc = nn.Sequential(*layers).apply(initialise)
        self.classifier = nn.Linear(dim or CHANNELS, classes) if classes else None
        if self.classifier is not None:
            initialise(self.classifier)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        pooled = self.fc(self.feature_map(x).mean((2, 3)))
        return Features(pooled, pooled, () if self.classifier is None else (self.classifier(pooled),))


class BNNeck(Trunk):
    """Channel means, compared by metric losses, and their batch norm, stored and classified (Luo et al. 2019).

    The authors' published code leaves out the first ReLU, so that their weights mean something else there.

    Args:
        classes: people in the training set; 0 builds no classifier.
        last_stride: as in Trunk.
    """

    size = (256, 128)
    unit = True

    def __init__(self, classes: int = 0, last_stride: int = 1):
        super().__init__(last_stride)
        self.bnneck = nn.BatchNorm1d(CHANNELS)
        self.bnneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(CHANNELS, classes, bias=False) if classes else None
        if self.classifier is not None:
            initialise(self.classifier)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        pooled = self.feature_map(x).mean((2, 3))
        embedding = self.bnneck(pooled)
        return Features(embedding, pooled, () if self.classifier is None else (self.classifier(embedding),))


class TriNet(Trunk):
    """A small perceptron on the channel means, trained by triplets alone (Hermans, Beyer, Leibe 2017).

    Embeddings are compared by Euclidean distance as they are, not at unit length.

    Args:
        classes: people in the training set, for a further loss on the embedding; 0 builds no classifier.
        dim: length of the embedding.
        caffe: as in Trunk; the authors' first weights, made with Lasagne, need it.
    """

    size = (256, 128)
    unit = False

    def __init__(self, classes: int = 0, dim: int = 128, caffe: bool = False):
        super().__init__(caffe=caffe)
        hidden = nn.Linear(CHANNELS, 1024, bias=False)
        self.fc = nn.Sequential(hidden, nn.BatchNorm1d(1024), nn.ReLU(inplace=True))
        self.embed = nn.Linear(1024, dim)
        nn.init.xavier_uniform_(hidden.weight)
        nn.init.xavier_uniform_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)
        self.classifier = nn.Linear(dim, classes) if classes else None

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        embedding = self.embed(self.fc(self.feature_map(x).mean((2, 3))))
        return Features(embedding, embedding, () if self.classifier is None else (self.classifier(embedding),))


def _stage(cin: int, mid: int, blocks: int, stride: int, caffe: bool) -> nn.Sequential:
    rest = (Bottleneck(4 * mid, mid, 1, caffe) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(cin, mid, stride, caffe), *rest)
