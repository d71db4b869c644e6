"""OpenVINO."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reid.engines.reading import METADATA, Input, failed, read_model, stated
from reid.errors import MissingExtra, ModelError
from reid.images import RGB, Preprocess
from reid.types import Vectors

HINTS = {"fp32": "f32", "bf16": "bf16"}


class _SignalStack(ctypes.Structure):
    """stack_t of signal.h."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def own_signal_stack() -> Iterator[_SignalStack]:
    """Give this thread back the stack it handles signals on, which the context is.

    OpenVINO leaves one of its own behind, which is gone as soon as the model is; Ctrl-C then ends the process with a
    segmentation fault (seen with 2026.4 on Linux).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    before = _SignalStack()
    if libc:
        libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield before
    finally:
        if libc:
            libc.sigaltstack(ctypes.byref(before), None)


class OpenVino:
    """OpenVINO's IR, an `.xml` file and the `.bin` beside it, or an ONNX file, on the CPU.

    How it wants its pictures is what `reid export` wrote into it. In other makers' files it is taken from the record of
    the conversion where that says all: ImageNet's mean and deviation were folded in, and the channels were turned round
    or were not.
    """

    name, usual, alone = "openvino", 16, False

    def __init__(self, path: Path, data: bytes, precision: str = "fp32"):
        try:
            import openvino
        except ImportError:
            raise MissingExtra(f"running {path} in OpenVINO", "openvino") from None
        self.path, self.data, self.precision = path, data, precision
        parts = [data, b""]
        if path.suffix.lower() == ".xml":
            weights = path.with_suffix(".bin")
            if not weights.is_file():
                raise ModelError(f"{path} needs its weights beside it, in {weights.name}")
            parts[1] = read_model(weights)
            self.data = b"".join(parts)
        self._core = openvino.Core()
        with own_signal_stack():
            able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision not in HINTS or (precision == "bf16" and "BF16" not in able):
            raise ModelError(
                f"OpenVINO does not compute in {precision} on this processor; it can in fp32"
                f"{' and bf16' if 'BF16' in able else ''}"
            )
        try:
            self._model = self._core.read_model(*parts)
            (first,) = self._model.inputs
            shape = [d.get_length() if d.is_static else None for d in first.get_partial_shape()]
            kind = first.get_element_type().get_type_name()
            self._input = Input(path, shape, kind)
            self.batch, self.height, self.width = self._input.batch, self._input.height, self._input.width
            self.about = self._told()
        except ModelError:
            raise
        except Exception as error:  # as for ONNX Runtime
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:200]
            raise ModelError(f"{path} and its .bin are not a model that OpenVINO can read ({reason})") from None
        self._compiled = functools.cache(self._compile)

    def _said(self, *place: str) -> str:
        return str(self._model.get_rt_info(list(place)).value) if self._model.has_rt_info(list(place)) else ""

    def _told(self) -> dict[str, Any]:
        if ours := self._said(METADATA):
            return stated(ours, self.path)
        numbers = [
            self._said("conversion_parameters", n).partition("[")[2].rstrip("]")
            for n in ("mean_values", "scale_values")
        ]
        turned = self._said("conversion_parameters", "reverse_input_channels")
        order = {"True": "bgr255", "False": "rgb255"}.get(turned)
        folded = numbers == ["123.675,116.28,103.53", "58.395,57.12,57.375"]
        if not (folded and order and self.height and self.width):
            return {}
        return {"preprocess": Preprocess.like(order, self.height, self.width).fields()}

    def _compile(self, threads: int) -> Any:
        """For one call at a time on several threads, or for several calls at a time with a thread for each."""
        streams = 1 if threads > 1 else os.cpu_count() or 1
        settings = {
            "INFERENCE_NUM_THREADS": threads * streams,
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "NUM_STREAMS": streams,
        }
        with own_signal_stack():
            return self._core.compile_model(self._model, "CPU", settings)

    def run(self, pictures: RGB, preprocess: Preprocess, threads: int) -> Vectors:
        try:
            with own_signal_stack():
                request = self._compiled(threads).create_infer_request()  # one a call: threads must not share one
                return np.array(request.infer([self._input.fit(pictures, preprocess)])[0], np.float32)
        except ModelError:
            raise
        except Exception as error:
            raise failed(self.path, pictures, error, -1) from None
