"""The doctor: what it says about small data sets that are drawn here, and the splits it proposes."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reid.data import alike, findings, scan, splits, table
from reid.doctor import Diagnosis, examine, propose_splits
from reid.errors import DataError
from reid.types import Crop

Draw = Callable[..., Path]
SHARED = Path(__file__).parents[2] / "shared" / "data"


def kinds(found: Diagnosis) -> dict[str, str]:
    return {finding.kind: finding.level for finding in found.findings}


def finding(found: Diagnosis, kind: str) -> findings.Finding:
    return next(one for one in found.findings if one.kind == kind)


@pytest.fixture
def two_cameras(draw: Draw, tmp_path: Path) -> Path:
    for p in range(25):
        for c in (1, 2):
            draw(f"set/p{p}/a_c{c}_1.jpg", seed=100 * p + c)
    return tmp_path / "set"


# ── examine ──


def test_good_data_need_few_words(two_cameras: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = examine(two_cameras, progress=lambda done, total: seen.append((done, total)))
    assert found.verdict == (
        "50 crops of 25 people by 2 cameras. Good to train on; all 25 people can be evaluated across cameras."
    )
    assert found.layout == "folders"
    assert not found.findings
    assert found.cameras == {"1": 25, "2": 25}
    assert found.proposed == {"people": {"train": (40, 20), "query": (5, 5), "gallery": (5, 5)}}
    assert seen[-1] == (50, 50)
    text = found.text()
    assert "25, with 2 crops each" in text
    assert "32×64 pixels, all of them" in text
    assert f"reid show {two_cameras} --write-split people -o splits.csv" in text
    assert max(map(len, text.replace(str(two_cameras), "DIR").splitlines())) <= 100
    assert json.loads(found.to_json())["people"]["p3"] == 2


def test_pictures_need_not_be_looked_at(two_cameras: Path) -> None:
    (two_cameras / "p0" / "a_c1_1.jpg").write_bytes(b"")
    found = examine(two_cameras, pixels=False)
    assert (found.width, found.height, found.findings) == (None, None, ())
    assert "size" not in found.text()


def test_damaged_pictures_are_named_with_the_reason(draw: Draw, two_cameras: Path) -> None:
    for p in range(8):
        (two_cameras / f"p{p}" / "a_c1_1.jpg").write_bytes(b"" if p else b"nonsense")
    found = examine(two_cameras)
    bad = finding(found, "unreadable")
    assert (bad.count, bad.level) == (8, "problem")
    assert bad.examples[0].startswith("p0/a_c1_1.jpg is no picture that reid knows")
    assert bad.examples[1].startswith("p1/a_c1_1.jpg is empty")
    assert bad.examples[-1] == "and 3 more"
    assert found.verdict.endswith("8 pictures cannot be read.")


def test_pictures_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,pid\na.jpg,1\nb.jpg,2\n")
    found = examine(tmp_path / "t.csv")
    assert "every one" in finding(found, "unreadable").text
    assert "own folder" in finding(found, "unreadable").todo


def test_exact_and_near_copies(draw: Draw, two_cameras: Path) -> None:
    shutil.copy(two_cameras / "p0" / "a_c1_1.jpg", two_cameras / "p0" / "b_c1_2.jpg")
    shutil.copy(two_cameras / "p1" / "a_c1_1.jpg", two_cameras / "p2" / "b_c1_2.jpg")
    Image.open(two_cameras / "p3" / "a_c1_1.jpg").save(two_cameras / "p4" / "b_c2_2.jpg", quality=60)
    found = examine(two_cameras)
    exact, near = finding(found, "exact-copies"), finding(found, "near-copies")
    assert (exact.count, exact.level) == (2, "problem")
    assert exact.examples == (
        "p1/a_c1_1.jpg = p2/b_c1_2.jpg",
        "p0/a_c1_1.jpg = p0/b_c1_2.jpg",
    )
    assert (near.count, near.level) == (2, "problem")
    assert near.examples == ("p3/a_c1_1.jpg ~ p4/b_c2_2.jpg",)


def test_flat_colours_and_whole_scenes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = rng.integers(0, 256, (4, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 360), Image.Resampling.NEAREST).save(tmp_path / f"{i}.png")
    Image.new("RGB", (20, 40), "grey").save(tmp_path / "blank1.png")
    Image.new("RGB", (20, 41), "grey").save(tmp_path / "blank2.png")
    found = examine(tmp_path)
    assert list(kinds(found)) == ["whole-scenes", "blank", "nobody-named"]  # two flat pictures are no near copies
    assert finding(found, "blank").count == 2
    assert found.verdict.startswith("5 pictures, nobody named.")
    assert f"    reid search photo.jpg {tmp_path}" in found.text().splitlines()


def test_no_cameras(draw: Draw, tmp_path: Path) -> None:
    for p in range(2):
        for i in range(3):
            draw(f"set/{p}/{i}.jpg", seed=10 * p + i)
    found = examine(tmp_path / "set")
    assert kinds(found) == {"no-cameras": "problem"}
    assert "cameras unknown" in found.verdict
    assert "time" not in found.proposed


def test_one_camera_is_explained(draw: Draw, tmp_path: Path) -> None:
    for p in range(1, 25):
        for i in range(5):
            draw(f"set/{p:04d}_c1s1_{500 * i + p:06d}_00.jpg", seed=10 * p + i)
    found = examine(tmp_path / "set")
    assert kinds(found) == {"one-camera": "problem"}
    assert list(found.proposed) == ["time"]
    text = found.text()
    assert "--write-split time" in text
    assert "matches across cameras cannot be evaluated" in text


def test_people_who_cannot_be_evaluated(draw: Draw, two_cameras: Path) -> None:
    draw("set/solo/a_c1_1.jpg", seed=7001)
    draw("set/home/a_c1_1.jpg", seed=7002)
    draw("set/home/a_c1_2.jpg", seed=7003)
    found = examine(two_cameras)
    why = finding(found, "not-evaluable")
    assert why.level == "note"
    assert "1 person has one crop only and 1 person has crops from one camera only" in why.text
    assert why.examples == ("solo", "home")
    assert "25 of the 27 people can be evaluated" in found.verdict


def test_nobody_seen_twice_across_cameras(draw: Draw, tmp_path: Path) -> None:
    for p in range(4):
        for i in range(2):
            draw(f"set/{p}/a_c{p % 2}_{i}.jpg", seed=10 * p + i)
    found = examine(tmp_path / "set")
    assert kinds(found) == {"not-evaluable": "problem"}
    assert "matches across cameras cannot be evaluated" in found.verdict


@pytest.mark.parametrize(("count", "people"), [(1, 2), (3, 1)])
def test_too_little_to_train_on(draw: Draw, tmp_path: Path, count: int, people: int) -> None:
    for p in range(people):
        for i in range(count):
            draw(f"set/{p}/{i}.jpg", seed=10 * p + i)
    found = examine(tmp_path / "set", layout="folders")
    assert "not trained on or evaluated" in found.verdict
    assert "you asked for it" in found.text()
    assert not found.proposed


def moving(path: Path, seed: int) -> None:
    """Thirty frames of somebody who slowly turns from one pattern into another."""
    rng = np.random.default_rng(seed)
    start, end = rng.integers(0, 256, (2, 8, 4, 3)).astype(float)
    path.mkdir(parents=True)
    for i in range(30):
        pixels = start + (end - start) * i / 29
        Image.fromarray(pixels.astype(np.uint8)).resize((16, 32)).save(path / f"frame_{i + 1}.png")


def test_consecutive_frames_are_measured(tmp_path: Path) -> None:
    for p in range(4):
        moving(tmp_path / f"p{p}", p)
    found = examine(tmp_path)
    leak = finding(found, "consecutive-frames")
    assert "mostly 1 frame apart" in leak.text
    assert "name 100.0% of a random fifth right" in leak.text
    assert "a random split would leak" in found.verdict
    assert found.frames == (1, 30)
    assert found.proposed["time"] == {"train": (96, 4), "query": (24, 4)}
    assert "96 earlier crops to train on and to search, 24 later ones as queries" in found.text()
    assert "Raw pixels" not in finding(examine(tmp_path, pixels=False), "consecutive-frames").text
    (tmp_path / "p0" / "frame_1.png").write_bytes(b"")
    assert "(measured on 119 crops of 120)" in finding(examine(tmp_path), "consecutive-frames").text
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    assert "Raw pixels" not in finding(examine(tmp_path), "consecutive-frames").text


def test_roles_splits_and_queries_without_a_match(draw: Draw, tmp_path: Path) -> None:
    names = {
        "bounding_box_train": ["0001_c1s1_000001_00.jpg", "0001_c2s1_000500_00.jpg", "0002_c1s1_000900_00.jpg"],
        "query": ["0001_c1s1_000100_00.jpg", "0003_c1s1_000200_00.jpg", "0004_c1s1_000300_00.jpg"],
        "bounding_box_test": [
            "0001_c2s1_000400_00.jpg",
            "0003_c1s1_000600_00.jpg",
            "0000_c1s1_000700_00.jpg",
            "-1_c1s1_000800_00.jpg",
        ],
    }
    for i, path in enumerate(f"{folder}/{name}" for folder, listed in names.items() for name in listed):
        draw(f"set/{path}", seed=i)
    found = examine(tmp_path / "set")
    assert found.roles == {"person": 8, "distractor": 1, "junk": 1}
    assert found.splits == {"train": 3, "query": 3, "gallery": 4}
    assert not found.proposed
    lost = finding(found, "queries-without-match")
    assert (lost.count, lost.level) == (2, "note")
    assert "1 query shows somebody who is not in the gallery part" in lost.text
    assert "1 query shows somebody whom the gallery part has from the query's own camera only" in lost.text
    assert finding(found, "trained-and-tested").examples == ("0001",)
    assert "1 distractor, 1 junk crop" in found.text()


def test_a_misspelt_split_is_told(draw: Draw, tmp_path: Path) -> None:
    crops = [Crop(str(draw(f"{i}.jpg")), str(i % 2), str(i % 3)) for i in range(6)]
    table.write(tmp_path / "s.csv", crops, {c.path: "galery" if i % 2 else "query" for i, c in enumerate(crops)})
    found = examine(tmp_path / "s.csv")
    (wrong,) = (one for one in found.findings if one.kind == "splits")
    assert wrong.text == "Split has 'galery', which looks like gallery (it has galery, query)."
    assert "its splits cannot be evaluated" in found.verdict


def test_a_time_split_searches_its_training_part(draw: Draw, tmp_path: Path) -> None:
    crops = [
        Crop(str(draw(f"{p}_{i}.jpg", seed=10 * p + i)), str(p), camera, time=float(i))
        for p, camera in ((1, "x"), (2, "x"))
        for i in range(5)
    ]
    table.write(tmp_path / "s.csv", crops, propose_splits(crops, "time"))
    found = examine(tmp_path / "s.csv")
    lost = finding(found, "queries-without-match")
    assert (lost.count, lost.level) == (2, "problem")
    assert "leave the column camera empty" in lost.todo
    assert "no query has a match that counts" in found.verdict
    table.write(tmp_path / "s.csv", [Crop(c.path, c.pid, None, c.time) for c in crops], propose_splits(crops, "time"))
    assert "queries-without-match" not in kinds(examine(tmp_path / "s.csv"))


def test_names_missing_and_rows_repeated(draw: Draw, tmp_path: Path) -> None:
    draw("a.jpg", 1), draw("b.jpg", 2), draw("c.jpg", 3)
    (tmp_path / "t.csv").write_text("path,pid,camera\na.jpg,1,x\nb.jpg,1,y\nc.jpg,,x\na.jpg,1,x\n")
    found = examine(tmp_path / "t.csv")
    assert kinds(found) == {"listed-twice": "problem", "nameless": "note"}
    assert finding(found, "nameless").count == 1


def test_names_that_are_not_utf8_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    found = examine(tmp_path)
    assert "caf\\udce9.jpg is empty" in found.text()
    json.loads(found.to_json())


def test_several_sources(draw: Draw) -> None:
    found = examine([draw("a.jpg", 1), draw("b c.jpg", 2)])
    assert (found.layout, found.why) == ("flat", "2 sources were given")
    assert "'" in found.source  # quoted, as a shell needs it


def test_swimmers() -> None:
    if not (SHARED / "swimmers").is_dir():
        pytest.skip("the swimmers are not here; see the data's own terms to get them")
    leak = finding(examine(SHARED / "swimmers"), "consecutive-frames").text
    random, late = (float(word.rstrip("%")) for word in leak.split() if word.endswith("%"))
    assert random >= 99
    assert 55 <= late <= 65


# ── splits ──

some_people = st.lists(
    st.builds(
        Crop,
        st.integers(0, 10**9).map(lambda i: f"{i}.jpg"),
        st.none() | st.sampled_from("abcdef"),
        st.none() | st.sampled_from("xyz"),
        st.none() | st.floats(0, 100),
        role=st.sampled_from(["person", "person", "person", "distractor", "junk"]),
    ),
    max_size=40,
    unique_by=lambda crop: crop.path,
)


@given(some_people, st.floats(0.05, 0.95), st.integers(0, 3))
def test_people_are_on_one_side_and_every_query_has_a_match(crops: list[Crop], share: float, seed: int) -> None:
    try:
        chosen = propose_splits(crops, "people", share, seed)
    except DataError:
        return
    assert chosen == propose_splits(crops[::-1], "people", share, seed)
    parts: dict[str, list[Crop]] = {"train": [], "query": [], "gallery": []}
    for crop in crops:
        if crop.path in chosen:
            parts[chosen[crop.path]].append(crop)
        else:
            assert crop.pid is None
            assert crop.role == "person"
    assert {c.pid for c in parts["train"]}.isdisjoint(c.pid for c in parts["query"])
    assert parts["query"]
    assert all(c.role == "person" for c in (*parts["train"], *parts["query"]))
    for crop in parts["query"]:
        matches = [c.camera for c in parts["gallery"] if c.pid == crop.pid and c.role == "person"]
        assert any(None in (camera, crop.camera) or camera != crop.camera for camera in matches)


@given(some_people, st.floats(0.05, 0.95))
def test_queries_are_later_than_training(crops: list[Crop], share: float) -> None:
    try:
        chosen = propose_splits(crops, "time", share)
    except DataError:
        return
    for crop in crops:
        for other in crops:
            if (crop.pid, crop.camera) == (other.pid, other.camera):
                pair = chosen.get(crop.path), chosen.get(other.path)
                assert pair != ("train", "query") or (crop.time or 0) <= (other.time or 0)


def test_the_share_is_kept_and_the_seed_counts() -> None:
    crops = [Crop(f"{p}_{i}.jpg", f"{p:03d}", "xy"[i % 2]) for p in range(100) for i in range(4)]
    chosen = propose_splits(crops, "people", 0.3)
    assert Counter(chosen.values()) == {"train": 280, "query": 60, "gallery": 60}
    assert chosen != propose_splits(crops, "people", 0.3, seed=1)


@pytest.mark.parametrize(
    ("kind", "share", "message"),
    [
        ("random", 0.2, "kind of split is 'random'; it can be people, time"),
        ("people", 1.0, "must lie between 0 and 1"),
        ("people", 0.2, "a split by people needs 2 people"),
        ("time", 0.2, "no person has enough crops with a time or a frame number to hold out the last 20%"),
    ],
)
def test_splits_that_cannot_be(kind: splits.Kind, share: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        propose_splits([Crop("a.jpg", "1", "x"), Crop("b.jpg", "1", "y")], kind, share)


# ── copies ──


@given(st.integers(0, 2**32))
def test_near_pairs_are_those_of_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (4, 128), dtype=np.uint8)
    bits = centres[rng.integers(0, 4, 40)] ^ (rng.random((40, 128)) < 0.03)
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    rows = np.flatnonzero(rng.random(40) < 0.9)
    pairs, complete = alike.near_pairs(hashes, rows)
    slow = {
        (int(a), int(b))
        for a in rows
        for b in rows
        if a < b and (bits[a] != bits[b]).any() and (bits[a] != bits[b]).sum() <= alike.BITS
    }
    found = [(int(a), int(b)) for a, b in pairs]
    assert complete
    assert len(set(found)) == len(found)
    firsts = {hashes[row].tobytes(): int(row) for row in rows[::-1]}
    assert set(found) >= {(a, b) for a, b in slow if {a, b} <= set(firsts.values())}
    assert all((bits[a] != bits[b]).sum() <= alike.BITS for a, b in found)


def test_equal_hashes_are_chained() -> None:
    hashes = np.zeros((5, 2), np.uint64)
    pairs, complete = alike.near_pairs(hashes, np.arange(5))
    assert pairs.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert complete


def test_a_search_that_grows_too_long_is_cut_short_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MOST_COMPARED", 10)
    hashes = np.stack([np.zeros(50), np.arange(50)], axis=1).astype(np.uint64)
    pairs, complete = alike.near_pairs(hashes, np.arange(50))
    assert not complete
    found = findings.near_copies(pairs, complete, [Crop(f"{i}.jpg") for i in range(50)], str)
    assert found is not None
    assert found.text.startswith("At least ")


def test_scan_keeps_thumbnails_of_the_rows_it_is_asked_for(draw: Draw) -> None:
    paths = [str(draw(f"{i}.png", i, (16, 32))) for i in range(5)]
    looked = scan.scan(paths, [4, 1])
    assert looked.thumbs.shape == (2, 32, 16, 3)
    assert np.array_equal(looked.thumbs[0], np.asarray(Image.open(paths[4])))
    assert looked.readable.all()


def test_thumbnails_are_those_of_whole_people_up_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "MOST_THUMBS", 7)
    crops = [Crop(f"{p}_{i}.jpg", str(p), extra={"frame": str(i)}) for p in range(4) for i in range(3)]
    assert findings.thumbs_wanted(crops).tolist() == list(range(6))
