"""Addresses about who is who: people and their sightings, crops and their pictures, enrolling, and feedback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import Form, Path, Query, Response

from reid.gallery.records import Summary
from reid.gallery.rows import Rows, Where
from reid.serve.answers import ChangedOut, CropOut, PeopleOut, PersonOut, RowsOut, SightingOut, TimelineOut
from reid.serve.pictures import Looked, shown
from reid.serve.problems import Refused
from reid.serve.routes import By, It, routes
from reid.serve.schemas import AddUploads, Enrol, Forget, Merge, Name, Rename, RowId, Split, Word
from reid.serve.service import Service
from reid.types import Crop, Embeddings
from reid.wording import many

reading, writing = routes("read", "People and crops"), routes("write", "Enrol and correct")
MOST = 2000  # crops of one timeline
GAP = 30.0  # seconds that nobody was seen for, after which it is another sighting
JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "The picture, at most 256 pixels high."}
}


@reading.get("/people")
async def people(
    it: It,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
) -> PeopleOut:
    """Everybody who is enrolled, by name."""
    extent = await it.run(it.known.extent)
    return PeopleOut(
        total=len(extent.people), people=[_person(person) for person in extent.people[offset : offset + limit]]
    )


def _person(summary: Summary) -> PersonOut:
    return PersonOut(
        name=summary.name,
        crops=summary.crops,
        cameras=list(summary.cameras),
        first=summary.first,
        last=summary.last,
    )


@reading.get("/timeline")
async def timeline(
    it: It, person: Annotated[Name | None, Query()] = None, tracklet: Annotated[Name | None, Query()] = None
) -> TimelineOut:
    """Where and when a person, or a tracklet that is nobody's, was seen: of the first 2,000 crops."""
    if (person is None) == (tracklet is None):
        raise Refused(422, "give either a person or a tracklet, and not both")
    where = _of(person) if person is not None else Where(tracklets=frozenset({str(tracklet)}))
    name = person or str(tracklet)
    crops = await it.run(lambda: _crops(it, where))
    if not crops:
        raise Refused(404, f"nobody and nothing is called {name}; GET /v1/people lists everybody")
    return TimelineOut(name=name, crops=len(crops), sightings=list(sightings(crops[:MOST])))


def _of(person: str) -> Where:
    return Where(people=frozenset({person}))


def _crops(it: Service, where: Where) -> list[Crop]:
    """Crops, earliest first, those without a time at the end."""
    parts = it.gallery.rows(where, vectors=False, pictures=False)
    crops = [crop for part in parts for crop in part.crops]
    return sorted(crops, key=lambda crop: (crop.time is None, crop.time or 0.0, crop.camera or "", crop.path))


def sightings(crops: Iterable[Crop], gap: float = GAP) -> Iterable[SightingOut]:
    """Crops in the order of their times, put together where one camera took them within `gap` seconds of each other."""
    open_: dict[str | None, SightingOut] = {}
    found: list[SightingOut] = []
    for crop in crops:
        one = open_.get(crop.camera)
        apart = one is None or (one.last is None) != (crop.time is None) or (crop.time or 0) - (one.last or 0) > gap
        if one is None or apart:
            one = SightingOut(camera=crop.camera, first=crop.time, last=crop.time, crops=[])
            open_[crop.camera] = one
            found.append(one)
        one.crops.append(CropOut.of(crop))
        one.last = crop.time
    return found


