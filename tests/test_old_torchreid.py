"""torchreid's checkpoints: the vectors of their definition, whatever is around the weights, and nothing unpickled."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reid import old
from reid.checkpoint import initialise
from reid.convert import convert
from reid.embed import Embedder
from reid.errors import ModelError
from reid.nets import build
from tests.reference import forward

NETS: dict[str, tuple[str, dict[str, Any], Callable[..., NDArray[np.float64]]]] = {
    "osnet_x0_25": ("osnet", {"width": 0.25, "neck": "relu"}, forward.osnet),
    "osnet_x0_75": ("osnet", {"width": 0.75, "neck": "relu"}, forward.osnet),
    "osnet_ibn_x1_0": ("osnet", {"width": 1.0, "neck": "relu", "instance_norm": True}, forward.osnet),
    "osnet_ain_x0_5": ("osnet-ain", {"width": 0.5, "neck": "relu"}, forward.osnet),
    "mobilenetv2_x1_0": ("mobilenetv2", {"width": 1.0, "neck": "none"}, forward.mobilenetv2),
    "mobilenetv2_x1_4": ("mobilenetv2", {"width": 1.4, "neck": "none"}, forward.mobilenetv2),
    "resnet50": ("resnet50", {}, lambda x, w: forward.resnet50(x, w).mean((2, 3))),
    "resnet50_fc512": ("resnet50", {"last_stride": 1, "dim": 512}, forward.resnet50_fc512),
    "pcb_p6": (
        "pcb",
        {"reduced": False, "stripes": 6},
        lambda x, w: forward.pcb(x, w, 6).reshape(len(x), -1),
    ),
}


def drawn(name: str) -> OrderedDict[str, torch.Tensor]:
    """Random weights under torchreid's names, with a classifier for 7 people."""
    net, options, _ = NETS[name]
    state, rng = build(net, classes=7, **options).state_dict(), torch.Generator().manual_seed(4)
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=rng)
        fan = tensor[0].numel() if tensor.ndim > 1 else 1
        tensor.copy_(noise / fan**0.5 if tensor.ndim > 1 else 0.5 + torch.rand(tensor.shape, generator=rng))
        if tensor.ndim == 1 and key.endswith("bias"):
            tensor.sub_(1)
    return OrderedDict(state)


@pytest.fixture(scope="module")
def small() -> OrderedDict[str, torch.Tensor]:
    return drawn("osnet_x0_25")


def arrays(state: OrderedDict[str, torch.Tensor]) -> dict[str, NDArray[np.float32]]:
    return {n: t.numpy() for n, t in state.items()}


