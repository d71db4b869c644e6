"""What computes a model's output: ONNX Runtime, OpenVINO or PyTorch, behind one call."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime reports to its makers unless told not to before it is loaded
import onnxruntime

from reid.errors import MissingExtra, ModelError
from reid.images import Preprocess
from reid.types import Vectors

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so would OpenVINO, at every import

LARGEST_MODEL = 2 << 30
METADATA = "reid"
TYPES = {"float": "float32", "float32": "float32", "f32": "float32", "float16": "float16", "f16": "float16"}
TYPES |= {"double": "float64", "f64": "float64", "uint8": "uint8", "u8": "uint8"}
"""Types of pixels that a model may take, by the names that the engines give them."""


class Engine(Protocol):
    """A model file, opened.

    Attributes:
        data: the file's content.
        about: what the file says of itself; "preprocess" holds the fields of a Preprocess.
        batch, height, width: that the model is built for, None where free.
    """

    data: bytes
    about: dict[str, Any]
    batch: int | None
    height: int | None
    width: int | None

    def run(self, ready: NDArray[Any], threads: int) -> Vectors:
        """What `Preprocess.prepare` gives, to (N, …) outputs."""


def open_engine(path: Path) -> Engine:
    """Open a model file with the engine that its name calls for: `.onnx`, OpenVINO's `.xml`, or weights for PyTorch.

    Raises:
        ModelError: the file is too large, damaged or of a form that is not understood.
        MissingExtra: the engine is not installed.
    """
    data = read_model(path)
    return ENGINES.get(path.suffix.lower(), Torch)(path, data)


def read_model(path: Path) -> bytes:
    """A model file's content, refused where it is too large."""
    if path.stat().st_size > LARGEST_MODEL:
        raise ModelError(f"{path} has {path.stat().st_size >> 20} MiB; a model may have {LARGEST_MODEL >> 20} MiB")
    return path.read_bytes()


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


class _Input:
    """A model's first input: its layout, and arrays made to fit it."""

    def __init__(self, path: Path, shape: list[int | None], kind: str):
        if len(shape) != 4 or kind not in TYPES:
            raise ModelError(f"{path} takes {kind} of shape {shape}; a model of pictures takes (N, 3, H, W) of pixels")
        self.last = shape[3] == 3 and shape[1] != 3
        self.type = np.dtype(TYPES[kind])
        self.batch = shape[0]
        self.height, self.width = shape[1:3] if self.last else shape[2:]

    def fit(self, ready: NDArray[Any]) -> NDArray[Any]:
        """Planes put where the model wants them; bytes come as they are wanted."""
        if ready.dtype == np.float32:
            ready = ready.transpose(0, 2, 3, 1) if self.last else ready
            ready = np.rint(ready) if self.type == np.uint8 else ready
        return np.ascontiguousarray(ready, self.type)


