"""Model files read within bounds, and arrays made to fit what a model takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.errors import ModelError
from reid.images import RGB, Preprocess

LARGEST_MODEL = 2 << 30
METADATA = "reid"
TYPES = {"float": "float32", "float32": "float32", "f32": "float32", "float16": "float16", "f16": "float16"}
TYPES |= {"double": "float64", "f64": "float64", "uint8": "uint8", "u8": "uint8"}
"""Types of pixels that a model may take, by the names that the engines give them."""


def read_model(path: Path) -> bytes:
    """A model file's content, refused where it is too large."""
    if path.stat().st_size > LARGEST_MODEL:
        raise ModelError(f"{path} has {path.stat().st_size >> 20} MiB; a model may have {LARGEST_MODEL >> 20} MiB")
    return path.read_bytes()


def stated(text: str, path: Path) -> dict[str, Any]:
    """What a model file says of itself, from its JSON."""
    try:
        about = json.loads(text)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise ModelError(f"what {path} says of itself is damaged; copy it again")
    return about


def failed(path: Path, pictures: RGB, error: Exception, line: int) -> ModelError:
    """The sentence for an engine's error, whose reason stands in that line of it."""
    reason = (str(error).strip().splitlines() or ["no reason given"])[line][:200]
    return ModelError(f"{path} failed on pictures of shape {pictures.shape} ({reason})")


class Input:
    """A model's first input: its layout, and arrays made to fit it."""

    def __init__(self, path: Path, shape: list[int | None], kind: str):
        if len(shape) != 4 or kind not in TYPES:
            raise ModelError(f"{path} takes {kind} of shape {shape}; a model of pictures takes (N, 3, H, W) of pixels")
        self.path, self.last = path, shape[3] == 3 and shape[1] != 3
        self.type = np.dtype(TYPES[kind])
        self.batch = shape[0]
        self.height, self.width = shape[1:3] if self.last else shape[2:]

    def fit(self, pictures: RGB, preprocess: Preprocess) -> NDArray[Any]:
        """Bytes as they are, or planes put where the model wants them.

        Raises:
            ModelError: they are scaled, which bytes cannot hold.
        """
        ready: NDArray[Any] = preprocess.prepare(pictures)
        scaled = (preprocess.scale, preprocess.mean, preprocess.deviation) != (1.0, (0.0,) * 3, (1.0,) * 3)
        if self.type == np.uint8 and scaled and not preprocess.inside:
            raise ModelError(f"{self.path} takes bytes and scales them itself; feed it as --like rgb255 or bgr255")
        if ready.dtype == np.float32:
            ready = ready.transpose(0, 2, 3, 1) if self.last else ready
            ready = np.rint(ready) if self.type == np.uint8 else ready
        return np.ascontiguousarray(ready, self.type)