@pytest.mark.parametrize("name", NETS)
def test_architecture_width_and_vectors(tmp_path: Path, name: str) -> None:
    state, (net, options, reference) = drawn(name), NETS[name]
    path = tmp_path / "model.pth.tar-60"
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 60, "rank1": 0.9}, path)
    loaded, header = old.load(path)
    assert header["net"] == net
    assert header["net_options"] == options
    pixels = np.random.default_rng(0).normal(size=(2, 3, 96, 32)).astype(np.float32)
    with torch.no_grad():
        found = loaded(torch.from_numpy(pixels)).embedding.numpy()
    wanted = reference(pixels.astype(np.float64), arrays(state))
    assert np.abs(wanted).max() > 0.01
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_around_the_weights(
    tmp_path: Path, small: OrderedDict[str, torch.Tensor], older: bool, wrapped: bool
) -> None:
    """Numbers of NumPy, an optimizer's state, PyTorch's format before 1.6, and a bare state dict."""
    around = {
        "state_dict": small,
        "rank1": np.float64(0.93),
        "epoch": np.int64(60),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    path = tmp_path / "a.pth"
    torch.save(around if wrapped else small, path, _use_new_zipfile_serialization=not older)
    loaded, _ = old.load(path)
    torch.testing.assert_close(loaded.state_dict()["fc.0.weight"], small["fc.0.weight"], rtol=0, atol=0)


def test_counters_of_batches_may_be_missing(tmp_path: Path, small: OrderedDict[str, torch.Tensor]) -> None:
    torch.save({n: t for n, t in small.items() if not n.endswith("num_batches_tracked")}, tmp_path / "a.pth")
    assert old.load(tmp_path / "a.pth")[1]["net"] == "osnet"


def test_converted_files_and_direct_use_agree(
    tmp_path: Path, small: OrderedDict[str, torch.Tensor], draw: Callable[..., Path]
) -> None:
    from reid import images

    torch.save({"state_dict": small}, tmp_path / "a.pth.tar")
    header = convert(tmp_path / "a.pth.tar", [tmp_path / "a.safetensors"], like="torchreid:64x32")
    assert header["preprocess"]["height"] == 64
    assert header["net_options"]["width"] == 0.25
    paths = [draw(f"{i}.png", i, (32, 64)) for i in range(3)]
    pixels = np.stack([images.read(p) for p in paths]).astype(np.float64)
    pixels = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    wanted = forward.osnet(pixels.transpose(0, 3, 1, 2), arrays(small))
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    for embedder in (Embedder(tmp_path / "a.safetensors"), Embedder(tmp_path / "a.pth.tar", like="torchreid:64x32")):
        assert np.abs(embedder(paths).vectors - wanted).max() <= 1e-4 * np.abs(wanted).max()


class Planted:
    """Unpickled freely, it would make a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar"])
def test_a_planted_pickle_does_not_run(
    tmp_path: Path, small: OrderedDict[str, torch.Tensor], suffix: str, older: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    content = {"state_dict": small, "rank1": Planted(tmp_path / "planted")}
    torch.save(content, path, _use_new_zipfile_serialization=not older)
    for read in (old.load, lambda p: initialise(build("osnet", width=0.25), p), Embedder):
        with pytest.raises(ModelError, match=r"asks for \w+\.mkdir, which is not run"):
            read(path)
    assert not (tmp_path / "planted").exists()
    torch.load(path, weights_only=False)  # what others do with it, to see that the trap works
    assert (tmp_path / "planted").exists()


def test_a_wrong_architecture_names_layers(tmp_path: Path, small: OrderedDict[str, torch.Tensor]) -> None:
    torch.save(small, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"does not fit osnet: .*conv1.*is \(16,.*, not \(32,.* more"):
        old.load(tmp_path / "a.pth", net="osnet:width=0.5")
    with pytest.raises(ModelError, match=r"does not fit resnet50: conv1.weight is missing, .*, and \d+ more"):
        old.load(tmp_path / "a.pth", net="resnet50")
    with pytest.raises(ModelError, match="network is 'osmet'; it can be"):
        old.load(tmp_path / "a.pth", net="osmet")
    with pytest.raises(ModelError, match="write it as name=value"):
        old.load(tmp_path / "a.pth", net="osnet:wide")
    with pytest.raises(ModelError, match="osnet cannot be built with the options"):
        old.load(tmp_path / "a.pth", net="osnet:width=broad")
    torch.save({"a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"holds a, b, …, of no architecture that can be told .* name it with --net"):
        old.load(tmp_path / "b.pth")


def test_pcb_without_classifiers_asks_for_its_parts(tmp_path: Path) -> None:
    state = {n: t for n, t in drawn("pcb_p6").items() if not n.startswith("classifier.")}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="give them, as --net pcb:stripes=6"):
        old.load(tmp_path / "a.pth")
    assert old.load(tmp_path / "a.pth", net="pcb:stripes=4")[1]["net_options"] == {"reduced": False, "stripes": 4}


def test_memory_is_bounded_by_the_file(tmp_path: Path, small: OrderedDict[str, torch.Tensor]) -> None:
    torch.save({**small, "fc.0.weight": torch.zeros(1).expand(1 << 16, 1 << 16)}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"claims to hold 4,29\d,\d+,\d+ values; a model may have"):
        old.load(tmp_path / "a.pth")
    torch.save(small, tmp_path / "b.pth")
    with zipfile.ZipFile(tmp_path / "b.pth") as source, zipfile.ZipFile(tmp_path / "c.pth", "w") as bomb:
        for part in source.infolist():
            deflated = zipfile.ZIP_DEFLATED if "/data/" in part.filename else zipfile.ZIP_STORED
            bomb.writestr(part.filename, bytes(part.file_size), deflated)
    with pytest.raises(ModelError, match="unpacks to more than its own size"):
        old.load(tmp_path / "c.pth")
    sparse = {**small, "fc.0.weight": torch.zeros(2, 2).to_sparse()}
    torch.save(sparse, tmp_path / "d.pth")
    with pytest.raises(ModelError, match="sparse, quantised or missing"):
        old.load(tmp_path / "d.pth")
