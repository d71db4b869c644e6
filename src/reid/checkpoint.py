"""Weights on disk: safetensors, with a JSON header that says what they are. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from reid.disk import replacing
from reid.errors import ModelError
from reid.nets import NETS

HEADER = "reid"


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors by name and a header that JSON can hold. Replaces the file in one step, safe on disk."""
    with replacing(path) as partial:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, {HEADER: json.dumps(header)})


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote: (tensors, header).

    Raises:
        ModelError: the file is missing, damaged, or was not written by reid.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is not a readable weights file ({error}); give one that `reid train` wrote") from None
    if HEADER not in metadata:
        raise ModelError(
            f"{path} has no reid header, so its network and preprocessing are unknown; give one that `reid train` wrote"
        )
    return tensors, json.loads(metadata[HEADER])


def load_net(path: str | os.PathLike[str]) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weights file, ready to embed: (module in eval mode without classifier, header).

    Raises:
        ModelError: as `load`, or the network is unknown or does not fit; the message names layers that differ.
    """
    tensors, header = load(path)
    if header.get("net") not in NETS:
        raise ModelError(f"{path} is for the network {header.get('net')!r}; reid has {', '.join(NETS)}")
    net = NETS[header["net"]](**header.get("net_options", {}))
    given = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    wanted = net.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in wanted]
    both = [name for name in wanted if name in given and given[name].shape != wanted[name].shape]
    wrong += [f"{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}" for name in both]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(f"{path} does not fit {header['net']}: {', '.join(wrong[:3])}{more}")
    net.load_state_dict(given)
    return net.eval(), header


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors by name."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{k}": torch.as_tensor(v) for i, values in state.items() for k, v in values.items()}


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `pack_optimizer` took out."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
