"""reid convert: what it prints, and that mistakes are told in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid.cli import main
from tests.test_old_keras import drawn, write


def test_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = str(write(tmp_path / "old.hdf5", drawn())), str(tmp_path / "new.safetensors")
    main(["convert", old, "-o", new])
    assert capsys.readouterr().out == f"Keras HDF5: compact, 180×80 RGB\nWrote {new}.\n"
    main(["convert", old, "-o", new, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["output"] == [new]
    assert said["net"] == "compact"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pth", "-o", "new.onnx"], "none.pth"),
        (["old.hdf5", "-o", "new.pth"], "new.pth should end in .safetensors or .onnx"),
        (["old.hdf5", "-o", "new.onnx", "--net", "osnet"], "is read as the network compact"),
        (["old.hdf5", "-o", "new.onnx", "--card", "old.hdf5"], "old.hdf5 is not"),
        (["old.caffemodel", "-o", "new.onnx"], "old.caffemodel is of no format that can be read; known are"),
    ],
)
def test_mistakes_get_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old.hdf5", drawn())
    (tmp_path / "old.caffemodel").write_bytes(b"x")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
