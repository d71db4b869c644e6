"""PyTorch, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reid.errors import MissingExtra, ModelError
from reid.images import RGB, Preprocess
from reid.types import Vectors


class Torch:
    """A file of weights, ours or of another toolkit. `reid export` makes a faster file of it for the CPU.

    On a GPU, bytes are sent and made into what the network takes there; they are decoded and resized on the host, by
    the one decoder and the one resizer that all models are trained with.

    Attributes:
        device: "cuda" where there is one.
    """

    name = "torch"
    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __init__(self, path: Path, data: bytes, precision: str = "fp32", device: str | None = None):
        try:
            import torch

            from reid import old
        except ImportError:
            raise MissingExtra(f"running {path} in PyTorch", "train") from None
        self.path, self.data = path, data
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if precision == "fp16" and self.device == "cpu":
            raise ModelError("PyTorch computes in fp16 on a GPU only; here it can in fp32 and bf16")
        self.alone = self.device == "cuda"
        self.usual = 128 if self.alone else 16
        self._type = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        net, header = old.load(path)
        self._net = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.about: dict[str, Any] = {"unit": True, **header}
        self._own = Preprocess.stated(self.about["preprocess"], path)

    def run(self, pictures: RGB, preprocess: Preprocess, threads: int) -> Vectors:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode(), torch.autocast(self.device, self._type, enabled=self._type is not None):
                embedding = self._net(self._prepare(pictures, preprocess)).embedding.float()
                unit = torch.nn.functional.normalize(embedding) if self.about["unit"] else embedding
            return np.asarray(unit.cpu().numpy(), np.float32)
        finally:
            torch.set_num_threads(before)

    def _prepare(self, pictures: RGB, preprocess: Preprocess) -> Any:
        """(N, H, W, 3) bytes to (N, 3, H, W) floats on the device, the arithmetic of `Preprocess.prepare`."""
        import torch

        wants = self._own if preprocess.inside else preprocess  # an ONNX file's preprocessing is its weights' own
        sent = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device, non_blocking=True)
        sent = sent.flip(3) if wants.channels == "BGR" else sent
        deviation = torch.tensor(wants.deviation, device=self.device)
        mean = torch.tensor(wants.mean, device=self.device)
        return (sent.float() * (wants.scale / deviation) - mean / deviation).permute(0, 3, 1, 2)
