"""Damaged model files of every format: a sentence or a model, never another error. Seeded; few files by default.

For more: REID_FUZZ=10000 pytest tests/test_old_fuzz.py
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from reid import checkpoint, old
from reid.embed import Embedder
from reid.errors import ReidError
from reid.nets import build
from tests.conftest import tiny_model
from tests.test_old_graphs import ir
from tests.test_old_keras import drawn, write

MANY = int(os.environ.get("REID_FUZZ", "25"))


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


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "a.h5": (_keras, old.load),
    "a.npz": (_trinet, old.load),
    "a.pth": (_torchreid, old.load),
    "b.pth": (lambda p: _torchreid(p, older=True), old.load),
    "a.safetensors": (_ours, old.load),
    "a.onnx": (tiny_model, Embedder),
    "a.xml": (lambda p: ir(p, True, True), Embedder),
    "a.bin": (lambda p: ir(p.with_suffix(".xml"), True, True).with_suffix(".bin"), Embedder),
}
Damage = tuple[float, list[tuple[float, bytes]]]
HEADS = st.one_of(st.floats(0, 0.02), st.floats(0.98, 1), st.floats(0, 1))
"""Places in a file as shares of its length, most of them where formats keep what describes the rest."""
DAMAGE = st.tuples(
    st.sampled_from([1.0, 1.0, 1.0, 0.999, 0.9, 0.5, 0.01, 0.0]),
    st.lists(st.tuples(HEADS, st.binary(min_size=1, max_size=8)), max_size=6),
)


def damaged(data: bytes, damage: Damage) -> bytes:
    kept, edits = damage
    out = bytearray(data[: int(len(data) * kept)])
    for where, new in edits:
        place = int(where * len(out))
        out[place : place + len(new)] = new
    return bytes(out)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_a_sentence(tmp_path: Path, name: str) -> None:
    make, load = FILES[name]
    path = make(tmp_path / name)
    whole = path.read_bytes()

    @seed(0)
    @settings(max_examples=MANY, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(DAMAGE)
    def check(damage: Damage) -> None:
        path.write_bytes(damaged(whole, damage))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch and NumPy on odd but readable files
            try:
                load(path.with_suffix(".xml") if path.suffix == ".bin" else path)
            except ReidError as error:
                assert "\n" not in str(error)  # noqa: PT017

    check()
