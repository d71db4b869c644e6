"""ONNX and OpenVINO files of other makers: every convention, fixed batches, either layout, against NumPy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from openvino import opset13 as ops

from reid import images
from reid.convert import convert
from reid.embed import Embedder
from reid.engines.vino import own_signal_stack
from reid.errors import ModelError
from reid.images import CONVENTIONS

SHARED = Path(__file__).parents[1] / "../shared"
HEIGHT, WIDTH, DIM = 12, 6, 5
BY_HAND: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "torchreid": lambda rgb: (rgb / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225),
    "rgb255": lambda rgb: rgb,
    "bgr255": lambda rgb: rgb[..., ::-1],
    "rgb1": lambda rgb: rgb / 255,
    "bgr1": lambda rgb: rgb[..., ::-1] / 255,
    "half": lambda rgb: rgb / 127.5 - 1,
    "caffe": lambda rgb: rgb[..., ::-1] - (103.939, 116.779, 123.68),
}
WEIGHT = np.random.default_rng(1).normal(size=(3 * HEIGHT * WIDTH, DIM)).astype(np.float32)


def theirs(path: Path, batch: int | str = 1, last: bool = False, kind: int = TensorProto.FLOAT) -> Path:
    """One matrix on all pixels, (N, 3, H, W) or (N, H, W, 3); its reshape bakes a fixed batch in."""
    shape = [batch, HEIGHT, WIDTH, 3] if last else [batch, 3, HEIGHT, WIDTH]
    rows = batch if isinstance(batch, int) else -1
    nodes = [
        helper.make_node("Cast", ["data"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2] if last else [0, 1, 2, 3]),
        helper.make_node("Reshape", ["planes", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["reid"]),
    ]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("data", kind, shape)],
        [helper.make_tensor_value_info("reid", TensorProto.FLOAT, [batch, DIM])],
        [
            numpy_helper.from_array(WEIGHT, "weight"),
            numpy_helper.from_array(np.array([rows, len(WEIGHT)], np.int64), "flat"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def by_hand(paths: list[Path], like: str) -> NDArray[np.float64]:
    pixels = np.stack([images.read(p) for p in paths]).astype(np.float64)
    return BY_HAND[like](pixels).transpose(0, 3, 1, 2).reshape(len(paths), -1) @ WEIGHT.astype(np.float64)


def check(model: Path, paths: list[Path], wanted: NDArray[np.float64], like: str | None = None) -> None:
    found = Embedder(model, like=like, threads=1)(paths).vectors
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.fixture
def paths(draw: Callable[..., Path]) -> list[Path]:
    return [draw(f"{i}.png", i, (WIDTH, HEIGHT)) for i in range(3)]


def test_every_convention_is_tested() -> None:
    assert BY_HAND.keys() == CONVENTIONS.keys()


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("like", CONVENTIONS)
def test_onnx_of_any_convention(tmp_path: Path, paths: list[Path], like: str, last: bool, batch: int | str) -> None:
    old = theirs(tmp_path / "old.onnx", batch, last)
    wanted = by_hand(paths, like)
    check(old, paths, wanted, like)
    about = convert(old, [tmp_path / "new.onnx"], like=like)
    assert about["converted"]["from"] == "old.onnx"
    check(tmp_path / "new.onnx", paths, wanted)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8])
def test_other_types_of_pixels(tmp_path: Path, paths: list[Path], kind: int) -> None:
    old = theirs(tmp_path / "old.onnx", kind=kind, last=kind == TensorProto.UINT8)
    check(old, paths, by_hand(paths, "bgr255"), "bgr255")
    convert(old, [tmp_path / "new.onnx"], like="bgr255")
    check(tmp_path / "new.onnx", paths, by_hand(paths, "bgr255"))


def test_a_batch_that_can_be_freed_is(tmp_path: Path) -> None:
    """A reshape to one row cannot be; a model without one can."""
    convert(theirs(tmp_path / "old.onnx", 1), [tmp_path / "new.onnx"], like="rgb1")
    assert Embedder(tmp_path / "new.onnx").engine.batch == 1
    model = onnx.load(tmp_path / "old.onnx")
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([-1, len(WEIGHT)], np.int64), "flat"))
    onnx.save(model, tmp_path / "old.onnx")
    convert(tmp_path / "old.onnx", [tmp_path / "new.onnx"], like="rgb1")
    assert Embedder(tmp_path / "new.onnx").engine.batch is None


def test_nothing_is_guessed(tmp_path: Path) -> None:
    old = theirs(tmp_path / "old.onnx")

    def refused(message: str, like: str | None = None, new: str = "new.onnx") -> None:
        with pytest.raises(ModelError, match=message):
            convert(old, [tmp_path / new], like=like)
        assert not (tmp_path / new).exists()

    refused("does not say how it wants its pictures .* --like .*torchreid, rgb255")
    refused("the convention is 'cafe'; it can be torchreid", "cafe")
    refused("the model takes pictures of 12×6 only, not 256x128", "bgr255:256x128")
    refused("write|written as .onnx only", "bgr255", "new.safetensors")
    refused("should end in .safetensors or .onnx", "bgr255", "new.bin")
    model = onnx.load(old)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    onnx.save(model, old)
    refused("takes pictures of any size; give the one it was made for, as rgb1:256x128", "rgb1")
    convert(old, [tmp_path / "sized.onnx"], like=f"rgb1:{HEIGHT}x{WIDTH}")


def test_a_detector_is_no_embedder(tmp_path: Path) -> None:
    model = onnx.load(theirs(tmp_path / "old.onnx"))
    model.graph.node[2].input[1] = "boxes"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 8, len(WEIGHT) // 8], np.int64), "boxes"))
    model.graph.node[3].input[1] = "narrow"
    model.graph.initializer.append(numpy_helper.from_array(WEIGHT[: len(WEIGHT) // 8], "narrow"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("reid", TensorProto.FLOAT, [1, 8, DIM]))
    onnx.save(model, tmp_path / "old.onnx")
    with pytest.raises(ModelError, match=r"turns 1 pictures into \(1, 8, 5\); a model gives one vector for each"):
        Embedder(tmp_path / "old.onnx", like="bgr255")


# OpenVINO


def ir(path: Path, folded: bool = False, reverse: bool | None = None) -> Path:
    """The same matrix as IR; `folded` and `reverse` are what OpenVINO's converter writes down."""
    data = ops.parameter([1, 3, HEIGHT, WIDTH], np.float32, name="data")
    rows = ops.reshape(data, ops.constant(np.array([1, len(WEIGHT)], np.int64)), False)
    model = openvino.Model([ops.matmul(rows, ops.constant(WEIGHT), False, False)], [data], "theirs")
    if folded:
        model.set_rt_info("data[123.675,116.28,103.53]", ["conversion_parameters", "mean_values"])
        model.set_rt_info("data[58.395,57.12,57.375]", ["conversion_parameters", "scale_values"])
    if reverse is not None:
        model.set_rt_info(str(reverse), ["conversion_parameters", "reverse_input_channels"])
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def test_openvino_as_asked_and_as_recorded(tmp_path: Path, paths: list[Path]) -> None:
    for like in ("bgr255", "torchreid"):
        check(ir(tmp_path / "a.xml"), paths, by_hand(paths, like), like)
    check(ir(tmp_path / "b.xml", True, True), paths, by_hand(paths, "bgr255"))
    check(ir(tmp_path / "c.xml", True, False), paths, by_hand(paths, "rgb255"))
    for folded, reverse in ((True, None), (False, True), (False, False)):
        with pytest.raises(ModelError, match="does not say how it wants its pictures"):
            Embedder(ir(tmp_path / "d.xml", folded, reverse))


