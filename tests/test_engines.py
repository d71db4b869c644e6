"""One model in three engines: the same vectors, and a choice that is made once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from reid import cache, checkpoint, engines, files
from reid.embed import ENOUGH, Embedder
from reid.engines import choice, cosines
from reid.engines.pytorch import Torch
from reid.errors import ModelError, Stopped
from reid.export import export_onnx
from reid.images import RGB, Preprocess
from reid.job import embed_to_file
from reid.nets import build
from reid.types import Crop
from tests.conftest import Run, tiny_model

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 180, 80, 3), dtype=np.uint8)
HEADER = {
    "net": "compact",
    "net_options": {},
    "unit": False,
    "preprocess": {
        "height": 180,
        "width": 80,
        "channels": "BGR",
        "scale": 0.5,
        "mean": [9, 8, 7],
        "deviation": [3, 4, 5],
    },
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact CNN as ONNX, with the weights it was made of beside it."""
    path = tmp_path_factory.mktemp("pair") / "compact.onnx"
    torch.manual_seed(0)
    checkpoint.save(path.with_suffix(".safetensors"), build("compact").state_dict(), json.loads(json.dumps(HEADER)))
    export_onnx(path.with_suffix(".safetensors"), path)
    return path


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_every_engine_gives_the_same_vectors_under_the_same_fingerprint(pair: Path, engine: str) -> None:
    own, other = Embedder(pair), Embedder(pair, engine=engine)
    assert (other.engine.name, other.fingerprint, other.precision) == (engine, own.fingerprint, "fp32")
    for count in (1, 5):
        wanted = own.vectors(PICTURES[:count])
        for threads in (1, 2):
            found = other.vectors(PICTURES[:count], threads)
            assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_pictures_are_prepared_on_the_device_as_on_the_host(pair: Path) -> None:
    weights = pair.with_suffix(".safetensors")
    engine = Torch(weights, b"", device="cpu")
    wants = Preprocess.stated(HEADER["preprocess"], weights)
    np.testing.assert_allclose(engine._prepare(PICTURES, wants).numpy(), wants.prepare(PICTURES), atol=1e-4)
    inside = Preprocess(180, 80, inside=True)
    np.testing.assert_allclose(engine._prepare(PICTURES, inside).numpy(), wants.prepare(PICTURES), atol=1e-4)


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_another_precision_is_another_fingerprint(pair: Path, engine: str) -> None:
    try:
        half = Embedder(pair, engine=engine, precision="bf16")
    except ModelError as refused:
        pytest.skip(str(refused))  # a processor without it
    own = Embedder(pair)
    assert half.fingerprint != own.fingerprint
    wanted, found = own.vectors(PICTURES), half.vectors(PICTURES)
    assert not np.array_equal(wanted, found)
    assert cosines(wanted, found).min() > 0.99


def test_what_is_refused(pair: Path, model: Path) -> None:
    for message, arguments in {
        "engines are onnxruntime, openvino, torch": {"engine": "tensorrt"},
        "int8 is a file of its own": {"precision": "int8"},
        "ONNX Runtime was asked for bf16": {"engine": "onnxruntime", "precision": "bf16"},
        "OpenVINO does not compute in fp16": {"engine": "openvino", "precision": "fp16"},
        "computes in fp16 on a GPU only": {"engine": "torch", "precision": "fp16"},
    }.items():
        with pytest.raises(ModelError, match=message):
            Embedder(pair, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"cannot be run by torch, only by onnxruntime and openvino"):
        Embedder(model, engine="torch")
    with pytest.raises(ModelError, match=r"cannot be run by onnxruntime, only by torch"):
        Embedder(pair.with_suffix(".safetensors"), engine="onnxruntime")


