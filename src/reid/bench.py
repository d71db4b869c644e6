"""How fast a model is on this machine: by engine, precision and batch, beside what the processor can do at most."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from pathlib import Path
from typing import Any

import numpy as np

from reid.drift import Drift, check_enough, chosen
from reid.embed import Embedder, Skipped, find_model
from reid.engines import able, cosines, open_engine, open_session
from reid.engines.choice import processor, rate
from reid.errors import ReidError
from reid.types import Crop

BATCHES = (1, 16, 64)
SECONDS = 2.0  # of single crops, for their latency
SIDE = 2048  # of the square matrices that the peak is measured with


@dataclass(frozen=True, slots=True)
class Speed:
    """One engine at one precision.

    Attributes:
        engine, precision: as for `Embedder`.
        rates: images/s by batch, one batch a core at a time, as `Embedder.stream` runs them.
        p50, p99: milliseconds for a single crop that all cores work on, decoded already.
        share: of the peak of that precision that the best rate reaches; None where the model's operations are unknown.
        cosine: lowest to the file's own engine in fp32, on noise.
        drift: the same on a sample's rankings; None without one.
    """

    engine: str
    precision: str
    rates: dict[int, float]
    p50: float
    p99: float
    share: float | None
    cosine: float
    drift: Drift | None

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "engine": self.engine,
            "precision": self.precision,
            "images/s": {str(batch): round(r, 1) for batch, r in self.rates.items()},
            "one crop, ms": {"p50": round(self.p50, 2), "p99": round(self.p99, 2)},
            "share of peak": None if self.share is None else round(self.share, 3),
            "cosine": round(self.cosine, 6),
            "drift": self.drift.fields() if self.drift else None,
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """What the measurements were made on.

    Attributes:
        processor, cores: of this machine.
        operations: that the model takes for one image, two for each multiplication with its addition; None if unknown.
        peaks: floating-point operations a second that a matrix product reaches, by precision.
    """

    processor: str
    cores: int
    operations: int | None
    peaks: dict[str, float]


def machine(model: str | os.PathLike[str]) -> Machine:
    """The processor and its peaks, and what a model asks of it.

    Raises:
        ModelError: the model file cannot be read.
    """
    path = find_model(model)
    open_engine(path)  # which says what is wrong with a file
    return Machine(processor(), os.cpu_count() or 1, operations(path), peaks())


def speeds(
    model: str | os.PathLike[str],
    on: Machine,
    batches: Sequence[int] = BATCHES,
    sample: Sequence[Crop] = (),
    like: str | None = None,
    progress: Callable[[int], None] = lambda done: None,
    on_skip: Callable[[Skipped], None] = lambda skipped: None,
) -> Iterator[Speed]:
    """Measure each engine at each precision that can run a model here, one after another.

    Args:
        model: as for `Embedder`.
        on: this machine.
        batches: images per inference.
        sample: crops to measure the drift on.
        like: as for `Embedder`.
        progress: called with the number of the sample's crops done since the last call.
        on_skip: called for each crop that cannot be read.
    """
    path = find_model(model)
    own = Embedder(path, like=like, engine=able(path)[0])
    size = own.engine.batch or 16, own.preprocess.height, own.preprocess.width, 3
    noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    wanted = own.vectors(noise)
    before = own(chosen(sample), progress, on_skip) if sample else None
    if before is not None:
        check_enough(before.crops)
    for engine in able(path):
        for precision in ("fp32", "bf16", "fp16"):
            try:
                tried = Embedder(path, like=like, engine=engine, precision=precision)
            except ReidError:  # an engine without this precision here
                continue
            rates = {b: rate(tried.engine, tried.preprocess, tried.threads, b) for b in batches}
            p50, p99 = latency(tried)
            drift = None
            if before:
                after = dataclass_replace(tried(before.crops, progress), model=before.model)
                drift = Drift.between(before, after)
            share = (
                on.operations * max(rates.values()) / on.peaks[precision]
                if on.operations and precision in on.peaks
                else None
            )
            cosine = float(cosines(wanted, tried.vectors(noise)).min())
            yield Speed(engine, precision, rates, p50, p99, share, cosine, drift)


def latency(embedder: Embedder) -> tuple[float, float]:
    """Milliseconds that one decoded crop takes: (median, 99th percentile)."""
    one = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    took: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(took) < 20 or (time.perf_counter() < end and len(took) < 1000):
        started = time.perf_counter()
        embedder.arrays([one])
        took.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(took[5:], (50, 99))
    return float(p50), float(p99)


def operations(path: Path) -> int | None:
    """Floating-point operations for one image in an ONNX graph's convolutions and matrix products.

    None for other files, for graphs whose shapes cannot be inferred, or where the package onnx is not installed.
    """
    if path.suffix.lower() != ".onnx":
        return None
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(path)
    for dim in (value.type.tensor_type.shape.dim[0] for value in model.graph.input):
        dim.Clear()
        dim.dim_value = 1
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.value_info, *graph.output, *graph.input):
        shapes[value.name] = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    total = 0
    work = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    if any(name not in shapes for node in work for name in (*node.input[:2], *node.output)):
        return None
    for node in work:
        if node.op_type == "Conv":
            weight = shapes[node.input[1]]
            total += 2 * int(np.prod(shapes[node.output[0]])) * int(np.prod(weight[1:]))
        else:
            turned = any(a.name == "transA" and a.i for a in node.attribute)
            inner = shapes[node.input[0]][0 if turned else -1]
            total += 2 * int(np.prod(shapes[node.output[0]])) * inner
    return total


def peaks() -> dict[str, float]:
    """Floating-point operations a second of a square matrix product by precision, the best of what is installed."""
    a = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    found = {"fp32": _best(lambda: a @ a)}
    with suppress(ImportError):
        found["fp32"] = max(found["fp32"], _best(_onnxruntime_product(a)))
    with suppress(ImportError):
        for precision, run in _openvino_products(a):
            found[precision] = max(found.get(precision, 0.0), _best(run))
    return found


def _best(run: Callable[[], object]) -> float:
    run()
    took = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return 2 * SIDE**3 / min(took)


def _onnxruntime_product(a: np.ndarray[Any, np.dtype[np.float32]]) -> Callable[[], object]:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name in "abc"]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", value[:2], value[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = open_session(model.SerializeToString(), Path("product"), os.cpu_count() or 1)
    return lambda: session.run(None, {"a": a, "b": a})


def _openvino_products(a: np.ndarray[Any, np.dtype[np.float32]]) -> Iterator[tuple[str, Callable[[], object]]]:
    import openvino
    from openvino import opset13 as ops

    from reid.engines.vino import HINTS, own_signal_stack

    left, right = (ops.parameter(a.shape, np.float32) for _ in range(2))
    model = openvino.Model([ops.matmul(left, right, False, False)], [left, right], "product")
    with own_signal_stack():
        core = openvino.Core()
        able_to = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        for precision, hint in HINTS.items():
            if precision == "fp32" or precision.upper() in able_to:
                request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint}).create_infer_request()
                yield precision, lambda request=request: request.infer([a, a])  # type: ignore[misc]
