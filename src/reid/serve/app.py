"""The application: addresses, mistakes and the guard, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser

from reid import __version__
from reid.errors import ReidError
from reid.serve import page, people, problems, searching, upkeep
from reid.serve.answers import Problem
from reid.serve.batching import Busy
from reid.serve.guard import Guard
from reid.serve.service import Service
from reid.serve.tokens import Tokens

ABOUT = """
Find, verify and identify people across cameras in one gallery.

Addresses below `/v1` take a token as `Authorization: Bearer TOKEN` where the service has tokens; each says which role.
Pictures are sent as files of a form. Distances: lower is closer. Times are seconds on the clock that the cameras share.
A mistake is answered by 4xx and one sentence as `application/problem+json`; 503 says that the
disk or the server of the gallery fails, or, with `Retry-After`, that too many requests are waiting.
"""


def build(service: Service, tokens: Tokens | None = None) -> Guard:
    """An ASGI application that serves a gallery and closes it at the end.

    Args:
        tokens: None where everybody may do everything; never give None to what others than this machine can reach.
    """
    # Form files would go to the disk beyond 1 MiB: pictures of people stay in memory, which the guard bounds.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, service.settings.max_bytes + 1)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="reid",
        summary="Person re-identification as a service.",
        description=ABOUT,
        version=__version__,
        docs_url=None,  # both would fetch their scripts from elsewhere
        redoc_url=None,
        lifespan=life,
        redirect_slashes=False,
    )
    app.state.service = service
    for router in (
        searching.router,
        people.reading,
        people.writing,
        upkeep.reading,
        upkeep.erasing,
        upkeep.public,
        page.public,
    ):
        app.include_router(router)
    app.add_exception_handler(problems.Refused, problems.of_refused)
    app.add_exception_handler(Busy, problems.of_busy)
    app.add_exception_handler(ReidError, problems.of_reid)
    app.add_exception_handler(HTTPException, problems.of_http)
    app.add_exception_handler(RequestValidationError, problems.of_validation)
    app.add_exception_handler(Exception, problems.of_bug)
    _describe_problems(app)
    return Guard(app, service.settings, tokens, service.meters, service.journal)


def _describe_problems(app: FastAPI) -> None:
    """Put the schema of problems into the description in place of the framework's own."""
    plain = app.openapi

    def described() -> dict[str, object]:
        made = plain()
        schemas = made["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        return made

    app.openapi = described  # type: ignore[method-assign]
