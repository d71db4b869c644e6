"""TriNet's first weights (Hermans, Beyer, Leibe 2017): a `.npz` of Lasagne's parameters, without names, in its order.

Lasagne lists a layer after what it is computed from, depth first, and of a sum the first summand first: in a block
with a projection, the projection. A batch norm lists beta, gamma, mean and 1/sqrt(variance + ε), so that ε is in the
numbers; a dense layer's matrix is in × out. The network sees BGR from 0 to 255 less the mean of ImageNet; its first
convolution is turned round here to see RGB.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.checkpoint import LARGEST
from reid.errors import ModelError
from reid.images import Preprocess
from reid.old.found import Found

MEAN = (123.15163084, 115.90288257, 103.0626238)
"""Of ImageNet, in the order RGB, as the authors' `trinet_embed.py` has it."""
EPSILON = 1e-5  # PyTorch's, which our batch norms add again
Values = NDArray[np.float64]


def read(path: Path, net: str | None = None) -> Found:
    """TriNet as its authors built it, with their ten test-time views.

    Raises:
        ModelError: the file is damaged, holds what is not read, or other layers than TriNet's.
    """
    if net not in (None, "trinet"):
        raise ModelError(f"{path} is read as the network trinet; the network {net} cannot be read from .npz files")
    arrays = iter(_arrays(path))
    tensors: dict[str, Tensor] = {}
    for kind, name in layers():
        for part, values in _layer(path, kind, name, arrays):
            tensors[f"{name}.{part}"] = torch.tensor(np.ascontiguousarray(values, np.float32))
    if rest := sum(1 for _ in arrays):
        raise ModelError(f"{path} has {rest} arrays more than TriNet has; give the weights of TriNet")
    first = tensors["conv1.weight"]
    tensors["conv1.weight"] = first.flip(1) if first.ndim == 4 else first
    options: dict[str, Any] = {"caffe": True}
    if (dim := tensors["embed.bias"].numel()) != 128:
        options["dim"] = min(dim, 1 << 14)
    return Found("TriNet (Lasagne)", "trinet", options, tensors, Preprocess(256, 128, mean=MEAN, views="ten"))


def layers() -> Iterator[tuple[str, str]]:
    """Kind and name of our layers in Lasagne's order."""
    yield from (("conv bias", "conv1"), ("norm", "bn1"))
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            here = f"layer{stage}.{block}"
            if block == 0:
                yield from (("conv", f"{here}.downsample.0"), ("norm", f"{here}.downsample.1"))
            for i in (1, 2, 3):
                yield from (("conv", f"{here}.conv{i}"), ("norm", f"{here}.bn{i}"))
    yield from (("dense", "fc.0"), ("norm", "fc.1"), ("dense bias", "embed"))


def _layer(path: Path, kind: str, name: str, arrays: Iterator[Values]) -> Iterator[tuple[str, Values]]:
    """One layer's tensors by PyTorch's names, its arrays taken from the list."""

    def take(dimensions: int) -> Values:
        values = next(arrays, None)
        if values is None or values.ndim != dimensions:
            found = "nothing" if values is None else f"an array of shape {values.shape}"
            raise ModelError(f"{path} has {found} where {name} of TriNet should be; give the weights of TriNet")
        return values

    if kind == "norm":
        beta, gamma, mean, inverse = (take(1) for _ in range(4))
        if not (len(beta) == len(gamma) == len(mean) == len(inverse) and (inverse > 0).all()):
            raise ModelError(f"{path} has no batch norm where {name} of TriNet should be; give the weights of TriNet")
        with np.errstate(over="ignore"):
            variance = np.maximum(inverse**-2.0 - EPSILON, 0)
        # the scale makes up for a variance below ε, and for what single precision loses of it
        variance = variance.astype(np.float32).astype(np.float64)
        yield "weight", gamma * inverse * np.sqrt(variance + EPSILON)
        yield from (("bias", beta), ("running_mean", mean), ("running_var", variance))
    else:
        yield "weight", take(2).T if kind.startswith("dense") else take(4)
        if kind.endswith("bias"):
            yield "bias", take(1)


def _arrays(path: Path) -> Iterator[Values]:
    """arr_0, arr_1, … of a file of arrays, each checked before it is read."""
    budget = LARGEST
    try:
        with zipfile.ZipFile(path) as archive:
            for i in range(len(archive.namelist())):
                part = archive.getinfo(f"arr_{i}.npy")
                with archive.open(part) as file:
                    budget -= _size(path, file, part)
                    if budget < 0:
                        raise ModelError(f"{path} claims to hold more values than a model may have, {LARGEST:,}")
                with archive.open(part) as file:
                    yield np.lib.format.read_array(file, allow_pickle=False).astype(np.float64)
    except (ModelError, GeneratorExit):
        raise
    except KeyError as error:
        raise ModelError(f"{path} has no arrays by Lasagne's numbers ({error}); give the weights of TriNet") from None
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} is not a readable .npz file ({reason})") from None


def _size(path: Path, file: IO[bytes], part: zipfile.ZipInfo) -> int:
    """How many values an array has, by its header; refused where they are no floats or not all there."""
    version = np.lib.format.read_magic(file)
    header: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        raise ModelError(f"{path} holds {part.filename} in a form that is not read")
    shape, _, dtype = header[version](file)
    count = math.prod(shape)
    if dtype.kind != "f" or count * dtype.itemsize > part.file_size or len(shape) > 4:
        raise ModelError(
            f"{path} holds {part.filename} of {dtype} and shape {shape}, which is not read or not all there"
        )
    return count
