"""Damaged files of every format: a sentence, or what was read, never another error. `scripts/fuzz` tries many more."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing import FORMATS, attempt, damaged

ROOT = Path(__file__).parents[1]
MANY = int(os.environ.get("REID_FUZZ", "25"))


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_a_sentence(tmp_path: Path, name: str) -> None:
    format = FORMATS[name]
    path = format.make(tmp_path / name)
    whole = path.read_bytes()
    assert attempt(format, path, whole) or name == "a.npz", (
        "the whole file is read; of TriNet's there is only the start"
    )
    rng = random.Random(0)
    for _ in range(MANY):
        attempt(format, path, damaged(whole, rng))


def test_the_script_that_tries_many(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "scripts" / "fuzz", "--files", "30", "a.png", "a.bmp"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["a.png", "a.bmp"]
