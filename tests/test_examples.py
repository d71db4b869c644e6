"""The examples run, on people that the tests draw."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SWIMMERS = Path(__file__).parents[1] / "examples" / "swimmers.py"


def test_the_swimmers_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for person, frames in (("1", 10), ("2", 20), ("3", 20)):
        folder = tmp_path / "swimmers" / person
        folder.mkdir(parents=True)
        colour = rng.integers(60, 200, 3)
        for frame in range(frames):
            picture = np.clip(colour + rng.integers(-20, 20, (24, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"frame_{frame}.png")
    spec = importlib.util.spec_from_file_location("swimmers", SWIMMERS)
    assert spec
    assert spec.loader
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    out = tmp_path / "out"
    options = ["--epochs", "1", "--seeds", "0", "1", "--splits", "time"]
    monkeypatch.setattr(sys, "argv", ["swimmers.py", str(tmp_path / "swimmers"), "-o", str(out), *options])
    study.main()
    right = json.loads((out / "results.json").read_text())["right"]["time"]
    assert right["raw pixels, nearest crop"] == [1.0, 1.0]
    assert {len(shares) for shares in right.values()} == {2}
    assert "semi-hard + linear SVM" in right
    assert "| cross-entropy, its classifier |" in capsys.readouterr().out
    first = out / "time" / "0"
    assert (first / "confusion.md").read_text().count("| 2 |") > 1
    for name in ("before", "cross-entropy", "semi-hard", "curves"):
        assert (first / f"{name}.svg").read_text().startswith("<svg")
    assert not (out / "time" / "1" / "curves.svg").exists()
