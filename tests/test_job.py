"""A job that is killed goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid import files
from reid.embed import Embedder
from reid.errors import DataError
from reid.job import embed_to_file
from reid.types import Crop

Draw = Callable[..., Path]


@pytest.fixture
def crops(draw: Draw) -> list[Crop]:
    made = [Crop(str(draw(f"{i}.png", i)), pid=str(i % 5)) for i in range(70)]
    for broken in (3, 40, 69):
        Path(made[broken].path).write_bytes(b"broken")
    return made


class Stop(Exception):
    pass


def stop_after(count: int) -> Callable[[int], None]:
    done = 0

    def progress(step: int) -> None:
        nonlocal done
        done += step
        if done >= count:
            raise Stop

    return progress


@pytest.mark.parametrize("suffix", list(files.FORMATS))
def test_interrupted_anywhere_gives_the_same_file(
    embedder: Embedder, crops: list[Crop], tmp_path: Path, suffix: str
) -> None:
    whole = tmp_path / f"whole{suffix}"
    skipped = embed_to_file(embedder, crops, whole)
    assert [s.crop for s in skipped] == [crops[i] for i in (3, 40, 69)]
    for count in (1, 17, 33, 70):
        out = tmp_path / f"out{count}{suffix}"
        with pytest.raises(Stop):
            embed_to_file(embedder, crops, out, stop_after(count))
        assert not out.exists()
        computed: list[int] = []
        assert embed_to_file(embedder, crops, out, computed.append) == skipped
        assert computed[0] >= count
        assert sum(computed) == len(crops)
        assert files.load(out) == files.load(whole)
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".rows", ".vectors", ".writing")]


def test_a_torn_last_line_is_forgotten(embedder: Embedder, crops: list[Crop], tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    with pytest.raises(Stop):
        embed_to_file(embedder, crops, out, stop_after(40))
    with open(tmp_path / "e.npz.rows", "ab") as rows, open(tmp_path / "e.npz.vectors", "ab") as vectors:
        rows.write(b'{"done": 60, "rows": 6')
        vectors.write(b"half a row")
    embed_to_file(embedder, crops, out)
    made = files.load(out)
    np.testing.assert_array_equal(made.vectors, embedder(crops, on_skip=lambda s: None).vectors)


def test_another_job_is_not_mixed_in(embedder: Embedder, crops: list[Crop], tmp_path: Path) -> None:
    with pytest.raises(Stop):
        embed_to_file(embedder, crops, tmp_path / "e.npz", stop_after(20))
    with pytest.raises(DataError, match="unfinished job"):
        embed_to_file(embedder, crops[1:], tmp_path / "e.npz")


def test_rows_of_a_finished_output_are_taken_over(
    embedder: Embedder, crops: list[Crop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, now = tmp_path / "e.npz", time.time()
    for crop in crops:
        os.utime(crop.path, (now - 100, now - 100))
    embed_to_file(embedder, crops[:50], out)
    os.utime(crops[10].path, (now + 100, now + 100))
    computed: list[int] = []
    vectors = embedder.vectors
    monkeypatch.setattr(
        embedder, "vectors", lambda batch, threads: computed.append(len(batch)) or vectors(batch, threads)
    )
    embed_to_file(embedder, crops, out)
    assert sum(computed) == 1 + 20 - 1  # the changed one, and the new ones but for one that is broken
    assert [c.path for c in files.load(out).crops] == [c.path for i, c in enumerate(crops) if i not in (3, 40, 69)]
    embedder.fingerprint, mine = "other", embedder.fingerprint
    with pytest.raises(DataError, match="another model"):
        embed_to_file(embedder, crops, out)
    embedder.fingerprint = mine


def test_kill_minus_nine(model: Path, crops: list[Crop], tmp_path: Path) -> None:
    """A real process, really killed, again and again."""
    code = """
import sys, time
from reid.embed import Embedder
from reid.job import embed_to_file
from reid.types import Crop
embedder = Embedder(sys.argv[1], threads=1, batch=4)
crops = [Crop(p, pid=str(i % 5)) for i, p in enumerate(sys.argv[3:])]
embed_to_file(embedder, crops, sys.argv[2], lambda n: time.sleep(0.02))
"""
    out = tmp_path / "e.npz"
    command = [sys.executable, "-c", code, str(model), str(out), *(c.path for c in crops)]
    rows = tmp_path / "e.npz.rows"
    kills = 0
    for lines in (3, 6, 9, 12):
        process = subprocess.Popen(command)
        while process.poll() is None and not (rows.exists() and rows.read_bytes().count(b"\n") >= lines):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    subprocess.run(command, check=True)
    made = files.load(out)
    wanted = Embedder(model, threads=1)(crops, on_skip=lambda s: None)
    assert made.crops == wanted.crops
    np.testing.assert_allclose(made.vectors, wanted.vectors, atol=1e-6)
