"""The examples of docs/serve.md do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid.embed import Embedder
from reid.gallery.rows import Where, row_id, upload_path
from reid.types import Crop
from tests.served import Served, jpeg, serving

TEXT = Path(__file__).parent.parent.joinpath("docs", "serve.md").read_text(encoding="utf-8")
PLACE, ROW = "http://127.0.0.1:8000", "9161438751103734724"


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("monday", 901), ("tuesday", 902), ("photo", 903)):
        Path(f"{name}.jpg").write_bytes(jpeg(seed, kind="JPEG"))
    with serving(tmp_path, embedder) as served:
        yield served


def test_the_python_client(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(compile(code.replace(PLACE, served.url), "docs/serve.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 17  # five people, and twelve tracklets that are nobody's
    assert lines[0].startswith("1 0.")
    assert served.gallery.count(Where(people=frozenset({"Ada"}), cameras=frozenset({"door"}))) == 2


def test_the_commands(served: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    row = str(row_id(Crop(upload_path(Path("photo.jpg").read_bytes()))))
    commands = [line[2:] for line in TEXT.splitlines() if line.startswith("$ curl ")]
    assert len(commands) == 10
    for name in ("monday", "tuesday"):  # as the Python client leaves it
        files = [("crop", (name, Path(f"{name}.jpg").read_bytes()))]
        rows = served.post("/v1/crops", files=files, data={"camera": "door"}).json()["rows"]
        served.post("/v1/people/enrol", json={"name": "Ada", "rows": rows})
    for command in commands:
        told = command.replace(PLACE, served.url).replace(ROW, row).replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert done.stdout.startswith("{")
    assert served.gallery.count(Where(people=frozenset({"Ada"}))) == 0
    assert served.gallery.count() == 24
