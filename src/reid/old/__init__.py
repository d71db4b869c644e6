"""Models that other toolkits wrote, read into our networks. To add a format: write `old/x.py` and a line in READERS.

A reader takes a path and returns Found: a network's name and options, and its tensors by our names. Nothing in a file
is executed or unpickled freely, and no file can ask for more memory than its own size or LARGEST values, whichever
is less.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from reid import checkpoint
from reid.errors import ModelError
from reid.images import Preprocess
from reid.old import keras, torchreid, trinet
from reid.old.found import Found

READERS: dict[str, Callable[[Path, str | None], Found]] = {
    ".h5": keras.read,
    ".hdf5": keras.read,
    ".pth": torchreid.read,
    ".pt": torchreid.read,
    ".tar": torchreid.read,
    ".npz": trinet.read,
}

__all__ = ["READERS", "Found", "load"]


def load(
    path: str | os.PathLike[str], net: str | None = None, like: str | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a weights file, ours or another toolkit's: (module in eval mode without classifier, header).

    Args:
        path: what `reid train` wrote, or one of READERS.
        net: its architecture where the file does not show it, `NAME` or `NAME:option=value,…`.
        like: its preprocessing where that differs from the toolkit's habit, as for `Preprocess.like`.

    Raises:
        ModelError: the file cannot be read safely, or does not fit the network; the message names layers that differ.
        MissingExtra: a package that reads the format is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower().partition("-")[0]  # torchreid numbers its files: model.pth.tar-60
    if suffix == ".safetensors" and not net and not like:
        loaded, header = checkpoint.load_net(path)
        header["preprocess"] = Preprocess.stated(header.get("preprocess"), path).fields()
        return loaded, header
    if suffix == ".safetensors":
        raise ModelError(f"{path} says itself what network it is and how it is fed; leave --net and --like out")
    if suffix not in READERS:
        raise ModelError(f"{path} is of no format that can be read; known are .safetensors, {', '.join(READERS)}")
    found = READERS[suffix](path, net)
    loaded = checkpoint.assemble(path, found.net, found.options, found.tensors)
    preprocess = found.preprocess
    if preprocess is None:
        height, width = getattr(loaded, "size", (256, 128))
        preprocess = Preprocess.like("torchreid", height, width)
    if like:
        preprocess = Preprocess.like(like if ":" in like else f"{like}:{preprocess.height}x{preprocess.width}")
    header = {
        "net": found.net,
        "net_options": dict(found.options),
        "preprocess": preprocess.fields(),
        "unit": bool(getattr(loaded, "unit", True)),
        "converted": {"from": path.name, "format": found.format},
    }
    return loaded, json.loads(json.dumps(header))
