"""Where a network responds in a picture: its last feature map. Needs PyTorch, as the files of ONNX hide it."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from reid import checkpoint
from reid.errors import ModelError
from reid.images import RGB, Preprocess
from reid.plot.heat import Heat, level

BATCH = 16


class Activations:
    """Activation-based attention: the sum over channels of the squared last feature map.

    It is F²sum of Zagoruyko and Komodakis (ICLR 2017), which torchreid's `visualize_actmap` shows too.

    Args:
        model: a weights file that `reid train` wrote, or the name of a model that comes with reid.

    Raises:
        ModelError: the file is no such file; or, when called, the network has no feature map.
    """

    def __init__(self, model: str | os.PathLike[str]):
        path = checkpoint.find(model)
        if path.suffix.lower() == ".onnx":
            raise ModelError(
                f"{path} is an ONNX file, which hides its feature maps; give the weights beside it "
                "(.safetensors), or ask for --by occlusion"
            )
        self.name = path.stem
        self._net, header = checkpoint.load_net(path)
        self._preprocess = Preprocess(**header["preprocess"])

    def __call__(self, pictures: Sequence[RGB]) -> list[Heat]:
        """A map (h, w) from 0 to 1 for each picture, its lowest and highest response at the ends."""
        found: list[Heat] = []
        for start in range(0, len(pictures), BATCH):
            looks = [self._preprocess.look(picture)[0] for picture in pictures[start : start + BATCH]]
            ready = torch.from_numpy(np.asarray(self._preprocess.prepare(np.stack(looks)), dtype=np.float32))
            maps = last_map(self._net, ready).square().sum(1)
            found += [level(one) for one in maps.numpy().astype(np.float64)]
        return found


@torch.no_grad()
def last_map(net: nn.Module, batch: Tensor) -> Tensor:
    """The last (B, C, h, w) that a module of the network gives, with h and w above 1.

    Raises:
        ModelError: there is none, or what follows are sequences of patches, as in a vision transformer.
    """
    seen: list[Tensor] = []  # the last map, and what came after it: a vector, or sequences

    def keep(module: nn.Module, given: object, made: object) -> None:
        if isinstance(made, Tensor) and made.ndim == 4 and min(made.shape[2:]) > 1:
            seen[:] = [made]
        elif isinstance(made, Tensor) and made.ndim in (2, 3) and len(seen) == 1:
            seen.append(made)

    hooks = [module.register_forward_hook(keep) for module in net.modules() if module is not net]
    try:
        net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen or seen[-1].ndim == 3:
        raise ModelError(f"{type(net).__name__} has no feature map at its end; ask for --by occlusion instead")
    return seen[0].float()
