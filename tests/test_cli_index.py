"""`reid index`, and galleries where other verbs take crops."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid import files
from reid.cli import main
from reid.cli.common_gallery import shown
from reid.cli.index import KINDS
from reid.embed import find_model
from reid.errors import ModelError
from reid.gallery.gallery import Gallery
from reid.gallery.ledger import Ledger
from reid.street import draw_street
from reid.types import Crop, Embeddings
from tests.conftest import Run

Json = Callable[..., Any]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    draw_street(folder, people=5)
    return folder


@pytest.fixture
def told(run: Run) -> Json:
    """Run a command with --json: what it says."""

    def one(*arguments: object) -> Any:
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return one


@pytest.fixture
def db(tmp_path: Path, street: Path, model: Path, told: Json) -> Path:
    path = tmp_path / "people.db"
    said = told("index", "add", path, street, "--model", model, "--tag", "drawn")
    assert said["added"] == said["crops"] == len(list(street.rglob("*.jpg")))
    return path


def test_a_gallery_is_filled_once_and_remembers_its_model(db: Path, street: Path, told: Json) -> None:
    said = told("index", "add", db, street, "--pictures")
    with Gallery.open(db) as gallery:
        assert gallery.count() == said["crops"] == said["added"]
        part = next(gallery.rows())
        assert all(p is not None and p[:2] == b"\xff\xd8" for p in part.pictures)
        assert all(Path(crop.path).is_absolute() for crop in part.crops)
        assert all(tags == {"drawn"} for tags in part.tags)


def test_people_are_listed(db: Path, told: Json, run: Run) -> None:
    said = told("index", "list", db)
    assert len(said["by_person"]) == 5
    assert sum(p["crops"] for p in said["by_person"]) <= said["crops"] == told("index", "count", db)["crops"]
    crops = told("index", "list", db, "--by", "crop", "--camera", "c1")["by_crop"]
    assert {crop["camera"] for crop in crops} == {"c1"}
    code, out, _ = run("index", "list", db, "--by", "tracklet")
    assert (code, "kept until erased" in out) == (0, True)


def test_names_of_files_that_are_no_text_are_printed_as_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(tmp_path / "g.db", "m", 4) as gallery:
        gallery.add(Embeddings(np.ones((1, 4), np.float32), (Crop("street/\udcff.png"),), "m"))
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    monkeypatch.setattr(sys, "stdout", out)
    main(["index", "list", str(tmp_path / "g.db"), "--by", "crop"])
    assert b"street/\\udcff.png" in out.buffer.getvalue()  # type: ignore[attr-defined]


def test_names_can_neither_break_a_line_nor_order_the_terminal(tmp_path: Path, run: Run) -> None:
    crops = (Crop("two\nlines.jpg", "Ada\x1b[31m"), Crop("q.jpg"))
    path = tmp_path / "e.npz"
    files.save(Embeddings(np.ones((2, 4), np.float32), crops, "m"), path)
    code, out, _ = run("search", path, path)
    assert (code, "two\\nlines.jpg" in out, "Ada\\x1b[31m" in out, "\x1b" in out) == (0, True, True, False)
    assert json.loads(run("search", path, path, "--json")[1])["answers"][0]["query"]["path"] == "two\nlines.jpg"
    code, _, err = run("show", "no\x1b[31m.jpg")
    assert (code, len(err.splitlines()), "no\\x1b[31m.jpg" in err) == (2, 1, True)


def test_a_list_names_the_model_and_no_cameras_where_none_are_known(tmp_path: Path, run: Run) -> None:
    fingerprint = json.loads(find_model("nano").with_suffix(".calibration.json").read_text())["model"]
    with Gallery.open(tmp_path / "g.db", fingerprint, 4) as gallery:
        gallery.add(Embeddings(np.ones((1, 4), np.float32), (Crop("a.jpg", "Ada"),), fingerprint))
        with pytest.raises(ModelError, match=rf"of model nano \({fingerprint}\), and this is another"):
            gallery.check("another")
    _, out, _ = run("index", "list", tmp_path / "g.db")
    assert f"1 crop, 1 person; model nano ({fingerprint})" in out
    assert "camera" not in out


def test_people_are_named_through_the_command(db: Path, told: Json, street: Path) -> None:
    names = [p["name"] for p in told("index", "list", db)["by_person"]]
    told("index", "rename", db, names[0], "Ada")
    told("index", "merge", db, names[1], "--into", "Ada")
    split = told("index", "split", db, "Ada", "--camera", "c1", "--new", "Bo")["crops"]
    assert split == told("index", "count", db, "--person", "Bo")["crops"] > 0
    photo = next(street.rglob("*.jpg"))
    assert told("index", "enrol", db, "Cy", photo)["crops"] == 1
    assert told("index", "list", db, "--by", "crop", "--crop", photo)["by_crop"][0]["pid"] == "Cy"
    told("index", "forget", db, "Cy")
    assert "Cy" not in {p["name"] for p in told("index", "list", db)["by_person"]}
    whats = [e["what"] for e in told("index", "audit", db)["entries"]]
    assert whats == ["add", "rename", "merge", "split", "add", "enrol", "forget"]
    assert len(told("index", "audit", db, "--about", "Ada")["entries"]) == 3


def test_a_gallery_is_searched_like_a_folder(db: Path, street: Path, model: Path, told: Json, run: Run) -> None:
    photo = sorted(street.rglob("*.jpg"))[3]
    found = told("search", street, db, "-k", 5, "--other-cameras")["answers"]
    plain = told("search", street, street, "-k", 5, "--model", model, "--other-cameras")["answers"]
    for mine, theirs in zip(found, plain, strict=True):
        distances = [[m["distance"] for m in answer["matches"]] for answer in (mine, theirs)]
        np.testing.assert_allclose(*distances, atol=2e-3)
    people = told("search", photo, db, "--people")["answers"][0]["matches"]
    named = [m["crop"]["pid"] for m in people if m["crop"]["pid"]]
    assert len(set(named)) == len(named) == 5
    code, _, err = run("search", photo, street, "--people")
    assert (code, "reid index add" in err) == (2, True)


def test_galleries_go_where_crops_go(db: Path, street: Path, model: Path, told: Json, tmp_path: Path) -> None:
    assert told("cluster", db, "--model", model)["count"] >= 1
    photo = sorted(street.rglob("*.jpg"))[3]
    assert told("identify", photo, db, "--model", model)["people"] == 5
    by_gallery = told("evaluate", db, "--hold-out", 5)
    by_folder = told("evaluate", street, "--hold-out", 5, "--model", model)
    assert by_gallery["metrics"] == pytest.approx(by_folder["metrics"], abs=0.01)
    other = tmp_path / "other.db"
    assert told("index", "add", other, db)["added"] == told("index", "count", db)["crops"]


def test_erasing_says_what_it_would_do_first(db: Path, told: Json) -> None:
    total = told("index", "count", db)["crops"]
    said = told("index", "erase", db, "--camera", "c1")
    assert (said["erased"], told("index", "count", db)["crops"]) == (False, total)
    done = told("index", "erase", db, "--camera", "c1", "--yes")
    assert done["receipt"]["rows"] == done["crops"] == said["crops"]
    assert told("index", "count", db)["crops"] == total - said["crops"]


def test_keeping_and_the_log(db: Path, told: Json, run: Run) -> None:
    assert told("index", "keep", db)["keep"] is None
    assert told("index", "keep", db, "30d") == {"kind": "keep", "gallery": str(db), "keep": "30d", "erased": 0}
    head = told("index", "audit", db, "--verify")["head"]
    assert told("index", "audit", db, "--verify", head)["broken"] is None
    assert told("index", "keep", db, "always")["keep"] is None


def test_feedback_is_kept_and_exported(db: Path, street: Path, told: Json, tmp_path: Path, run: Run) -> None:
    photos = sorted(street.rglob("*.jpg"))
    told("index", "feedback", db, photos[0], photos[1], "--same")
    assert told("index", "feedback", db, photos[0], photos[2], "--different")["pairs"] == 2
    said = told("index", "export", db, "--pairs", tmp_path / "pairs.csv", "--crops", tmp_path / "crops.csv")
    assert said["pairs"] == 2
    assert said["crops"] > 0
    assert run("index", "export", db)[0] == 2


def test_a_gallery_is_embedded_again(db: Path, model: Path, told: Json, run: Run, tmp_path: Path) -> None:
    told("index", "rename", db, told("index", "list", db)["by_person"][0]["name"], "Ada")
    with Gallery.open(db) as before:
        old, salt = before.embeddings(), before.pseudonym("Ada")
        said = told("index", "rebuild", db, "--model", model, "--views", "mirror")
        assert said["crops"] == len(old)
        with pytest.raises(Exception, match="rebuilt with another model"):
            before.count()
    with Gallery.open(db) as gallery:
        made = gallery.embeddings()
        assert made.crops == old.crops
        assert gallery.model == said["model"] != old.model
        assert gallery.pseudonym("Ada") == salt
        assert gallery.made_with == {"model": str(model), "views": "mirror"}
        assert [e.what for e in gallery.audit()] == ["add", "rename", "rebuild"]
        assert gallery.verify_audit().broken is None
    told("index", "rebuild", db, "--model", model, "--to", tmp_path / "back.db")
    with Gallery.open(tmp_path / "back.db") as gallery:
        np.testing.assert_allclose(gallery.embeddings().vectors, old.vectors, atol=1e-3)
    assert {p.name for p in tmp_path.glob("people.db*")} <= {f"people.db{s}" for s in ("", "-wal", "-shm", "-lock")}


def test_what_is_said_while_a_gallery_is_embedded_again_is_kept(
    db: Path, model: Path, told: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore, late = Ledger.restore, []
    with Gallery.open(db) as other, ThreadPoolExecutor() as pool:

        def restored(ledger: Ledger, table: str, rows: list[Any]) -> None:
            if table == "feedback":  # the last, so that the log and the settings were read before
                late.extend([pool.submit(other.record, "search"), pool.submit(setattr, other, "keep", "9d")])
                time.sleep(0.5)
            restore(ledger, table, rows)

        monkeypatch.setattr(Ledger, "restore", restored)
        told("index", "rebuild", db, "--model", model, "--views", "mirror")
        for done in late:
            done.result()
    with Gallery.open(db) as gallery:
        assert sorted(e.what for e in gallery.audit()) == ["add", "keep", "rebuild", "search"]
        assert gallery.verify_audit().broken is None
        assert gallery.keep == "9d"


def test_crops_without_a_picture_are_not_dropped_unasked(
    tmp_path: Path, people: Embeddings, model: Path, told: Json, run: Run
) -> None:
    with Gallery.open(tmp_path / "g.db", people.model, people.vectors.shape[1]) as gallery:
        gallery.add(people)
    code, _, err = run("index", "rebuild", tmp_path / "g.db", "--model", model)
    assert (code, "--drop" in err) == (2, True)
    assert told("index", "count", tmp_path / "g.db")["crops"] == len(people)
    assert told("index", "rebuild", tmp_path / "g.db", "--model", model, "--drop")["crops"] == 0
    with Gallery.open(tmp_path / "g.db") as gallery:
        assert [e.what for e in gallery.audit()] == ["add", "rebuild"]


def test_what_is_damaged_is_salvaged(db: Path, told: Json, run: Run, tmp_path: Path) -> None:
    content = bytearray(db.read_bytes())
    content[-20000:-19000] = bytes(1000)
    db.write_bytes(bytes(content))
    said = told("index", "salvage", db, "-o", tmp_path / "saved.db")
    assert said["rows"] == told("index", "count", tmp_path / "saved.db")["crops"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nothing.db"], "reid index add"),
        (["list", "crops/"], "no gallery"),
        (["rename", "DB", "nobody", "x"], "nobody in the gallery"),
        (["erase", "DB", "--yes"], "erase everything"),
        (["enrol", "DB", "Ada"], "either new pictures or a filter"),
        (["keep", "DB", "soon"], "12h, 30d or 8w"),
        (["add", "DB", "missing/"], "missing"),
        (["count", "DB", "--after", "nan"], "finite"),
        (["feedback", "DB", "a.jpg", "b.jpg", "--same"], ".db: a.jpg, b.jpg; add pictures first"),
        (["feedback", "DB", "a.jpg", "a.jpg", "--same"], "a.jpg was given twice"),
        (["copy", "DB", "DB"], "is the very gallery that is to be copied"),
        (["erase", "DB", "--person", "ADA", "--yes"], "nobody in the gallery is called ADA"),
        (["erase", "DB", "--person", "ADA"], "nobody in the gallery is called ADA"),
        (["erase", "DB", "--camera", "c99", "--yes"], "no crop of camera c99"),
        (["erase", "DB", "--crop", "a.jpg", "--yes"], "the crop asked for is not in the gallery"),
        (["audit", "DB", "--verify", "deadbeef"], "'deadbeef' is no digest (64 hexadecimal digits"),
        (["audit", "DB", "--verify", 64 * "a"], f"has the digest {64 * 'a'}; since it was noted"),
    ],
)
def test_mistakes_are_told_in_a_sentence(db: Path, run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run("index", *(str(db) if a == "DB" else a for a in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_help(kind: str, run: Run) -> None:
    code, out, _ = run("index", kind, "--help")
    assert code == 0
    assert "gallery" in out


def test_feedback_on_a_gallery_calibrates(db: Path, model: Path, run: Run, told: Json, tmp_path: Path) -> None:
    with Gallery.open(db) as gallery:
        (rows,) = gallery.rows(vectors=False)
        chosen = [(int(row), crop.pid) for row, crop in zip(rows.ids, rows.crops, strict=True) if crop.pid][:8]
        for i, (a, who) in enumerate(chosen):
            for b, other in chosen[i + 1 :]:
                gallery.feedback(a, b, who == other)
    assert told("index", "export", db, "--pairs", tmp_path / "pairs.csv")["pairs"] == 28
    fit = ("verify", "--fit", tmp_path / "pairs.csv", "--model", model, "-o", tmp_path / "mine.calibration.json")
    code, _, err = run(*fit)
    assert (code, "needs at least 10" in err) == (2, True)  # of the few who were judged
    code, _, err = run(*fit, "--hold-out", 2)
    assert (code, "go alone" in err) == (2, True)


def test_a_password_is_not_printed() -> None:
    assert shown("postgresql://ada:secret@host/db?table=t") == "postgresql://ada:…@host/db"
    assert shown("people.db") == "people.db"
    assert shown("crops/") == "crops/"
