"""Addresses by the role that they take, which is checked before the body of a request is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from reid.serve.problems import Refused
from reid.serve.service import Service
from reid.serve.tokens import Caller, Role

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
BEARER = HTTPBearer(
    auto_error=False, description="A token with the role that the address takes. None on a service without tokens."
)


def routes(role: Role, about: str) -> APIRouter:
    """A router all of whose addresses take a role.

    Args:
        about: the name of its part in the description of the interface.
    """

    class Guarded(APIRoute):
        def get_route_handler(self) -> Handler:
            answer = super().get_route_handler()

            async def checked(request: Request) -> Response:
                caller = getattr(request.state, "caller", None)
                if caller is None or role not in caller.roles:
                    raise Refused(403, f"this takes a token with the role {role}; yours has another")
                return await answer(request)

            return checked

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": PROBLEM}
        for status, text in {
            401: "No token, or one that is not known.",
            403: f"The token lacks the role `{role}`, or a page of another site asks.",
            404: "Nobody or nothing of that name or id is in the gallery.",
            408: "The request came too slowly.",
            409: "The gallery refuses; the detail says why.",
            413: "The request is too large.",
            422: "Something given cannot be used; the detail says what and what to do.",
            429: "Too many requests of one caller; see Retry-After.",
            503: "Too many requests are waiting (see Retry-After), or the gallery's disk or server fails.",
        }.items()
    }  # fmt: skip
    return APIRouter(
        prefix="/v1", tags=[about], route_class=Guarded, dependencies=[Security(BEARER)], responses=refusals
    )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


It = Annotated[Service, Depends(_service)]
By = Annotated[Caller, Depends(_caller)]
