"""What every request passes before anything else looks at it, and every answer on its way out.

A request is refused by its host (DNS rebinding), its origin (a page of another site), its token, its rate, and how many
are under way, before its body is read; then by the size of its body and how long that takes to come. Whose token counts
has a rate of their own; those that do not count, and requests without, share one for each address they come from.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reid.errors import DataError
from reid.serve.bodies import Body
from reid.serve.logs import Journal
from reid.serve.meters import Meters
from reid.serve.page import FILES
from reid.serve.problems import Refused, bug, busy
from reid.serve.rates import Rates
from reid.serve.settings import Settings, is_address
from reid.serve.tokens import EVERYBODY, Caller, Tokens

HEAD_BYTES = 16 << 10  # of a request's head
PUBLIC = frozenset({*FILES, "/health", "/openapi.json"})
"""Addresses that hold nothing of anybody, and take no token."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Wraps the application.

    Args:
        app: what answers the requests that are let through.
        tokens: None where everybody may do everything, which only a service that others cannot reach may have.
    """

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens | None, meters: Meters, journal: Journal):
        self._app, self._settings, self._tokens = app, settings, tokens
        self._meters, self._journal = meters, journal
        self._rates = Rates(settings.rate, settings.burst)
        self._under_way = 0
        meters.watch("reid_requests_under_way", "Requests that are being answered.", lambda: self._under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, number = time.perf_counter(), 0, secrets.token_hex(6)

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = number
            await send(message)

        self._under_way += 1
        try:
            try:
                async with asyncio.timeout(self._settings.seconds):
                    stated = self._admit(scope).get("content-length", "")
                    body = Body(receive, self._settings.max_bytes, self._settings.body_seconds, stated)
                    await self._app(scope, body, dressed)
            except TimeoutError:
                after = f"{self._settings.seconds:g} s"
                late = f"no answer within {after}; a change may still be made, so look before asking again"
                raise Refused(503, late, 5) from None
        except Refused as refused:
            if not status:
                await refused.answer()(scope, receive, dressed)
        except Exception as error:
            self._journal.bug(error, id=number)
            if not status:  # else the application has answered
                await bug()(scope, receive, dressed)
        finally:
            self._under_way -= 1
            self._tell(scope, number, status, time.perf_counter() - started)

    def _admit(self, scope: Scope) -> Headers:
        """The headers of a request that may go on, whose caller has been noted; else raises Refused."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope["query_string"]) > HEAD_BYTES:
            raise Refused(431, f"the head of the request is larger than {HEAD_BYTES:,} bytes; send less in it")
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        self._check_host(host)
        _check_site(scope, headers, host)
        address = (scope.get("client") or ("unknown", 0))[0]
        caller = EVERYBODY if self._tokens is None else None
        if self._tokens and scope["path"] not in PUBLIC:
            try:
                caller = self._known(headers)
            except Refused:
                self._check_rate(f"guesses from {address}")
                raise
        self._check_rate(caller.name if caller and self._tokens else f"visits from {address}")
        if self._under_way > self._settings.at_once:
            raise busy()
        scope.setdefault("state", {})["caller"] = caller
        return headers

    def _check_host(self, host: str) -> None:
        name = _split(f"//{host}").hostname or "" if host.isascii() and "@" not in host and "/" not in host else ""
        if name != "localhost" and not is_address(name) and name not in self._settings.names:
            raise Refused(421, "this service is not known by that name; start it with --name NAME, or use its address")

    def _check_rate(self, who: str) -> None:
        if late := self._rates.late(who):
            limit = self._settings.rate
            raise Refused(429, f"more than {limit:g} requests a second; come again in {late:.2g} s", late)

    def _known(self, headers: Headers) -> Caller:
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token or self._tokens is None:
            raise Refused(401, "this takes a token; send it as Authorization: Bearer TOKEN")
        try:
            caller = self._tokens.find(token.strip())
        except DataError as error:
            self._journal.bug(error)
            raise Refused(401, "no token counts at present; the log of the service says why") from None
        if caller is None:
            raise Refused(401, "the token is not known; ask for a new one")
        return caller

    def _tell(self, scope: Scope, number: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or ("other" if scope["path"] not in PUBLIC else scope["path"])
        self._meters.answered(_method(scope), route, status, seconds)
        caller = scope.get("state", {}).get("caller")
        who = {"by": caller.name} if caller else {}
        self._journal.say(
            "request", id=number, method=_method(scope), route=route, status=status, ms=round(1000 * seconds, 2), **who
        )


def _method(scope: Scope) -> str:
    """The method, or OTHER for one that somebody made up."""
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return str(scope["method"]) if scope["method"] in known else "OTHER"


def _check_site(scope: Scope, headers: Headers, host: str) -> None:
    """Refuse what a page of another site sends; its own page and programs that are no browser go on."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    arrives = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    if arrives:
        return
    foreign = site in ("cross-site", "same-site") or (origin is not None and _split(origin).netloc != host)
    if foreign:
        raise Refused(403, "pages of other sites may not use this service; open its own page, or use a program")


def _split(url: str) -> SplitResult:
    """The parts of a URL; none of what cannot be one."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
