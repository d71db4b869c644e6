from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reid.errors import DataError, ReidError, ShapeError
from reid.types import ROLES, Crop, Embeddings, Match, Ranking, Report

text = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=20)
maybe = st.none() | text
moments = st.none() | st.floats(allow_nan=False, allow_infinity=False)
crops = st.builds(
    Crop, text, maybe, maybe, moments, maybe, st.sampled_from(ROLES), st.dictionaries(text, text, max_size=3)
)


@st.composite
def embeddings(draw: st.DrawFn) -> Embeddings:
    rows = tuple(draw(st.lists(crops, max_size=6)))
    shape = (len(rows), draw(st.integers(1, 5)))
    values = st.floats(-(2.0**100), 2.0**100, width=32)
    return Embeddings(draw(arrays(np.float32, shape, elements=values)), rows, draw(text))


@settings(max_examples=60, deadline=None)
@given(made=embeddings())
def test_embeddings_come_back_without_loss(made: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("e") / "e.npz"
    made.save(path)
    assert Embeddings.load(path) == made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", ""),
        ("path", None),
        ("pid", ""),
        ("pid", 3),
        ("camera", "a\0b"),
        ("time", math.nan),
        ("time", "noon"),
        ("role", "boss"),
    ],
)
def test_crop_is_checked(field: str, value: object) -> None:
    with pytest.raises(DataError, match=r"must be|can be"):
        Crop(**{"path": "a.jpg", field: value})  # type: ignore[arg-type]


def test_crop_time_is_a_float_and_values_are_frozen() -> None:
    crop = Crop("street/a.jpg", time=3)
    assert isinstance(crop.time, float)
    assert crop.name == "a.jpg"
    with pytest.raises(AttributeError):
        crop.pid = "1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("vectors", "count", "message"),
    [
        (np.zeros(3, np.float32), 3, r"\(N, D\)"),
        (np.zeros((2, 3), int), 2, "floating point"),
        (np.zeros((2, 3), np.float32), 1, "each crop needs one"),
        (np.array([[0, np.nan], [0, 0]], np.float32), 2, "not finite, the first in row 0"),
        (np.array([[0, 0], [np.inf, -np.inf]], np.float32), 2, "not finite, the first in row 1"),
    ],
)
def test_embeddings_are_checked(vectors: np.ndarray, count: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Embeddings(vectors, (Crop("a"), Crop("b"), Crop("c"))[:count], "m")


def test_embeddings_need_a_model_and_cannot_be_written_to() -> None:
    with pytest.raises(ShapeError, match="fingerprint"):
        Embeddings(np.zeros((1, 2), np.float32), (Crop("a"),), "")
    made = Embeddings(np.zeros((1, 2), np.float32), (Crop("a"),), "m")
    with pytest.raises(ValueError, match="read-only"):
        made.vectors[0, 0] = 1


def test_embeddings_rows_are_chosen_by_slice_list_and_mask(people: Embeddings) -> None:
    assert people[2:5].crops == people.crops[2:5]
    assert people[[4, 1]].crops == (people.crops[4], people.crops[1])
    mask = np.array([c.pid == "3" for c in people.crops])
    assert {c.pid for c in people[mask].crops} == {"3"}


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "pickled.npz", vectors=np.array([{}], dtype=object), crops=np.zeros(0), model=np.array("m"))
    for name, message in (
        ("other", "holds a"),
        ("broken", "not a readable"),
        ("pickled", "not a readable"),
        ("none", "exist"),
    ):
        with pytest.raises(DataError, match=message):
            Embeddings.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    ("ids", "distances", "message"),
    [
        ([[0, 1]], [[0.1]], "same"),
        ([[0, 1]], [[0.2, 0.1]], "ascend"),
        ([[0, -1]], [[0.2, 0.3]], "pads"),
        ([[0, 1]], [[0.2, np.inf]], "pads"),
        ([[0, 1]], [[np.nan, 0.1]], "not a number"),
        ([[0.0, 1.0]], [[0.1, 0.2]], "integers"),
    ],
)
def test_ranking_is_checked(ids: list[list[float]], distances: list[list[float]], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        Ranking(np.array(ids), np.array(distances))


def test_ranking_gives_matches_without_padding() -> None:
    ranking = Ranking(np.array([[1, 0], [0, -1]]), np.array([[0.1, 0.4], [0.2, np.inf]]))
    first, second = ranking.matches([Crop("a"), Crop("b")])
    assert [(m.crop.path, m.rank) for m in first] == [("b", 1), ("a", 2)]
    assert [m.crop.path for m in second] == ["a"]


@pytest.mark.parametrize("bad", [{"distance": -1.0}, {"distance": math.inf}, {"rank": 0}, {"probability": 1.5}])
def test_match_is_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ShapeError, match=next(iter(bad))):
        Match(**{"crop": Crop("a"), "distance": 0.5, "rank": 1, **bad})  # type: ignore[arg-type]


def test_report_is_checked_and_comes_back() -> None:
    report = Report({"mAP": 0.5}, "market1501", 10, 1, 100, intervals={"mAP": (0.4, 0.6)})
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(ReidError, match="mAP"):
        Report({"mAP": 50.0}, "market1501", 10, 1, 100)