class OnnxRuntime:
    """An ONNX file on the CPU."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data = path, data
        self._session = functools.cache(self._open)
        try:
            first = self._session(1).get_inputs()[0]
            stated = self._session(1).get_modelmeta().custom_metadata_map.get(METADATA, "{}")
        except ValueError:  # names that are no text
            raise ModelError(f"what {path} says of itself is damaged; copy it again") from None
        shape = [d if isinstance(d, int) and d > 0 else None for d in first.shape]
        self._name, self._input = first.name, _Input(path, shape, first.type.removeprefix("tensor(").rstrip(")"))
        self.batch, self.height, self.width = self._input.batch, self._input.height, self._input.width
        self.about = _stated(stated, path)

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        session = open_session(self.data, self.path, threads)
        if len(session.get_inputs()) != 1:
            raise ModelError(f"{self.path} takes {len(session.get_inputs())} inputs; a model of pictures takes one")
        return session

    def run(self, ready: NDArray[Any], threads: int) -> Vectors:
        try:
            out = self._session(threads).run(None, {self._name: self._input.fit(ready)})[0]
            return np.asarray(out, np.float32)
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no common class
            reason = str(error).splitlines()[0][:200]
            raise ModelError(f"{self.path} failed on pictures of shape {ready.shape} ({reason})") from None


def _stated(text: str, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise ModelError(f"what {path} says of itself is damaged; copy it again")
    return about


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
    """OpenVINO's IR, an `.xml` file and the `.bin` beside it, on the CPU.

    How it wants its pictures is taken from the record of its conversion where that says all: ImageNet's mean and
    deviation were folded in, and the channels were turned round or were not.
    """

    def __init__(self, path: Path, data: bytes):
        try:
            import openvino
        except ImportError:
            raise MissingExtra(f"reading {path}", "openvino") from None
        self.path, weights = path, path.with_suffix(".bin")
        if not weights.is_file():
            raise ModelError(f"{path} needs its weights beside it, in {weights.name}")
        parts = data, read_model(weights)
        self.data = b"".join(parts)
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(*parts)
            (first,) = self._model.inputs
            shape = [d.get_length() if d.is_static else None for d in first.get_partial_shape()]
            kind = first.get_element_type().get_type_name()
            self._input = _Input(path, shape, kind)
            self.batch, self.height, self.width = self._input.batch, self._input.height, self._input.width
            like = self._recorded()
        except ModelError:
            raise
        except Exception as error:  # as for ONNX Runtime
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:200]
            raise ModelError(f"{path} and its .bin are not a model that OpenVINO can read ({reason})") from None
        self.about = {"preprocess": like.fields()} if like else {}
        self._requests = functools.cache(self._compile)

    def _recorded(self) -> Preprocess | None:
        def said(name: str) -> str:
            place = ["conversion_parameters", name]
            return str(self._model.get_rt_info(place).value) if self._model.has_rt_info(place) else ""

        numbers = [said(n).partition("[")[2].rstrip("]") for n in ("mean_values", "scale_values")]
        order = {"True": "bgr255", "False": "rgb255"}.get(said("reverse_input_channels"))
        folded = numbers == ["123.675,116.28,103.53", "58.395,57.12,57.375"]
        if not (folded and order and self.height and self.width):
            return None
        return Preprocess.like(order, self.height, self.width)

    def _compile(self, threads: int) -> Any:
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        with own_signal_stack():
            return self._core.compile_model(self._model, "CPU", settings)

    def run(self, ready: NDArray[Any], threads: int) -> Vectors:
        try:
            with own_signal_stack():
                request = self._requests(threads).create_infer_request()  # one a call: threads must not share one
                return np.array(request.infer([self._input.fit(ready)])[0], np.float32)
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1][:200]
            raise ModelError(f"{self.path} failed on pictures of shape {ready.shape} ({reason})") from None


class Torch:
    """A file of weights, ours or of another toolkit, run by PyTorch. `reid convert` makes a faster file of it."""

    batch: int | None = None
    height: int | None = None
    width: int | None = None

    def __init__(self, path: Path, data: bytes):
        try:
            from reid import old
        except ImportError:
            raise MissingExtra(f"reading {path}", "train") from None
        self.data = data
        self._net, header = old.load(path)
        self.about = {"unit": True, **header}

    def run(self, ready: NDArray[Any], threads: int) -> Vectors:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                embedding = self._net(torch.from_numpy(ready)).embedding
                unit = torch.nn.functional.normalize(embedding) if self.about["unit"] else embedding
            return np.asarray(unit.numpy(), np.float32)
        finally:
            torch.set_num_threads(before)


ENGINES: dict[str, Callable[[Path, bytes], Engine]] = {
    ".onnx": OnnxRuntime,
    "": OnnxRuntime,
    ".writing": OnnxRuntime,  # what `disk.replacing` calls a file that is looked at before it gets its name
    ".xml": OpenVino,
}
"""By suffix; files of all others are weights for PyTorch."""
