"""What goes in and out as JSON and forms. Ids of rows are text, because JavaScript's numbers do not hold 63 bits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from reid.gallery.rows import Where, row_id
from reid.types import Crop

MANY = 10_000  # names or rows in one request


def _row(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value, re.ASCII) and int(value) < 1 << 63:
        return int(value)
    raise ValueError("an id of a row is text of up to 19 digits, as this service gives it")


def _printable(value: str) -> str:
    if not value.strip() or any(ord(letter) < 32 for letter in value):
        raise ValueError("a name must not be empty, or hold line ends or other control characters")
    return value


RowId = Annotated[
    int,
    BeforeValidator(_row),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,19}$", "examples": ["9161438751103734724"]}),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Names = Annotated[list[Name], Field(max_length=MANY)]
Seconds = Annotated[FiniteFloat, Field(ge=-1e15, le=1e15)]
Chance = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Per = Literal["crop", "person"]


class _In(BaseModel):
    """What is sent in: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """A mistake, told in one sentence (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(examples=["nobody is called Anna; `people` lists everybody"])


class Filter(_In):
    """Which rows: those that satisfy everything that is given."""

    rows: Annotated[list[RowId], Field(max_length=MANY)] | None = Field(None, description="Only these.")
    cameras: Names | None = Field(None, description="Only of these cameras.", examples=[["c1", "c3"]])
    not_cameras: Names = Field([], description="Of none of these; rows without a camera stay.")
    people: Names | None = Field(None, description="Only of these people.")
    tracklets: Names | None = Field(None, description="Only of these tracklets.")
    tags: Names = Field([], description="Only rows that carry all of these.")
    after: Seconds | None = Field(None, description="Only from this time on, in seconds on the cameras' clock.")
    before: Seconds | None = Field(None, description="Only up to this time.")
    added_before: Seconds | None = Field(
        None, description="Only what came in before this moment, in seconds since 1970."
    )

    def where(self) -> Where:
        """The same for a gallery."""

        def chosen(names: list[Any] | None) -> frozenset[Any] | None:
            return None if names is None else frozenset(names)

        return Where(
            ids=chosen(self.rows),
            cameras=chosen(self.cameras),
            not_cameras=frozenset(self.not_cameras),
            after=self.after,
            before=self.before,
            people=chosen(self.people),
            tracklets=chosen(self.tracklets),
            tags=frozenset(self.tags),
            added_before=self.added_before,
        )


class Search(Filter):
    """What a search asks for, beside its query."""

    k: int = Field(20, ge=1, le=1000, description="Answers per query, at most.")
    per: Per = Field(
        "crop",
        description="`crop`; or `person`: the nearest crop of each person, and of each tracklet that is nobody's.",
    )
    other_cameras: bool = Field(False, description="Leave out the camera that saw the query.")
    prior: Share = Field(0.5, description="How likely an answer shows the query's person before it is looked at.")


class SearchUploads(Search):
    """A search for pictures that are sent along. They are not kept."""

    crop: list[UploadFile] = Field(description="Pictures of one person each, cut out of their frames.")
    camera: Name | None = Field(None, description="That took them.")
    together: bool = Field(
        False, description="All show one person: search for them as one, by the mean of their vectors."
    )


class CropOut(BaseModel):
    """A crop of the gallery."""

    id: RowId
    name: str = Field(description="Of its file, without the folder.", examples=["c1t004_2.jpg"])
    person: str | None = Field(None, description="Who it shows, where that is known.", examples=["Anna"])
    camera: str | None = Field(None, examples=["c1"])
    time: float | None = Field(None, description="In seconds on the cameras' clock.", examples=[304.4])
    tracklet: str | None = Field(None, examples=["c1t004"])

    @classmethod
    def of(cls, crop: Crop) -> CropOut:
        """A crop as it is told."""
        return cls(
            id=row_id(crop),
            name=_told(crop.name),
            person=crop.pid and _told(crop.pid),
            camera=crop.camera and _told(crop.camera),
            time=crop.time,
            tracklet=crop.tracklet and _told(crop.tracklet),
        )


def _told(text: str) -> str:
    """Text that can be sent: bytes of a file name that are no text are shown as codes."""
    return text.encode("utf-8", "backslashreplace").decode()


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


class VerifyUploads(_In):
    """Two pictures. They are not kept."""

    first: UploadFile
    second: UploadFile
    first_camera: Name | None = None
    second_camera: Name | None = None
    far: Share | None = Field(None, description="Decide by the threshold for this false-accept rate.", examples=[0.01])
    prior: Share = Field(0.5, description="How likely they show one person before they are looked at.")


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


class IdentifyUploads(_In):
    """Pictures of people who may be enrolled. They are not kept."""

    crop: list[UploadFile] = Field(description="Pictures of one person each.")
    together: bool = Field(False, description="All show one person.")
    k: int = Field(3, ge=1, le=100, description="Candidates an answer names, at most.")
    open: Share | None = Field(
        None, description="They may show nobody who is enrolled: the rate of such that may be named.", examples=[0.01]
    )


class CandidateOut(BaseModel):
    """Somebody who is enrolled."""

    person: str
    distance: float
    probability: Chance | None


class IdentityOut(BaseModel):
    """Who a query shows."""

    person: str | None = Field(description="null: nobody who is enrolled.")
    enrolled: Chance | None = Field(
        description="The probability that it is somebody who is enrolled; null where unknown."
    )
    candidates: list[CandidateOut]


class IdentifyOut(BaseModel):
    """Who the queries show."""

    people: int = Field(description="How many are enrolled.")
    answers: list[IdentityOut]


class AddUploads(_In):
    """Pictures that are to stay in the gallery, and what is known of them."""

    crop: list[UploadFile] = Field(description="Pictures of one person each.")
    camera: Name | None = None
    time: Seconds | None = Field(
        None, description="Of the first, in seconds on the cameras' clock; the others get the same."
    )
    tracklet: Name | None = None
    tags: Names = []


class RowsOut(BaseModel):
    """Rows of the gallery."""

    rows: list[RowId]


class ChangedOut(BaseModel):
    """How many rows changed."""

    rows: int


class Enrol(_In):
    """Rows that show a person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Anna", "rows": ["9161438751103734724"]}]})
    name: Name
    rows: Annotated[list[RowId], Field(min_length=1, max_length=MANY)]


