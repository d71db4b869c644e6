"""torchreid's `.pth` and `.pth.tar`: OSNet of any width, also IBN and AIN, ResNet-50, MobileNetV2 and PCB.

Parameter names of these networks are torchreid's already. Which one a file holds is read from its tensors; where they
do not tell, or tell wrongly, it is asked for: `NAME` or `NAME:option=value,…`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from reid.checkpoint import tensors_of
from reid.errors import ModelError
from reid.old.found import Found

Tensors = Mapping[str, Tensor]


def read(path: Path, net: str | None = None) -> Found:
    """The network of a checkpoint, or of a bare state dict; pictures as torchreid feeds them at the network's size.

    Raises:
        ModelError: the file is damaged or holds more than tensors and plain containers, or no known architecture.
    """
    tensors = tensors_of(path)
    shown = next((name for name, (sign, _) in SIGNS.items() if sign in tensors), None)
    if net is None and shown is None:
        names = ", ".join(list(tensors)[:3]) or "nothing"
        raise ModelError(
            f"{path} holds {names}, …, of no architecture that can be told by its tensors ({', '.join(SIGNS)}); "
            "name it with --net"
        )
    asked, _, text = (net or shown or "").partition(":")
    try:
        options = SIGNS[asked][1](tensors) if asked == shown else {}
    except (KeyError, IndexError, ArithmeticError) as error:
        raise ModelError(f"{path} looks like {shown} but lacks {error}; name another network with --net") from None
    options |= _options(text)
    if asked == "pcb" and "stripes" not in options:
        raise ModelError(f"{path} has no classifiers to count PCB's parts by; give them, as --net pcb:stripes=6")
    return Found("torchreid", asked, options, tensors)


def _options(text: str) -> dict[str, Any]:
    """ "width=0.5,neck=relu" as options; values are numbers, true, false or words."""
    options: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ModelError(f"the network's option is {part!r}; write it as name=value, such as width=0.5")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _size(tensors: Tensors, name: str, axis: int = 0) -> int:
    """How many channels a tensor has, within what such networks have."""
    return min(int(tensors[name].shape[axis]), 1 << 14)


def _osnet(tensors: Tensors) -> dict[str, Any]:
    options = _osnet_ain(tensors)
    return options | {"instance_norm": True} if "conv2.0.IN.weight" in tensors else options


def _osnet_ain(tensors: Tensors) -> dict[str, Any]:
    width, dim = _size(tensors, "conv1.conv.weight") / 64, _size(tensors, "fc.0.weight")
    return {"width": width, "neck": "relu"} | ({"dim": dim} if dim != 512 else {})


def _mobilenetv2(tensors: Tensors) -> dict[str, Any]:
    width = _size(tensors, "conv9.conv.weight") / 1280  # 1280 for all narrower networks
    return {"width": width if width > 1 else _size(tensors, "conv1.conv.weight") / 32, "neck": "none"}


def _pcb(tensors: Tensors) -> dict[str, Any]:
    stripes = sum(1 for n in tensors if n.startswith("classifier.") and n.endswith(".weight"))
    return {"reduced": False} | ({"stripes": stripes} if stripes else {})


def _resnet50(tensors: Tensors) -> dict[str, Any]:
    return {"last_stride": 1, "dim": _size(tensors, "fc.0.weight")} if "fc.0.weight" in tensors else {}


SIGNS: dict[str, tuple[str, Callable[[Tensors], dict[str, Any]]]] = {
    "osnet": ("conv2.0.conv2a.conv1.weight", _osnet),
    "osnet-ain": ("conv2.0.conv2.0.layers.0.conv1.weight", _osnet_ain),
    "mobilenetv2": ("conv2.0.dwconv2.conv.weight", _mobilenetv2),
    "pcb": ("conv5.layers.0.weight", _pcb),
    "resnet50": ("layer3.5.conv3.weight", _resnet50),
}
"""By network: a tensor that it alone has, and its options as the tensors show them. The first that fits counts."""