def test_openvino_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = ir(tmp_path / "a.xml")
    with pytest.raises(ModelError, match="is used as it is, as --model"):
        convert(path, [tmp_path / "a.onnx"])
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"a.xml and its .bin are not a model that OpenVINO can read|failed"):
        Embedder(path, like="bgr255")
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"needs its weights beside it, in a\.bin"):
        Embedder(path)
    (tmp_path / "b.xml").write_text("<net><layers>")
    (tmp_path / "b.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="not a model that OpenVINO can read"):
        Embedder(tmp_path / "b.xml")


@pytest.mark.skipif(sys.platform != "linux", reason="seen on Linux")
def test_openvino_leaves_the_stack_for_signals_alone(tmp_path: Path) -> None:
    """One that it leaves behind is gone with the model, and the next signal ends the process."""

    def place() -> int | None:
        with own_signal_stack() as stack:
            return stack.place

    before = place()
    embedder = Embedder(ir(tmp_path / "a.xml"), like="bgr255", threads=1)
    embedder.arrays([np.zeros((HEIGHT, WIDTH, 3), np.uint8)])
    assert place() == before


def test_openvino_reports_to_nobody() -> None:
    """Its package for that is kept out; it reports every import otherwise."""
    code = (
        "import sys, reid.engines, openvino; print([n for n, m in sys.modules.items() if m and 'openvino_tele' in n])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Published files


def crops(count: int) -> list[Path]:
    found = sorted((SHARED / "data/market1501/bounding_box_train").glob("*.jpg"))[::5000][:count]
    return found or pytest.skip("Market-1501's pictures are not here")


REAL = SHARED / "weights/osnet_x0_25_msmt17.onnx"


def by_definition(model: onnx.ModelProto, ready: NDArray[np.float32]) -> NDArray[np.float64]:
    """The graph in ONNX's own NumPy, but for the last batch norm and ReLU: its batch norm of opset 9 trains."""
    norm = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    assert [n.op_type for n in model.graph.node][-2:] == ["BatchNormalization", "Relu"]
    weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    scale, bias, mean, variance = (weights[name] for name in norm.input[1:])
    epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
    del model.graph.node[-2:], model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info(norm.input[0]))
    (raw,) = ReferenceEvaluator(model).run(None, {"images": ready})
    return np.maximum((raw - mean) / np.sqrt(variance + epsilon) * scale + bias, 0)


@pytest.mark.skipif(not REAL.is_file(), reason="the published OSNet ×0.25 is not here")
def test_published_osnet_against_onnx_in_numpy(tmp_path: Path) -> None:
    paths = crops(2)
    pixels = np.stack([images.resize(images.read(p), 256, 128) for p in paths])
    ready = BY_HAND["torchreid"](pixels.astype(np.float64)).transpose(0, 3, 1, 2).astype(np.float32)
    wanted = by_definition(onnx.load(REAL), ready)
    check(REAL, paths, wanted, "torchreid")
    convert(REAL, [tmp_path / "new.onnx"], like="torchreid")
    check(tmp_path / "new.onnx", paths, wanted)
    assert Embedder(tmp_path / "new.onnx").engine.batch is None


@pytest.mark.parametrize("name", ["0277", "0288"])
def test_published_openvino_models(name: str) -> None:
    path = SHARED / f"weights/openvino/person-reidentification-retail-{name}.xml"
    if not path.is_file():
        pytest.skip(f"OpenVINO's retail-{name} is not here")
    paths = crops(3)
    looks = [images.resize(images.read(p), 256, 128)[..., ::-1].transpose(2, 0, 1)[None] for p in paths]
    with own_signal_stack():
        model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        wanted = np.stack([model([look.astype(np.float32)])[0].ravel() for look in looks])
    check(path, paths, wanted)
