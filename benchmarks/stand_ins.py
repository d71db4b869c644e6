"""What torchreid imports and does not need here: stand-ins for torchvision, TensorBoard and gdown.

Of torchvision they have the transforms that torchreid uses, with the operations that torchvision has for Pillow's
pictures; of the other two nothing is used. A package that is installed is left alone.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

Transform = Callable[[Any], Any]


def stand_in() -> list[str]:
    """Put modules in the place of packages that are not installed; the packages' names are returned."""
    nothing = type("Nothing", (), {})
    transforms = {"Compose": compose, "Resize": resize, "RandomHorizontalFlip": lambda: flip}
    transforms |= {"ToTensor": lambda: to_tensor, "Normalize": normalise, "ColorJitter": nothing}
    transforms |= {"ToPILImage": lambda: Image.fromarray}
    modules: dict[str, dict[str, dict[str, Any]]] = {
        "torchvision": {"torchvision": {}, "torchvision.transforms": transforms},
        "tensorboard": {"torch.utils.tensorboard": {"SummaryWriter": nothing}},
        "gdown": {"gdown": {}},
    }
    missing = [package for package in modules if importlib.util.find_spec(package) is None]
    for package in missing:
        for name, contents in modules[package].items():
            module = sys.modules[name] = types.ModuleType(name)
            vars(module).update(contents)
    return missing


def compose(transforms: Sequence[Transform]) -> Transform:
    return lambda x: functools.reduce(lambda value, transform: transform(value), transforms, x)


def resize(size: tuple[int, int]) -> Transform:
    wanted = size[::-1]
    return lambda picture: picture if picture.size == wanted else picture.resize(wanted, Image.Resampling.BILINEAR)


def flip(picture: Any) -> Any:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(1) < 0.5 else picture


def to_tensor(picture: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(picture, copy=True)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def normalise(mean: Sequence[float], std: Sequence[float]) -> Transform:
    def transform(x: torch.Tensor) -> torch.Tensor:
        shift, scale = (torch.as_tensor(v, dtype=x.dtype).view(-1, 1, 1) for v in (mean, std))
        return x.clone().sub_(shift).div_(scale)

    return transform
