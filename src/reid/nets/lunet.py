"""LuNet, a residual network to be trained from scratch on small images (Hermans, Beyer, Leibe 2017, appendix).

Sure: widths, poolings and linear layers, on which two re-implementations of the paper's table agree, and which make
1024 values of a 128×64 image, as its first linear layer takes, and 5.00 M parameters, as published; slope 0.3; no
strides but max pooling; a last block that reduces the channels in place of an average pooling. Less sure: the order
batch norm, leaky ReLU, convolution of ResNet-v2 (a re-implementation has ResNet's first order); that projections see
the activated input, as in ResNet-v2; biases in convolutions, without which it would be 4.99 M. No weights of the
authors' were published.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from reid.nets.features import Features

SLOPE = 0.3
STAGES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((128, 32, 32, 128),),
    ((128, 32, 32, 128), (128, 32, 32, 128), (128, 64, 64, 256)),
    ((256, 64, 64, 256), (256, 64, 64, 256)),
    ((256, 64, 64, 256), (256, 64, 64, 256), (256, 128, 128, 512)),
    ((512, 128, 128, 512), (512, 128, 128, 512)),
)
"""Channels into, between and out of the three convolutions of each block; a max pooling ends each stage."""


class Block(nn.Module):
    """Batch norm, leaky ReLU and convolution, in turn, added to the input (ResNet-v2: He et al., ECCV 2016)."""

    def __init__(self, widths: Sequence[int], kernels: Sequence[int]):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(cin) for cin in widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
            for cin, cout, kernel in zip(widths, widths[1:], kernels, strict=False)
        )
        self.shortcut = nn.Conv2d(widths[0], widths[-1], 1) if widths[0] != widths[-1] else None

    def forward(self, x: Tensor) -> Tensor:
        y, rest = x, x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            y = F.leaky_relu(norm(y), SLOPE)
            if i == 0 and self.shortcut is not None:
                rest = self.shortcut(y)
            y = conv(y)
        return y + rest


class LuNet(nn.Module):
    """LuNet, 5.0 M parameters.

    Embeddings are compared by Euclidean distance as they are, not at unit length.

    Args:
        classes: people in the training set, for a further loss on the embedding; 0 builds no classifier.
        dim: length of the embedding.
    """

    size = (128, 64)
    unit = False

    def __init__(self, classes: int = 0, dim: int = 128):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 128, 7, padding=3)
        self.stages = nn.ModuleList(nn.Sequential(*(Block(w, (1, 3, 1)) for w in stage)) for stage in STAGES)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.last = Block((512, 512, 128), (3, 3))
        self.fields = nn.AdaptiveAvgPool2d((4, 2))
        self.fc = nn.Sequential(nn.Linear(1024, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True))
        self.embed = nn.Linear(512, dim)
        self.classifier = nn.Linear(dim, classes) if classes else None
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features.

        128×64 gives a last map of 4×2, which goes into the linear layers field by field; a map of another size is
        averaged, or repeated, to 4×2.
        """
        x = self.conv1(x)
        for stage in self.stages:
            x = self.maxpool(stage(x))
        embedding = self.embed(self.fc(self.fields(self.last(x)).flatten(1)))
        return Features(embedding, embedding, () if self.classifier is None else (self.classifier(embedding),))


def _initialise(module: nn.Module) -> None:
    """He et al. (2015) for convolutions, Glorot and Bengio (2010) for linear layers, as in the paper."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, SLOPE)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
