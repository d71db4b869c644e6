"""The folder of a training run: run.json says what it is, metrics.jsonl how it goes; two weights files come out."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from reid import __version__
from reid.disk import replacing
from reid.errors import DataError, MissingExtra
from reid.settings import TrainConfig

ABOUT, LOG, LAST, BEST = "run.json", "metrics.jsonl", "last.safetensors", "best.safetensors"


class Run:
    """Opens a new folder, or one to go on in.

    Args:
        folder: made where it is not there.
        config, data: every setting, and facts about the data, which a resumed run must share.
        resume: go on in a folder that is in use.
        tensorboard: write the figures for TensorBoard too.

    Raises:
        DataError: the folder is not empty, or holds a run with other settings or data.
        MissingExtra: TensorBoard is not installed.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        data: Mapping[str, Any],
        resume: bool = False,
        tensorboard: bool = False,
    ):
        self.folder = folder
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                raise MissingExtra("writing for TensorBoard", "tensorboard") from None
        about = {"config": config.to_json(), "data": dict(data)}
        if in_use(folder, resume):
            self._compare(about)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / ABOUT) as partial:
                partial.write_text(json.dumps(about | surroundings(), indent=2))
        if tensorboard:
            self._board = SummaryWriter(str(folder))

    def _compare(self, about: Mapping[str, Any]) -> None:
        try:
            stored = json.loads((self.folder / ABOUT).read_text())
        except (OSError, ValueError):
            raise DataError(f"{self.folder} has no readable {ABOUT}, so there is no run to resume in it") from None
        about = json.loads(json.dumps(about))
        for part in ("config", "data"):
            differ = [
                f"{name} was {stored[part].get(name)!r} and is {value!r}"
                for name, value in about[part].items()
                if stored[part].get(name) != value
            ]
            if differ:
                raise DataError(
                    f"the run in {self.folder} was started otherwise: {'; '.join(differ)}; resume it with the same "
                    "settings and data, or give a new folder"
                )

    def log(self, line: Mapping[str, Any]) -> None:
        """Append one line of figures."""
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board:
            for name, value in line.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, line["epoch"])
            self._board.flush()

    def forget(self, epoch: int) -> None:
        """Drop lines of this epoch and later ones, written before a crash that lost what they tell of."""
        path = self.folder / LOG
        if path.exists():
            lines = [line for line in path.read_text().splitlines(keepends=True) if _epoch(line) < epoch]
            with replacing(path) as partial:
                partial.write_text("".join(lines))


def in_use(folder: Path, resume: bool) -> bool:
    """Whether a folder holds a run to go on with.

    Raises:
        DataError: it holds something, and is not to be gone on with.
    """
    used = folder.exists() and any(folder.iterdir())
    if used and not resume:
        raise DataError(f"{folder} is not empty; give a new folder, or resume the run that is in it")
    return used


def _epoch(line: str) -> float:
    try:
        return float(json.loads(line)["epoch"])
    except ValueError:  # half a line
        return float("inf")


def surroundings() -> dict[str, Any]:
    """Versions, machine and state of the source code, as far as they can be known."""
    packages = ("torch", "lightning-fabric", "numpy", "opencv-python-headless", "simplejpeg", "pillow")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "versions": {"reid": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
        "machine": {"device": device, "threads": torch.get_num_threads(), "system": platform.platform()},
        "git": {"commit": _git("rev-parse", "HEAD"), "changed": _git("status", "--porcelain").splitlines()},
    }


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    try:
        asked = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip()
