"""Files that are exported: what they compute, what they say of themselves, and when they are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from reid import checkpoint, data, images
from reid.drift import batches, chosen
from reid.embed import Embedder, find_model
from reid.engines import cosines
from reid.errors import DataError, ModelError
from reid.export import Drift, Export, export_model, source
from reid.images import VIEWS
from reid.nets.features import Features
from reid.street import draw_street
from reid.types import Crop, Embeddings
from reid.verify import Verifier, beside
from tests.conftest import Run, tiny_model

HEIGHT, WIDTH = 32, 16


class Small(nn.Module):
    """A few convolutions of each kind, quick to trace and to quantise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2),
        )
        self.last = nn.Linear(32 * 7 * 3, 24)

    def forward(self, x: Tensor) -> Features:
        embedding = self.last(self.body(x).flatten(1))
        return Features(embedding, embedding)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(3)
    preprocess = {
        "height": HEIGHT,
        "width": WIDTH,
        "channels": "BGR",
        "mean": [110, 120, 130],
        "deviation": [60, 61, 62],
    }
    header = {"net": "small", "net_options": {}, "unit": True, "preprocess": preprocess}
    checkpoint.save(path, Small().state_dict(), json.loads(json.dumps(header)))
    return path


@pytest.fixture(autouse=True)
def _small_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from reid.nets import NETS

    monkeypatch.setitem(NETS, "small", Small)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "street"
    draw_street(path, people=12)
    return path


@pytest.fixture(scope="module")
def street(folder: Path) -> list[Crop]:
    return data.read(folder)


def by_hand(weights: Path, crops: list[Crop], views: str = "plain") -> np.ndarray:
    """The network in PyTorch on pictures that NumPy prepares; the views' mean, at unit length."""
    net, _ = checkpoint.load_net(weights)
    out = []
    for crop in crops:
        looks = np.stack(VIEWS[views](images.read(crop.path), HEIGHT, WIDTH)).astype(np.float32)
        ready = (looks[..., ::-1] - np.float32((110, 120, 130))) / np.float32((60, 61, 62))
        with torch.no_grad():
            each = net(torch.from_numpy(ready.transpose(0, 3, 1, 2).copy())).embedding.numpy()
        mean = (each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0)
        out.append(mean / np.linalg.norm(mean))
    return np.stack(out)


@pytest.mark.parametrize(
    ("inside", "views", "ending"),
    [("nothing", "mirror", ".onnx"), ("pixels", "ten", ".xml"), ("views", "mirror", ".xml"), ("views", "ten", ".onnx")],
)
def test_what_lies_inside_changes_nothing(
    weights: Path, street: list[Crop], tmp_path: Path, inside: str, views: str, ending: str
) -> None:
    out = tmp_path / f"a{ending}"
    export_model(weights, out, Export(inside=inside, views=views))
    made = Embedder(out, threads=1)
    np.testing.assert_allclose(made(street[:9]).vectors, by_hand(weights, street[:9], views), atol=2e-5)
    assert made.preprocess.inside == (inside != "nothing")
    assert made.preprocess.views == ("plain" if inside == "views" else views)
    assert made.engine.batch is None


