"""OSNet-AIN: OSNet with instance normalisation where a search found it to help most under new cameras.

Zhou, Yang, Cavallaro, Xiang: Learning Generalisable Omni-Scale Representations for Person Re-Identification, TPAMI
2021. Instance normalisation stands at the stem and inside the residual branch of four of the six blocks. Parameter
names are those of torchreid's checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.nets.features import Features
from reid.nets.osnet import ConvBNReLU, Gate, LightConv3x3, initialise


class Stream(nn.Module):
    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.layers = nn.Sequential(*(LightConv3x3(channels, channels) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class AINBlock(nn.Module):
    """Four streams that share a gate; `instance_norm` puts it in the place of the branch's last batch norm."""

    def __init__(self, cin: int, cout: int, instance_norm: bool):
        super().__init__()
        mid = cout // 4
        self.conv1 = ConvBNReLU(cin, mid)
        self.conv2 = nn.ModuleList(Stream(mid, depth) for depth in (1, 2, 3, 4))
        self.gate = Gate(mid)
        self.conv3 = ConvBNReLU(mid, cout, relu=False)
        self.IN: nn.Module = nn.Identity()
        if instance_norm:
            self.conv3.bn = nn.Identity()  # type: ignore[assignment]
            self.IN = nn.InstanceNorm2d(cout, affine=True)
        self.downsample = ConvBNReLU(cin, cout, relu=False) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        mixed = sum(self.gate(stream(y)) for stream in self.conv2)
        return torch.relu(self.IN(self.conv3(mixed)) + self.downsample(x))


class OSNetAIN(nn.Module):
    """OSNet-AIN of any width.

    Args:
        width: multiplier on the channels (64, 256, 384, 512); torchreid has 1.0, 0.75, 0.5 and 0.25.
        classes: people in the training set; 0 builds no classifier.
        dim: length of the embedding.
        neck: "bn" compares vectors before the last batch norm and stores them after it (BNNeck: Luo et al. 2019);
            "relu" is torchreid's head, one vector after batch norm and ReLU for both uses.
    """

    size = (256, 128)
    unit = True

    def __init__(self, width: float = 1.0, classes: int = 0, dim: int = 512, neck: str = "bn"):
        super().__init__()
        if neck not in ("bn", "relu"):
            raise ValueError(f"neck is {neck!r}; it can be 'bn' or 'relu'")
        c0, c1, c2, c3 = (int(c * width) for c in (64, 256, 384, 512))
        self.neck = neck
        self.conv1 = ConvBNReLU(3, c0, 7, stride=2, padding=3)
        self.conv1.bn = nn.InstanceNorm2d(c0, affine=True)  # type: ignore[assignment]
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(AINBlock(c0, c1, True), AINBlock(c1, c1, True))
        self.pool2 = nn.Sequential(ConvBNReLU(c1, c1), nn.AvgPool2d(2, 2))
        self.conv3 = nn.Sequential(AINBlock(c1, c2, False), AINBlock(c2, c2, True))
        self.pool3 = nn.Sequential(ConvBNReLU(c2, c2), nn.AvgPool2d(2, 2))
        self.conv4 = nn.Sequential(AINBlock(c2, c3, True), AINBlock(c3, c3, False))
        self.conv5 = ConvBNReLU(c3, c3)
        self.fc = nn.Sequential(nn.Linear(c3, dim), nn.BatchNorm1d(dim))
        self.classifier = nn.Linear(dim, classes, bias=neck == "relu") if classes else None
        self.apply(initialise)
        if neck == "bn":
            self.fc[1].bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        x = self.pool2(self.conv2(self.maxpool(self.conv1(x))))
        x = self.conv5(self.conv4(self.pool3(self.conv3(x))))
        raw = self.fc[0](x.mean((2, 3)))
        embedding = self.fc[1](raw)
        if self.neck == "relu":
            embedding = raw = torch.relu(embedding)
        return Features(embedding, raw, () if self.classifier is None else (self.classifier(embedding),))
