"""Galleries: what goes in is found; people, feedback, the log, how long rows are kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid import data, matcher
from reid.errors import DataError, ModelError, ShapeError
from reid.gallery.answers import crops_of
from reid.gallery.gallery import Gallery
from reid.gallery.memory import BLOCK, FRESH, Memory, empty_facts
from reid.gallery.rows import Where, half, row_id, row_ids, upload_path
from reid.gallery.store import MOST, Store
from reid.types import Crop, Embeddings

NOBODY = Where(people=frozenset())


@pytest.fixture
def people(people: Embeddings) -> Embeddings:
    """Rounded as galleries do, so that the matcher's distances are the gallery's."""
    return replace(people, vectors=half(people.vectors).astype(np.float32))


@pytest.fixture
def gallery(tmp_path: Path, people: Embeddings) -> Iterator[Gallery]:
    with Gallery.open(tmp_path / "people.db", people.model, people.vectors.shape[1]) as opened:
        opened.add(people, tags=["street"])
        yield opened


def of(*people: str) -> Where:
    return Where(people=frozenset(people))


def names(gallery: Gallery) -> dict[str, int]:
    return {person.name: person.crops for person in gallery.people()}


# ── rows and searches ──


def test_what_goes_in_comes_back(gallery: Gallery, people: Embeddings) -> None:
    made = gallery.embeddings()
    order = np.argsort(row_ids(people.crops))
    assert made.crops == tuple(people.crops[i] for i in order)
    np.testing.assert_array_equal(made.vectors, people.vectors[order].astype(np.float16))
    assert made.model == people.model


def test_a_search_finds_what_the_matcher_finds(gallery: Gallery, people: Embeddings) -> None:
    for other_cameras in (False, True):
        ranking = matcher.search(people, people, 7, matcher.Filter(other_cameras=other_cameras))
        expected = [[m.crop.path for m in found] for found in ranking.matches(people.crops)]
        answers = gallery.search(people, 7, other_cameras=other_cameras)
        assert [[m.crop.path for m in found] for found in answers] == expected
        assert all(m.rank == i for found in answers for i, m in enumerate(found, 1))


def test_the_camera_of_a_query_that_is_in_the_gallery_is_known(gallery: Gallery, people: Embeddings) -> None:
    bare = replace(people, crops=tuple(Crop(crop.path) for crop in people.crops))[:5]
    assert gallery.search(bare, 6, other_cameras=True) == gallery.search(people[:5], 6, other_cameras=True)


def test_a_filter_comes_before_the_choice(gallery: Gallery, people: Embeddings) -> None:
    where = Where(cameras={"2"}, after=200, before=201)
    only = matcher.Filter(cameras=frozenset("2"), after=200, before=201)
    expected = [[m.crop.path for m in found] for found in matcher.search(people, people, 9, only).matches(people.crops)]
    assert [[m.crop.path for m in found] for found in gallery.search(people, 9, where)] == expected


def test_the_first_camera_that_is_not_there_ends_a_search(
    gallery: Gallery, people: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Where] = []
    monkeypatch.setattr(gallery, "count", lambda where: asked.append(where) or 0)
    with pytest.raises(DataError, match="no crop of camera x0;"):
        gallery.search(people[:1], where=Where(cameras={f"x{i}" for i in range(1000)}))
    assert len(asked) == 1


def test_people_are_answered_by_their_nearest_crop(gallery: Gallery, people: Embeddings) -> None:
    every = gallery.search(people, len(people))
    for found, everything in zip(gallery.search(people, 12, per="person"), every, strict=True):
        best = {m.crop.pid: m.crop.path for m in reversed(everything)}
        assert {m.crop.pid: m.crop.path for m in found} == best
        assert len(found) == 12


def test_people_with_many_crops_do_not_crowd_out_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crops = [Crop(f"{i}.jpg", "many") for i in range(600)] + [Crop("x.jpg", "few")]
    crops += [Crop("y1.jpg", tracklet="t"), Crop("y2.jpg", tracklet="t"), Crop("z.jpg")]
    vectors = np.concatenate([rng.normal(size=(600, 4)) / 50, [[1] * 4], [[2] * 4], [[3] * 4], [[4] * 4]])
    made = Embeddings(vectors.astype(np.float32), tuple(crops), "m")
    with Gallery.open(tmp_path / "g.db", "m", 4) as gallery:
        gallery.add(made)
        (found,) = gallery.search(Embeddings(np.zeros((1, 4), np.float32), (Crop("q.jpg"),), "m"), 4, per="person")
        assert [m.crop.pid or m.crop.path for m in found] == ["many", "few", "y1.jpg", "z.jpg"]


def test_nobody_is_hidden_by_more_rows_than_a_query_may_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, count = np.random.default_rng(0), MOST + 600
    crops = [Crop(f"{i}.jpg", "Ada") for i in range(count)] + [Crop(f"t{i}.jpg", tracklet="t") for i in range(700)]
    crops += [Crop("b.jpg", "Bo", tracklet="t"), Crop("z.jpg"), Crop("c.jpg", "Cy")]
    places = [[4] * 4, [5] * 4, [6] * 4]
    vectors = np.concatenate([rng.normal(size=(count, 4)) / 50, 3 + rng.normal(size=(700, 4)) / 50, places])
    asked = []

    def counted(store: Store, ids: frozenset[int]) -> dict[int, Crop]:
        asked.append(len(ids))
        return crops_of(store, ids)

    monkeypatch.setattr("reid.gallery.answers.crops_of", counted)
    with Gallery.open(tmp_path / "g.db", "m", 4) as gallery:
        gallery.add(Embeddings(vectors.astype(np.float32), tuple(crops), "m"))
        query = Embeddings(np.float32([[0] * 4, [7] * 4]), (Crop("q.jpg"), Crop("c.jpg")), "m")
        near, far = gallery.search(query, 20, per="person")
        assert [m.crop.pid or m.crop.tracklet or m.crop.path for m in near] == ["Ada", "t", "Bo", "z.jpg", "Cy"]
        assert [m.crop.pid or m.crop.tracklet or m.crop.path for m in far] == ["z.jpg", "Bo", "t", "Ada"]
        assert [m.rank for m in near] == [1, 2, 3, 4, 5]
        assert sum(asked) < 2000
        assert near[:2] == gallery.search(query, 2, per="person")[0]
        (others,) = gallery.search(query[:1], 20, Where(not_people={"Ada", "Cy"}, not_tracklets={"t"}), per="person")
        assert [m.crop.path for m in others] == ["b.jpg", "z.jpg"]
        said = list(gallery.audit())[-1].detail["where"]
        assert said.startswith("not person p:")
        assert "not nobody's tracklet p:" in said


def test_adding_again_keeps_what_is_not_said_again(gallery: Gallery, people: Embeddings) -> None:
    path = people.crops[0].path
    before = next(gallery.rows(Where(ids={row_id(people.crops[0]), -1, 1 << 63, 1 << 70})))
    bare = Embeddings(people.vectors[:2][::-1], (Crop(path, camera="9"), Crop(path)), people.model)
    ids = gallery.add(bare, tags=["night"], pictures=[b"a", b"b"])
    assert len(set(ids.tolist())) == 1
    after = next(gallery.rows(Where(ids=set(ids.tolist()))))
    assert after.crops[0] == people.crops[0]  # the last of two counts, and it does not name a camera
    assert after.tags[0] == {"night", "street"}
    assert after.pictures == (b"b",)
    assert after.added[0] == before.added[0]
    assert gallery.count() == len(people)


def test_paths_of_files_are_kept_absolute(tmp_path: Path, people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").touch()
    with Gallery.open("g.db", people.model, people.vectors.shape[1]) as gallery:
        gallery.add(Embeddings(people.vectors[:1], (Crop("a.jpg"),), people.model))
        assert next(gallery.rows()).crops[0].path == str(tmp_path / "a.jpg")
        ids = gallery.add(Embeddings(people.vectors[:1], (Crop(upload_path(b"jpeg")),), people.model))
        assert next(gallery.rows(Where(ids=set(ids.tolist())))).crops[0].path.startswith("upload:")


def test_names_of_any_text_survive(tmp_path: Path, people: Embeddings) -> None:
    odd = Crop("ä\udce9\n.jpg", "J\"ö'\\\udcff", "%[_]", 1e300, "[]", "junk", {"ü": "☃"})
    with Gallery.open(tmp_path / "g.db", people.model, people.vectors.shape[1]) as gallery:
        gallery.add(Embeddings(people.vectors[:1], (odd,), people.model), tags=["[", '"', "☃"])
        assert gallery.embeddings(Where(people={odd.pid}, cameras={"%[_]"}, tracklets={"[]"}, tags={"☃"})).crops == (
            odd,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: replace(e, model="another"), "reid index rebuild"),
        (lambda e: replace(e, vectors=e.vectors * 1e6), "half precision"),
        (lambda e: replace(e, vectors=e.vectors * 1e-6), "half precision"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_and_nothing_is_lost(
    gallery: Gallery, people: Embeddings, change, message: str
) -> None:
    with pytest.raises((ModelError, ShapeError), match=message):
        gallery.add(change(people))
    assert gallery.count() == len(people)


def test_another_model_is_refused(tmp_path: Path, gallery: Gallery, people: Embeddings) -> None:
    with pytest.raises(ModelError, match="reid index rebuild"):
        Gallery.open(tmp_path / "people.db", "another", 8)
    with pytest.raises(ModelError, match="reid index rebuild"):
        gallery.search(replace(people, model="another"))


def test_mistakes_in_a_search_are_told(gallery: Gallery, people: Embeddings) -> None:
    with pytest.raises(DataError, match="no crop of camera 17"):
        gallery.search(people, where=Where(cameras={"1", "17"}))
    with pytest.raises(DataError, match="ask for 1 to"):
        gallery.search(people, 0)
    with pytest.raises(DataError, match="no camera is known"):
        gallery.search(Embeddings(people.vectors[:1], (Crop("q.jpg"),), people.model), other_cameras=True)
    with pytest.raises(DataError, match="give a set"):
        Where(cameras="12")


@pytest.mark.parametrize("address", [
    "people.sqlite", "ftp://host/x", "nothing.db", "no/such/folder/a.db",
    "postgresql://[", "milvus://host:abc/x", "milvus://u:a/secret@[/x", "milvus://host:99999/x",
])  # fmt: skip
def test_addresses_that_lead_nowhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as told:
        Gallery.open(address)
    assert "secret" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


# ── people ──


def test_people_are_named_renamed_merged_split_and_forgotten(gallery: Gallery) -> None:
    assert names(gallery) == {str(p): 9 for p in range(12)}
    assert gallery.rename("3", "Ada") == 9
    assert gallery.merge(["Ada", "4"], "Ada") == 9
    assert names(gallery)["Ada"] == 18
    assert gallery.split("Ada", Where(cameras={"0"}), "Bo") == 6
    assert gallery.enrol("Bo", Where(people={"5"}, cameras={"1"})) == 3
    assert gallery.forget_person("7") == 9
    left = names(gallery)
    assert (left["Ada"], left["Bo"], left["5"]) == (12, 9, 6)
    assert not {"3", "4", "7"} & left.keys()
    assert gallery.count() == 108
    (ada,) = [person for person in gallery.people() if person.name == "Ada"]
    assert (ada.cameras, ada.first, ada.last) == (("1", "2"), 100.0, 202.0)
    assert [entry.what for entry in gallery.audit()] == ["add", "rename", "merge", "split", "enrol", "forget"]


def test_new_crops_are_enrolled(gallery: Gallery, people: Embeddings) -> None:
    new = Embeddings(people.vectors[:3], tuple(Crop(f"new/{i}.jpg", role="junk") for i in range(3)), people.model)
    assert gallery.enrol("Cy", new) == 3
    assert {crop.role for crop in gallery.embeddings(of("Cy")).crops} == {"person"}


def test_mistakes_with_people_are_told_and_change_nothing(gallery: Gallery) -> None:
    before = names(gallery)
    for mistake, message in (
        (lambda: gallery.rename("nobody", "x"), "nobody in the gallery is called nobody"),
        (lambda: gallery.rename("1", "2"), "merge"),
        (lambda: gallery.merge(["1", "nobody"], "x"), "nobody in the gallery"),
        (lambda: gallery.merge(["1"], "1"), "nobody but 1 was named"),
        (lambda: gallery.split("1", Where(), "x"), "9 of 1's 9"),
        (lambda: gallery.split("1", Where(cameras={"none"}), "x"), "0 of 1's 9"),
        (lambda: gallery.split("1", of("2"), "x"), "among other people"),
        (lambda: gallery.enrol("x", NOBODY), "no crop was given"),
        (lambda: gallery.enrol("", of("1")), "not empty"),
        (lambda: gallery.forget_person("nobody"), "nobody in the gallery"),
        (lambda: gallery.erase(Where()), "erase everything"),
        (lambda: gallery.feedback(1, 2, True), "add the picture first"),
    ):
        with pytest.raises(DataError, match=message):
            mistake()
    assert names(gallery) == before


def test_a_name_that_somebody_got_meanwhile_is_refused(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = gallery.ledger.alone

    def late() -> AbstractContextManager[None]:
        monkeypatch.setattr(gallery.ledger, "alone", alone)
        gallery.rename("1", "Ada")
        return alone()

    monkeypatch.setattr(gallery.ledger, "alone", late)
    with pytest.raises(DataError, match="Ada is somebody already"):
        gallery.rename("2", "Ada")
    assert names(gallery)["Ada"] == 9


def test_tracklets_are_told(tmp_path: Path) -> None:
    crops = tuple(Crop(f"{i}.jpg", camera=str(i % 2), time=float(i), tracklet=f"t{i // 3}") for i in range(6))
    with Gallery.open(tmp_path / "g.db", "m", 2) as gallery:
        gallery.add(Embeddings(np.ones((6, 2), np.float32), crops, "m"))
        assert [(t.name, t.crops, t.first, t.last) for t in gallery.tracklets()] == [("t0", 3, 0, 2), ("t1", 3, 3, 5)]


# ── feedback ──


@pytest.fixture
def pictured(tmp_path: Path) -> Iterator[tuple[Gallery, list[int]]]:
    """Six crops: four with files, the first two of them enrolled as "ada"; one kept as a picture; one with neither."""
    crops = []
    for i in range(4):
        Image.new("RGB", (8, 16), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        crops.append(Crop(str(tmp_path / f"{i}.png"), "ada" if i < 2 else None, f"c{i}"))
    crops += [Crop("upload:abc"), Crop("gone.jpg", "eve")]
    with Gallery.open(tmp_path / "g.db", "m", 2) as gallery:
        jpeg = tmp_path / "kept.jpg"
        Image.new("RGB", (8, 16)).save(jpeg)
        ids = gallery.add(
            Embeddings(np.ones((6, 2), np.float32), tuple(crops), "m"),
            pictures=[None] * 4 + [jpeg.read_bytes(), None],
        )
        yield gallery, ids.tolist()


def test_feedback_becomes_pairs(pictured: tuple[Gallery, list[int]], tmp_path: Path) -> None:
    gallery, ids = pictured
    gallery.feedback(ids[2], ids[0], False)
    gallery.feedback(ids[0], ids[2], True, by="ann")  # thought better of it
    gallery.feedback(ids[4], ids[3], False)
    gallery.feedback(ids[5], ids[3], True)  # has no picture left
    assert next((word.same, word.by) for word in gallery.feedbacks()) == (True, "ann")
    assert gallery.export_pairs(tmp_path / "pairs.csv") == 2
    from reid.data import pairs

    table = pairs.read(tmp_path / "pairs.csv")
    assert [(a.name, b.name, a.camera, b.camera) for a, b in table] == [
        ("0.png", "2.png", "c0", "c2"),
        (f"{ids[4]:016x}.jpg", "3.png", None, "c3"),
    ]
    assert all(Path(crop.path).is_file() for pair in table for crop in pair)


def test_feedback_becomes_people_to_train_on(pictured: tuple[Gallery, list[int]], tmp_path: Path) -> None:
    gallery, ids = pictured
    gallery.feedback(ids[0], ids[2], True)  # so 2 is ada
    gallery.feedback(ids[3], ids[4], True)  # two that are nobody yet
    assert gallery.export_crops(tmp_path / "crops.csv") == 5
    found = {Path(crop.path).name: crop.pid for crop in data.read(tmp_path / "crops.csv")}
    assert found == {
        "0.png": "ada",
        "1.png": "ada",
        "2.png": "ada",
        "3.png": "feedback-2",
        f"{ids[4]:016x}.jpg": "feedback-2",
    }
    gallery.feedback(ids[1], ids[2], False)
    gallery.feedback(ids[1], ids[0], True)  # 0, 1 and 2 contradict each other now
    assert gallery.export_crops(tmp_path / "crops.csv") == 2


def test_no_feedback_is_told(gallery: Gallery, tmp_path: Path) -> None:
    for export in (gallery.export_pairs, gallery.export_crops):
        with pytest.raises(DataError, match="first"):
            export(tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


# ── the log ──


def test_the_log_names_nobody(gallery: Gallery, people: Embeddings) -> None:
    gallery.rename("1", "Ada Lovelace")
    gallery.search(people[:2], 3, of("Ada Lovelace"), by="token 7")
    told = json.dumps([[e.what, e.by, dict(e.detail)] for e in gallery.audit()])
    assert "Lovelace" not in told
    assert people.crops[0].path not in told
    assert told.count(gallery.pseudonym("Ada Lovelace")) == 2
    assert [e.by for e in gallery.audit()][-1] == "token 7"


@pytest.mark.parametrize("edit", [
    "UPDATE audit SET who = 'someone else' WHERE number = 3",
    "UPDATE audit SET detail = replace(detail, '4', '5') WHERE number = 3",
    "UPDATE audit SET at = at + 1 WHERE number = 3",
    "UPDATE audit SET detail = 'no JSON' WHERE number = 3",
    "UPDATE audit SET detail = '17' WHERE number = 3",
    "UPDATE audit SET who = x'00', detail = NULL WHERE number = 3",
    "DELETE FROM audit WHERE number = 3",
    "UPDATE audit SET number = -number WHERE number = 3",
    "INSERT INTO audit SELECT number + 100, at, who, what, detail, digest FROM audit WHERE number = 3",
])  # fmt: skip
def test_an_edited_entry_breaks_the_chain(tmp_path: Path, gallery: Gallery, people: Embeddings, edit: str) -> None:
    for _ in range(5):
        gallery.search(people[:1], 4)
    checked = gallery.verify_audit()
    assert (checked.entries, checked.broken) == (6, None)
    file = sqlite3.connect(tmp_path / "people.db")
    file.execute(edit)
    file.commit()
    file.close()
    assert len(list(gallery.audit())) in (5, 6, 7)
    broken = gallery.verify_audit().broken
    assert broken == {"I": 7, "U": 3, "D": 3}[edit[0]] or (broken == 1 and "-number" in edit)


def test_a_log_cut_short_does_not_lead_to_a_head_kept_elsewhere(tmp_path: Path, gallery: Gallery) -> None:
    head = gallery.verify_audit().head
    gallery.rename("1", "x")
    assert gallery.verify_audit(head).broken is None
    file = sqlite3.connect(tmp_path / "people.db")
    file.execute("DELETE FROM audit")
    file.commit()
    file.close()
    assert gallery.verify_audit().broken is None
    assert gallery.verify_audit(head).broken == 1


# ── how long rows are kept ──


def test_rows_are_kept_as_long_as_was_said(tmp_path: Path, people: Embeddings) -> None:
    now = [1e9]
    path, dim = tmp_path / "g.db", people.vectors.shape[1]
    with Gallery.open(path, people.model, dim, clock=lambda: now[0]) as gallery:
        gallery.add(people[:10])
        gallery.keep = "2d"
        assert gallery.expire() is None
        now[0] += 86400
        gallery.add(people[10:20])
        gallery.add(people[:5])  # seen again, which is no reason to keep them longer
        now[0] += 86401
    with Gallery.open(path, clock=lambda: now[0]) as gallery:
        assert set(gallery.embeddings().crops) == set(people.crops[10:20])
        assert gallery.keep == "2d"
        last = [entry for entry in gallery.audit() if entry.what != "keep"][-1]
        assert (last.what, last.detail["rows"], last.by) == ("expire", 10, "keep 2d")
        gallery.keep = None
        now[0] += 1e9
        assert gallery.expire() is None


@pytest.mark.parametrize("text", ["", "d", "30", "-1d", "0h", "3 months", "infd", "nand"])
def test_a_time_to_keep_that_is_none_is_refused(gallery: Gallery, text: str) -> None:
    with pytest.raises(DataError, match="12h, 30d or 8w"):
        gallery.keep = text
    assert gallery.keep is None


def test_rows_are_found_by_id_through_any_changes() -> None:
    rng = np.random.default_rng(3)
    memory, ids = Memory(1), rng.permutation(1 << 20)
    there: dict[int, int] = {}
    assert memory.find(ids[:3]).tolist() == [-1, -1, -1]
    for step in range(2 * FRESH + 9):
        number = int(rng.integers(0, min(step + 1, FRESH + 20)))
        facts = empty_facts()
        filled = rng.random(BLOCK) < 0.7
        facts["id"][filled] = ids[step * BLOCK : step * BLOCK + int(filled.sum())]
        there = {row: place for row, place in there.items() if place // BLOCK != number}
        there |= {
            int(row): number * BLOCK + int(at)
            for at, row in zip(np.flatnonzero(filled), facts["id"][filled], strict=True)
        }
        memory.put_facts(number, facts)
        asked = rng.choice(ids[: (step + 1) * BLOCK], 50)
        assert memory.find(asked).tolist() == [there.get(int(row), -1) for row in asked]
