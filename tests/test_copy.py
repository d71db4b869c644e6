"""Copies of galleries: everything comes along, once, and what was cut off goes on."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reid.errors import DataError, ModelError
from reid.gallery import STORES
from reid.gallery.copy import copy, digests
from reid.gallery.gallery import Gallery
from reid.gallery.rows import Rows, Where, row_ids
from reid.types import Embeddings
from tests import servers
from tests.conftest import Run


def filled(path: Path, people: Embeddings) -> Path:
    with Gallery.open(path, people.model, people.vectors.shape[1]) as gallery:
        pictures = [b"\xff\xd8%d" % i if i % 2 else None for i in range(len(people))]
        ids = gallery.add(people, tags=["street"], pictures=pictures, by="ann")
        gallery.feedback(int(ids[0]), int(ids[1]), True, by="ann")
        gallery.feedback(int(ids[0]), int(ids[50]), False, by="bob")
        gallery.keep = "30d"
    return path


def everything(address: object) -> Rows:
    with Gallery.open(str(address)) as gallery:
        return Rows.join(list(gallery.rows()))


@pytest.mark.parametrize("scheme", sorted(STORES))
def test_there_and_back_nothing_is_lost(scheme: str, tmp_path: Path, people: Embeddings) -> None:
    first, last = filled(tmp_path / "a.db", people), tmp_path / "c.db"
    if scheme == "sqlite":
        middle = str(tmp_path / "b.db")
    else:
        address = servers.fresh(scheme)
        middle = f"{address}{'&' if '?' in address else '?'}ledger={tmp_path}/b.ledger.db"
    there, back = copy(first, middle), copy(middle, last)
    assert (there.rows, there.written, there.others, there.feedback) == (len(people), len(people), 0, 2)
    assert (there.digest, there.rows) == (back.digest, back.rows)
    assert digests(everything(last)) == digests(everything(first))
    with Gallery.open(first) as old, Gallery.open(last) as new:
        assert (new.model, new.dim, new.keep) == (old.model, old.dim, "30d")
        assert new.feedbacks() == old.feedbacks()
        assert new.pseudonym("3") == old.pseudonym("3")
        assert [e.what for e in new.audit()] == ["add", "feedback", "feedback", "keep", "copy", "copy"]
        assert next(new.audit()) == next(old.audit())
        assert new.verify_audit().broken is None


def test_a_second_copy_writes_only_what_changed(tmp_path: Path, people: Embeddings) -> None:
    first, second = filled(tmp_path / "a.db", people), tmp_path / "b.db"
    copy(first, second)
    with Gallery.open(first) as gallery:
        changed = gallery.enrol("Zoë", Where(people={"3"}))
        gallery.erase(Where(people={"4"}))
    again = copy(first, second)
    assert (again.written, again.others, again.feedback, again.log) == (changed, 9, 0, None)
    assert again.rows == len(people) - 9


def test_a_log_that_was_changed_is_not_copied(tmp_path: Path, people: Embeddings) -> None:
    first, second = filled(tmp_path / "a.db", people), tmp_path / "b.db"
    with closing(sqlite3.connect(first)) as file, file:
        file.execute("UPDATE audit SET who = 'bob' WHERE number = 2")
    with pytest.raises(DataError, match="broken at entry 2 of 4"):
        copy(first, second)
    assert not second.exists()


class Cut(Exception):
    """The end of the power."""


def test_a_copy_that_was_cut_off_goes_on(tmp_path: Path, people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = filled(tmp_path / "a.db", people), tmp_path / "b.db"
    monkeypatch.setattr("reid.gallery.sqlite.PART", 20)

    def stop(more: int, total: int, left: list[int] = [3]) -> None:  # noqa: B006
        assert (more, total) == (20, len(people))
        left[0] -= 1
        if not left[0]:
            raise Cut

    with pytest.raises(Cut):
        copy(first, second, stop)
    done = copy(first, second)
    assert (done.rows, done.written, done.feedback, done.log) == (len(people), len(people) - 60, 2, 4)


def test_what_changes_meanwhile_is_noticed(tmp_path: Path, people: Embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = filled(tmp_path / "a.db", people), tmp_path / "b.db"

    def rename(more: int, total: int) -> None:
        with Gallery.open(first) as gallery:
            gallery.rename("3", "Zoë")

    with pytest.raises(DataError, match="copy again"):
        copy(first, second, rename)


def test_the_command_says_what_it_did(tmp_path: Path, people: Embeddings, run: Run) -> None:
    first, second = filled(tmp_path / "a.db", people), tmp_path / "b.db"
    code, out, _ = run("index", "copy", first, second)
    assert code == 0
    assert "108 crops" in out
    assert "Feedback that came along: 2. Entries of the log: 4." in out
    with Gallery.open(second) as gallery:
        gallery.erase(Where(people={"3"}))
    told = json.loads(run("index", "copy", first, second, "--json")[1])
    assert (told["rows"], told["written"], told["others"], told["log"]) == (108, 9, 0, None)
    code, _, error = run("index", "copy", first, "people")
    assert code == 2
    assert "people is no gallery" in error


def test_mistakes_are_told(tmp_path: Path, people: Embeddings) -> None:
    first, other = filled(tmp_path / "a.db", people), tmp_path / "other.db"
    Gallery.open(other, "another", 8).close()
    with pytest.raises(ModelError, match="another"):
        copy(first, other)
    with pytest.raises(DataError, match="the very gallery"):
        copy(first, first)
    with pytest.raises(DataError, match="no gallery"):
        copy(tmp_path / "none.db", other)
    with pytest.raises(DataError, match="mysql"):
        copy(first, "mysql://localhost/people")


def test_each_part_of_a_row_is_in_its_digest(people: Embeddings) -> None:
    crop = people.crops[0]
    ids = np.array(row_ids([crop]), np.int64)
    vectors = np.ones((1, 4), np.float16)
    row = Rows(ids, vectors, (crop,), (frozenset("a"),), (b"x",), np.zeros(1))
    others = [
        Rows(ids + 1, vectors, (crop,), (frozenset("a"),), (b"x",), np.zeros(1)),
        Rows(ids, vectors * 2, (crop,), (frozenset("a"),), (b"x",), np.zeros(1)),
        Rows(ids, vectors, people.crops[1:2], (frozenset("a"),), (b"x",), np.zeros(1)),
        Rows(ids, vectors, (crop,), (frozenset("b"),), (b"x",), np.zeros(1)),
        Rows(ids, vectors, (crop,), (frozenset("a"),), (None,), np.zeros(1)),
        Rows(ids, vectors, (crop,), (frozenset("a"),), (b"",), np.zeros(1)),
        Rows(ids, vectors, (crop,), (frozenset("a"),), (b"x",), np.ones(1)),
    ]
    assert len({digests(one)[0] for one in [row, *others]}) == 8
