"""The body of a request, no larger and no slower than is allowed."""

from __future__ import annotations

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


class Body:
    """Receives as ASGI's `receive` does.

    Args:
        most: bytes.
        seconds: within which all of it must have come, from now.
        stated: what the header Content-Length says, empty for nothing.

    Raises:
        HTTPException: 413 or 408, when it is received.
    """

    def __init__(self, receive: Receive, most: int, seconds: float, stated: str):
        self._receive, self._most, self._seconds = receive, most, seconds
        self._until, self._size, self._whole = time.monotonic() + seconds, 0, False
        self._too_large = stated.isdecimal() and int(stated) > most

    async def __call__(self) -> Message:
        if not self._too_large:
            message = await (self._receive() if self._whole else self._in_time())
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            self._too_large = self._size > self._most
        if self._too_large:
            detail = f"the request is larger than {self._most:,} bytes; send smaller pictures, or fewer of them"
            raise HTTPException(413, detail, {"Connection": "close"})
        return message

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                return await self._receive()
        except TimeoutError:
            detail = f"the request did not come within {self._seconds:g} s; send less at once"
            raise HTTPException(408, detail, {"Connection": "close"}) from None
