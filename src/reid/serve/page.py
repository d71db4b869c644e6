"""The web page: three files as they are, and no build step."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from reid.pages import template

public = APIRouter(include_in_schema=False)


def _file(name: str) -> str:
    return resources.files("reid").joinpath("serve", name).read_text(encoding="utf-8")


@public.get("/")
async def page() -> Response:
    """The page."""
    return Response(_file("page.html"), media_type="text/html; charset=utf-8")


@public.get("/page.js")
async def script() -> Response:
    """Its script."""
    return Response(_file("page.js"), media_type="text/javascript; charset=utf-8")


@public.get("/page.css")
async def style() -> Response:
    """Its style, after the colours of all pages."""
    return Response(template("colours.css") + _file("page.css"), media_type="text/css; charset=utf-8")


@public.get("/icon.svg")
async def icon() -> Response:
    """Its icon."""
    return Response(_file("icon.svg"), media_type="image/svg+xml")
