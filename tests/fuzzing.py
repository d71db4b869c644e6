"""Damaged files of every format that is read, for the tests and for scripts/fuzz. All chance is seeded."""

from __future__ import annotations

import io
import json
import random
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from reid import checkpoint, images, old
from reid.embed import Embedder
from reid.errors import ReidError
from reid.nets import build
from tests.conftest import tiny_model
from tests.test_old_graphs import ir
from tests.test_old_keras import drawn, write


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        make: writes a whole one.
        load: reads it as a user would; gives what it has read.
        memory: MiB that reading any file of this kind may take beyond what the process had before.
    """

    make: Callable[[Path], Path]
    load: Callable[[Path], object]
    memory: int


def _trinet(path: Path) -> Path:
    """Its first layers only: what is read of it before something must be missing."""
    rng = np.random.default_rng(0)
    shapes = [(64, 3, 7, 7), *[(64,)] * 5, (256, 64, 1, 1), *[(256,)] * 4]
    np.savez(path, *[rng.uniform(0.5, 1, s).astype(np.float32) for s in shapes])
    return path


def _torchreid(path: Path, older: bool = False) -> Path:
    state = build("osnet", width=0.25, neck="relu").state_dict()
    around = {"state_dict": state, "rank1": np.float64(0.9), "epoch": 3}
    torch.save(around, path, _use_new_zipfile_serialization=not older)
    return path


def _ours(path: Path) -> Path:
    header = {"net": "compact", "net_options": {}, "preprocess": {"height": 180, "width": 80}, "unit": False}
    checkpoint.save(path, build("compact").state_dict(), json.loads(json.dumps(header)))
    return path


def _keras(path: Path) -> Path:
    return write(path, drawn())


def _picture(path: Path, **options: object) -> Path:
    """Blocks and noise, of a size at which every part of a format is small enough to be hit."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (8, 4, 3)), np.ones((8, 8, 1))) + rng.integers(0, 20, (64, 32, 3))
    Image.fromarray(np.clip(blocks, 0, 255).astype(np.uint8)).save(path, **options)
    return path


def _model(path: Path) -> object:
    return Embedder(path, threads=1, engine="openvino" if path.suffix == ".xml" else None)


FORMATS = {
    "a.h5": Format(_keras, old.load, 256),
    "a.npz": Format(_trinet, old.load, 256),
    "a.pth": Format(_torchreid, old.load, 256),
    "older.pth": Format(lambda p: _torchreid(p, older=True), old.load, 256),
    "a.safetensors": Format(_ours, old.load, 256),
    "a.onnx": Format(tiny_model, _model, 1024),
    "a.xml": Format(lambda p: ir(p, True, True), _model, 1024),
    "a.bin": Format(
        lambda p: ir(p.with_suffix(".xml"), True, True).with_suffix(".bin"),
        lambda p: _model(p.with_suffix(".xml")),
        1024,
    ),
    "a.jpg": Format(_picture, images.read, 512),
    "progressive.jpg": Format(lambda p: _picture(p, progressive=True, exif=Image.Exif()), images.read, 512),
    "a.png": Format(_picture, images.read, 512),
    "a.webp": Format(_picture, images.read, 512),
    "lossless.webp": Format(lambda p: _picture(p, lossless=True), images.read, 512),
    "a.bmp": Format(_picture, images.read, 512),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with some of its bytes changed, moved or missing, most often where formats describe themselves."""
    out = bytearray(data)
    if rng.random() < 0.3:
        del out[int(len(out) * rng.choice((0.999, 0.9, 0.5, 0.01, 0.0))) :]
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8)) if out else 0):
        place = int(rng.choice((rng.random() * 0.02, 0.98 + rng.random() * 0.02, rng.random())) * len(out))
        length = rng.choice((1, 1, 2, 4, 8))
        kind = rng.random()
        if kind < 0.4:
            out[place : place + length] = rng.randbytes(length)
        elif kind < 0.6 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind < 0.75:
            out[place : place + length] = rng.choice((b"\x00", b"\xff", b"\x7f", b"9")) * length
        elif kind < 0.85:
            del out[place : place + length]
        else:
            other = rng.randrange(len(out) + 1)
            out[place:place] = out[other : other + length]
    return _with_sums(bytes(out)) if rng.random() < 0.5 else bytes(out)


def _with_sums(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that damage gets past them; other files as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, file = io.BytesIO(), io.BytesIO(data)
    out.write(file.read(8))
    while len(head := file.read(8)) == 8:
        body = file.read(min(int.from_bytes(head[:4], "big"), len(data)))
        file.read(4)
        out.write(head + body + zlib.crc32(head[4:] + body).to_bytes(4, "big"))
    return out.getvalue()


def attempt(format: Format, path: Path, data: bytes) -> bool:
    """Whether a damaged file is read; it must be, or be refused by one sentence. Anything else is raised."""
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch and NumPy on odd but readable files
        try:
            format.load(path)
        except ReidError as error:
            assert "\n" not in str(error)  # noqa: PT017
            return False
    return True
