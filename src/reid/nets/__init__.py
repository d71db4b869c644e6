"""Networks by name. One architecture a file; to add one, write `nets/x.py` and a line in NETS.

An entry is called with `classes=` (people to tell apart in training, 0 for none) and returns a module whose forward
takes (B, 3, H, W) and returns Features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from reid.nets.features import Features
from reid.nets.osnet import OSNet

NETS: dict[str, Callable[..., nn.Module]] = {
    "osnet_x1_0": partial(OSNet, 1.0),
    "osnet_x0_75": partial(OSNet, 0.75),
    "osnet_x0_5": partial(OSNet, 0.5),
    "osnet_x0_25": partial(OSNet, 0.25),
}

__all__ = ["NETS", "Features"]