@reading.get("/people/picture", response_class=Response, responses=JPEG)
async def face(it: It, person: Annotated[Name, Query()]) -> Response:
    """A small picture of a person: of the crop in the middle of their times."""
    crops = await it.run(lambda: _crops(it, _of(person)))
    if not crops:
        raise Refused(404, f"nobody is called {person}; GET /v1/people lists everybody")
    return await _picture(it, Where(ids=frozenset({CropOut.of(crops[len(crops) // 2]).id})))


@reading.get("/crops/{row}")
async def crop(it: It, row: Annotated[RowId, Path()]) -> CropOut:
    """What is known of a crop."""
    rows = await it.run(lambda: _one(it, Where(ids=frozenset({row})), False))
    return CropOut.of(rows.crops[0])


@reading.get("/crops/{row}/picture", response_class=Response, responses=JPEG)
async def picture(it: It, row: Annotated[RowId, Path()]) -> Response:
    """A crop as a small picture."""
    return await _picture(it, Where(ids=frozenset({row})))


async def _picture(it: Service, where: Where) -> Response:
    def small() -> bytes | None:
        rows = _one(it, where, True)
        return shown(rows.crops[0].path, rows.pictures[0], it.settings.max_pixels)

    jpeg = await it.run(small)
    if jpeg is None:
        raise Refused(404, "of this crop no picture is kept, and its file cannot be read")
    return Response(jpeg, media_type="image/jpeg")


def _one(it: Service, where: Where, pictures: bool) -> Rows:
    """The row that is meant, without its vector."""
    found = list(it.gallery.rows(where, vectors=False, pictures=pictures))
    if not found:
        raise Refused(404, "no crop has this id; it may have been erased")
    return found[0]


@writing.post("/crops", status_code=201)
async def add(it: It, by: By, given: Annotated[AddUploads, Form(media_type="multipart/form-data")]) -> RowsOut:
    """Put pictures into the gallery, to enrol them or to say what they show. The very same file stays one row, of which
    a camera, time or tracklet that is given again replaces what was known, and what is left out stays."""
    looked = await it.look(given.crop, keep=True)
    vectors = await it.embed(looked)
    crops = tuple(_kept(one, given) for one in looked)
    made = Embeddings(vectors, crops, it.embedder.fingerprint)
    small = [one.small if it.settings.pictures else None for one in looked]
    ids = await it.change(lambda: it.gallery.add(made, given.tags, small, by.name))
    return RowsOut(rows=np.asarray(ids).tolist())


def _kept(looked: Looked, given: AddUploads) -> Crop:
    return Crop(looked.path, camera=given.camera, time=given.time, tracklet=given.tracklet)


@writing.post("/people/enrol")
async def enrol(it: It, by: By, given: Enrol) -> ChangedOut:
    """Say that rows show a person: a new one, or one who is enrolled already."""
    where = await _there(it, given.rows)
    return ChangedOut(rows=await it.change(lambda: it.gallery.enrol(given.name, where, by.name)))


@writing.post("/people/rename")
async def rename(it: It, by: By, given: Rename) -> ChangedOut:
    """Give a person another name. Refused where somebody has it already: then they are merged instead."""
    return ChangedOut(rows=await it.change(lambda: it.gallery.rename(given.name, given.new, by.name)))


@writing.post("/people/merge")
async def merge(it: It, by: By, given: Merge) -> ChangedOut:
    """Say that several people are one."""
    return ChangedOut(rows=await it.change(lambda: it.gallery.merge(given.names, given.into, by.name)))


@writing.post("/people/split")
async def split(it: It, by: By, given: Split) -> ChangedOut:
    """Say that some of a person's crops show somebody else."""
    where = replace(_of(given.name), ids=(await _there(it, given.rows)).ids)
    return ChangedOut(rows=await it.change(lambda: it.gallery.split(given.name, where, given.new, by.name)))


@writing.post("/people/forget")
async def forget(it: It, by: By, given: Forget) -> ChangedOut:
    """Forget who somebody is. The crops stay, without a name; to remove them, erase them."""
    return ChangedOut(rows=await it.change(lambda: it.gallery.forget_person(given.name, by.name)))


@writing.post("/feedback")
async def feedback(it: It, by: By, given: Word) -> ChangedOut:
    """Say whether two rows show one person; a later word on the same two replaces it. A picture that was only searched
    for must be put into the gallery first."""
    await _there(it, [given.query, given.answer])
    await it.change(lambda: it.gallery.feedback(given.query, given.answer, given.same, by.name))
    return ChangedOut(rows=2)


async def _there(it: Service, rows: list[int]) -> Where:
    """Rows that must all be there."""
    where = Where(ids=frozenset(rows))
    found = await it.run(lambda: it.gallery.count(where))
    if found < len(where.ids or ()):
        raise Refused(
            404, f"of {many(len(where.ids or ()), 'row')} {found} can be found; what is missing may have been erased"
        )
    return where
