"""TriNet's `.npz`: Lasagne's order, its batch norms, its ten views, and the lines that trinet_embed.py printed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reid import old
from reid.cli import main
from reid.embed import Embedder
from reid.errors import ModelError
from tests.reference import forward

BGR_MEAN = np.array([103.0626238, 115.90288257, 123.15163084], np.float32)


def drawn() -> list[NDArray[np.float32]]:
    """Random parameters of TriNet in Lasagne's order; some variances are below PyTorch's ε."""
    rng, values = np.random.default_rng(6), []

    def norm(channels: int) -> None:
        variance = rng.uniform(0.3, 1.5, channels)
        variance[0] = 0  # a dead channel: Lasagne's ε of 1e-4 alone
        gamma = rng.uniform(0.5, 1, channels)
        gamma[0] = 0.01
        for part in (rng.normal(0, 0.2, channels), gamma, rng.normal(0, 0.2, channels), (variance + 1e-4) ** -0.5):
            values.append(part.astype(np.float32))

    def conv(cout: int, cin: int, kernel: int) -> None:
        w = rng.standard_normal((cout, cin, kernel, kernel), np.float32)
        values.append(w / np.float32((kernel * kernel * cin) ** 0.5))

    conv(64, 3, 7)
    values[-1] /= 50  # its input reaches 150
    values.append(rng.normal(0, 0.1, 64).astype(np.float32))
    norm(64)
    cin = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        mid = 64 << stage
        for block in range(blocks):
            if block == 0:
                conv(4 * mid, cin, 1)
                norm(4 * mid)
            for cout, source, kernel in ((mid, cin, 1), (mid, mid, 3), (4 * mid, mid, 1)):
                conv(cout, source, kernel)
                norm(cout)
            cin = 4 * mid
    values.append(rng.standard_normal((2048, 1024), np.float32) / np.float32(45))
    norm(1024)
    values += [rng.standard_normal((1024, 128), np.float32) / np.float32(32), rng.normal(0, 1, 128).astype(np.float32)]
    return values


@pytest.fixture(scope="module")
def values() -> list[NDArray[np.float32]]:
    return drawn()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, values: list[NDArray[np.float32]]) -> Path:
    path = tmp_path_factory.mktemp("trinet") / "trinet-mars.npz"
    np.savez(path, *values)
    return path


def test_vectors_are_those_of_the_definition(weights: Path, values: list[NDArray[np.float32]]) -> None:
    net, header = old.load(weights)
    assert header["net"] == "trinet"
    assert header["net_options"] == {"caffe": True}
    assert header["preprocess"]["views"] == "ten"
    assert not header["unit"]
    bgr = np.random.default_rng(0).uniform(-120, 150, (2, 3, 64, 48)).astype(np.float32)
    with torch.no_grad():
        found = net(torch.from_numpy(bgr[:, ::-1].copy())).embedding.numpy()
    wanted = forward.trinet(bgr.astype(np.float64), values)
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def ten(path: str) -> NDArray[np.float32]:
    """The batch of one picture, as the authors describe it: resized to 288×144, five cuts, their mirror images."""
    large = cv2.resize(cv2.imread(path), (144, 288)).astype(np.float32)
    corners = ((16, 8), (0, 0), (0, 16), (32, 0), (32, 16))
    five = np.stack([large[y : y + 256, x : x + 128] for y, x in corners])
    return (np.concatenate([five, five[:, :, ::-1]]) - BGR_MEAN).transpose(0, 3, 1, 2)


def test_lines_as_trinet_embed_printed_them(
    weights: Path,
    values: list[NDArray[np.float32]],
    draw: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [str(draw(f"{i}.png", i, (64, 128))) for i in range(2)]
    (tmp_path / "files.txt").write_text("\n".join(names) + "\n")
    main(["embed", str(tmp_path / "files.txt"), "--model", str(weights), "--quiet"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == names
    for name, line in zip(names, lines, strict=True):
        found = np.array(line.split(",")[1:], np.float64)
        wanted = forward.trinet(ten(name).astype(np.float64), values).mean(0)
        assert found.shape == (128,)
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


class Planted:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_planted_pickle_does_not_run(tmp_path: Path, values: list[NDArray[np.float32]]) -> None:
    trap = np.array([Planted(tmp_path / "planted")], dtype=object)
    np.savez(tmp_path / "a.npz", trap, *values[1:4])
    for read in (old.load, Embedder):
        with pytest.raises(ModelError, match=r"arr_0.npy of object and shape \(1,\), which is not read"):
            read(tmp_path / "a.npz")
    assert not (tmp_path / "planted").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as free:  # what others do with it: the trap works
        _ = free["arr_0"]
    assert (tmp_path / "planted").exists()


def test_odd_files_get_a_sentence(tmp_path: Path, values: list[NDArray[np.float32]]) -> None:
    path = tmp_path / "a.npz"

    def refused(message: str, net: str | None = None) -> None:
        with pytest.raises(ModelError, match=message):
            old.load(path, net)

    np.savez(path, *values[:26])
    refused("has nothing where layer1.1.conv1 of TriNet should be")
    np.savez(path, *values, values[0])
    refused("has 1 arrays more than TriNet has")
    np.savez(path, values[1], values[0])
    refused(r"has an array of shape \(64,\) where conv1 of TriNet should be")
    np.savez(path, vectors=values[0])
    refused("no arrays by Lasagne's numbers")
    np.savez(path, *[np.zeros_like(v) for v in values])
    refused("no batch norm where bn1 of TriNet should be")
    refused("read as the network trinet; the network osnet cannot", "osnet")
    swapped = [*values[:-2], values[-2][:, :64], values[-1]]
    np.savez(path, *swapped)
    refused(r"does not fit trinet: embed.weight is \(64, 1024\), not \(128, 1024\)")
    path.write_bytes(b"nonsense")
    refused("is not a readable .npz file")


def test_an_array_that_claims_more_than_it_has(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3, 7, 7), }"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("arr_0.npy", start + bytes(100))
    with pytest.raises(ModelError, match="not read or not all there"):
        old.load(tmp_path / "a.npz")


def test_more_values_than_a_model_may_have(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.old.trinet.LARGEST", 1 << 20)
    with pytest.raises(ModelError, match="claims to hold more values than a model may have, 1,048,576"):
        old.load(weights)
