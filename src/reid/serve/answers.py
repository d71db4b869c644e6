"""What is answered, as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from reid.gallery.rows import row_id
from reid.serve.schemas import Chance, RowId
from reid.types import Crop


def _told(text: object) -> object:
    """Text that can be sent: bytes of a file's or folder's name that are no text are shown as codes."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_told)]


class Problem(BaseModel):
    """A mistake, told in one sentence (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(examples=["nobody in the gallery is called Anna; GET /v1/people tells who is"])


class CropOut(BaseModel):
    """A crop of the gallery."""

    id: RowId
    name: Text = Field(description="Of its file, without the folder.", examples=["c1t004_2.jpg"])
    person: Text | None = Field(None, description="Who it shows, where that is known.", examples=["Anna"])
    camera: Text | None = Field(None, examples=["c1"])
    time: float | None = Field(None, description="In seconds on the cameras' clock.", examples=[304.4])
    tracklet: Text | None = Field(None, examples=["c1t004"])

    @classmethod
    def of(cls, crop: Crop) -> CropOut:
        """A crop as it is told."""
        return cls(
            id=row_id(crop),
            name=crop.name,
            person=crop.pid,
            camera=crop.camera,
            time=crop.time,
            tracklet=crop.tracklet,
        )


class MatchOut(BaseModel):
    """One answer to a search."""

    rank: int = Field(description="1 for the nearest.")
    distance: float = Field(description="From the query; lower is closer.", examples=[0.412])
    probability: Chance | None = Field(
        None, description="That it shows the query's person; null without a calibration.", examples=[0.97]
    )
    same: bool | None = Field(
        None, description="Whether that is more likely than not; null where the query is too poor to tell."
    )
    crop: CropOut


class AnswerOut(BaseModel):
    """The answers to one query."""

    doubt: list[str] = Field(
        description="What makes the query poor evidence: size, blur, cut, dark, bright.", examples=[["blur"]]
    )
    evidence: Chance | None = Field(
        None, description="The share of a distance's evidence that is left; null where unknown."
    )
    matches: list[MatchOut]


class SearchOut(BaseModel):
    """What a search found."""

    model: str = Field(description="Fingerprint of the model.")
    prior: float
    answers: list[AnswerOut]


class VerdictOut(BaseModel):
    """Whether two pictures show one person."""

    same: bool | None = Field(description="null: the pictures are too poor to tell.")
    probability: Chance
    distance: float
    threshold: float | None = Field(
        description="The largest distance that counts as same; null where all or none does."
    )
    evidence: Chance
    reasons: list[str] = Field(examples=[["first: blur"]])


class CandidateOut(BaseModel):
    """Somebody who is enrolled."""

    person: Text
    distance: float
    probability: Chance | None


class IdentityOut(BaseModel):
    """Who a query shows."""

    person: Text | None = Field(description="null: nobody who is enrolled.")
    enrolled: Chance | None = Field(
        description="The probability that it is somebody who is enrolled; null where unknown."
    )
    candidates: list[CandidateOut]


class IdentifyOut(BaseModel):
    """Who the queries show."""

    people: int = Field(description="How many are enrolled.")
    answers: list[IdentityOut]


class RowsOut(BaseModel):
    """Rows of the gallery."""

    rows: list[RowId]


class ChangedOut(BaseModel):
    """How many rows changed."""

    rows: int


class ReceiptOut(BaseModel):
    """What was erased. It holds nothing of what it tells of."""

    what: Text = Field(examples=["people p:1f6e0c1d2b3a4958"])
    rows: int
    by: Text
    at: float = Field(description="In seconds since 1970.")
    entry: int = Field(description="Number of the log's entry.")
    digest: str = Field(description="Of that entry.")


class PersonOut(BaseModel):
    """Somebody who is enrolled."""

    name: Text
    crops: int
    cameras: list[Text]
    first: float | None = Field(description="Time of the earliest crop; null where none has one.")
    last: float | None


class PeopleOut(BaseModel):
    """People by name."""

    total: int
    people: list[PersonOut]


class SightingOut(BaseModel):
    """Somebody seen by one camera for a while."""

    camera: Text | None
    first: float | None
    last: float | None
    crops: list[CropOut]


class TimelineOut(BaseModel):
    """Where and when somebody was seen, earliest first; crops without a time at the end."""

    name: Text
    crops: int
    sightings: list[SightingOut]


class CameraOut(BaseModel):
    """A camera of the gallery."""

    name: Text
    crops: int


class StatsOut(BaseModel):
    """What the gallery holds, and what the service allows."""

    crops: int
    people: int
    cameras: list[CameraOut]
    first: float | None
    last: float | None
    feedback: int
    keep: str | None = Field(description="How long rows are kept; null for ever.", examples=["30d"])
    model: str
    dim: int
    calibrated: bool
    version: str
    max_bytes: int
    max_pixels: int
    max_crops: int


class MeOut(BaseModel):
    """Who asks."""

    name: Text
    roles: list[str]


class HealthOut(BaseModel):
    """Whether the service can answer."""

    status: Literal["ok"] = "ok"
