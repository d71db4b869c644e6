"""The web page: a few files as they are, and no build step."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import resources
from typing import Any

from fastapi import APIRouter, Response

from reid.pages import template

public = APIRouter(include_in_schema=False)
SCRIPTS = ("page", "api", "dialogs", "dom", "frame", "people", "results", "search", "state", "timeline")
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
} | {f"/{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS}
"""What is served at which address. It holds nothing of anybody, and takes no token."""


def _sender(name: str, kind: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def send() -> Response:
        text = resources.files("reid").joinpath("serve", "web", name).read_text(encoding="utf-8")
        shared = template("colours.css") if name == "page.css" else ""
        return Response(shared + text, media_type=f"{kind}; charset=utf-8")

    return send


for _address, (_name, _kind) in FILES.items():
    public.get(_address)(_sender(_name, _kind))
