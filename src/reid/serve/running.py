"""The process: where it listens, when it stops, and connections that dawdle."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from reid.errors import DataError
from reid.serve.app import build
from reid.serve.guard import HEAD_BYTES
from reid.serve.logs import Relay
from reid.serve.service import Service
from reid.serve.settings import is_loopback
from reid.serve.tokens import Tokens


class _Server(uvicorn.Server):
    """Stops for a signal and goes on from there, instead of being ended by the signal once it has stopped."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def check_reach(host: str, tokens: Tokens | None) -> None:
    """Refuse to serve others without tokens.

    Raises:
        DataError: the host can be reached from elsewhere, and there are no tokens.
    """
    if tokens is None and not is_loopback(host):
        raise DataError(
            f"{host} can be reached by others; give --tokens FILE, or leave --host out to serve this machine alone"
        )


def serve(
    service: Service,
    tokens: Tokens | None,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: tuple[str, str] | None = None,
    listening: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve until a signal says stop; see `server`.

    Args:
        listening: told the service's address once it answers.

    Raises:
        DataError: the place cannot be listened at.
    """
    made = server(service, tokens, host, port, certificate)
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        service.gallery.close()
        raise DataError(
            f"{host} port {port} cannot be listened at ({error.strerror or error}); give another --port"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    listening(f"{'https' if certificate else 'http'}://{shown}:{listener.getsockname()[1]}/")
    made.run(sockets=[listener])


def server(
    service: Service,
    tokens: Tokens | None,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: tuple[str, str] | None = None,
) -> uvicorn.Server:
    """A server that answers until it is told to stop, by a signal or by `should_exit`.

    When told, it takes no more connections, gives requests under way some time, finishes every change to the gallery
    that was begun, and closes the gallery. Only what is on the disk is acknowledged.

    Args:
        certificate: files of the certificate and its key, for HTTPS.

    Raises:
        DataError: as `check_reach` does.
    """
    check_reach(host, tokens)
    settings = service.settings
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Relay(service.journal)], False
    logging.getLogger("uvicorn.error").propagate = False

    class Patient(H11Protocol):
        """Closes a connection whose request's head does not come in time."""

        _hurry: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._calm()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._calm()
            elif self._hurry is None:
                self._hurry = self.loop.call_later(settings.head_seconds, self.transport.close)

        def _calm(self) -> None:
            if self._hurry is not None:
                self._hurry.cancel()
                self._hurry = None

    config = uvicorn.Config(
        build(service, tokens),
        host,
        port,
        http=Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.at_once * 8,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=max(1, round(settings.stop_seconds)),
        h11_max_incomplete_event_size=HEAD_BYTES,
        ssl_certfile=certificate and certificate[0],
        ssl_keyfile=certificate and certificate[1],
    )
    return _Server(config)
