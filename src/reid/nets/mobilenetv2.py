"""MobileNetV2: inverted residuals and linear bottlenecks (Sandler, Howard, Zhu, Zhmoginov, Chen; CVPR 2018).

Each block widens its input six times by a 1×1 convolution, filters every channel alone by a 3×3 and narrows it again,
with no ReLU at the narrow end. Parameter names are those of torchreid's checkpoints, and so is a 1×1 convolution in
the first block that the paper does not have.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.nets.features import Features
from reid.nets.osnet import initialise

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Widening, channels, blocks and first stride of each stage (table 2 of the paper)."""
PARTS = (
    ("conv1.conv", "0.0", "conv_pw"),
    ("conv1.bn", "0.1", "bn1"),
    ("dwconv2.conv", "1.0", "conv_dw"),
    ("dwconv2.bn", "1.1", "bn2"),
    ("conv3.0", "2", "conv_pwl"),
    ("conv3.1", "3", "bn3"),
)
FIRST_PARTS = (
    ("dwconv2.conv", "0.0", "conv_dw"),
    ("dwconv2.bn", "0.1", "bn1"),
    ("conv3.0", "1", "conv_pw"),
    ("conv3.1", "2", "bn2"),
)
"""Layers of a block in our names, torchvision's and timm's; of the first block, which theirs do not widen."""


class ConvBNReLU6(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, widening: int, stride: int):
        super().__init__()
        mid = cin * widening
        self.residual = stride == 1 and cin == cout
        self.conv1 = ConvBNReLU6(cin, mid)
        self.dwconv2 = ConvBNReLU6(mid, mid, 3, stride, groups=mid)
        self.conv3 = nn.Sequential(nn.Conv2d(mid, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.dwconv2(self.conv1(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of any width; the embedding has 1280 values, in proportion more above width 1.

    Args:
        width: multiplier on the channels; 1.0 has 2.2 M parameters, 1.4 has 4.3 M.
        classes: people in the training set; 0 builds no classifier.
        neck: "bn" compares vectors before a last batch norm and stores them after it (BNNeck: Luo et al. 2019);
            "none" is torchreid's head, the pooled vector for both uses.
    """

    size = (256, 128)
    unit = True

    def __init__(self, width: float = 1.0, classes: int = 0, neck: str = "bn"):
        super().__init__()
        if neck not in ("bn", "none"):
            raise ValueError(f"neck is {neck!r}; it can be 'bn' or 'none'")
        channels, dim = int(32 * width), int(1280 * max(width, 1.0))
        self.conv1 = ConvBNReLU6(3, channels, 3, stride=2)
        for i, (widening, cout, blocks, stride) in enumerate(STAGES, start=2):
            cout = int(cout * width)
            stage = [Block(channels, cout, widening, stride)]
            stage += [Block(cout, cout, widening, 1) for _ in range(blocks - 1)]
            self.add_module(f"conv{i}", nn.Sequential(*stage))
            channels = cout
        self.conv9 = ConvBNReLU6(channels, dim)
        self.bnneck = nn.BatchNorm1d(dim) if neck == "bn" else nn.Identity()
        self.classifier = nn.Linear(dim, classes, bias=neck == "none") if classes else None
        self.apply(initialise)
        if neck == "bn":
            self.bnneck.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 256×128 is usual."""
        for i in range(1, 10):
            x = self.get_submodule(f"conv{i}")(x)
        pooled = x.mean((2, 3))
        embedding = self.bnneck(pooled)
        return Features(embedding, pooled, () if self.classifier is None else (self.classifier(embedding),))

    @staticmethod
    def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's `mobilenet_v2` and timm's `mobilenetv2_100`, both of width 1, to our names.

        They lack the first block's 1×1 convolution, as the paper does; one that changes nothing is put there.
        """
        table, renamed = _foreign_names(), {}
        for name, tensor in state.items():
            module, _, leaf = name.rpartition(".")
            renamed[f"{table[module]}.{leaf}" if module in table else name] = tensor
        if "conv2.0.dwconv2.bn.weight" in renamed and "conv2.0.conv1.bn.weight" not in renamed:
            renamed |= _identity(renamed["conv1.bn.weight"], renamed["conv1.bn.bias"])
        return renamed


def _foreign_names() -> dict[str, str]:
    """Modules with weights, from torchvision's and timm's names to ours."""
    table = {"features.0.0": "conv1.conv", "features.0.1": "conv1.bn", "conv_stem": "conv1.conv", "bn1": "conv1.bn"}
    table |= {"features.18.0": "conv9.conv", "features.18.1": "conv9.bn", "conv_head": "conv9.conv", "bn2": "conv9.bn"}
    index = 1
    for stage, (widening, _, blocks, _) in enumerate(STAGES):
        for i in range(blocks):
            for ours, vision, timm in PARTS if widening > 1 else FIRST_PARTS:
                table[f"features.{index}.conv.{vision}"] = f"conv{stage + 2}.{i}.{ours}"
                table[f"blocks.{stage}.{i}.{timm}"] = f"conv{stage + 2}.{i}.{ours}"
            index += 1
    return table


def _identity(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The first block's 1×1 convolution and batch norm that hand on what follows a batch norm of these and ReLU6.

    The batch norm's mean and variance are those of ReLU6 of a normal distribution, so that it changes nothing in
    evaluation and little when training goes on with statistics of the batch.
    """
    normal = torch.special.ndtri((torch.arange(1000) + 0.5) / 1000).to(weight)
    values = F.relu6(bias[:, None] + weight[:, None] * normal)
    mean, variance = values.mean(1), values.var(1, correction=0)
    return {
        "conv2.0.conv1.conv.weight": torch.eye(len(weight)).to(weight)[:, :, None, None],
        "conv2.0.conv1.bn.weight": (variance + nn.BatchNorm2d(1).eps).sqrt(),
        "conv2.0.conv1.bn.bias": mean,
        "conv2.0.conv1.bn.running_mean": mean,
        "conv2.0.conv1.bn.running_var": variance,
        "conv2.0.conv1.bn.num_batches_tracked": torch.tensor(0),
    }
