"""A network's training pass as one CUDA graph, so that the device never waits for Python to launch its kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid.nets import Features


class Graphed(nn.Module):
    """A network that, in training mode, replays one recorded pass forward and one back.

    The arithmetic is the network's own, with the precision of the autocast context it is made in. Weights, and the
    modes of all modules, are read through: the recording holds as long as shapes, modes and which weights learn stay
    as they are. Gradients are written anew by each pass back, never added up.

    Args:
        net: on a CUDA device; it must not look at values on the host, nor choose its way by them.
        sample: a batch of the shape, type and memory layout of those to come.

    Raises:
        RuntimeError: the network cannot be recorded; it is unharmed.
    """

    def __init__(self, net: nn.Module, sample: Tensor):
        super().__init__()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        self.flat = _Flat(net)
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # else weights cast once would be recorded as constants
        try:
            torch.cuda.make_graphed_callables(self.flat, (sample,), allow_unused_input=True)
        finally:
            torch.set_autocast_cache_enabled(cached)
            net.load_state_dict(before)  # recording runs the network a few times, which its batch norms remember

    def forward(self, x: Tensor) -> Features:
        return self.flat.features(self.flat(x))


class _Flat(nn.Module):
    """A network whose features come as a plain tuple of tensors, as recording needs them."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        self._counts = 0, 0, 0

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        embedding, metric, logits, parts, pairs = self.net(x)
        several = logits, parts, (() if pairs is None else (pairs,))
        self._counts = len(several[0]), len(several[1]), len(several[2])
        return embedding, metric, *(tensor for some in several for tensor in some)

    def features(self, tensors: tuple[Tensor, ...]) -> Features:
        """The same tensors in their places."""
        embedding, metric, *rest = tensors
        logits, parts, pairs = self._counts
        return Features(
            embedding, metric, tuple(rest[:logits]), tuple(rest[logits : logits + parts]), rest[-1] if pairs else None
        )
