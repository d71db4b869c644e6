"""Addresses of the keeper: erasing, what the gallery holds, who asks, health, and meters."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Response

from reid import __version__
from reid.gallery.rows import Where
from reid.serve.answers import CameraOut, ChangedOut, HealthOut, MeOut, ReceiptOut, StatsOut
from reid.serve.problems import Refused
from reid.serve.routes import By, It, routes
from reid.serve.schemas import Erase, Filter

reading, erasing, public = routes("read", "Upkeep"), routes("erase", "Erase"), APIRouter(tags=["Upkeep"])


@erasing.post("/erase")
async def erase(it: It, by: By, given: Erase) -> ReceiptOut:
    """Erase rows for good: vectors, pictures, and what was said of them. Ask `/v1/count` first, and give its answer as
    `expect`. A person, camera, tracklet, tag or row that is not in the gallery is refused."""
    where = given.where()
    if where.everything:
        raise Refused(422, "nothing is asked for, which would be everything; give rows, people, cameras or times")
    return ReceiptOut(**asdict(await it.change(lambda: it.gallery.erase(where, by.name, given.expect))))


@reading.post("/count")
async def count(it: It, given: Filter) -> ChangedOut:
    """How many rows a filter admits."""
    return ChangedOut(rows=await it.run(lambda: it.gallery.count(given.where())))


@reading.get("/stats")
async def stats(it: It) -> StatsOut:
    """What the gallery holds, and what the service allows."""
    extent = await it.run(it.known.extent)
    return StatsOut(
        crops=extent.rows,
        people=len(extent.people),
        cameras=[CameraOut(name=name, crops=crops) for name, crops in extent.cameras.items()],
        first=extent.first,
        last=extent.last,
        feedback=len(await it.run(it.gallery.feedbacks)),
        keep=it.gallery.keep,
        model=it.gallery.model,
        dim=it.gallery.dim,
        calibrated=it.verifier is not None,
        version=__version__,
        max_bytes=it.settings.max_bytes,
        max_pixels=it.settings.max_pixels,
        max_crops=it.settings.max_crops,
    )


@reading.get("/me")
async def me(by: By) -> MeOut:
    """Who asks, and what they may do."""
    return MeOut(name=by.name, roles=sorted(by.roles))


@reading.get("/metrics", response_class=Response)
async def metrics(it: It) -> Response:
    """Counts and times of the service, in Prometheus' text format."""
    return Response(await it.run(it.meters.text), media_type="text/plain; version=0.0.4; charset=utf-8")


@public.get("/health")
async def health(it: It) -> HealthOut:
    """Whether the gallery can be asked. Takes no token and tells nothing of it."""
    await it.run(lambda: it.gallery.count(Where(ids=frozenset())))
    return HealthOut()
