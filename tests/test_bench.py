"""reid bench: operations counted by hand, and every row measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reid import bench
from reid.embed import Embedder
from tests.conftest import Run


@pytest.fixture
def convolutions(tmp_path: Path) -> Path:
    """8×4 pixels: 3→6 channels in 3×3, 6 by themselves in 3×3 at half the size, then 6·4·2 values to 5."""
    node = helper.make_node
    rng = np.random.default_rng(0)
    weights = {"a": (6, 3, 3, 3), "b": (6, 1, 3, 3), "c": (48, 5)}
    nodes = [
        node("Conv", ["x", "a"], ["y"], pads=[1, 1, 1, 1]),
        node("Conv", ["y", "b"], ["z"], pads=[1, 1, 1, 1], strides=[2, 2], group=6),
        node("Flatten", ["z"], ["flat"]),
        node("Gemm", ["flat", "c"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "c.onnx")
    return tmp_path / "c.onnx"


def test_operations_counted_by_hand(convolutions: Path, model: Path, tmp_path: Path) -> None:
    first, second, last = 6 * 8 * 4 * 3 * 9, 6 * 4 * 2 * 9, 48 * 5
    assert bench.operations(convolutions) == 2 * (first + second + last)
    assert bench.operations(model) == 0, "averages only"
    assert bench.operations(tmp_path / "c.xml") is None


def test_operations_of_osnet() -> None:
    """979 million multiplications with additions at 256×128 (Zhou et al. 2019, table 3); ours has no classifier."""
    from reid.embed import find_model

    assert bench.operations(find_model("market")) == pytest.approx(2 * 979e6, rel=0.02)


def test_peaks_are_no_less_than_numpy_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIDE", 64)
    found = bench.peaks()
    assert found["fp32"] > 0
    assert set(found) <= {"fp32", "bf16"}


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIDE", 64)
    monkeypatch.setattr(bench, "SECONDS", 0.02)


@pytest.mark.usefixtures("_quick")
def test_rows(convolutions: Path, draw: Callable[..., Path]) -> None:
    from reid import data

    draw("crops/0.png", 0)
    for i in range(8):
        path = draw(f"crops/{i}.png", i, (4, 8))
    on = bench.machine(convolutions)
    rows = list(bench.speeds(convolutions, on, (1, 3), data.read(path.parent), like="rgb1"))
    assert {(row.engine, row.precision) for row in rows} >= {("onnxruntime", "fp32"), ("openvino", "fp32")}
    for row in rows:
        assert row.rates.keys() == {1, 3}
        assert min(row.rates.values()) > 0
        assert 0 < row.p50 <= row.p99
        assert row.share is None or on.operations
        assert row.drift
        assert row.drift.crops == 8
        if row.precision == "fp32":
            assert row.cosine > 0.9999
            assert row.drift.kept == 1


@pytest.mark.usefixtures("_quick")
def test_latency_is_of_one_crop(embedder: Embedder) -> None:
    p50, p99 = bench.latency(embedder)
    assert 0 < p50 <= p99


@pytest.mark.usefixtures("_quick")
def test_what_the_command_says(model: Path, run: Run) -> None:
    code, said, _ = run("bench", model, "--batches", 1, 2)
    assert code == 0
    assert "images/s at batch" in said
    assert sum(line.startswith(("onnxruntime", "openvino")) for line in said.splitlines()) >= 2
    code, said, _ = run("bench", model, "--batches", 1, "--json")
    found = json.loads(said)
    assert found["speeds"][0]["images/s"].keys() == {"1"}
    assert found["peak GFLOP/s"]["fp32"] > 0
    code, _, error = run("bench", model, "--batches", 0)
    assert (code, error.count("\n")) == (2, 1)


@pytest.mark.usefixtures("_quick")
def test_mistakes(model: Path, run: Run, tmp_path: Path, draw: Callable[..., Path]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert "is not an ONNX model" in run("bench", tmp_path / "broken.onnx")[2]
    assert (
        "the sample has 1 crop that can be read"
        in run("bench", model, "--batches", 1, "--sample", draw("one/a.png"))[2]
    )
