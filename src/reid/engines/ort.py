"""ONNX Runtime."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reports to its makers unless told not to before it is loaded
import onnxruntime

from reid.engines.reading import METADATA, Input, failed, stated
from reid.errors import ModelError
from reid.images import RGB, Preprocess
from reid.types import Vectors


def open_session(data: bytes, path: Path, threads: int) -> onnxruntime.InferenceSession:
    """An ONNX file's content, ready to run on so many threads."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{path} is not an ONNX model that can be run ({reason})") from None


class OnnxRuntime:
    """An ONNX file on the CPU."""

    name, usual, alone = "onnxruntime", 16, False

    def __init__(self, path: Path, data: bytes):
        self.path, self.data = path, data
        self._session = functools.cache(self._open)
        try:
            first = self._session(1).get_inputs()[0]
            self._name, kind, shape = first.name, first.type, first.shape
            text = self._session(1).get_modelmeta().custom_metadata_map.get(METADATA, "{}")
        except ValueError:  # names that are no text
            raise ModelError(f"what {path} says of itself is damaged; copy it again") from None
        sizes = [d if isinstance(d, int) and d > 0 else None for d in shape]
        self._input = Input(path, sizes, kind.removeprefix("tensor(").rstrip(")"))
        self.batch, self.height, self.width = self._input.batch, self._input.height, self._input.width
        self.about = stated(text, path)

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        session = open_session(self.data, self.path, threads)
        if len(session.get_inputs()) != 1:
            raise ModelError(f"{self.path} takes {len(session.get_inputs())} inputs; a model of pictures takes one")
        return session

    def run(self, pictures: RGB, preprocess: Preprocess, threads: int) -> Vectors:
        try:
            out = self._session(threads).run(None, {self._name: self._input.fit(pictures, preprocess)})[0]
            return np.asarray(out, np.float32)
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise failed(self.path, pictures, error, 0) from None
