"""The service: every address does what the library does, for those who may."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reid import quality
from reid.embed import Embedder
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Where, row_id, upload_path
from reid.gallery.sqlite import SqliteStore
from reid.serve.known import Known
from reid.serve.people import sightings
from reid.serve.tokens import ROLES, Tokens, grant
from reid.types import Crop, Embeddings
from tests.served import Served, jpeg, serving


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Served]:
    """For tests that change nothing."""
    with serving(tmp_path_factory.mktemp("looked"), embedder) as served:
        yield served


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder) -> Iterator[Served]:
    with serving(tmp_path, embedder) as served:
        yield served


def files(*seeds: int, name: str = "crop") -> list[tuple[str, tuple[str, bytes]]]:
    return [(name, ("photo", jpeg(seed))) for seed in seeds]


def vectors(embedder: Embedder, *seeds: int) -> Any:
    return embedder.arrays([np.asarray(Image.open(io.BytesIO(jpeg(seed)))) for seed in seeds])


def id_of(crop: Crop) -> str:
    return str(row_id(crop))


# ── looking ──


@pytest.mark.parametrize("per", ["crop", "person"])
@pytest.mark.parametrize("others", [False, True])
def test_a_search_answers_as_the_gallery_does(looked: Served, embedder: Embedder, per: str, others: bool) -> None:
    form = {"k": "7", "per": per, "camera": "c1", "other_cameras": str(others).lower(), "after": "1", "before": "205"}
    answers = looked.post("/v1/search", files=files(11, 72), data=form).json()["answers"]
    crops = tuple(Crop(upload_path(jpeg(seed)), camera="c1") for seed in (11, 72))
    query = Embeddings(vectors(embedder, 11, 72), crops, embedder.fingerprint)
    expected = looked.gallery.search(query, 7, Where(after=1, before=205), others, per)  # type: ignore[arg-type]
    for answer, found in zip(answers, expected, strict=True):
        assert [m["crop"]["id"] for m in answer["matches"]] == [id_of(m.crop) for m in found]
        np.testing.assert_allclose([m["distance"] for m in answer["matches"]], [m.distance for m in found], atol=1e-5)


def test_probabilities_are_the_verifiers_and_doubt_is_told(looked: Served, embedder: Embedder) -> None:
    assert looked.service.verifier
    wide = jpeg(11, (64, 64))
    answer = looked.post("/v1/search", files=[("crop", ("a", wide))], data={"k": "3", "prior": "0.2"}).json()[
        "answers"
    ][0]
    measured = quality.measure(np.asarray(Image.open(io.BytesIO(wide))))
    doubt = looked.service.verifier.doubt
    assert doubt
    evidence = doubt.evidence(measured[None], np.array(doubt.typical)[None])
    assert answer["doubt"] == list(doubt.reasons(measured)) == ["cut"]
    assert answer["evidence"] == pytest.approx(float(evidence[0]))
    given = looked.service.verifier.given(0.2)
    for match in answer["matches"]:
        p = given.probability(np.array([match["distance"]]), None, evidence)
        assert match["probability"] == pytest.approx(float(p[0]))


def test_several_pictures_of_one_person_are_one_query(looked: Served, embedder: Embedder) -> None:
    answers = looked.post("/v1/search", files=files(11, 12), data={"together": "true", "k": "5"}).json()["answers"]
    mean = vectors(embedder, 11, 12).mean(axis=0, keepdims=True)
    query = Embeddings(mean, (Crop(upload_path(jpeg(11))),), embedder.fingerprint)
    (expected,) = looked.gallery.search(query, 5)
    assert [[m["crop"]["id"] for m in answer["matches"]] for answer in answers] == [[id_of(m.crop) for m in expected]]


def test_a_search_from_a_crop_leaves_it_out(looked: Served) -> None:
    crop = looked.crops[4]
    answer = looked.get(f"/v1/crops/{id_of(crop)}/similar", params={"k": 30, "cameras": ["c1", "c2"]}).json()[
        "answers"
    ][0]
    (expected,) = looked.gallery.search(
        looked.gallery.embeddings(Where(ids=frozenset({row_id(crop)}))), 30, Where(cameras=frozenset({"c1", "c2"}))
    )
    assert [m["crop"]["id"] for m in answer["matches"]] == [id_of(m.crop) for m in expected]
    assert id_of(crop) not in {m["crop"]["id"] for m in answer["matches"]}
    assert looked.get("/v1/crops/17/similar").status_code == 404


def test_two_pictures_are_judged_as_the_verifier_does(looked: Served, embedder: Embedder) -> None:
    assert looked.service.verifier
    told = looked.post("/v1/verify", files=[*files(1, name="first"), *files(2, name="second")]).json()
    both = [Embeddings(vectors(embedder, seed), (Crop("x"),), embedder.fingerprint) for seed in (1, 2)]
    measured = [quality.measure(np.asarray(Image.open(io.BytesIO(jpeg(seed)))))[None] for seed in (1, 2)]
    (verdict,) = looked.service.verifier.verify(*both, None, (measured[0], measured[1]))
    assert told["probability"] == pytest.approx(verdict.probability)
    assert (told["same"], told["reasons"]) == (verdict.same, list(verdict.reasons))
    far = looked.post("/v1/verify", files=[*files(1, name="first"), *files(2, name="second")], data={"far": "0.001"})
    assert far.status_code == 422
    assert "a false-accept rate of 0.001" in far.json()["detail"]


def test_identify_names_who_is_enrolled(looked: Served) -> None:
    told = looked.post("/v1/identify", files=files(20), data={"k": "2"}).json()
    assert told["people"] == 4
    (answer,) = told["answers"]
    assert answer["person"] == "person 2"
    assert len(answer["candidates"]) == 2


# ── people ──


def test_people_are_listed_in_pages(looked: Served) -> None:
    first = looked.get("/v1/people", params={"limit": 3}).json()
    rest = looked.get("/v1/people", params={"limit": 3, "offset": 3}).json()
    assert first["total"] == 4
    assert [p["name"] for p in first["people"] + rest["people"]] == [f"person {i}" for i in range(4)]
    assert first["people"][0] == {
        "name": "person 0",
        "crops": 3,
        "cameras": ["c0", "c1", "c2"],
        "first": 0.0,
        "last": 200.0,
    }


def test_a_timeline_puts_sightings_in_order(looked: Served) -> None:
    told = looked.get("/v1/timeline", params={"person": "person 1"}).json()
    assert told["crops"] == 3
    assert [(s["camera"], s["first"], len(s["crops"])) for s in told["sightings"]] == [
        ("c0", 1, 1),
        ("c1", 101, 1),
        ("c2", 201, 1),
    ]
    assert looked.get("/v1/timeline", params={"tracklet": "t7-1"}).json()["crops"] == 1
    assert looked.get("/v1/timeline", params={"person": "nobody"}).status_code == 404
    assert looked.get("/v1/timeline").status_code == 422


def test_crops_near_in_time_of_one_camera_are_one_sighting() -> None:
    times = [("a", 0.0), ("b", 5.0), ("a", 10.0), ("a", 39.0), ("a", 80.0), (None, None), (None, None)]
    crops = [Crop(f"{i}", camera=camera, time=time) for i, (camera, time) in enumerate(times)]
    found = [(s.camera, s.first, s.last, len(s.crops)) for s in sightings(crops)]
    assert found == [("a", 0, 39, 3), ("b", 5, 5, 1), ("a", 80, 80, 1), (None, None, None, 2)]


def test_pictures_are_small_and_only_pictures(served: Served, tmp_path: Path, embedder: Embedder) -> None:
    kept = served.get(f"/v1/crops/{id_of(served.crops[0])}/picture")
    assert kept.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(kept.content)).size == (32, 64)
    large, secret = tmp_path / "large.png", tmp_path / "secret.txt"
    large.write_bytes(jpeg(5, (300, 900)))
    secret.write_text("not a picture")
    made = Embeddings(vectors(embedder, 5, 6), (Crop(str(large)), Crop(str(secret))), embedder.fingerprint)
    of_file, of_text = served.gallery.add(made)
    assert Image.open(io.BytesIO(served.get(f"/v1/crops/{of_file}/picture").content)).size == (85, 256)
    assert served.get(f"/v1/crops/{of_text}/picture").status_code == 404
    assert served.get("/v1/people/picture", params={"person": "person 0"}).status_code == 200
    assert served.get(f"/v1/crops/{id_of(served.crops[0])}").json()["person"] == "person 0"


def test_pictures_that_are_added_can_be_enrolled_and_corrected(served: Served) -> None:
    added = served.post("/v1/crops", files=files(900, 901, 902), data={"camera": "c9", "time": "7", "tags": "door"})
    rows = added.json()["rows"]
    assert added.status_code == 201
    assert rows == [id_of(Crop(upload_path(jpeg(seed)))) for seed in (900, 901, 902)]
    assert served.post("/v1/people/enrol", json={"name": "Ada", "rows": rows}).json() == {"rows": 3}
    assert served.post("/v1/people/split", json={"name": "Ada", "rows": rows[:1], "new": "Bo"}).json() == {"rows": 1}
    assert served.post("/v1/people/rename", json={"name": "Bo", "new": "Ben"}).json() == {"rows": 1}
    taken = served.post("/v1/people/rename", json={"name": "Ben", "new": "Ada"})
    assert (taken.status_code, "merge them" in taken.json()["detail"]) == (409, True)
    assert served.post("/v1/people/merge", json={"names": ["Ben", "Ada"], "into": "Ada"}).json() == {"rows": 1}
    assert {p["name"]: p["crops"] for p in served.get("/v1/people").json()["people"]}["Ada"] == 3
    assert served.post("/v1/people/forget", json={"name": "Ada"}).json() == {"rows": 3}
    assert served.post("/v1/people/forget", json={"name": "Ada"}).status_code == 404
    assert served.gallery.count(Where(tags=frozenset({"door"}))) == 3
    assert served.post("/v1/people/enrol", json={"name": "Ada", "rows": ["5"]}).status_code == 404
    assert {entry.by for entry in served.gallery.audit()} == {"tests", "local"}


def test_what_is_said_anew_of_the_same_file_corrects_it(served: Served) -> None:
    for data in ({"camera": "door", "time": "7"}, {"camera": "yard"}):
        (row,) = served.post("/v1/crops", files=files(904), data=data).json()["rows"]
    crop = served.get(f"/v1/crops/{row}").json()
    assert (crop["camera"], crop["time"], served.gallery.count()) == ("yard", 7, 25)


def test_feedback_is_kept(served: Served) -> None:
    a, b = id_of(served.crops[0]), id_of(served.crops[1])
    for same in (True, False):
        assert served.post("/v1/feedback", json={"query": a, "answer": b, "same": same}).status_code == 200
    (word,) = served.gallery.feedbacks()
    assert ({word.query, word.answer}, word.same) == ({int(a), int(b)}, False)
    assert served.get("/v1/stats").json()["feedback"] == 1
    assert served.post("/v1/feedback", json={"query": a, "answer": "3", "same": True}).status_code == 404
    assert served.post("/v1/feedback", json={"query": a, "answer": a, "same": True}).status_code == 409


def test_a_full_disk_is_no_mistake_of_who_asks(served: Served) -> None:
    assert isinstance(served.gallery.store, SqliteStore)
    served.gallery.store._connection.execute("PRAGMA max_page_count=1")  # that is, no more than there are
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(large, "PNG")
    full = served.post("/v1/crops", files=[("crop", ("a", large.getvalue()))])
    assert (full.status_code, "disk is full" in full.json()["detail"]) == (503, True)
    assert served.gallery.count() == 24
    served.gallery.store._connection.execute("PRAGMA max_page_count=1000000")
    assert served.post("/v1/crops", files=[("crop", ("a", large.getvalue()))]).status_code == 201


# ── erasing and upkeep ──


def test_erasing_takes_as_many_as_were_expected_and_gives_a_receipt(served: Served) -> None:
    vector = served.gallery.embeddings(Where(people=frozenset({"person 1"}))).vectors[0].astype(np.float16).tobytes()

    def held() -> bool:
        return any(vector in file.read_bytes() for file in served.path.parent.glob("people.db*"))

    assert held()
    wanted = {"people": ["person 1"]}
    assert served.post("/v1/count", json=wanted).json() == {"rows": 3}
    wrong = served.post("/v1/erase", json=wanted | {"expect": 2})
    assert (wrong.status_code, served.gallery.count()) == (409, 24)
    receipt = served.post("/v1/erase", json=wanted | {"expect": 3}).json()
    assert (receipt["rows"], receipt["by"], served.gallery.count()) == (3, "local", 21)
    assert "person 1" not in receipt["what"]
    (entry,) = [entry for entry in served.gallery.audit() if entry.number == receipt["entry"]]
    assert entry.digest == receipt["digest"]
    assert not held()
    assert served.get(f"/v1/crops/{id_of(served.crops[3])}/picture").status_code == 404
    assert [p["name"] for p in served.get("/v1/people").json()["people"]] == ["person 0", "person 2", "person 3"]
    assert served.post("/v1/erase", json={}).status_code == 422
    for nobody in ({"people": ["person 1"]}, {"cameras": ["c99"]}, {"rows": ["5"]}):
        assert served.post("/v1/erase", json=nobody).status_code == 404


def test_stats_health_and_meters(looked: Served) -> None:
    told = looked.get("/v1/stats").json()
    assert (told["crops"], told["people"], told["first"], told["last"]) == (24, 4, 0.0, 207.0)
    assert told["cameras"] == [{"name": f"c{i}", "crops": 8} for i in range(3)]
    assert looked.get("/health").json() == {"status": "ok"}
    looked.get("/v1/crops/123")
    text = looked.get("/v1/metrics").text
    assert 'reid_requests_total{method="GET",route="/v1/crops/{row}",status="404"}' in text
    assert "reid_gallery_rows 24.0" in text
    assert "person 1" not in text


@pytest.mark.parametrize("tells", [True, False])
def test_nobody_is_identified_by_what_was(served: Served, monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    """Not even where as many crops of as many people, cameras and times are there as before."""
    now = [0.0]
    served.service.known = known = Known(served.gallery, lambda: now[0])
    if not tells:
        monkeypatch.setattr("reid.serve.known.state", lambda store: None)
    same = {"camera": "c9", "time": "7"}
    rows = served.post("/v1/crops", files=files(900, 901, 902), data=same).json()["rows"]

    def enrol(name: str, row: str) -> None:
        served.post("/v1/people/enrol", json={"name": name, "rows": [row]})

    def named() -> tuple[str, bool]:
        (answer,) = served.post("/v1/identify", files=files(900), data={"k": "1"}).json()["answers"]
        (nearest,) = answer["candidates"]
        return nearest["person"], nearest["distance"] < 0.01

    enrol("Ada", rows[0])
    enrol("Bo", rows[1])
    before = known.extent()
    assert named() == ("Ada", True)
    for name, new in (("Ada", "somebody"), ("Bo", "Ada"), ("somebody", "Bo")):
        served.post("/v1/people/rename", json={"name": name, "new": new})
    assert named() == ("Bo", True)
    learnt = known.identifier()
    served.post("/v1/feedback", json={"query": rows[0], "answer": rows[1], "same": False})
    served.post("/v1/crops", files=files(903))
    now[0] += 1000
    assert known.identifier() is learnt  # of those who are enrolled nothing has changed
    with Gallery.open(served.path) as other:
        other.erase(Where(ids=frozenset({int(rows[0])})))
        other.enrol("Bo", Where(ids=frozenset({int(rows[2])})))
    now[0] += 0 if tells else 1000
    assert named()[1] is False
    assert known.extent().people == before.people
    assert known._identifier
    served.post("/v1/erase", json={"rows": rows[2:]})
    assert known._identifier is None  # nothing of what was erased stays in memory


def test_a_change_of_which_nobody_waits_for_the_end_is_seen(served: Served, embedder: Embedder) -> None:
    known, go = served.service.known, threading.Event()

    def slow() -> None:
        go.wait(10)
        served.gallery.rename("person 3", "Cleo")

    async def given_up() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(served.service.change(slow), 0.01)
        marks.append(known._mark)
        go.set()

    marks: list[object] = []
    asyncio.run(given_up())
    until = time.monotonic() + 10
    while known._mark is marks[0] and time.monotonic() < until:
        time.sleep(0.01)
    assert known._mark is not marks[0]


def test_what_another_process_writes_is_seen(served: Served, embedder: Embedder) -> None:
    with Gallery.open(served.path) as other:
        other.rename("person 3", "Cleo")
    assert "Cleo" in {p["name"] for p in served.get("/v1/people").json()["people"]}


# ── who may ──

SPARE = {"row": "17"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[tuple[Served, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("guarded")
    tokens = {role: grant(folder / "tokens", role, [role]) for role in ROLES}
    with serving(folder, embedder, tokens=Tokens(folder / "tokens")) as served:
        yield served, tokens


def test_every_address_refuses_without_the_right_role(guarded: tuple[Served, dict[str, str]]) -> None:
    served, tokens = guarded
    before = [entry.digest for entry in served.gallery.audit()]
    described = served.get("/openapi.json").json()
    roles: dict[str, int] = dict.fromkeys(ROLES, 0)
    for path, methods in described["paths"].items():
        if path == "/health":
            continue
        for method, about in methods.items():
            role = next(r for r in ROLES if f"`{r}`" in about["responses"]["403"]["description"])
            roles[role] += 1
            url = path.format(**SPARE)
            assert about["security"], path
            bare = served.client.request(method, url)
            assert (bare.status_code, bare.headers["www-authenticate"]) == (401, "Bearer"), path
            for other, token in tokens.items():
                status = served.client.request(method, url, headers={"Authorization": f"Bearer {token}"}).status_code
                assert (status == 403) == (other != role), (path, other, status)
                assert status != 401
            wrong = served.client.request(method, url, headers={"Authorization": "Bearer wrong"})
            assert wrong.status_code == 401
    assert roles == {"read": 13, "write": 7, "erase": 1}
    assert [entry.digest for entry in served.gallery.audit()] == before


def test_what_takes_no_token_holds_nothing_of_anybody(guarded: tuple[Served, dict[str, str]]) -> None:
    from reid.serve.guard import PUBLIC

    served, _ = guarded
    for path in PUBLIC:
        answer = served.get(path)
        assert answer.status_code == 200, path
        assert "person 1" not in answer.text


def test_writes_are_logged_under_the_name_of_the_token(guarded: tuple[Served, dict[str, str]]) -> None:
    served, tokens = guarded
    headers = {"Authorization": f"Bearer {tokens['write']}"}
    row = id_of(served.crops[20])
    assert served.post("/v1/people/enrol", json={"name": "Eve", "rows": [row]}, headers=headers).status_code == 200
    assert list(served.gallery.audit())[-1].by == "write"
    assert served.get("/v1/me", headers={"Authorization": f"bearer {tokens['read']}"}).json() == {
        "name": "read",
        "roles": ["read"],
    }


def test_a_token_that_is_taken_out_counts_no_more(tmp_path: Path, embedder: Embedder) -> None:
    path = tmp_path / "tokens"
    first, second = grant(path, "first", ["read"]), grant(path, "second", ["read", "write"])
    with serving(tmp_path, embedder, tokens=Tokens(path)) as served:

        def status(token: str) -> int:
            return served.get("/v1/stats", headers={"Authorization": f"Bearer {token}"}).status_code

        assert (status(first), status(second)) == (200, 200)
        lines = path.read_text().splitlines()
        path.write_text(lines[1] + "\n")
        assert (status(first), status(second)) == (401, 200)
        path.chmod(0o644)
        os.utime(path, ns=(1, 1))
        assert (status(first), status(second)) == (401, 401)


def test_the_description_is_complete(looked: Served) -> None:
    described = looked.get("/openapi.json").json()
    assert described["info"]["title"] == "reid"
    names = set(described["components"]["schemas"])
    assert {"Problem", "SearchOut", "ReceiptOut"} <= names
    assert "HTTPValidationError" not in names
    for path, methods in described["paths"].items():
        for about in methods.values():
            assert about["description"], path
            assert about["responses"].keys() & {"200", "201"}


def test_names_that_are_no_text_are_told_as_codes(served: Served, embedder: Embedder) -> None:
    odd = Crop("street/\udcff.png", "Zo\udcff", "c\udcff", tracklet="t\udcff")
    served.gallery.add(Embeddings(vectors(embedder, 7), (odd,), embedder.fingerprint))
    served.service.known.forget()
    assert "Zo\\udcff" in {person["name"] for person in served.get("/v1/people").json()["people"]}
    assert served.get("/v1/stats").json()["cameras"][-1]["name"] == "c\\udcff"
    told = served.get(f"/v1/crops/{id_of(odd)}").json()
    assert (told["name"], told["tracklet"]) == ("\\udcff.png", "t\\udcff")
    assert served.post("/v1/identify", files=files(7)).json()["answers"][0]["person"] == "Zo\\udcff"
    assert served.post("/v1/search", files=files(7)).status_code == 200
