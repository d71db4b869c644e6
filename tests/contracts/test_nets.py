"""What every network must do. A line in NETS is enough to be tested here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from reid import checkpoint
from reid.embed import Embedder
from reid.errors import ModelError
from reid.export import export_onnx
from reid.nets import NETS, Features
from reid.reid import ReId

SIZE = (64, 32)


def build(name: str, classes: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return NETS[name](classes=classes)


@pytest.fixture(params=list(NETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def batch(count: int) -> torch.Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def scale(embeddings: torch.Tensor) -> float:
    """What rounding errors grow with: the largest value, hundreds in a fresh LuNet, but no less than 1."""
    return max(1.0, embeddings.abs().max().item())


def test_shapes_and_one_type_in_training_and_evaluation(name: str) -> None:
    net = build(name, classes=7)
    for mode in (True, False):
        out = net.train(mode)(batch(4))
        assert isinstance(out, Features)
        assert out.embedding.ndim == out.metric.ndim == 2
        assert len(out.embedding) == len(out.metric) == 4
        assert out.logits
        assert all(x.shape == (4, 7) for x in out.logits)
    assert build(name).eval()(batch(2)).logits == ()


def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    net, images = build(name).eval(), batch(5)
    with torch.no_grad():
        together = net(images).embedding
        alone = torch.cat([net(x[None]).embedding for x in images])
    torch.testing.assert_close(together, alone, atol=1e-4 * scale(together), rtol=1e-4)


def test_gradients_reach_every_parameter(name: str) -> None:
    net = build(name, classes=3).train()
    out = net(batch(4))
    pairs = () if out.pairs is None else (out.pairs,)
    sum(x.square().sum() for x in (out.metric, *out.logits, *pairs)).backward()
    assert not [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]


def test_weights_to_file_to_onnx_and_back(name: str, tmp_path: Path) -> None:
    net = build(name, classes=3)
    net.train()(batch(8))  # move the batch norms' statistics off their start
    preprocess = {"height": SIZE[0], "width": SIZE[1], "mean": [120.0] * 3}
    unit = getattr(net, "unit", True)
    header = {"net": name, "net_options": {}, "unit": unit, "preprocess": preprocess}
    checkpoint.save(tmp_path / "w.safetensors", net.state_dict(), header)
    again, stored = checkpoint.load_net(tmp_path / "w.safetensors")
    assert stored == header
    with torch.no_grad():
        torch.testing.assert_close(again(batch(3)).embedding, net.eval()(batch(3)).embedding)
    export_onnx(tmp_path / "w.safetensors", tmp_path / "w.onnx", {"licence": "research use"})
    assert b".py" not in without_weights(tmp_path / "w.onnx"), "the file names source code of this machine"
    embedder = Embedder(tmp_path / "w.onnx", threads=1)
    assert embedder.card["licence"] == "research use"
    assert asdict(embedder.preprocess)["inside"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = again((torch.from_numpy(pixels).float() - 120).permute(0, 3, 1, 2)).embedding
        wanted = nn.functional.normalize(wanted) if unit else wanted
    np.testing.assert_allclose(embedder.vectors(pixels), wanted, atol=2e-5 * scale(wanted))
    if hasattr(again, "pair"):
        judge, crops = ReId(tmp_path / "w.onnx", head=True), list(pixels)
        found = judge.predict(crops, crops[::-1])
        np.testing.assert_array_equal(found, judge.predict(crops[::-1], crops))
        with torch.no_grad():
            np.testing.assert_allclose(found, torch.sigmoid(again.pair(wanted, wanted.flip(0))), atol=1e-4)
        with pytest.raises(ModelError, match="knows no thresholds"):
            judge.verify([])


def without_weights(path: Path) -> bytes:
    """Millions of random bytes hold any short word by chance."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("width", "parameters"), [(1.0, 2_169_508), (0.25, 201_864)])
def test_osnet_is_torchreids(width: float, parameters: int) -> None:
    """As many parameters as torchreid's module of that width has, classifier left out, and the same names."""
    net = NETS["osnet"](width, neck="relu")
    assert count(net) == parameters
    assert {"conv1.conv.weight", "conv2.0.conv2b.1.conv2.weight", "conv3.1.gate.fc1.bias", "fc.1.running_var"} <= set(
        net.state_dict()
    )
