"""What this machine's processor and memory want of a training."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace

import torch

from reid.settings import TrainConfig


def suited(config: TrainConfig) -> TrainConfig:
    """The same, in single precision where this processor would only emulate bfloat16, which is several times slower."""
    slow = not torch.cuda.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return replace(config, precision="32-true") if slow and config.precision == "bf16-mixed" else config


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks; handing them back costs eager training two to four times in page faults."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(-4, 0)  # M_MMAP_MAX
            libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
            libc.mallopt(-2, 256 << 20)  # M_TOP_PAD