class Rename(_In):
    """Another name for a person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ana", "new": "Anna"}]})
    name: Name
    new: Name


class Merge(_In):
    """People who are one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"names": ["Anna", "visitor 7"], "into": "Anna"}]})
    names: Annotated[list[Name], Field(min_length=1, max_length=MANY)]
    into: Name


class Split(_In):
    """Rows of a person that show somebody else."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Anna", "rows": ["17"], "new": "Bea"}]})
    name: Name
    rows: Annotated[list[RowId], Field(min_length=1, max_length=MANY)]
    new: Name


class Forget(_In):
    """Somebody whose crops stay, without a name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Anna"}]})
    name: Name


class Word(_In):
    """Whether two rows show one person."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "9161438751103734724", "answer": "17", "same": True}]}
    )
    query: RowId
    answer: RowId
    same: bool


class Erase(Filter):
    """Which rows to erase."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"people": ["Anna"], "expect": 12}]})
    expect: int | None = Field(
        None, ge=0, description="How many rows that should be; where it is another number, nothing is erased."
    )


class ReceiptOut(BaseModel):
    """What was erased. It holds nothing of what it tells of."""

    what: str = Field(examples=["people p:1f6e0c1d2b3a4958"])
    rows: int
    by: str
    at: float = Field(description="In seconds since 1970.")
    entry: int = Field(description="Number of the log's entry.")
    digest: str = Field(description="Of that entry.")


class PersonOut(BaseModel):
    """Somebody who is enrolled."""

    name: str
    crops: int
    cameras: list[str]
    first: float | None = Field(description="Time of the earliest crop; null where none has one.")
    last: float | None


class PeopleOut(BaseModel):
    """People by name."""

    total: int
    people: list[PersonOut]


class SightingOut(BaseModel):
    """Somebody seen by one camera for a while."""

    camera: str | None
    first: float | None
    last: float | None
    crops: list[CropOut]


class TimelineOut(BaseModel):
    """Where and when somebody was seen, earliest first; crops without a time at the end."""

    name: str
    crops: int
    sightings: list[SightingOut]


class CameraOut(BaseModel):
    """A camera of the gallery."""

    name: str
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

    name: str
    roles: list[str]


class HealthOut(BaseModel):
    """Whether the service can answer."""

    status: Literal["ok"] = "ok"
