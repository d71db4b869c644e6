"""What computes a model's output: ONNX Runtime, OpenVINO or PyTorch, behind one call."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reid.engines.ort import OnnxRuntime, open_session
from reid.engines.reading import LARGEST_MODEL, METADATA, read_model
from reid.errors import ModelError
from reid.images import RGB, Preprocess
from reid.types import Vectors

__all__ = ["ENGINES", "LARGEST_MODEL", "METADATA", "PRECISIONS", "Engine", "able", "cosines", "open_engine"]
__all__ += ["open_session", "read_model", "reopen"]

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO would report at every import

PRECISIONS = ("fp32", "bf16", "fp16")
"""That an engine may compute in; what the weights are stored in is the file's affair."""
ENGINES = ("onnxruntime", "openvino", "torch")
AGREES = {"fp32": 0.9999, "bf16": 0.98, "fp16": 0.98}
"""Least cosine between an engine's vectors and those of the one that a file is opened with."""


class Engine(Protocol):
    """A model file, opened.

    Attributes:
        name: one of ENGINES.
        data: the file's content.
        about: what the file says of itself; "preprocess" holds the fields of a Preprocess.
        batch, height, width: that the model is built for, None where free.
        usual: images per inference that suit the device.
        alone: whether one large batch at a time suits it better than a small one for each core.
    """

    name: str
    data: bytes
    about: dict[str, Any]
    batch: int | None
    height: int | None
    width: int | None
    usual: int
    alone: bool

    def run(self, pictures: RGB, preprocess: Preprocess, threads: int) -> Vectors:
        """(N, height, width, 3) bytes to (N, …) outputs, on so many threads; several calls may run at once."""


def open_engine(path: Path) -> Engine:
    """Open a model file with the engine that its name calls for: `.onnx`, OpenVINO's `.xml`, or weights for PyTorch.

    Raises:
        ModelError: the file is too large, damaged or of a form that is not understood.
        MissingExtra: the engine is not installed.
    """
    return _OWN.get(path.suffix.lower(), _torch)(path, read_model(path))


def able(path: Path) -> list[str]:
    """Engines that can run a model file and are installed, the one that it is opened with first."""
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return ["openvino"]
    if suffix not in _OWN:
        return ["torch"]
    found = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
    weights = path.with_suffix(".safetensors").is_file() and importlib.util.find_spec("torch")
    return [*found, "torch"] if weights else found


def reopen(path: Path, own: Engine, preprocess: Preprocess, name: str, precision: str) -> Engine:
    """The same model in another engine, or at another precision.

    Args:
        path: of the model file.
        own: the engine that it was opened with.
        preprocess: how the model wants its pictures.
        name: one of ENGINES.
        precision: one of PRECISIONS.

    Raises:
        ModelError: that engine cannot run this file or not at that precision, or its vectors are not the model's.
        MissingExtra: the engine is not installed.
    """
    if name not in ENGINES or precision not in PRECISIONS:
        raise ModelError(
            f"the engine is {name!r} at {precision!r}; engines are {', '.join(ENGINES)}, precisions "
            f"{', '.join(PRECISIONS)} (int8 is a file of its own, which `reid export` writes)"
        )
    if name == own.name and precision == "fp32":
        return own
    if name not in able(path) and not (name == "openvino" and own.name == "onnxruntime"):
        raise ModelError(f"{path} cannot be run by {name}, only by {' and '.join(able(path))}; name another engine")
    if name == "onnxruntime":
        raise ModelError(f"ONNX Runtime was asked for {precision} and computes in fp32; take openvino or torch for it")
    if name == "openvino":
        other = _openvino(path, own.data if own.name == "onnxruntime" else read_model(path), precision)
    else:
        other = _weights(path, precision)
    _compare(own, other, preprocess, path, precision)
    return other


def _weights(path: Path, precision: str) -> Engine:
    """PyTorch on the weights that a file is, or on those beside an ONNX file."""
    weights = path.with_suffix(".safetensors") if path.suffix.lower() in _OWN else path
    return _torch(weights, read_model(weights), precision)


def _compare(own: Engine, other: Engine, preprocess: Preprocess, path: Path, precision: str) -> None:
    """Refuse an engine whose vectors of one noisy picture are not those of the engine that the file is opened with."""
    shape = (own.batch or 1, preprocess.height, preprocess.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted, found = (engine.run(noise, preprocess, 1).reshape(shape[0], -1) for engine in (own, other))
    agreed = cosines(wanted, found) if wanted.shape == found.shape else np.zeros(1)
    if not (agreed >= AGREES[precision]).all():
        raise ModelError(
            f"{path} gives other vectors in {other.name} at {precision} than in {own.name} (cosine "
            f"{agreed.min():.4f}); take another engine or precision"
        )


def cosines(first: Vectors, second: Vectors) -> Vectors:
    """Of (N, D) vectors with those of the same rows, (N,)."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / np.maximum(lengths, 1e-12), np.float32)


def _openvino(path: Path, data: bytes, precision: str = "fp32") -> Engine:
    from reid.engines.vino import OpenVino

    return OpenVino(path, data, precision)


def _torch(path: Path, data: bytes, precision: str = "fp32") -> Engine:
    from reid.engines.pytorch import Torch

    return Torch(path, data, precision)


_OWN: dict[str, Callable[[Path, bytes], Engine]] = {
    ".onnx": OnnxRuntime,
    "": OnnxRuntime,
    ".xml": _openvino,
}
"""By suffix; files of all others are weights for PyTorch."""
