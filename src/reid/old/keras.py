"""Keras' HDF5 files of the compact CNN (farhantandia's swimmers study).

HDF5 can hold filters that are loaded as code, and data that lie in other files; files that use either are refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.checkpoint import LARGEST
from reid.errors import MissingExtra, ModelError
from reid.images import Preprocess
from reid.nets.compact import Compact
from reid.old.found import Found

DEEPEST, MOST = 8, 10_000
"""Groups within groups, and names in all, that a file may have."""


def read(path: Path, net: str | None = None) -> Found:
    """The compact CNN of a file that Keras' `model.save` or `save_weights` wrote.

    Raises:
        ModelError: the file is damaged, holds what is not read, or another network.
        MissingExtra: h5py is not installed.
    """
    if net not in (None, "compact"):
        raise ModelError(f"{path} is read as the network compact; the network {net} cannot be read from Keras' files")
    arrays = _arrays(path)
    try:
        tensors = Compact.from_keras(arrays)
    except Exception as error:
        raise ModelError(f"{path} does not hold the compact CNN ({error})") from None
    if not tensors:
        raise ModelError(f"{path} holds no weights of layers conv2d, batch_normalization and dense")
    return Found("Keras HDF5", "compact", {}, tensors, Preprocess(180, 80))


def _arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        import h5py
    except ImportError:
        raise MissingExtra(f"reading {path}", "hdf5") from None
    arrays: dict[str, NDArray[np.float32]] = {}
    try:
        with h5py.File(path, "r") as file:
            left = [file.get("model_weights") or file]
            prefix, budget, names = [""], min(LARGEST, path.stat().st_size // 4), 0
            while left:
                group, place = left.pop(), prefix.pop()
                for name in group:
                    names += 1
                    here = f"{place}/{name}"
                    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise ModelError(f"{path} points to data elsewhere, at {here}; such files are not read")
                    if names > MOST or here.count("/") > DEEPEST:
                        raise ModelError(f"{path} has more groups than a model of Keras has; it is not read")
                    inner = group[name]
                    if isinstance(inner, h5py.Group) and name != "optimizer_weights":
                        left.append(inner)
                        prefix.append(here)
                    elif isinstance(inner, h5py.Dataset):
                        budget -= _size(path, here, inner)
                        if budget < 0:
                            raise ModelError(f"{path} claims to hold more values than fit into its size")
                        arrays[here] = np.asarray(inner[()], np.float32)
    except ModelError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, … on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} is not a readable HDF5 file ({reason})") from None
    return arrays


def _size(path: Path, name: str, data: Any) -> int:
    """How many values a dataset has, refused where they are no plain numbers of this very file."""
    create = data.id.get_create_plist()
    if data.dtype.kind not in "fiu" or create.get_nfilters() or create.get_external_count() or data.is_virtual:
        raise ModelError(f"{path} holds {name} compressed, elsewhere or not as numbers; save it again without")
    return math.prod(data.shape)
