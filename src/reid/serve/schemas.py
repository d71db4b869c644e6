"""What is sent in, as forms and JSON. Ids of rows are text, because JavaScript's numbers do not hold 63 bits."""

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

from reid.gallery.rows import Where

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
Moment = Annotated[FiniteFloat, Field(ge=0, le=253402300799)]  # to the end of the year 9999
Chance = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Per = Literal["crop", "person"]


class _In(BaseModel):
    """What is sent in: unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


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
    added_before: Moment | None = Field(
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


class VerifyUploads(_In):
    """Two pictures. They are not kept."""

    first: UploadFile
    second: UploadFile
    first_camera: Name | None = None
    second_camera: Name | None = None
    far: Share | None = Field(None, description="Decide by the threshold for this false-accept rate.", examples=[0.01])
    prior: Share = Field(0.5, description="How likely they show one person before they are looked at.")


class IdentifyUploads(_In):
    """Pictures of people who may be enrolled. They are not kept."""

    crop: list[UploadFile] = Field(description="Pictures of one person each.")
    together: bool = Field(False, description="All show one person.")
    k: int = Field(3, ge=1, le=100, description="Candidates an answer names, at most.")
    open: Share | None = Field(
        None, description="They may show nobody who is enrolled: the rate of such that may be named.", examples=[0.01]
    )


class AddUploads(_In):
    """Pictures that are to stay in the gallery, and what is known of them."""

    crop: list[UploadFile] = Field(description="Pictures of one person each.")
    camera: Name | None = None
    time: Seconds | None = Field(
        None, description="Of the first, in seconds on the cameras' clock; the others get the same."
    )
    tracklet: Name | None = None
    tags: Names = []


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
