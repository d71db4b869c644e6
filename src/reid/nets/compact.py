"""The compact CNN of the swimmers study (farhantandia), layer by layer as its Keras file has it.

Six convolutions, each with ReLU and 2×2 max-pooling, a batch norm between the two after every second one; global
average pooling and two dense layers. Keras counts 166,880 parameters, the batch norms' moving means and variances
among them; without these, as PyTorch counts, there are 166,624.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from reid.nets.features import Features

CONVOLUTIONS = ((32, 3), (32, 3), (32, 5), (32, 5), (64, 3), (64, 3))
KINDS = {"conv2d": "convs", "batch_normalization": "norms", "dense": "dense"}
ARRAYS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Compact(nn.Module):
    """The compact CNN; its embedding of 128 values is neither normalised in length nor by a batch norm.

    Args:
        classes: people in the training set; 0 builds no classifier.
    """

    size = (180, 80)
    unit = False

    def __init__(self, classes: int = 0):
        super().__init__()
        channels = (3, *(cout for cout, _ in CONVOLUTIONS))
        self.convs = nn.ModuleList(
            nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
            for cin, (cout, kernel) in zip(channels, CONVOLUTIONS, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=1e-3, momentum=0.01) for c in channels[2::2])
        self.dense = nn.ModuleList((nn.Linear(channels[-1], 256), nn.Linear(256, 128)))
        self.classifier = nn.Linear(128, classes) if classes else None
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) RGB to features; H and W are free, 180×80 is usual.

        What is one pixel wide or high is not pooled further that way, so that images below 64×64 work too.
        """
        for i, conv in enumerate(self.convs):
            x = torch.relu(conv(x))
            if i % 2:
                x = self.norms[i // 2](x)
            x = F.max_pool2d(x, (min(2, x.shape[2]), min(2, x.shape[3])))
        x = F.dropout(x.mean((2, 3)), 0.2, self.training)
        x = F.dropout(F.selu(self.dense[0](x)), 0.1, self.training)
        embedding = self.dense[1](x)
        return Features(embedding, embedding, () if self.classifier is None else (self.classifier(embedding),))

    @staticmethod
    def from_keras(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
        """Keras' weights to our state dict. Its input is RGB from 0 to 255, 180×80, unscaled.

        Args:
            arrays: by names that end as in the HDF5 file, `conv2d_96/kernel:0`; kernels have their channels last.
                Layers are taken in the order of their numbers. Arrays of other layers are left out.
        """
        found: dict[str, dict[int, list[tuple[str, NDArray[np.float32]]]]] = {kind: {} for kind in KINDS}
        for name, values in arrays.items():
            match = re.search(r"(?:^|/)(conv2d|batch_normalization|dense)(?:_(\d+))?/([a-z_]+)(?::0)?$", name)
            if match:
                found[match[1]].setdefault(int(match[2] or 0), []).append((match[3], values))
        state: dict[str, Tensor] = {}
        for kind, layers in found.items():
            for i, number in enumerate(sorted(layers)):
                for array, values in layers[number]:
                    ours = np.moveaxis(values, (-1, -2), (0, 1)) if array == "kernel" else values
                    state[f"{KINDS[kind]}.{i}.{ARRAYS[array]}"] = torch.tensor(np.ascontiguousarray(ours))
                if kind == "batch_normalization":
                    state[f"norms.{i}.num_batches_tracked"] = torch.tensor(0)
        return state


def _initialise(module: nn.Module) -> None:
    """As Keras does: Glorot's uniform weights and no bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
