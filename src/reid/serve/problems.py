"""Mistakes as answers: problem details in JSON (RFC 9457), whose detail is the one sentence of a ReidError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from reid.errors import ModelError, NotFound, ReidError, StoreError

MEDIA = "application/problem+json"
STATUS: dict[type[ReidError], int] = {StoreError: 503, NotFound: 404, ModelError: 409}
"""Of the library's mistakes; 422 of the others."""


class Refused(Exception):
    """A request that is refused.

    Attributes:
        status: of the answer, 400 to 503.
        detail: one sentence: what was given, what is allowed, what to do.
        after: seconds after which to come again; None where that would not help.
    """

    def __init__(self, status: int, detail: str, after: float | None = None):
        super().__init__(detail)
        self.status, self.detail, self.after = status, detail, after

    def answer(self) -> Response:
        """The answer to it."""
        headers = {}
        if self.after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.after)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return problem(self.status, self.detail, headers)


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that tells what went wrong."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, dict(headers or {}), media_type=MEDIA)


def busy() -> Refused:
    """More requests wait than may."""
    return Refused(503, "too many requests are waiting; come again in a second", 1)


async def of_refused(_: Request, error: Exception) -> Response:
    """See `Refused`."""
    assert isinstance(error, Refused)
    return error.answer()


async def of_busy(_: Request, error: Exception) -> Response:
    """See `busy`."""
    return busy().answer()


async def of_reid(_: Request, error: Exception) -> Response:
    """What the library says of what was given, or of a gallery that fails."""
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 422)
    return problem(status, str(error).encode("utf-8", "backslashreplace").decode())


async def of_http(_: Request, error: Exception) -> Response:
    """What the framework refuses: no such address, no such method, a form that is cut short."""
    assert isinstance(error, HTTPException)
    said = {
        404: "there is nothing at this address; /openapi.json tells what there is",
        405: "this address takes another method",
    }
    detail = said.get(error.status_code) or str(error.detail)
    return problem(error.status_code, detail, error.headers)


def bug() -> Response:
    """A mistake of ours, of which the answer tells nothing; the guard notes it in the log."""
    return problem(500, "something went wrong here that should not; the log of the service has more")


async def of_bug(_: Request, error: Exception) -> Response:
    """See `bug`."""
    return bug()


async def of_validation(_: Request, error: Exception) -> Response:
    """A field that is missing or not what it should be: the first of them."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        why = first["ctx"]["error"]
        return problem(422, f"the body is not JSON ({why}, character {first['loc'][-1]}); /openapi.json tells its form")
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    where = ".".join(place) or "the body"
    detail = f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}; /openapi.json tells what this address takes"
    return problem(422, detail.encode("utf-8", "backslashreplace").decode())
