"""The process: where it listens, and how it stops."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from reid.errors import DataError
from reid.serve.app import build
from reid.serve.guard import HEAD_BYTES
from reid.serve.lines import patient
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
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or every answer, sent in two parts, waits 40 ms
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

    config = uvicorn.Config(
        build(service, tokens),
        host,
        port,
        http=patient(settings.head_seconds),
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
