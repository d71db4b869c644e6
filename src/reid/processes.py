"""Several processes that train one network, and the signals that stop them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning_fabric
import torch
from torch import Tensor

from reid.errors import DataError
from reid.nets import Features


def gather(fabric: lightning_fabric.Fabric, features: Features, pids: Tensor) -> tuple[Features, Tensor]:
    """The features of all processes' crops, with gradients, so that losses see the whole batch."""
    if fabric.world_size == 1:
        return features, pids
    if features.pairs is not None:
        raise DataError("a network with a pair head trains in one process; start it without torchrun")

    def whole(x: Any) -> Any:
        parts: Any = fabric.all_gather(x, sync_grads=True)
        return parts.flatten(0, 1)

    logits, parts = (tuple(whole(x) for x in many) for many in (features.logits, features.parts))
    taught = None if features.taught is None else whole(features.taught)
    return Features(whole(features.embedding), whole(features.metric), logits, parts, taught=taught), whole(pids)


def unused(features: Features) -> Tensor:
    """0, with a gradient of 0 to every output: processes wait for one another's, also where no loss looks at one."""
    outputs = (features.embedding, features.metric, *features.logits, *features.parts)
    return 0 * torch.stack([output.float().mean() for output in outputs]).sum()


def agreed(fabric: lightning_fabric.Fabric, flag: Sequence[bool]) -> bool:
    """Whether any process has raised its flag."""
    if fabric.world_size == 1:
        return any(flag)
    raised: Any = fabric.all_reduce(torch.tensor(float(any(flag)), device=fabric.device), reduce_op="sum")
    return bool(raised > 0)


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """A list that Ctrl-C and SIGTERM append to instead of ending the process; a second Ctrl-C ends it."""
    came: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        came.append(True)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
