"""Addresses that look: search, verify, identify."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import Form, Path, Query

from reid.gallery.rows import Where
from reid.identify import Identity
from reid.quality import Floats
from reid.serve.answers import (
    AnswerOut,
    CandidateOut,
    CropOut,
    IdentifyOut,
    IdentityOut,
    MatchOut,
    SearchOut,
    VerdictOut,
)
from reid.serve.problems import Refused
from reid.serve.routes import By, It, routes
from reid.serve.schemas import IdentifyUploads, RowId, Search, SearchUploads, VerifyUploads
from reid.serve.service import Service, Terms
from reid.types import Crop, Embeddings, Match
from reid.verify import Verifier

router = routes("read", "Look")


@router.post("/search")
async def search(it: It, by: By, given: Annotated[SearchUploads, Form(media_type="multipart/form-data")]) -> SearchOut:
    """Search for pictures: the nearest crops of the gallery, exactly, each with the probability that it shows the same
    person. The pictures are not kept."""
    looked = await it.look(given.crop)
    vectors, quality = await it.embed(looked), np.stack([one.quality for one in looked])
    if given.together:
        vectors, quality = vectors.mean(axis=0, keepdims=True), quality.min(axis=0, keepdims=True)
    crops = tuple(Crop(one.path, camera=given.camera) for one in looked[: len(vectors)])
    query = Embeddings(vectors, crops, it.embedder.fingerprint)
    found = await it.search(query, _terms(given, by.name))
    answers = [_answer(it, given.prior, given.camera, matches, q) for matches, q in zip(found, quality, strict=True)]
    return SearchOut(model=it.gallery.model, prior=given.prior, answers=answers)


@router.get("/crops/{row}/similar")
async def similar(it: It, by: By, row: Annotated[RowId, Path()], given: Annotated[Search, Query()]) -> SearchOut:
    """Search for a crop that is in the gallery. It is no answer to itself."""
    query = await it.run(lambda: it.gallery.embeddings(Where(ids=frozenset({row}))))
    if not len(query):
        raise Refused(404, f"no crop has the id {row}; it may have been erased")
    (found,) = await it.search(query, _terms(given, by.name))
    answer = _answer(it, given.prior, query.crops[0].camera, found, None)
    return SearchOut(model=it.gallery.model, prior=given.prior, answers=[answer])


def _terms(given: Search, by: str) -> Terms:
    return Terms(given.k, given.where(), given.other_cameras, given.per, by)


def _answer(
    it: Service, prior: float, camera: str | None, matches: Sequence[Match], quality: Floats | None
) -> AnswerOut:
    """Matches with probabilities. Of the gallery's crops the quality is not known, and is taken to be typical."""
    verifier = it.verifier
    if verifier is None:
        return AnswerOut(doubt=[], evidence=None, matches=[_match(match, None, None) for match in matches])
    verifier, sides, doubt, evidence = verifier.given(prior), None, [], None
    if quality is not None and verifier.doubt is not None:
        doubt = list(verifier.doubt.reasons(quality))
        typical = np.array(verifier.doubt.typical)
        sides = np.tile(quality, (len(matches), 1)), np.tile(typical, (len(matches), 1))
        evidence = float(verifier.doubt.evidence(quality[None], typical[None])[0])
    distances = np.array([match.distance for match in matches], dtype=float)
    verdicts = verifier.judge(distances, [(camera, match.crop.camera) for match in matches], None, sides)
    told = [_match(match, v.probability, v.same) for match, v in zip(matches, verdicts, strict=True)]
    return AnswerOut(doubt=doubt, evidence=evidence, matches=told)


def _match(match: Match, probability: float | None, same: bool | None) -> MatchOut:
    return MatchOut(
        rank=match.rank,
        distance=match.distance,
        probability=probability,
        same=same,
        crop=CropOut.of(match.crop),
    )


@router.post("/verify")
async def verify(it: It, given: Annotated[VerifyUploads, Form(media_type="multipart/form-data")]) -> VerdictOut:
    """Say whether two pictures show one person, and how likely. They are not kept."""
    verifier = _verifier(it).given(given.prior)
    if given.far is not None:
        verifier.at(given.far)
    looked = await it.look([given.first, given.second])
    vectors = await it.embed(looked)
    first, second = (
        Embeddings(vectors[i : i + 1], (Crop(looked[i].path, camera=camera),), it.embedder.fingerprint)
        for i, camera in enumerate((given.first_camera, given.second_camera))
    )
    quality = (looked[0].quality[None], looked[1].quality[None])
    (verdict,) = verifier.verify(first, second, given.far, quality if verifier.doubt else None)
    limited = math.isfinite(verdict.threshold) and verdict.threshold >= 0
    return VerdictOut(
        same=verdict.same,
        probability=verdict.probability,
        distance=verdict.distance,
        threshold=verdict.threshold if limited else None,
        evidence=verdict.evidence,
        reasons=list(verdict.reasons),
    )


def _verifier(it: Service) -> Verifier:
    if it.verifier is None:
        raise Refused(409, "this service runs without a calibration; start it with --calibration FILE")
    return it.verifier


@router.post("/identify")
async def identify(it: It, given: Annotated[IdentifyUploads, Form(media_type="multipart/form-data")]) -> IdentifyOut:
    """Say which of the people who are enrolled pictures show, or that they show nobody who is. They are not kept."""
    looked = await it.look(given.crop)
    vectors = await it.embed(looked)
    query = Embeddings(vectors, tuple(Crop(one.path) for one in looked), it.embedder.fingerprint)

    def found() -> tuple[int, list[Identity]]:
        who = it.known.identifier()
        return len(who.people_), who.identify(query, given.open, "all" if given.together else "crop", given.k)

    people, identities = await it.run(found)
    return IdentifyOut(people=people, answers=[_identity(identity) for identity in identities])


def _identity(identity: Identity) -> IdentityOut:
    named = [CandidateOut(person=c.pid, distance=c.distance, probability=c.probability) for c in identity.candidates]
    return IdentityOut(person=identity.pid, enrolled=identity.enrolled, candidates=named)
