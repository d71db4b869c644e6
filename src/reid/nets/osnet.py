"""OSNet: omni-scale feature learning (Zhou, Yang, Cavallaro, Xiang; ICCV 2019).

Each block sends its input through four streams of stacked light 3×3 convolutions, which see 3, 5, 7 and 9 pixels,
and one small gate, shared by the streams, decides channel by channel how much of each scale to keep (equation 3).
Parameter names are those of torchreid's checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.nets.features import Features


class ConvBNReLU(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, padding: int = 0, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class LightConv3x3(nn.Module):
    """A 1×1 convolution, then a 3×3 on each channel alone: the paper's Lite 3×3."""

    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 1, bias=False)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1, groups=cout, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """Weights in (0, 1) for each channel, computed from the channel means (the aggregation gate)."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class OSBlock(nn.Module):
    def __init__(self, cin: int, cout: int, instance_norm: bool = False):
        super().__init__()
        mid = cout // 4
        self.conv1 = ConvBNReLU(cin, mid)
        self.conv2a = LightConv3x3(mid, mid)
        self.conv2b = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(4)))
        self.gate = Gate(mid)
        self.conv3 = ConvBNReLU(mid, cout, relu=False)
        self.downsample = ConvBNReLU(cin, cout, relu=False) if cin != cout else nn.Identity()
        self.IN = nn.InstanceNorm2d(cout, affine=True) if instance_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        a, b, c, d = (self.gate(stream(y)) for stream in (self.conv2a, self.conv2b, self.conv2c, self.conv2d))
        return torch.relu(self.IN(self.conv3(a + b + c + d) + self.downsample(x)))


class OSNet(nn.Module):
    """OSNet of any width.

    Args:
        width: multiplier on the channels (64, 256, 384, 512); 1.0 has 2.2 M parameters, 0.25 has 0.2 M.
        classes: people in the training set; 0 builds no classifier.
        dim: length of the embedding.
        neck: "bn" compares vectors before the last batch norm and stores them after it (BNNeck: Luo et al. 2019);
            "relu" is torchreid's head, one vector after batch norm and ReLU for both uses.
        instance_norm: add instance normalisation to the stem's and the first two stages' blocks, for new cameras.
    """

    size = (256, 128)
    unit = True

    def __init__(
        self,
        width: float = 1.0,
        classes: int = 0,
        dim: int = 512,
        neck: str = "bn",
        instance_norm: bool = False,
    ):
        super().__init__()
        if neck not in ("bn", "relu"):
            raise ValueError(f"neck is {neck!r}; it can be 'bn' or 'relu'")
        c0, c1, c2, c3 = (int(c * width) for c in (64, 256, 384, 512))
        self.neck = neck
        self.conv1 = ConvBNReLU(3, c0, 7, stride=2, padding=3)
        if instance_norm:
            self.conv1.bn = nn.InstanceNorm2d(c0, affine=True)  # type: ignore[assignment]
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = nn.Sequential(OSBlock(c0, c1, instance_norm), OSBlock(c1, c1, instance_norm), _halve(c1))
        self.conv3 = nn.Sequential(OSBlock(c1, c2), OSBlock(c2, c2), _halve(c2))
        self.conv4 = nn.Sequential(OSBlock(c2, c3), OSBlock(c3, c3))
        self.conv5 = ConvBNReLU(c3, c3)
        self.fc = nn.Sequential(nn.Linear(c3, dim), nn.BatchNorm1d(dim))
        self.classifier = nn.Linear(dim, classes, bias=neck == "relu") if classes else None
        self.apply(initialise)
        if neck == "bn":
            self.fc[1].bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        raw = self.fc[0](x.mean((2, 3)))
        embedding = self.fc[1](raw)
        if self.neck == "relu":
            embedding = raw = torch.relu(embedding)
        return Features(embedding, raw, () if self.classifier is None else (self.classifier(embedding),))


def _halve(channels: int) -> nn.Sequential:
    return nn.Sequential(ConvBNReLU(channels, channels), nn.AvgPool2d(2, 2))


def initialise(module: nn.Module) -> None:
    """Starting weights of one layer, as the paper's authors draw them."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01 if module.bias is not None else 0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