def test_weights_of_another_model_beside_a_file_are_not_taken_for_its_own(pair: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(pair.read_bytes())
    torch.manual_seed(1)
    header = json.loads(json.dumps(HEADER))
    checkpoint.save(tmp_path / "a.safetensors", build("compact").state_dict(), header)
    with pytest.raises(ModelError, match="gives other vectors in torch at fp32 than in onnxruntime"):
        Embedder(tmp_path / "a.onnx", engine="torch")


def test_names_that_are_no_text(model: Path, tmp_path: Path) -> None:
    """Found by scripts/fuzz: ONNX Runtime hands over the name of a dimension undecoded."""
    for name in (b"batch", b"images", b"reid"):
        (tmp_path / "a.onnx").write_bytes(model.read_bytes().replace(name, b"\xc5" + name[1:]))
        try:
            Embedder(tmp_path / "a.onnx")
        except ModelError as error:
            assert "\n" not in str(error)  # noqa: PT017


# The choice


def look(count: int) -> list[RGB]:
    return [np.full((64, 32, 3), i % 256, np.uint8) for i in range(count)]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines in the order in which they are timed; OpenVINO is made to seem the fastest, four pictures at a time."""
    asked: list[str] = []

    def rate(engine: engines.Engine, wants: Preprocess, threads: int, batch: int, rounds: int) -> float:
        asked.append(engine.name)
        return (200.0 if engine.name == "openvino" else 100.0) - abs(batch - 4)

    monkeypatch.setattr(choice, "rate", rate)
    return asked


def test_the_fastest_engine_is_found_once_and_remembered(model: Path, timed: list[str]) -> None:
    first = Embedder(model, threads=1)
    before = first.arrays(look(ENOUGH - 1))
    assert (first.engine.name, timed) == ("onnxruntime", [])
    first.arrays(look(1))
    assert (first.engine.name, first.batch, timed) == ("openvino", 4, (["onnxruntime"] * 3 + ["openvino"] * 3) * 2)
    np.testing.assert_allclose(first.arrays(look(ENOUGH - 1)), before, atol=1e-5)
    again = Embedder(model, threads=1)
    again.arrays(look(ENOUGH))
    assert (again.engine.name, again.batch, len(timed)) == ("openvino", 4, 12)
    Embedder(model, threads=2).arrays(look(ENOUGH))
    assert len(timed) == 24


def test_a_stream_changes_engine_on_its_way(model: Path, timed: list[str], draw: Callable[..., Path]) -> None:
    path = draw("a.png")
    embedder = Embedder(model, threads=2)
    made = embedder([path] * (ENOUGH + 100))
    assert embedder.engine.name == "openvino"
    np.testing.assert_allclose(made.vectors, made.vectors[:1].repeat(len(made.vectors), 0), atol=1e-6)


def test_a_job_is_done_by_one_engine(model: Path, timed: list[str], draw: Callable[..., Path], tmp_path: Path) -> None:
    crops = [Crop(str(draw("a.png")))] * (ENOUGH + 20)

    def stop(done: int) -> None:
        if done > 0:
            raise Stopped("stop")

    for name in ("whole.npz", "broken.npz"):
        embedder = Embedder(model, threads=1)
        if name == "broken.npz":
            with pytest.raises(Stopped):
                embed_to_file(embedder, crops, tmp_path / name, stop)
            assert embedder.engine.name == "openvino"
            embedder = Embedder(model, threads=1)
        embed_to_file(embedder, crops, tmp_path / name)
    assert files.load(tmp_path / "broken.npz") == files.load(tmp_path / "whole.npz")


def test_an_engine_that_was_named_stays(model: Path, timed: list[str]) -> None:
    embedder = Embedder(model, engine="onnxruntime")
    embedder.arrays(look(ENOUGH + 1))
    assert (embedder.engine.name, timed) == ("onnxruntime", [])


@pytest.mark.parametrize("content", ["", "[1]", '{"a"', "\x00"])
def test_a_damaged_memory_is_made_anew(model: Path, timed: list[str], content: str) -> None:
    cache.folder().mkdir(parents=True)
    (cache.folder() / choice.REMEMBERED).write_text(content)
    Embedder(model, threads=1).arrays(look(ENOUGH))
    assert [entry["engine"] for entry in choice.recall().values()] == ["openvino"]  # type: ignore[index]


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    model: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    embedder = Embedder(model, threads=1)
    embedder.arrays(look(ENOUGH))
    assert embedder.engine.name == "openvino"


def test_an_engine_that_disagrees_is_not_chosen(model: Path, timed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from reid.engines.vino import OpenVino

    run = OpenVino.run
    monkeypatch.setattr(OpenVino, "run", lambda *arguments: run(*arguments)[:, ::-1])
    embedder = Embedder(model, threads=1)
    embedder.arrays(look(ENOUGH))
    assert (embedder.engine.name, timed) == ("onnxruntime", ["onnxruntime"] * 6)


def test_rates_are_of_whole_batches(tmp_path: Path) -> None:
    fixed = Embedder(tiny_model(tmp_path / "fixed.onnx", batch=4), threads=2)
    assert choice.rate(fixed.engine, fixed.preprocess, 2, 16) > 0


def test_the_command_line_names_engines(model: Path, draw: Callable[..., Path], run: Run) -> None:
    code, out, _ = run("embed", draw("a.png"), "--model", model, "--engine", "openvino")
    assert (code, out.count(",")) == (0, 24)
    code, _, said = run("embed", draw("a.png"), "--model", model, "--engine", "onnxruntime", "--precision", "bf16")
    assert (code, "computes in fp32" in said) == (2, True)
