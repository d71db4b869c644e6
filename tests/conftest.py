"""Shared pieces: a tiny model file that needs no training, and pictures that the tests draw themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper
from PIL import Image

from reid.cli import main
from reid.embed import Embedder
from reid.engines import METADATA
from reid.types import Crop, Embeddings

settings.register_profile("reid", deadline=None)  # a busy machine is no failure
settings.load_profile("reid")

Run = Callable[..., tuple[int, str, str]]


def tiny_model(path: Path, batch: int | str = "batch", preprocess: dict[str, object] | None = None) -> Path:
    """An ONNX model that averages colours over a 4×2 grid and scales the 24 values to unit length."""
    height, width = 64, 32
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["grid"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["grid"], ["flat"]),
        helper.make_node("LpNormalization", ["flat"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [batch, 24])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    stated = preprocess or {"height": height, "width": width, "inside": True}
    helper.set_model_props(model, {METADATA: json.dumps({"preprocess": stated})})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def embedder(model: Path) -> Embedder:
    return Embedder(model, threads=1, engine="onnxruntime")


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Draw one picture of blocky noise: draw("a.jpg", seed=3, size=(48, 96))."""

    def one(name: str, seed: int = 0, size: tuple[int, int] = (32, 64)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)
        return path

    return one


@pytest.fixture
def people() -> Embeddings:
    """Twelve people, three cameras, three crops each, as vectors around a centre of their own."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(12, 8))
    crops, vectors = [], []
    for p in range(12):
        for c in range(3):
            for i in range(3):
                crops.append(Crop(f"p{p}/c{c}/{i}.jpg", str(p), str(c), time=100.0 * c + i))
                vectors.append(centres[p] + rng.normal(scale=0.6, size=8))
    return Embeddings(np.array(vectors, dtype=np.float32), tuple(crops), "drawn")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: (exit code, standard output, standard error)."""

    def one(*arguments: object) -> tuple[int, str, str]:
        try:
            main([str(a) for a in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return one
