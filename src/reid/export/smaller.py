"""Models made smaller: weights stored in half precision, or weights and arithmetic of eight bits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reid.errors import ModelError
from reid.images import RGB, Preprocess

SCHEMES = ("minmax", "minmax, depthwise and first convolutions in fp32")
"""Ways to quantise, tried in this order until one drifts little enough."""
STEP = 16


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its weights stored as fp16 and cast to fp32 when the file is loaded; it computes in fp32.

    A CPU has no arithmetic of fp16 that ONNX Runtime would use; so the file is half as large and not faster.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph, casts = small.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1 and np.abs(values).max() < np.finfo(np.float16).max:
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/fp16"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}/fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return small


def quantised(model: onnx.ModelProto, pictures: RGB, preprocess: Preprocess, scheme: str) -> onnx.ModelProto:
    """The same network with convolutions and matrices of eight bits, by static quantisation.

    Weights get a scale for each channel, activations one for each tensor, from the least and the greatest value that
    occurs on the calibration pictures. The rest stays in fp32 (quantize-dequantize format).

    Args:
        model: in fp32.
        pictures: (N, height, width, 3) to calibrate with.
        preprocess: how the model wants them.
        scheme: one of SCHEMES.

    Raises:
        ModelError: the graph cannot be quantised.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        logging.getLogger().addFilter(_silent)
        try:
            plain, ready, out = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "out.onnx"))
            onnx.save(model, plain)
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                out,
                _Reader(pictures, preprocess, model.graph.input[0]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_sensitive(onnx.load(ready)) if scheme == SCHEMES[1] else [],
                calibrate_method=CalibrationMethod.MinMax,
            )
            return onnx.load(out)
        except Exception as error:  # ONNX Runtime's have no common class
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(f"the graph cannot be quantised ({reason}); export it in fp32 or fp16") from None
        finally:
            logging.getLogger().removeFilter(_silent)


def _silent(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _sensitive(model: onnx.ModelProto) -> list[str]:
    """Convolutions of one channel each, and the first: little work, and ranges that differ among channels."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    groups = [next((a.i for a in node.attribute if a.name == "group"), 1) for node in convolutions]
    return [n.name for i, (n, group) in enumerate(zip(convolutions, groups, strict=True)) if group > 1 or i == 0]


class _Reader:
    """Calibration pictures, a few at a time, in the form that the quantiser reads."""

    def __init__(self, pictures: RGB, preprocess: Preprocess, taken: onnx.ValueInfoProto):
        step = taken.type.tensor_type.shape.dim[0].dim_value or STEP
        whole = len(pictures) // step * step if step != STEP else len(pictures)
        self._batches: Iterator[NDArray[Any]] = (
            preprocess.prepare(pictures[i : i + step]) for i in range(0, whole, step)
        )
        self._name = taken.name

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
