"""Networks by name. One architecture a file; to add one, write `nets/x.py` and a line in NETS.

An entry is called with `classes=` (people to tell apart in training, 0 for none) and options of its own, and returns
a module whose forward takes (B, 3, H, W) and returns Features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from reid.errors import ModelError
from reid.nets.compact import Compact
from reid.nets.densenet import DenseNet
from reid.nets.features import Features
from reid.nets.lunet import LuNet
from reid.nets.mobilenetv2 import MobileNetV2
from reid.nets.osnet import OSNet
from reid.nets.osnet_ain import OSNetAIN
from reid.nets.pcb import PCB
from reid.nets.resnet50 import BNNeck, ResNet50, TriNet
from reid.nets.timm import Timm

NETS: dict[str, Callable[..., nn.Module]] = {
    "osnet": OSNet,
    "osnet-ain": OSNetAIN,
    "mobilenetv2": MobileNetV2,
    "densenet121": DenseNet,
    "compact": Compact,
    "resnet50": ResNet50,
    "bnneck": BNNeck,
    "trinet": TriNet,
    "pcb": PCB,
    "lunet": LuNet,
}

__all__ = ["NETS", "Features", "build"]


def check(name: str) -> None:
    """Raises ModelError: there is no such network."""
    if name not in NETS and not name.startswith("timm:"):
        raise ModelError(f"network is {name!r}; it can be {', '.join(NETS)}, or timm:NAME for one of the package timm")


def build(name: str, **options: Any) -> nn.Module:
    """A network by its name in NETS, or `timm:NAME` for one of the package timm.

    Args:
        name: of the network.
        options: `classes=` and the network's own.

    Raises:
        ModelError: there is no such network, or it has no such option.
        MissingExtra: timm is asked for and not installed.
    """
    check(name)
    entry = NETS[name] if name in NETS else partial(Timm, name.removeprefix("timm:"))
    signature = inspect.signature(entry)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ModelError(f"{name} {error}; its options are {', '.join(signature.parameters)}") from None
    return entry(**options)