def test_a_calibration_goes_along_where_distances_mean_the_same(weights: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "small.safetensors", tmp_path / "out.onnx"
    source.write_bytes(weights.read_bytes())
    fitted = Verifier.load(beside(find_model("nano")))
    assert export_model(source, out).calibration is None
    fitted.save(beside(source))  # of another model
    assert export_model(source, out).calibration is None
    replace(fitted, model=Embedder(source).fingerprint).save(beside(source))
    assert export_model(source, out).calibration == beside(out)
    carried = Verifier.load(beside(out))
    assert carried.model == Embedder(out).fingerprint
    assert carried.probability(np.array([0.5])) == fitted.probability(np.array([0.5]))
    replace(carried, prior=0.1).save(beside(out))  # somebody's own, for this very file
    assert export_model(source, out).calibration == beside(out)
    assert Verifier.load(beside(out)).prior == 0.1


def test_half_precision_is_storage(weights: Path, street: list[Crop], tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.onnx", tmp_path / "half.onnx"
    export_model(weights, whole)
    export_model(weights, half, Export("fp16"))
    stored = {t.data_type for t in onnx.load(half).graph.initializer if len(t.dims) > 1}
    assert stored == {onnx.TensorProto.FLOAT16}
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    rounded = tmp_path / "rounded.safetensors"
    tensors, header = checkpoint.load(weights)
    checkpoint.save(rounded, {n: t.half() for n, t in tensors.items()}, header)
    np.testing.assert_allclose(Embedder(half)(street[:5]).vectors, by_hand(rounded, street[:5]), atol=2e-5)


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_eight_bits(weights: Path, street: list[Crop], tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a{ending}"
    done = export_model(weights, out, Export("int8", drift=3), street, {"licence": "none"})
    made = Embedder(out)
    assert done.drift
    assert made.card["licence"] == "none"
    told = made.card["export"]
    assert told["precision"] == "int8"
    assert told["quantised"] == "minmax"
    assert told["limit"] == 3
    assert told["sample"] == json.loads(json.dumps(done.drift.fields()))
    assert told["batches"]["cosine between batches"] >= 0.9999
    wanted, found = by_hand(weights, street), made(street).vectors
    assert 0.97 < cosines(wanted, found).min() < 0.99999
    if ending == ".onnx":
        graph = onnx.load(out).graph
        kinds = {t.data_type for t in graph.initializer if len(t.dims) == 4}
        assert kinds == {onnx.TensorProto.INT8}
        assert any(len(t.dims) == 1 and t.dims[0] == 32 and "scale" in t.name for t in graph.initializer), "per channel"


def test_a_graph_can_be_the_source(weights: Path, street: list[Crop], tmp_path: Path) -> None:
    export_model(weights, tmp_path / "floats.onnx", Export(inside="nothing", views="mirror"))
    for name, how in {"a.xml": Export(), "b.onnx": Export(inside="nothing"), "c.onnx": Export("fp16")}.items():
        export_model(tmp_path / "floats.onnx", tmp_path / name, how)
        made = Embedder(tmp_path / name)
        np.testing.assert_allclose(made(street[:5]).vectors, by_hand(weights, street[:5], "mirror"), atol=2e-3)
        assert made.card["net"] == "small"
    with pytest.raises(ModelError, match="export its weights to have views inside"):
        export_model(tmp_path / "floats.onnx", tmp_path / "d.onnx", Export(inside="views"))


def test_too_much_drift_is_refused_and_loses_nothing(weights: Path, street: list[Crop], tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.write_bytes(b"before")
    with pytest.raises(
        ModelError, match=r"is not written, because rankings change by more than is allowed \(0 points of mAP"
    ):
        export_model(weights, out, Export("int8", drift=0), street)
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_a_file_that_computes_something_else_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = source._Network.run
    monkeypatch.setattr(source._Network, "run", lambda *arguments: run(*arguments)[:, ::-1])
    with pytest.raises(ModelError, match="differs from the network at batch 1"):
        export_model(weights, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_whose_answers_depend_on_the_batch_is_refused(tmp_path: Path) -> None:
    """The second picture's vector is mixed into the first's."""
    model = onnx.load(tiny_model(tmp_path / "a.onnx"))
    node = onnx.helper.make_node
    model.graph.node[-1].output[0] = "own"
    model.graph.node.extend(
        [node("ReduceMean", ["own"], ["all"], axes=[0]), node("Add", ["own", "all"], ["embeddings"])]
    )
    model.opset_import[0].version = 17
    onnx.save(model, tmp_path / "a.onnx")
    mixed = Embedder(tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="to itself at batch 64"):
        batches(mixed, mixed.vectors, 0.9999)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("precision is 'int4'; it can be fp32, fp16, int8", {"precision": "int4"}),
        ("inside is 'all'; it can be nothing, pixels, views", {"inside": "all"}),
        ("views is 'five'", {"views": "five"}),
        ("in points of mAP, 0 to 100", {"drift": -1}),
    ],
)
def test_options_that_cannot_be(message: str, options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=message):
        Export(**options)  # type: ignore[arg-type]


def test_what_is_refused(weights: Path, tmp_path: Path, street: list[Crop]) -> None:
    with pytest.raises(ModelError, match="int8 needs crops"):
        export_model(weights, tmp_path / "a.onnx", Export("int8"))
    with pytest.raises(ModelError, match=r"should end in \.onnx, or in \.xml"):
        export_model(weights, tmp_path / "a.tflite")
    with pytest.raises(DataError, match="ranking needs 3"):
        export_model(weights, tmp_path / "a.onnx", Export("int8"), street[:2])
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="the sample has 0 crops that can be read"):
        export_model(weights, tmp_path / "a.onnx", Export("int8"), [Crop(str(tmp_path / "broken.jpg"))] * 5)


def test_a_fixed_batch_is_quantised_as_such(tmp_path: Path, street: list[Crop]) -> None:
    rng = np.random.default_rng(2)
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Reshape", ["x", "shape"], ["flat"]), node("MatMul", ["flat", "w"], ["y"])],
        "fixed",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3, 3, 8, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3, 12])],
        [
            onnx.numpy_helper.from_array(np.array([3, 96]), "shape"),
            onnx.numpy_helper.from_array(rng.normal(size=(96, 12)).astype(np.float32), "w"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "fixed.onnx")
    how = Export("int8", like="half", drift=100)
    done = export_model(tmp_path / "fixed.onnx", tmp_path / "small.onnx", how, street)
    assert done.about["export"]["precision"] == "int8"
    assert Embedder(tmp_path / "small.onnx").engine.batch == 3


# Drift


def embeddings(vectors: np.ndarray, pids: list[str | None], cameras: list[str | None]) -> Embeddings:
    crops = tuple(Crop(f"{i}.jpg", p, c) for i, (p, c) in enumerate(zip(pids, cameras, strict=True)))
    return Embeddings(vectors.astype(np.float32), crops, "drawn")


def test_drift_against_plain_loops() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(size=(40, 6))
    second = first + rng.normal(scale=0.4, size=first.shape)
    labels = [str(i % 9) for i in range(40)], [str(i % 2) for i in range(40)]
    found = Drift.between(embeddings(first, *labels), embeddings(second, *labels))
    kept, correlation = [], []
    for i in range(40):
        others = [j for j in range(40) if j != i]
        rows = [[float(np.linalg.norm(v[i] - v[j])) for j in others] for v in (first, second)]
        tops = [{others[k] for k in np.argsort(row)[:10]} for row in rows]
        kept.append(len(tops[0] & tops[1]) / 10)
        ranks = [[sorted(row).index(value) for value in row] for row in rows]
        correlation.append(np.corrcoef(ranks)[0, 1])
    assert found.kept == pytest.approx(np.mean(kept))
    assert found.rank_correlation == pytest.approx(np.mean(correlation))
    assert found.protocol == "market1501"
    assert found.points == pytest.approx(100 * (found.metrics["mAP"][1] - found.metrics["mAP"][0]))
    assert found.points != 0
    same = Drift.between(embeddings(first, *labels), embeddings(first, *labels))
    assert (same.kept, same.points, same.within(0)) == (1, 0, True)


def test_a_drift_that_the_sample_cannot_exclude_is_too_much() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(size=(48, 6))
    second = first + rng.normal(scale=0.3, size=first.shape)
    labels = [str(i // 4) for i in range(48)], [str(i % 2) for i in range(48)]
    found = Drift.between(embeddings(first, *labels), embeddings(second, *labels))
    assert found.interval
    assert found.points is not None
    low, high = found.interval
    assert low < found.points < high
    assert found.within(max(-low, high))
    assert abs(found.points) < max(-low, high) - 0.01
    assert not found.within(max(-low, high) - 0.01), "the change itself is allowed, its interval is not"
    assert found.fields()["interval"] == [round(low, 3), round(high, 3)]
    assert "with 95 % confidence" in str(found)
    few = (
        embeddings(first[:36], labels[0][:36], labels[1][:36]),
        embeddings(second[:36], labels[0][:36], labels[1][:36]),
    )
    alone = Drift.between(*few)
    assert alone.interval is None, "nine people are too few for one"
    assert alone.kept < 0.9
    assert not alone.within(100), "then the nearest must stay too"


def test_drift_without_labels() -> None:
    vectors = np.random.default_rng(5).normal(size=(30, 6))
    nobody: list[str | None] = [None] * 30
    same = embeddings(vectors, nobody, nobody)
    other = embeddings(vectors[::-1].copy(), nobody, nobody)
    assert Drift.between(same, same).within(0)
    found = Drift.between(same, other)
    assert (found.metrics, found.points, found.within(100)) == ({}, None, False)
    assert "mAP" not in str(found)
    once = embeddings(vectors, [str(i) for i in range(30)], nobody)
    assert Drift.between(once, once).metrics == {}, "nobody is there twice"


def test_a_large_sample_is_thinned_by_whole_people() -> None:
    crops = [Crop(f"{i:04}.jpg", str(i // 7)) for i in range(700)]
    few = chosen(crops, 100)
    assert len(few) == 98
    assert all(sum(c.pid == crop.pid for c in few) == 7 for crop in few)
    assert chosen(crops, 100) == few
    assert len(chosen([Crop(f"{i}.jpg") for i in range(300)], 100)) == 100
    assert chosen(crops[:5], 100) == crops[:5]


# The command


def test_what_the_command_says(weights: Path, tmp_path: Path, folder: Path, run: Run) -> None:
    out = tmp_path / "a.xml"
    code, said, _ = run("export", weights, "-o", out, "--precision", "int8", "--sample", folder, "--drift", "5")
    assert code == 0
    assert f"Wrote {out} and {out.with_suffix('.bin')}" in said
    assert "between batches 1.0000" in said
    assert "% of the ten nearest stay" in said
    code, said, _ = run("export", weights, "-o", tmp_path / "b.onnx", "--json")
    assert json.loads(said)["export"]["batches"]["cosine"] >= 0.9999
    code, _, error = run("export", weights, "-o", tmp_path / "none" / "b.onnx")
    assert (code, error.count("\n")) == (2, 1)
