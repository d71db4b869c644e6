"""What a reader makes of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reid.images import Preprocess


@dataclass(frozen=True, slots=True)
class Found:
    """A network by name, with options, and its tensors by our names.

    Attributes:
        format: what the file is, for people.
        net, options: as `nets.build` takes them.
        tensors: by the network's names; a classifier's may be among them.
        preprocess: how the network wants its pictures; None for ImageNet's mean and deviation at the network's size.
    """

    format: str
    net: str
    options: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    preprocess: Preprocess | None = None
