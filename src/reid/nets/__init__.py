"""Networks by name. One architecture a file; to add one, write `nets/x.py` and a line in NETS.

An entry is called with `classes=` (people to tell apart in training, 0 for none) and options of its own, and returns
a module whose forward takes (B, 3, H, W) and returns Features.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from reid.nets.features import Features
from reid.nets.osnet import OSNet

NETS: dict[str, Callable[..., nn.Module]] = {
    "osnet": OSNet,
}

__all__ = ["NETS", "Features"]
