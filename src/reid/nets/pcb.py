"""PCB, the part-based convolutional baseline (Sun, Zheng, Yang, Tian, Wang; ECCV 2018).

The last map of a ResNet-50 is cut into horizontal stripes, and each stripe has to tell people apart by itself.
Parameter names are those of torchreid's checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid.nets.features import Features
from reid.nets.osnet import initialise
from reid.nets.resnet50 import CHANNELS, Trunk


class PCB(Trunk):
    """PCB without refined part pooling.

    The embedding is the parts one after another, each at unit length. One convolution, shared by the stripes, reduces
    them to 256 values, as in the paper's and torchreid's code.

    Args:
        classes: people in the training set; 0 builds no classifiers.
        stripes: number of parts, from the top down; torchreid's `pcb_p6` and `pcb_p4` have 6 and 4.
        reduced: compare the parts after their reduction (1536 values, the paper's H); False compares the stripes'
            means before it (12,288 values, the paper's G), as torchreid does.
    """

    size = (384, 128)
    unit = True

    def __init__(self, classes: int = 0, stripes: int = 6, reduced: bool = True):
        super().__init__(last_stride=1)
        self.reduced = reduced
        self.parts_avgpool = nn.AdaptiveAvgPool2d((stripes, 1))
        self.dropout = nn.Dropout(0.5)
        reduction = nn.Sequential(nn.Conv2d(CHANNELS, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(inplace=True))
        self.conv5 = nn.Sequential(OrderedDict(layers=reduction))
        self.classifier = nn.ModuleList(nn.Linear(256, classes) for _ in range(stripes)) if classes else None
        self.conv5.apply(initialise)
        if self.classifier is not None:
            self.classifier.apply(initialise)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) normalised RGB to features; H and W are free, 384×128 is usual.

        Stripes share rows where the map's height, H/16, is no multiple of their number.
        """
        means = self.dropout(self.parts_avgpool(self.feature_map(x)))
        small = self.conv5(means).squeeze(3).unbind(2)
        parts = small if self.reduced else means.squeeze(3).unbind(2)
        embedding = torch.cat([F.normalize(part) for part in parts], 1)
        logits = () if self.classifier is None else tuple(c(p) for c, p in zip(self.classifier, small, strict=True))
        return Features(embedding, embedding, logits, parts)
