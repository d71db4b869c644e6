"""What a gallery in a file promises: what was acknowledged stays, what was erased is gone, what is damaged is seen."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid import cache
from reid.cache import Cache
from reid.errors import DataError, NotFound, ShapeError, StoreError
from reid.gallery import memory, sqlite
from reid.gallery.gallery import Gallery
from reid.gallery.planes import split
from reid.gallery.rows import Where, half, row_id, row_ids
from reid.gallery.salvage import salvage
from reid.types import Crop, Embeddings

FAULTS = Path(__file__).parents[1] / "benchmarks" / "faults.py"


def crowd(count: int = 300, dim: int = 32, seed: int = 0) -> Embeddings:
    rng = np.random.default_rng(seed)
    crops = tuple(
        Crop(f"crops/{i:04}.jpg", f"person {i // 10}", str(i % 4), float(i), f"t{i // 5}") for i in range(count)
    )
    return Embeddings(half(rng.normal(size=(count, dim))).astype(np.float32), crops, "m")


def made(path: Path, rows: Embeddings, pictures: bool = True) -> Gallery:
    gallery = Gallery.open(path, "m", rows.vectors.shape[1])
    kept = [b"\xff\xd8 picture of %s" % crop.path.encode() for crop in rows.crops] if pictures else None
    gallery.add(rows, pictures=kept)
    return gallery


def pieces(vector: np.ndarray) -> list[bytes]:
    """A vector as a gallery keeps it, in pieces: one that reaches from one page of a file to the next is not whole."""
    kept = vector.astype(np.float16).tobytes()
    return [kept[i : i + 16] for i in range(0, len(kept), 16)]


def everything(folder: Path) -> bytes:
    """All bytes of all files there."""
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


# ── faults ──


def faults(*arguments: object) -> str:
    done = subprocess.run([sys.executable, str(FAULTS), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_acknowledged_survives_kill_9() -> None:
    assert "none lost, none half" in faults("kill", "--rounds", 6)


def test_a_full_disk_loses_nothing() -> None:
    out = faults("full", "--megabytes", 3)
    assert "what was there before is kept" in out


def test_a_change_whose_entry_in_the_log_finds_no_room_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with made(tmp_path / "g.db", crowd(4)) as gallery:
        monkeypatch.setattr(gallery.ledger, "record", full)
        with pytest.raises(
            StoreError, match="disk is full; the gallery has been changed, and only the log has no entry"
        ):
            gallery.add(crowd(6))
        assert gallery.count() == 6


def test_two_writers_and_ten_readers_meet_no_lock() -> None:
    assert "no error" in faults("crowd", "--minutes", 0.03)


def test_many_may_make_it_at_once(tmp_path: Path) -> None:
    for turn in range(5):
        path = tmp_path / f"{turn}.db"
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _, path=path: Gallery.open(path, "m", 4), range(8)))
        assert {gallery.count() for gallery in opened} == {0}
        for gallery in opened:
            gallery.close()


def test_threads_share_a_gallery(tmp_path: Path) -> None:
    rows = crowd(2000)
    gallery = made(tmp_path / "g.db", rows[:1000])

    def work(turn: int) -> int:
        if turn % 3 == 0:
            gallery.add(rows[1000 + 50 * turn : 1050 + 50 * turn])
        elif turn % 3 == 1:
            gallery.feedback(row_id(rows.crops[turn]), row_id(rows.crops[turn + 1]), True)
        return sum(len(found) for found in gallery.search(rows[turn : turn + 4], 10))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(20))) == [40] * 20
    assert gallery.count() == 1000 + 7 * 50
    checked = gallery.verify_audit()
    assert (checked.entries, checked.broken) == (1 + 7 + 7 + 20, None)
    gallery.close()


# ── erasure ──


def test_what_is_erased_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = crowd()
    rows = replace(rows, crops=tuple(replace(c, path=f"crops/nr-{i}.jpg") for i, c in enumerate(rows.crops)))
    crop, vector = rows.crops[123], rows.vectors[123]
    seen = Cache("m")
    seen.put({b"digest": vector, b"another": rows.vectors[5]})
    gallery = made(tmp_path / "g.db", rows)
    gallery.rename("person 12", "Zacharias")
    gallery.feedback(row_id(crop), row_id(rows.crops[124]), True)
    gallery.feedback(row_id(rows.crops[1]), row_id(rows.crops[2]), True)
    gallery.search(rows[:2], 3)  # so that the vectors are in memory
    traces = [*pieces(vector), vector.tobytes(), crop.path.encode(), b"Zacharias", b"t24"]
    traces += [row_id(crop).to_bytes(8, order) for order in ("little", "big")]
    before = everything(tmp_path)
    assert sum(trace not in before for trace in traces) <= 1  # a piece that a page's end cuts
    receipt = gallery.erase(Where(people={"Zacharias"}), by="the officer")
    after = everything(tmp_path)
    assert [trace for trace in traces if trace in after] == []
    assert rows.vectors[5].tobytes() in after  # of the cache, somebody else
    assert sum(piece not in after for piece in pieces(rows.vectors[5])) <= 1
    gallery.search(rows[:2], 3)
    held = gallery.store._memory
    for plane, erased, other in zip(held.slabs[0], *(split(half(rows.vectors[[i]])) for i in (123, 5)), strict=False):
        assert erased.tobytes() not in plane.tobytes()
        assert other.tobytes() in plane.tobytes()
    assert row_id(crop) not in {*held.facts["id"], *held._settled.ids, *(held._recent.ids if held._recent else ())}
    assert (receipt.rows, receipt.by) == (10, "the officer")
    assert "Zacharias" not in str(receipt)
    assert [e.digest for e in gallery.audit()][receipt.entry - 1] == receipt.digest
    assert len(gallery.feedbacks()) == 1
    assert gallery.count() == 290
    seen.close()
    gallery.close()


@pytest.mark.parametrize("where", [
    Where(cameras={"2"}), Where(after=100, before=149.5), Where(ids={row_id(Crop("crops/0007.jpg"))}),
    Where(tracklets={"t3"}), Where(people={"person 2"}, cameras={"1"}),
])  # fmt: skip
def test_erasure_by_anything(tmp_path: Path, where: Where) -> None:
    gallery = made(tmp_path / "g.db", rows := crowd())
    gone = set(gallery.embeddings(where).crops)
    assert gallery.erase(where).rows == len(gone) > 0
    assert set(gallery.embeddings().crops) == set(rows.crops) - gone
    after = everything(tmp_path)
    for crop, vector in zip(rows.crops, rows.vectors, strict=True):
        assert any(piece in after for piece in pieces(vector)) == (crop not in gone)
        assert (crop.path.encode() in after) == (crop not in gone)
    gallery.close()


def test_a_forgotten_name_is_in_no_file(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", crowd(20))
    gallery.rename("person 1", "Zacharias")
    assert b"Zacharias" in everything(tmp_path)
    gallery.forget_person("Zacharias")
    assert b"Zacharias" not in everything(tmp_path)
    assert gallery.count() == 20
    gallery.close()


def test_the_cache_forgets_what_is_in_a_file_for_all_models(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"picture")
    import hashlib

    digest = hashlib.blake2b(b"picture", digest_size=16).digest()
    for model in ("one", "two"):
        kept = Cache(model)
        kept.put({digest: np.ones(4, np.float32), b"else": np.zeros(4, np.float32)})
        kept.close()
    assert cache.forget("three", np.zeros((0, 4), np.float16), [str(file), "gone.jpg"]) == 2
    assert set(Cache("one").get([digest, b"else"])) == {b"else"}


def test_a_damaged_cache_is_removed_and_no_erasure_fails_for_it(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", rows := crowd(20))
    folder = cache.folder()
    folder.mkdir(parents=True)
    (folder / "other.db").write_bytes(b"no database at all " * 500)
    (folder / "empty.db").touch()
    (folder / "none.txt").touch()
    for model, at in (("m", 4096), ("torn", 100)):
        kept = Cache(model)
        kept.put({bytes([i]) * 16: vector for i, vector in enumerate(rows.vectors)})
        kept.close()
        content = bytearray((folder / f"{model}.db").read_bytes())
        content[at : at + 2000] = b"\xff" * 2000
        (folder / f"{model}.db").write_bytes(bytes(content))
        (folder / f"{model}.db-wal").touch()
    gallery.feedback(row_id(rows.crops[0]), row_id(rows.crops[15]), True)
    assert gallery.erase(Where(people={"person 1"})).rows == 10
    assert [path.name for path in folder.iterdir()] == ["none.txt"]
    assert (gallery.count(), len(gallery.feedbacks())) == (10, 0)
    gallery.close()


def test_a_cache_that_is_held_stops_an_erasure_before_anything_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PATIENCE", 0.05)
    gallery = made(tmp_path / "g.db", rows := crowd(20))
    gallery.feedback(row_id(rows.crops[0]), row_id(rows.crops[15]), True)
    kept = Cache("m")
    kept.put({b"digest": rows.vectors[15]})
    for begin in ("BEGIN IMMEDIATE", "BEGIN"):  # somebody writes; somebody reads an old state
        kept._connection.execute(begin)
        kept._connection.execute("SELECT * FROM seen").fetchall()
        with pytest.raises(StoreError, match="end the programs that use it"):
            gallery.erase(Where(people={"person 1"}))
        kept._connection.execute("ROLLBACK")
        assert (gallery.count(), len(gallery.feedbacks())) == (20, 1)
    assert gallery.erase(Where(people={"person 1"})).rows == 10
    assert Cache("m").get([b"digest"]) == {}
    kept.close()
    gallery.close()


def test_an_erasure_that_is_cut_off_is_told_and_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid.gallery.database.PATIENCE", 0.05)
    now, rows = [1e9], crowd(20)
    made(tmp_path / "g.db", rows).close()
    gallery = Gallery.open(tmp_path / "g.db", clock=lambda: now[0])
    gallery.keep = "1d"
    gallery.feedback(row_id(rows.crops[0]), row_id(rows.crops[15]), True)
    reader = sqlite3.connect(tmp_path / "g.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM row").fetchone()
    with pytest.raises(StoreError, match="another program holds on"):
        gallery.erase(Where(people={"person 1"}))
    assert (gallery.count(), gallery.feedbacks()) == (10, [])
    entry = list(gallery.audit())[-1]
    assert (entry.what, entry.detail["rows"], entry.detail["unfinished"]) == ("erase", 10, True)
    with pytest.raises(StoreError, match="another program holds on"):
        gallery.expire()
    assert pieces(rows.vectors[15])[0] in everything(tmp_path)
    reader.close()
    receipt = gallery.expire()
    assert receipt is not None
    assert receipt.rows == 0
    assert list(gallery.audit())[-1].detail["cut_off"] == receipt.what
    assert pieces(rows.vectors[15])[0] not in everything(tmp_path)
    assert gallery.expire() is None
    assert gallery.verify_audit().broken is None
    gallery.close()


def test_an_erasure_of_which_nothing_can_be_told_is_told_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = made(tmp_path / "g.db", crowd(20))
    delete = gallery.store.delete

    def gone(*_: object, **__: object) -> None:
        raise StoreError("the server is gone")

    with monkeypatch.context() as patch:

        def deleted(where: Where) -> None:
            delete(where)
            patch.setattr(gallery.store, "fetch", gone)
            gone()

        patch.setattr(gallery.store, "delete", deleted)
        with pytest.raises(StoreError, match="the server is gone"):
            gallery.erase(Where(people={"person 1"}))
    said = gallery.erase(Where(people={"person 1"})).what
    entry = list(gallery.audit())[-1]
    assert (entry.detail["rows"], entry.detail["cut_off"]) == (0, said)
    gallery.close()


def test_an_erasure_removes_what_a_rebuild_that_was_killed_has_left(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", crowd(20))
    made(tmp_path / "g.db.rebuilding.db", crowd(20))  # not closed, so that all files are there
    assert len(list(tmp_path.glob("*.rebuilding.db*"))) == 4
    gallery.erase(Where(people={"person 1"}))
    assert list(tmp_path.glob("*.rebuilding.db*")) == []
    gallery.close()


def test_an_erasure_of_more_or_fewer_rows_than_expected_is_refused(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", crowd(20))
    for expect in (9, 11):
        with pytest.raises(DataError, match="that would be 10 rows and not"):
            gallery.erase(Where(people={"person 1"}), expect=expect)
    assert gallery.count() == 20
    assert gallery.erase(Where(people={"person 1"}), expect=10).rows == 10
    gallery.close()


@pytest.mark.parametrize(
    ("where", "match"),
    [
        (Where(people={"person 1", "ADA"}), "nobody in the gallery is called ADA"),
        (Where(cameras={"c99"}), "no crop of camera c99"),
        (Where(people={"person 1"}, not_cameras={"c99"}), "no crop of camera c99"),
        (Where(tracklets={"t99"}), "no crop of tracklet t99"),
        (Where(people={"person 1"}, tags={"nowhere"}), "tagged nowhere"),
        (Where(ids={1, row_id(crowd(20).crops[0])}), "1 of the 2 crops asked for is not in the gallery"),
    ],
)
def test_an_erasure_of_what_is_not_there_is_refused(tmp_path: Path, where: Where, match: str) -> None:
    with made(tmp_path / "g.db", crowd(20)) as gallery:
        before = list(gallery.audit())
        for ask in (gallery.erasable, gallery.erase):
            with pytest.raises(NotFound, match=match):
                ask(where)
        assert (gallery.count(), list(gallery.audit())) == (20, before)


def test_an_erasure_of_a_time_in_which_nothing_was_seen_gives_a_receipt_of_nothing(tmp_path: Path) -> None:
    with made(tmp_path / "g.db", crowd(20)) as gallery:
        assert gallery.erase(Where(people={"person 1"}, after=1e9)).rows == 0


def test_a_file_that_cannot_be_read_is_found_by_its_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    kept = Cache("m")
    kept.put({b"digest": np.ones(4, np.float32)})
    kept.close()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    paths = [str(tmp_path / "a.jpg"), "\0", "x" * 5000]
    assert cache.forget("m", np.ones((1, 4), np.float16), paths) == 1


def refuse(*_: object) -> bytes:
    raise PermissionError("not for you")


def test_erased_places_are_used_again(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", crowd(1000))
    gallery.erase(Where(ids=frozenset()))  # nothing, which empties the log of changes into the file
    size = (tmp_path / "g.db").stat().st_size
    for turn in range(4):
        gallery.erase(Where(cameras={"0", "1", "2", "3"}))
        gallery.add(crowd(1000, seed=turn + 1))
    gallery.erase(Where(ids=frozenset()))
    assert (tmp_path / "g.db").stat().st_size < 1.5 * size
    assert gallery.count() == 1000
    gallery.close()


# ── damage ──


def flip(path: Path, needle: bytes, at: int = 0) -> None:
    content = bytearray(path.read_bytes())
    assert content.count(needle) == 1
    content[content.index(needle) + at] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_bit_of_a_vector_is_seen_and_all_else_is_saved(tmp_path: Path) -> None:
    rows = crowd()
    made(tmp_path / "g.db", rows).close()
    flip(tmp_path / "g.db", rows.vectors[7].astype(np.float16).tobytes(), 5)
    with Gallery.open(tmp_path / "g.db") as gallery, pytest.raises(DataError, match="reid index salvage"):
        gallery.search(rows[:1])
    saved = salvage(tmp_path / "g.db", tmp_path / "saved.db")
    assert (saved.rows, saved.broken, saved.unread, saved.unread_blocks) == (299, 1, 0, 0)
    with Gallery.open(tmp_path / "saved.db") as gallery:
        assert set(gallery.embeddings().crops) == set(rows.crops) - {rows.crops[7]}
        assert gallery.verify_audit().entries == 1
        assert gallery.verify_audit().broken is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM row WHERE place = 7", "rows are missing: 1"),
        ("UPDATE row SET id = 5 WHERE place = 7", "row 5 is not"),
    ],
)
def test_a_row_that_is_not_where_it_should_be_is_seen(tmp_path: Path, change: str, said: str) -> None:
    made(tmp_path / "g.db", crowd(), pictures=False).close()
    with closing(sqlite3.connect(tmp_path / "g.db")) as connection, connection:
        connection.execute(change)
    with Gallery.open(tmp_path / "g.db") as gallery:
        with pytest.raises(DataError, match=said):
            gallery.embeddings()
        with pytest.raises(DataError, match="rows are not where they were written"):
            gallery.store.delete(Where(cameras={"3"}))
        assert gallery.count() == 300
    assert salvage(tmp_path / "g.db", None).rows == 299


def test_an_older_copy_put_back_under_an_open_gallery_is_what_counts(tmp_path: Path) -> None:
    rows = crowd(20)
    with made(tmp_path / "g.db", rows[:10]) as gallery, closing(sqlite3.connect(tmp_path / "g.db")) as file:
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            file.backup(copy)
            gallery.erase(Where(ids=set(row_ids(rows.crops[:5]))))
            gallery.add(rows[10:15])
            assert gallery.count() == 10
            copy.backup(file)
        assert set(gallery.embeddings().crops) == set(rows.crops[:10])
        gallery.add(rows[10:15])
        assert set(gallery.embeddings().crops) == set(rows.crops[:15])


def test_a_flipped_bit_of_what_is_told_of_a_crop_is_seen(tmp_path: Path) -> None:
    rows = crowd()
    made(tmp_path / "g.db", rows, pictures=False).close()
    flip(tmp_path / "g.db", b"crops/0007.jpg", 8)
    with Gallery.open(tmp_path / "g.db") as gallery, pytest.raises(DataError, match="is not what was written"):
        gallery.embeddings()
    assert salvage(tmp_path / "g.db", None).rows == 299


def read_all(path: Path, query: Embeddings) -> None:
    with Gallery.open(path) as gallery:
        gallery.search(query)
        gallery.embeddings()
        list(gallery.audit())


@pytest.mark.parametrize("seed", range(12))
def test_a_torn_page_is_seen_and_the_rest_is_saved(tmp_path: Path, seed: int) -> None:
    rows = crowd(1500)
    made(tmp_path / "g.db", rows).close()
    content = bytearray((tmp_path / "g.db").read_bytes())
    rng = np.random.default_rng(seed)
    page = int(rng.integers(1, len(content) // 16384))
    content[page * 16384 : (page + 1) * 16384] = rng.bytes(16384)
    (tmp_path / "g.db").write_bytes(bytes(content))
    with pytest.raises(DataError, match="reid index salvage"):
        read_all(tmp_path / "g.db", rows[:1])
    try:
        saved = salvage(tmp_path / "g.db", tmp_path / "saved.db")
    except DataError as error:
        if "restore it from a copy" in str(error):
            return  # it was the page with the model's name
        raise
    with Gallery.open(tmp_path / "saved.db") as gallery:
        back = gallery.embeddings()
        assert len(back) == saved.rows
        row = {crop: i for i, crop in enumerate(rows.crops)}
        for crop, vector in zip(back.crops, back.vectors, strict=True):
            assert np.array_equal(vector, rows.vectors[row[crop]])


def test_a_file_cut_short_is_seen(tmp_path: Path) -> None:
    made(tmp_path / "g.db", crowd(1500)).close()
    content = (tmp_path / "g.db").read_bytes()
    (tmp_path / "g.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        Gallery.open(tmp_path / "g.db")


def test_a_file_of_an_older_layout_is_refused_and_can_be_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = crowd(20)
    older = made(tmp_path / "g.db", rows, pictures=False)
    finer = np.random.default_rng(3).normal(size=rows.vectors.shape).astype(np.float16)
    (part,) = older.store.fetch(Where())
    with pytest.raises(ShapeError, match="finer than galleries keep them"):
        older.store.upsert(replace(part, vectors=finer))
    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "are_rounded", lambda halves: True)
        older.store.upsert(replace(part, vectors=finer))
    older.close()
    with closing(sqlite3.connect(tmp_path / "g.db")) as file:
        file.execute("UPDATE head SET value = 3 WHERE name = 'layout'")
        file.commit()
    with pytest.raises(DataError, match=r"layout 3, and this reid knows 4; `reid index salvage .*g\.db -o NEW\.db`"):
        Gallery.open(tmp_path / "g.db")
    assert salvage(tmp_path / "g.db", tmp_path / "new.db").rows == 20
    with Gallery.open(tmp_path / "new.db") as gallery:
        np.testing.assert_array_equal(gallery.embeddings().vectors, half(finer))


def test_what_is_saved_must_be_named_as_a_gallery(tmp_path: Path) -> None:
    made(tmp_path / "g.db", crowd(20)).close()
    with pytest.raises(DataError, match=r"ends in \.db"):
        salvage(tmp_path / "g.db", tmp_path / "saved.sqlite")
    assert not (tmp_path / "saved.sqlite").exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "theirs.db")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    other.close()
    (tmp_path / "text.db").write_text("some text that is no database, " * 50)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name, message in (("theirs.db", "some other program"), ("text.db", "damaged")):
        with pytest.raises(DataError, match=message):
            Gallery.open(tmp_path / name, "m", 8)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name in before} == before


def test_a_gallery_without_rights_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    made(tmp_path / "g.db", crowd(10)).close()
    (tmp_path / "g.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(DataError, match="rights"):
            Gallery.open(tmp_path / "g.db")
    finally:
        tmp_path.chmod(0o755)


# ── memory ──


def test_memory_is_half(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g.db", rows := crowd(5000, dim=64), pictures=False)
    gallery.search(rows[:1])
    own = gallery.store._memory
    held = sum(plane.nbytes for number in range(len(own)) for plane in own._block(number))
    assert held == 5 * memory.BLOCK * 64 * 2
    gallery.close()
