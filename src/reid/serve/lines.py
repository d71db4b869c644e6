"""Connections: closed where the head of a request dawdles, and where what comes is no HTTP."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def patient(seconds: float) -> type[H11Protocol]:
    """How the server speaks HTTP, closing a connection on which the head of a request does not come in that time."""

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

        def send_400_response(self, msg: str) -> None:
            """For what is no HTTP. A request whose body turns out to be none is still being answered: not to this."""
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            self.transport.close()

        def _watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._calm()
            elif self._hurry is None:
                self._hurry = self.loop.call_later(seconds, self.transport.close)

        def _calm(self) -> None:
            if self._hurry is not None:
                self._hurry.cancel()
                self._hurry = None

    return Patient
