"""Keras' file of the compact CNN: the same vectors as its definition gives, and nothing odd read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reid import images, old
from reid.convert import convert
from reid.embed import Embedder
from reid.errors import ModelError
from tests.reference import forward

REAL = Path(__file__).parents[1] / "../shared/weights/swimmers-triplet-keras.hdf5"
KERNELS = ((3, 3, 32), (3, 32, 32), (5, 32, 32), (5, 32, 32), (3, 32, 64), (3, 64, 64))


def drawn() -> dict[str, NDArray[np.float32]]:
    """Random weights by Keras' names, numbered past 9 so that the alphabet's order is not theirs."""
    rng, arrays = np.random.default_rng(3), {}
    for i, (k, cin, cout) in enumerate(KERNELS, start=8):
        arrays[f"conv2d_{i}/kernel:0"] = rng.normal(0, (2 / (k * k * cin)) ** 0.5, (k, k, cin, cout))
        arrays[f"conv2d_{i}/bias:0"] = rng.normal(0, 0.1, cout)
    for i, c in enumerate((32, 32, 64), start=9):
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"batch_normalization_{i}/{part}:0"] = rng.uniform(0.5, 1.5, c)
    for name, shape in {"dense_1": (64, 256), "dense_2": (256, 128)}.items():
        arrays[f"{name}/kernel:0"] = rng.normal(0, shape[0] ** -0.5, shape)
        arrays[f"{name}/bias:0"] = rng.normal(0, 0.1, shape[1])
    return {n: a.astype(np.float32) for n, a in arrays.items()}


def write(path: Path, arrays: dict[str, NDArray[np.float32]], top: str = "model_weights/") -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[f"{top}{name.split('/')[0]}/{name}"] = values
            file[f"optimizer_weights/Adam/{name.removesuffix(':0')}/m:0"] = values
    return path


def by_kind(names: set[str]) -> dict[str, list[str]]:
    """Layers of each kind in the order of their numbers."""
    kinds = ("conv2d", "batch_normalization", "dense")
    return {k: sorted((n for n in names if n.startswith(f"{k}_")), key=lambda n: int(n.split("_")[-1])) for k in kinds}


def by_definition(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The vectors of (N, H, W, 3) bytes that the file's own model gives, in NumPy alone."""
    arrays: dict[str, NDArray[np.float32]] = {}
    with h5py.File(path) as file:
        inside = file["model_weights"]
        inside.visititems(lambda n, o: arrays.update({n.partition("/")[2]: o[()]} if hasattr(o, "shape") else {}))
    return forward.keras_compact(pixels, arrays, by_kind({n.split("/")[0] for n in arrays}))


def apart(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("top", ["model_weights/", ""])
def test_vectors_are_those_of_the_definition(tmp_path: Path, top: str) -> None:
    """The network itself, on small pictures; written by `model.save` and by `save_weights`."""
    arrays = drawn()
    net, header = old.load(write(tmp_path / "a.h5", arrays, top))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 70, 66, 3), dtype=np.uint8)
    wanted = forward.keras_compact(pixels, arrays, by_kind({n.split("/")[0] for n in arrays}))
    with torch.no_grad():
        found = net(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).embedding.numpy()
    assert apart(found, wanted) <= 1e-4
    assert header["preprocess"]["height"] == 180
    assert header["preprocess"]["width"] == 80
    assert not header["unit"]


def test_converted_files_and_direct_use_agree(tmp_path: Path, draw: Callable[..., Path]) -> None:
    source = write(tmp_path / "a.h5", drawn())
    targets = [tmp_path / "a.safetensors", tmp_path / "a.onnx"]
    header = convert(source, targets)
    assert header["converted"] == {"from": "a.h5", "format": "Keras HDF5"}
    paths = [draw(f"{i}.png", i, (80, 180)) for i in range(3)]
    wanted = by_definition(source, np.stack([images.read(p) for p in paths]))
    for model in (source, *targets):
        assert apart(Embedder(model, threads=1)(paths).vectors, wanted) <= 1e-4


@pytest.mark.skipif(not REAL.is_file(), reason="the published swimmers model is not here")
def test_the_published_model_on_real_crops() -> None:
    crops = sorted((REAL.parents[1] / "data/swimmers").glob("*/*"))[::400]
    if not crops:
        pytest.skip("the swimmers' pictures are not here")
    wanted = by_definition(REAL, np.stack([images.resize(images.read(p), 180, 80) for p in crops]))
    assert apart(Embedder(REAL, threads=1)(crops).vectors, wanted) <= 1e-4


def _odd(path: Path, name: str) -> None:
    write(path, drawn())
    with h5py.File(path, "a") as file:
        kernel = "model_weights/dense_1/dense_1/kernel:0"
        values = file[kernel][()]
        del file[kernel]
        if name == "external":
            file.create_dataset(kernel, values.shape, "f4", external=[("/etc/passwd", 0, 64 * 256 * 4)])
        elif name == "compressed":
            file.create_dataset(kernel, data=values, compression="gzip")
        elif name == "link":
            file[kernel] = h5py.ExternalLink("other.h5", "/a")
        elif name == "circle":
            file[kernel] = values
            file["model_weights/dense_1/again"] = file["model_weights"]
        elif name == "huge":
            file.create_dataset(kernel, (1 << 20, 1 << 20), "f4", chunks=(64, 64))
        elif name == "text":
            file[kernel] = "a picture of a cat"
        elif name == "shape":
            file[kernel] = values[:32]
        elif name == "nan":
            file[kernel] = values * np.nan


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("external", "compressed, elsewhere or not as numbers"),
        ("compressed", "compressed, elsewhere"),
        ("text", "compressed, elsewhere"),
        ("link", r"points to data elsewhere, at /.*kernel:0"),
        ("circle", "more groups than a model of Keras has"),
        ("huge", "claims to hold more values than fit into its size"),
        ("shape", r"does not fit compact: dense.0.weight is \(256, 32\), not \(256, 64\)"),
        ("nan", "values that are not finite, in dense.0.weight"),
        ("missing", "does not fit compact: dense.0.weight is missing"),
    ],
)
def test_odd_files_get_a_sentence(tmp_path: Path, name: str, message: str) -> None:
    _odd(tmp_path / "a.h5", name)
    with pytest.raises(ModelError, match=message):
        old.load(tmp_path / "a.h5")


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape("read as the network compact; the network osnet cannot")):
        old.load(write(tmp_path / "a.h5", drawn()), net="osnet")
