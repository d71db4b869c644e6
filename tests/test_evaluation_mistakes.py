"""What cannot be measured is refused with one sentence, and the documents quote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid import evaluation, files, foreign
from reid.cli import main
from reid.errors import ReidError
from reid.types import Crop, Embeddings, Ranking

DOCUMENT = Path(__file__).parents[1] / "docs" / "evaluation.md"
QUERY = [Crop("q0.jpg", "1", "a"), Crop("q1.jpg", "2", "a")]
GALLERY = [Crop("g0.jpg", "1", "b"), Crop("g1.jpg", "2", "b"), Crop("g2.jpg", "3", "b")]
GOOD = np.array([[0.1, 0.4, 0.5], [0.4, 0.1, 0.5]])


def embeddings(crops: list[Crop], values: object = 1.0, model: str = "m") -> Embeddings:
    return Embeddings(np.full((len(crops), 2), values, dtype=np.float32), tuple(crops), model)


def evaluate(distances: object, protocol: str = "market1501", ranks: tuple[int, ...] = (1,), who: str = "") -> object:
    query = [replace(c, pid=c.pid if not who else who + str(c.pid)) for c in QUERY]
    return evaluation.evaluate_distances(distances, query, GALLERY, protocol, ranks)  # type: ignore[arg-type]


def in_split(crop: Crop, name: str) -> Crop:
    return replace(crop, extra={"split": name})


def with_value(value: float) -> np.ndarray:
    broken = GOOD.copy()
    broken[1, 2] = value
    return broken


def lists(folder: Path, *rows: list[int]) -> Ranking:
    np.save("r.npy", np.array(rows))
    return foreign.read_ranking("r.npy", 2, 3)


def blocks(*parts: slice) -> Iterator[tuple[slice, np.ndarray]]:
    return ((part, GOOD[part].astype(np.float32)) for part in parts)


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a matrix the wrong way round": (
        lambda _: evaluate(GOOD.T),
        "distances are (3, 2), for 2 queries and a gallery of 3; they must be (queries, gallery), and each query come "
        "once",
    ),
    "a query twice": (
        lambda _: evaluate(blocks(slice(0, 2), slice(1, 2))),
        "distances are (1, 3) from query 1 on, for 2 queries and a gallery of 3; they must be (queries, gallery), and "
        "each query come once",
    ),
    "queries without distances": (
        lambda _: evaluate(blocks(slice(0, 1))),
        "queries without distances: 1 of 2; give those of all",
    ),
    "a distance that is NaN": (
        lambda _: evaluate(with_value(np.nan)),
        "a distance of query 1 (q1.jpg) is not a number; compute it again",
    ),
    "an embedding that is NaN": (
        lambda _: embeddings(QUERY, [[0.0, 1.0], [np.nan, 0.0]]),
        "1 embedding is not finite, the first in row 1 (q1.jpg); drop them or embed those crops again",
    ),
    "embeddings of another size": (
        lambda _: evaluation.evaluate(embeddings(QUERY), Embeddings(np.ones((3, 4), np.float32), tuple(GALLERY), "m")),
        "queries have 2 values each and the gallery 4; they come from different models, embed both with one",
    ),
    "more crops than embeddings": (
        lambda _: Embeddings(np.ones((1, 2), np.float32), tuple(QUERY), "m"),
        "embeddings: 1, crops: 2; each crop needs one embedding",
    ),
    "two models": (
        lambda _: evaluation.evaluate(embeddings(QUERY), embeddings(GALLERY, model="other")),
        "queries and gallery were embedded by different models; embed both with the same one",
    ),
    "ranks out of order": (
        lambda _: evaluate(GOOD, ranks=(5, 1)),
        "ranks are [5, 1]; they must ascend, each once, from 1 on",
    ),
    "a rank twice": (
        lambda _: evaluate(GOOD, ranks=(1, 1)),
        "ranks are [1, 1]; they must ascend, each once, from 1 on",
    ),
    "a ranking whose distances do not ascend": (
        lambda _: Ranking(np.array([[0, 1]]), np.array([[0.5, 0.1]])),
        "a ranking's distances must ascend in each row",
    ),
    "a ranked list that names a row twice": (
        lambda folder: lists(folder, [0, 1, 2], [1, 1, 0]),
        "list 1 of r.npy names a gallery row twice; list each once",
    ),
    "a ranked list of another gallery": (
        lambda folder: lists(folder, [0, 1, 2], [1, 7, 0]),
        "list 1 of r.npy names gallery row 7; rows of this gallery are numbered 0 to 2, and −1 fills up a list",
    ),
    "lists for fewer queries": (
        lambda folder: lists(folder, [0, 1, 2]),
        "ranked lists in r.npy: 1, queries: 2; give each query one list",
    ),
    "people named otherwise in the two sets": (
        lambda _: evaluate(GOOD, who="p"),
        "nobody is both among the queries (such as p1) and in the gallery (such as 1); name people alike in both",
    ),
    "nobody named": (
        lambda _: evaluation.query_and_gallery([Crop("a.jpg"), Crop("b.jpg")]),
        "nobody is named, so there is nobody to search for; name people, in a table with a column pid or by a folder "
        "for each",
    ),
    "queries without names": (
        lambda _: evaluation.evaluate_distances(GOOD, [Crop("a.jpg"), Crop("b.jpg")], GALLERY),
        "nobody is named among the queries, so there is nobody to search for; name people, in a table with a column "
        "pid or by a folder for each",
    ),
    "a single camera": (
        lambda _: evaluation.evaluate_distances(GOOD, [replace(crop, camera="b") for crop in QUERY], GALLERY),
        "all crops are from camera b, and the market1501 protocol takes out what the query's own camera saw; add crops "
        "of these people from another camera, or evaluate with the diagonal protocol",
    ),
    "each person in one camera": (
        lambda _: evaluation.evaluate_distances(
            GOOD, [QUERY[0], replace(QUERY[1], camera="b")], [replace(GALLERY[0], camera="a"), *GALLERY[1:]]
        ),
        "everybody is in one camera or one picture only, and the market1501 protocol takes out what the query's own "
        "camera saw; add crops of these people from another camera, or evaluate with the diagonal protocol",
    ),
    "nobody held out": (
        lambda _: evaluation.query_and_gallery(GALLERY, 0),
        "people to be held out: 0, of 3; hold out 1 to 3",
    ),
    "a misspelt split": (
        lambda _: evaluation.query_and_gallery([in_split(QUERY[0], "query"), in_split(GALLERY[0], "galery")]),
        "split has 'galery', which looks like gallery (it has galery, query); write gallery, or call another part "
        "otherwise",
    ),
    "queries without a gallery": (
        lambda _: evaluation.query_and_gallery([in_split(QUERY[0], "query"), in_split(GALLERY[0], "test")]),
        "split has query but no gallery (it has query, test); call the crops that are the gallery so, or hold people "
        "out instead",
    ),
    "a protocol that does not exist": (
        lambda _: evaluate(GOOD, "market"),
        "protocol is 'market'; it can be market1501, cuhk03, cross-camera, diagonal",
    ),
    "cross-camera without cameras": (
        lambda _: evaluation.evaluate_distances(GOOD, [Crop("a", "1"), Crop("b", "2")], GALLERY, "cross-camera"),
        "the cross-camera protocol takes out what the query's camera saw, and no query names its camera; give cameras, "
        "or evaluate with the diagonal protocol",
    ),
}
NO_CAMERA = "no camera is known, so matches within one camera count, which are far easier to find"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    act, said = MISTAKES[name]
    with pytest.raises(ReidError) as error:
        act(tmp_path)
    assert str(error.value) == said
    assert f"| {name} | {said} |" in DOCUMENT.read_text(encoding="utf-8")


def test_no_cameras_are_told_beside_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = embeddings([replace(crop, camera=None) for crop in (*QUERY, *GALLERY)], [[i, 1.0] for i in range(5)])
    files.save(made[:2], tmp_path / "q.npz")
    files.save(made[2:], tmp_path / "g.npz")
    main(["evaluate", str(tmp_path / "q.npz"), str(tmp_path / "g.npz")])
    out, err = capsys.readouterr()
    assert "rank-1" in out
    assert err == f"{NO_CAMERA}\n"
    assert f"| no cameras with another protocol | {NO_CAMERA} (beside the figures) |" in DOCUMENT.read_text("utf-8")


def test_what_is_right_is_measured() -> None:
    assert evaluation.evaluate_distances(GOOD, QUERY, GALLERY).metrics["rank-1"] == 1
