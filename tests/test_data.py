"""Reading crops: every layout on a tiny one that is drawn here, every refusal, and tables there and back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reid import data
from reid.data import READERS, market1501, recognise, table
from reid.errors import DataError
from reid.types import Crop, Embeddings

Draw = Callable[..., Path]
SHARED = Path(__file__).parents[2] / "shared" / "data"

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000100_01.jpg", "0007_c1s2_000025_01.jpg"],
    "query": ["0010_c1s1_000900_00.jpg"],
    "bounding_box_test": [
        "0010_c2s1_000300_01.jpg",
        "0000_c1s1_000100_01.jpg",
        "-1_c3s1_000200_01.jpg",
    ],
}


@pytest.fixture
def market(draw: Draw, tmp_path: Path) -> Path:
    for folder, names in MARKET.items():
        for name in names:
            draw(f"market/{folder}/{name}")
    return tmp_path / "market"


def drawn(draw: Draw, tmp_path: Path, *names: str) -> Path:
    for name in names:
        draw(f"set/{name}")
    return tmp_path / "set"


# ── market1501 ──


def test_market(market: Path) -> None:
    assert recognise(market)[0] == "market1501"
    crops = {crop.name: crop for crop in data.read(market)}
    assert Counter(crop.extra["split"] for crop in crops.values()) == {"train": 3, "query": 1, "gallery": 3}
    plain = crops["0002_c1s1_000451_03.jpg"]
    assert (plain.pid, plain.camera, plain.time, plain.role) == ("0002", "1", 5 + 451 / 25, "person")
    distractor, junk = crops["0000_c1s1_000100_01.jpg"], crops["-1_c3s1_000200_01.jpg"]
    assert (distractor.pid, distractor.role, distractor.camera) == (None, "distractor", "1")
    assert (junk.pid, junk.role, junk.camera) == (None, "junk", "3")


def test_markets_clock_does_not_depend_on_which_files_are_there(market: Path) -> None:
    for source in (market, market / "bounding_box_train", market / "bounding_box_train" / "0007_c1s2_000025_01.jpg"):
        late = next(crop for crop in data.read(f"market1501:{source}") if crop.pid == "0007")
        assert late.time == 2916 + 25 / 25


def test_market_starts_leave_room_for_the_lengths_that_st_reid_published() -> None:
    """Largest frame numbers, from its prepare.py; a start is known to some twenty seconds."""
    lengths = {
        "1": (72681, 74546, 74881, 74661, 74891, 54346),
        "2": (163691, 164677, 98102),
        "3": (161708, 161769, 104469),
        "4": (72107, 72373, 74810, 74541, 74910, 50616),
        "5": (161095, 161724, 103487),
        "6": (87551, 131268, 95817, 30952),
    }
    names = [Path(f"0002_c{c}s{i}_{n:06d}_00.jpg") for c, row in lengths.items() for i, n in enumerate(row, 1)]
    crops = market1501.read_names(names) or []
    ends = {crop.name[5:9]: crop.time or 0 for crop in crops}
    for camera, starts in market1501.MARKET_STARTS.items():
        assert len(starts) == len(lengths[camera])
        for i, start in enumerate(starts, 1):
            assert ends[f"c{camera}s{i}"] == start + lengths[camera][i - 1] / 25
            assert i == 1 or ends[f"c{camera}s{i - 1}"] < start + 20
    stop = market1501.MARKET_STARTS["6"][1] - ends["c6s1"]
    assert stop == pytest.approx(3215, abs=15)


@pytest.mark.parametrize("other", ["0002_c1s1_080000_00.jpg", "0002_c1s7_000100_00.jpg"])
def test_sequences_of_another_data_set_are_laid_end_to_end(market: Path, draw: Draw, other: str) -> None:
    draw(f"market/bounding_box_test/{other}")
    longest = 80000 if "s1" in other else 900
    for source in (market, market / "bounding_box_train"):
        late = next(crop for crop in data.read(source) if crop.pid == "0007")
        assert late.time == (longest + 25) / 25
        elsewhere = next(crop for crop in data.read(source) if crop.camera == "2")
        assert elsewhere.time == 31 + 100 / 25


def test_market_splits(market: Path) -> None:
    assert [crop.name for crop in data.read(market, "query")] == MARKET["query"]
    with pytest.raises(DataError, match=r"has no split 'val'; it has train, query, gallery"):
        data.read(market, "val")
    with pytest.raises(DataError, match=r"has no splits.*--write-split"):
        data.read(market / "query", "train")


def test_duke_frames_are_put_on_one_clock(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "0001_c2_f0046182.jpg", "0001_c5_f0049788.jpg")
    first, second = data.read(root)
    assert (first.pid, first.camera, second.camera) == ("0001", "2", "5")
    assert first.time == pytest.approx((3607 - 1 + 46182) / 59.94)
    assert first.time == pytest.approx(second.time)


def test_a_market_name_without_a_clock_has_no_time(draw: Draw, tmp_path: Path) -> None:
    (crop,) = data.read(f"market1501:{drawn(draw, tmp_path, '0003_c12_0030.jpg')}")
    assert (crop.pid, crop.camera, crop.time) == ("0003", "12", None)


def test_one_picture_can_be_read_as_a_layout(market: Path) -> None:
    (crop,) = data.read(f"market1501:{market / 'query' / MARKET['query'][0]}")
    assert (crop.pid, crop.camera) == ("0010", "1")


def test_a_few_odd_names_do_not_hide_the_layout_and_are_nobody(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, *(f"0002_c1s1_{i:06d}_00.jpg" for i in range(30)), "thumbs.jpg")
    crops = data.read(root)
    assert recognise(root)[0] == "market1501"
    assert crops[-1].pid is None
    assert crops[0].pid == "0002"


# ── cuhk ──


@pytest.mark.parametrize("boxes", ["", "labeled/", "detected/"])
def test_cuhk03(draw: Draw, tmp_path: Path, boxes: str) -> None:
    root = drawn(draw, tmp_path, *(f"{boxes}{p:04d}_{i:02d}.jpg" for p in (0, 12) for i in (0, 4, 5, 9)))
    layout, why = recognise(root)
    assert layout == "cuhk03"
    assert "0000_00.jpg" in why
    assert [crop.camera for crop in data.read(root)] == ["A", "A", "B", "B"] * 2
    assert {crop.pid for crop in data.read(root)} == {"0000", "0012"}


def test_cuhk03_takes_hand_labelled_boxes_where_both_are_there(draw: Draw, tmp_path: Path) -> None:
    names = [f"{boxes}/{p:04d}_00.jpg" for boxes in ("labeled", "detected") for p in range(3)]
    root = drawn(draw, tmp_path, *names)
    assert {Path(crop.path).parent.name for crop in data.read(root)} == {"labeled"}


def test_cuhk01(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, *(f"{p:04d}00{i}.jpg" for p in (895, 7) for i in (1, 2, 3, 4)))
    assert recognise(root)[0] == "cuhk01"
    crops = data.read(root)
    assert [crop.camera for crop in crops] == ["A", "A", "B", "B"] * 2
    assert [crop.pid for crop in crops] == ["0007"] * 4 + ["0895"] * 4


def test_short_names_inside_folders_are_not_cuhk(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "alice/0001_01.jpg", "alice/0001_02.jpg", "bob/0001_01.jpg")
    assert recognise(root)[0] == "folders"


# ── folders ──


def test_folders(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "3/frame_101.jpg", "3/frame_9.jpg", "5/frame_101.jpg", ".hidden/a.jpg")
    layout, why = recognise(root)
    assert layout == "folders"
    assert "3, 5" in why
    crops = data.read(root)
    assert [(c.pid, c.camera, c.time, dict(c.extra)) for c in crops] == [
        ("3", None, None, {"frame": "101"}),
        ("3", None, None, {"frame": "9"}),
        ("5", None, None, {"frame": "101"}),
    ]


@pytest.mark.parametrize(
    ("names", "cameras", "inner"),
    [
        (["a/cam1/1.jpg", "b/cam2/1.jpg"], ["cam1", "cam2"], [None, None]),
        (["a/north/1.jpg", "a/south/1.jpg", "b/north/1.jpg", "b/south/1.jpg"], ["north", "south"] * 2, [None] * 4),
        (["a/monday/1.jpg", "b/tuesday/1.jpg"], [None, None], ["monday", "tuesday"]),
        (["a/img/1.jpg", "b/img/1.jpg"], [None, None], ["img", "img"]),
        (["a/cam1/x/1.jpg", "b/cam1/1.jpg"], ["cam1", "cam1"], ["x", None]),
        (["a/cam1/1.jpg", "b/1.jpg"], [None, None], ["cam1", None]),
        (["a/p_c1_1.jpg", "b/p_cam2_1.jpg"], ["1", "2"], [None, None]),
        (["a/p_c1_1.jpg", "b/p_1.jpg"], [None, None], [None, None]),
        (["a/c1.jpg", "b/c2.jpg"], [None, None], [None, None]),
        (["a/c1_c2.jpg", "b/c2_c1.jpg"], [None, None], [None, None]),
        (["a/magic1_1.jpg", "b/magic2_1.jpg"], [None, None], [None, None]),
    ],
)
def test_folders_invent_no_camera(
    draw: Draw, tmp_path: Path, names: list[str], cameras: list[str | None], inner: list[str | None]
) -> None:
    crops = data.read(drawn(draw, tmp_path, *names), layout="folders")
    assert [crop.camera for crop in crops] == cameras
    assert [crop.extra.get("folder") for crop in crops] == inner


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("frame_101", "101"),
        ("Frame-7", "7"),
        ("x_frm0012_y", "0012"),
        ("a_f00123", "00123"),
        ("f1", None),
        ("000123", None),
        ("Alice_0001", None),
        ("mainframe3", None),
    ],
)
def test_folders_invent_no_frame(draw: Draw, tmp_path: Path, name: str, frame: str | None) -> None:
    root = drawn(draw, tmp_path, f"a/{name}.jpg", "b/1.jpg")
    assert data.read(root)[0].extra.get("frame") == frame


def test_folders_with_splits(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "train/a/1.jpg", "train/b/1.jpg", "Test/c/1.jpg", "Test/c/2.jpg")
    assert recognise(root)[0] == "folders"
    assert [(c.pid, c.extra["split"]) for c in data.read(root, "train")] == [("a", "train"), ("b", "train")]
    assert [c.pid for c in data.read(root, "test")] == ["c", "c"]


def test_frames_of_videos_and_other_data_sets_are_not_people(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "MOT17-02/img1/000001.jpg", "MOT17-04/img1/000001.jpg")
    (root / "MOT17-02" / "seqinfo.ini").write_text("[Sequence]")
    assert recognise(root)[0] == "flat"
    other = tmp_path / "sets"
    for name in ("m/0002_c1s1_000451_03.jpg", "x/1.jpg"):
        draw(f"sets/{name}")
    assert recognise(other)[0] == "flat"


def test_one_folder_is_not_a_layout_of_people(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "images/a.jpg", "images/b.jpg")
    assert recognise(root)[0] == "flat"
    assert {crop.pid for crop in data.read(f"folders:{root}")} == {"images"}


# ── tables ──


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_table_with_a_header(tmp_path: Path, separator: str, mark: str) -> None:
    rows = [
        ["Path", "PID", "camera", "time", "tracklet", "split", "role", "Shoes"],
        ["a.jpg", "0002", "north", "1.5", "t1", "train", "", "red"],
        ["/far/b.jpg", "", "", "", "", "", "junk", ""],
        [""] * 8,
    ]
    path = write(tmp_path / "t.csv", mark + "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n")
    first, second = data.read(path)
    assert first == Crop(str(tmp_path / "a.jpg"), "0002", "north", 1.5, "t1", extra={"Shoes": "red", "split": "train"})
    assert second == Crop("/far/b.jpg", role="junk")


def test_table_takes_a_decimal_comma_where_it_separates_by_semicolons(tmp_path: Path) -> None:
    assert data.read(write(tmp_path / "t.csv", "path;time\na.jpg;1,5\n"))[0].time == 1.5


def test_table_of_two_columns(tmp_path: Path) -> None:
    crops = data.read(write(tmp_path / "t.csv", "12,x/a.jpg\n13, x/b.jpg\n"))
    assert crops == [Crop(str(tmp_path / "x/a.jpg"), "12"), Crop(str(tmp_path / "x/b.jpg"), "13")]


def test_table_of_two_columns_with_market_names(tmp_path: Path) -> None:
    rows = "2,q/0002_c1s1_000451_03.jpg\n0000,q/0000_c2s1_000001_01.jpg\n-1,q/-1_c2s1_000002_01.jpg\n"
    crops = data.read(write(tmp_path / "t.csv", rows))
    assert [(c.pid, c.camera, c.role) for c in crops] == [
        ("0002", "1", "person"),
        (None, "2", "distractor"),
        (None, "2", "junk"),
    ]
    others = data.read(write(tmp_path / "u.csv", "5,q/0002_c1s1_000451_03.jpg\n"))
    assert (others[0].pid, others[0].camera) == ("5", None)  # the names say something else: the table is right


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,pid\na.jpg,1\nb.jpg\n", "line 3 of .* has 1 cells where 2 belong"),
        ("path,time\na.jpg,noon\n", "line 2 of .* has the time 'noon'"),
        ("path,time\na.jpg,inf\n", "line 2 of .* finite"),
        ("path,role\na.jpg,ghost\n", "line 2 of .* has the role 'ghost'; it can be person, distractor, junk"),
        ("path,pid\n,1\n", "line 2 of .* names no path"),
        ('path,pid\n"a.jpg,1\n', "line 2 of .* cannot be read"),
        ("path,pid,pid\na,1,2\n", "names pid more than once"),
        ("name,who\na,b\n", "starts with 'name,who'"),
        ("", "starts with ''"),
        ("path,pid\n", "holds no pictures"),
        ("1,a.jpg\n2\n", "line 2 of .* has 1 cells where 2 belong"),
        (b"\xff\xfep\0a\0t\0h\0\n\0", "not UTF-8"),
    ],
)
def test_table_that_cannot_be_understood(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.read(write(tmp_path / "t.csv", text))


def test_a_folder_with_a_table(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "a.jpg", "b.jpg")
    write(root / "notes.csv", "when,what\n1,2\n")
    assert recognise(root)[0] == "flat"  # a .csv about something else
    write(root / "crops.csv", "path,pid\nb.jpg,7\n")
    assert recognise(root) == ("table", "it holds the table crops.csv")
    assert data.read(root) == [Crop(str(root / "b.jpg"), "7")]
    (root / "notes.csv").unlink()
    (root / "crops.csv").rename(root / "people.csv")
    assert recognise(root) == ("table", "it holds the table people.csv")


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
paths = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=6).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)
keys = words.filter(lambda key: key.strip() and key.strip().lower() not in table.COLUMNS)
some_crops = st.builds(
    Crop,
    paths,
    st.none() | words,
    st.none() | words,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | words,
    st.sampled_from(["person", "distractor", "junk"]),
    st.dictionaries(keys | st.just("split"), words, max_size=2),
)


@given(st.lists(some_crops, min_size=1, max_size=4), st.booleans(), st.sampled_from([".", "lists", "lists/deep"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_table_there_and_back(tmp_path: Path, crops: list[Crop], absolute: bool, folder: str) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        if absolute:
            crops = [Crop("/" + c.path, c.pid, c.camera, c.time, c.tracklet, c.role, c.extra) for c in crops]
        Path(folder).mkdir(parents=True, exist_ok=True)
        target = Path(folder) / "t.csv"
        table.write(target, crops)
        assert list(table.read(target)) == crops
        splits = {crop.path: "train" for crop in crops}
        table.write(target, crops, splits)
        assert {crop.extra["split"] for crop in table.read(target)} == {"train"}
    finally:
        os.chdir(before)


def test_table_keeps_names_that_are_not_utf8_and_moves_with_its_folder(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    crops = [Crop(str(tmp_path / "here" / odd), "1"), Crop("/elsewhere/b.jpg", "2")]
    (tmp_path / "here").mkdir()
    table.write(tmp_path / "here" / "t.csv", crops)
    assert list(table.read(tmp_path / "here" / "t.csv")) == crops
    (tmp_path / "here").rename(tmp_path / "there")
    moved, far = table.read(tmp_path / "there" / "t.csv")
    assert moved.path == str(tmp_path / "there" / odd)
    assert far.path == "/elsewhere/b.jpg"


@pytest.mark.parametrize("extra", [{"Path ": "x"}, {"": "x"}, {"note": ""}, {"a\0b": "x"}, {"note": "\ud800"}])
def test_table_refuses_what_it_would_lose_and_leaves_the_old_one(tmp_path: Path, extra: dict[str, str]) -> None:
    target = write(tmp_path / "t.csv", "old")
    with pytest.raises(DataError):
        table.write(target, [Crop("a.jpg", extra=extra)])
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["t.csv"]


# ── lists, embeddings, pictures, several ──


def test_list(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, away = draw("lists/a b#1.jpg"), draw("work/b.jpg")
    monkeypatch.chdir(tmp_path / "work")
    path = write(tmp_path / "lists" / "l.txt", f"# mine\n\na b#1.jpg\r\nb.jpg\n  {away}\nnone.jpg\n")
    assert [crop.path for crop in data.read(path)] == [
        str(beside),
        "b.jpg",
        str(away),
        str(tmp_path / "lists" / "none.jpg"),
    ]
    with pytest.raises(DataError, match=r"not one path in .* exists, x.jpg is the first"):
        data.read(write(tmp_path / "m.txt", "x.jpg\ny.jpg\n"))
    with pytest.raises(DataError, match=r"line 1 of .* is no path"):
        data.read(write(tmp_path / "n.txt", b"a\0b\n"))


def test_embeddings(tmp_path: Path) -> None:
    crops = (Crop("a.jpg", "1", extra={"split": "query"}), Crop("b.jpg", "2", extra={"split": "gallery"}))
    Embeddings(np.ones((2, 3), np.float32), crops, "m").save(tmp_path / "e.npz")
    assert recognise(tmp_path / "e.npz")[0] == "embeddings"
    assert data.read(tmp_path / "e.npz") == list(crops)
    assert data.read(tmp_path / "e.npz", "query") == [crops[0]]


def test_pictures_and_several_sources(draw: Draw, tmp_path: Path) -> None:
    one, other = draw("b.jpg"), draw("set/a.png")
    assert data.read(one) == [Crop(str(one))]
    assert data.read([one, str(tmp_path / "set"), one]) == [Crop(str(p)) for p in (one, other, one)]
    bare = one.rename(tmp_path / "photo")  # known by its content
    assert data.read(bare) == [Crop(str(bare))]


def test_a_path_with_a_colon_is_a_path(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("flat:x/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert data.read("flat:x") == [Crop("flat:x/a.jpg")]


def test_order_is_stable(draw: Draw, tmp_path: Path) -> None:
    root = drawn(draw, tmp_path, "b/2.jpg", "b/1.jpg", "a/3.jpg", "B/0.jpg")
    assert [crop.path for crop in data.read(root)] == sorted(str(p) for p in root.rglob("*.jpg"))


def test_refusals(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    write(tmp_path / "films" / "a.mp4", "x")
    write(tmp_path / "films" / "b.MP4", "x")
    for source, message in [
        (tmp_path / "nowhere", "does not exist; give a picture, a folder"),
        (f"cuhk01:{tmp_path}/nowhere", "nowhere does not exist"),
        ("", "an empty path does not exist"),
        (tmp_path / "empty", "is empty; give a folder with pictures in it"),
        (tmp_path / "films", r"holds no pictures, only other files \(2 .mp4\)"),
        (tmp_path / "films" / "a.mp4", "holds no pictures; give a picture"),
        (f"duke:{tmp_path}", "no layout 'duke'; layouts are embeddings, table, list, market1501"),
        ("https://example.org/a.jpg", "is an address"),
        ([], "no source was given"),
    ]:
        with pytest.raises(DataError, match=message):
            data.read(source)
    with pytest.raises(DataError, match="no layout 'duke'"):
        data.read(tmp_path, layout="duke")
    root = drawn(draw, tmp_path, "a/1.jpg", "b/2.jpg")
    with pytest.raises(DataError, match=r"not one of 2 pictures .* is named like 0895003.jpg"):
        data.read(root, layout="cuhk01")
    with pytest.raises(DataError, match=r"holds no crops.csv"):
        data.read(root, layout="table")


@pytest.mark.parametrize("layout", READERS)
def test_every_layout_says_none_to_an_empty_folder_and_refuses_unknown_splits(
    draw: Draw, tmp_path: Path, layout: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert READERS[layout].matches(tmp_path / "empty") is None
    assert READERS[layout].__doc__
    with pytest.raises(DataError):
        data.read(tmp_path / "empty", layout=layout)


@pytest.mark.parametrize(
    ("folder", "layout", "crops", "people", "cameras"),
    [
        ("market1501/bounding_box_train", "market1501", 12_936, 751, 6),
        ("cuhk03", "cuhk03", 7_239, 743, 2),
        ("cuhk01", "cuhk01", 3_884, 971, 2),
        ("swimmers", "folders", 2_340, 8, 0),
    ],
)
def test_real_data_sets(folder: str, layout: str, crops: int, people: int, cameras: int) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{folder} is not here; see the data's own terms to get it")
    found = data.read(SHARED / folder)
    assert recognise(SHARED / folder)[0] == layout
    assert len(found) == crops
    assert len({crop.pid for crop in found}) == people
    assert len({crop.camera for crop in found} - {None}) == cameras


def test_market_names_alone() -> None:
    assert market1501.read_names([Path("0002_c1s1_000451_03.jpg"), Path("b.jpg")]) is None


def test_lists_and_single_pictures_with_market_names(tmp_path: Path) -> None:
    for name in ("0002_c1s1_000451_03.jpg", "-1_c3s2_000001_01.jpg"):
        Image.new("RGB", (8, 16)).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("0002_c1s1_000451_03.jpg\n-1_c3s2_000001_01.jpg\n")
    first, second = data.read(tmp_path / "list.txt")
    assert (first.pid, first.camera, first.time) == ("0002", "1", None)
    assert (second.role, second.camera) == ("junk", "3")
    assert data.read(first.path) == [first]
    (tmp_path / "other.jpg").write_bytes(Path(first.path).read_bytes())
    (tmp_path / "list.txt").write_text("0002_c1s1_000451_03.jpg\nother.jpg\n")
    assert [c.pid for c in data.read(tmp_path / "list.txt")] == [None, None]
