from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid import pages, report
from reid.errors import ShapeError
from reid.types import Crop, Match

VOID = {"meta", "link", "input"}


class Page(HTMLParser):
    """Reads a page as a browser would, and fails on a tag that is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {("class" if k == "kind" else k): v for k, v in attributes.items()}
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]


def draw(path: Path, colour: tuple[int, int, int], height: int = 128, width: int = 64) -> str:
    image = np.full((height, width, 3), colour, dtype=np.uint8)
    image[height // 4 :] //= 2
    Image.fromarray(image).save(path)
    return str(path)


@pytest.fixture
def crops(tmp_path: Path) -> list[Crop]:
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]
    return [Crop(draw(tmp_path / f"{i}.png", c), str(i), f"cam{i}", 100.0 * i) for i, c in enumerate(colours)]


def match(crop: Crop, rank: int = 1, probability: float | None = None) -> Match:
    return Match(crop, rank / 8, rank, probability)


def test_page_is_whole_and_names_each_picture(crops: list[Crop]) -> None:
    answers = [[match(c, i, 0.5) for i, c in enumerate(crops[1:], 1)] for _ in crops]
    text = report.sheet(crops, answers, "Where else?", [("model", "osnet"), ("gallery", "4 crops")])
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("main", "h1", "section", "h2", "footer")] == [1, 1, 4, 4, 1]
    assert len(page.all("figure")) == len(page.all("figcaption")) == 4 + 12
    assert all(a["aria-label"] for a in page.all("svg", kind="picture"))
    assert len(page.all("svg", kind="picture")) == 4 + 12
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for t, a in page.tags if t in ("use", "a")]
    assert {link[1:] for link in links if link} <= set(ids)
    for words in ("Where else?", "model osnet", "gallery 4 crops", "A distance says", "personal data"):
        assert words in page.text


def test_page_asks_nothing_of_the_network(crops: list[Crop]) -> None:
    text = report.sheet(crops[:1], [[match(crops[1])]], "title")
    assert not re.search(r"https?:|src=|url\(|@import|<script|<iframe", text)
    references = [a["href"] or "" for _, a in Page(text).tags if "href" in a]
    assert all(link.startswith(("#", "data:")) for link in references)
    assert "default-src 'none'" in text


PERSON, OTHER, NOBODY = Crop("a", "1"), Crop("b", "2"), Crop("c")
DISTRACTOR, JUNK = Crop("d", role="distractor"), Crop("e", "1", role="junk")


@pytest.mark.parametrize(
    ("query", "found", "mark"),
    [
        (PERSON, PERSON, "right"),
        (PERSON, OTHER, "wrong"),
        (PERSON, NOBODY, "unknown"),
        (PERSON, DISTRACTOR, "wrong"),
        (PERSON, JUNK, "unknown"),
        (NOBODY, PERSON, "unknown"),
        (NOBODY, NOBODY, "unknown"),
        (NOBODY, DISTRACTOR, "unknown"),
        (DISTRACTOR, DISTRACTOR, "unknown"),
        (JUNK, PERSON, "unknown"),
    ],
)
def test_marks(query: Crop, found: Crop, mark: pages.Mark) -> None:
    assert pages.judge(query, found) == mark
    page = Page(report.sheet([query], [[match(OTHER, 1), match(found, 2)]], "title"))
    assert [a["class"] for a in page.all("li")][1] == mark
    card = pages.card(query, match(found), pages.Pictures())
    assert ("right" in Page(card).text, "wrong" in Page(card).text) == (mark == "right", mark == "wrong")
    assert ('href="#right"' in card, 'href="#wrong"' in card) == (mark == "right", mark == "wrong")


@pytest.mark.parametrize(
    ("firsts", "sentence"),
    [
        ([[PERSON], [OTHER], [DISTRACTOR]], "First answer right for 1 of 3 queries."),
        ([[PERSON], [NOBODY], []], "First answer right for 1 of 1 query; 2 more cannot be judged."),
        ([[JUNK, OTHER], [JUNK, PERSON]], "First answer right for 1 of 2 queries."),
        ([[NOBODY], [JUNK]], None),
    ],
)
def test_summary_counts_first_answers(firsts: list[list[Crop]], sentence: str | None) -> None:
    answers = [[match(crop, rank) for rank, crop in enumerate(found, 1)] for found in firsts]
    page = Page(report.sheet([PERSON] * len(firsts), answers, "title"))
    assert (sentence in page.text) if sentence else ("First answer" not in page.text)


def test_card_tells_distance_probability_camera_and_time() -> None:
    query = Crop("q.jpg", "7", "north", 1000.0)
    found = Crop("dir/g.jpg", "7", "south", 1125.25)
    text = report.sheet([query], [[Match(found, 0.41251, 3, 0.873)]], "title")
    for words in ("rank 3", "distance 0.413", "probability 87 %", "person 7", "camera south", "+2 min 05 s"):
        assert words in Page(text).text
    assert 'title="1125.25 s on the clock of the cameras"' in text
    assert 'title="dir/g.jpg"' in text
    alone = Page(report.sheet([Crop("q.jpg")], [[match(found)]], "title")).text
    assert "at 1125.25 s" in alone
    assert "probability" not in alone


def test_nothing_allowed_is_said() -> None:
    page = Page(report.sheet([PERSON], [[]], "title"))
    assert "Nothing in the gallery was allowed by the filters." in page.text
    assert not page.all("nav")


def test_answers_must_fit_queries() -> None:
    with pytest.raises(ShapeError, match="2 queries and 1 answers; give each query one"):
        report.sheet([PERSON, OTHER], [[]], "title")


def test_unreadable_picture_becomes_a_placeholder(tmp_path: Path, crops: list[Crop]) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    names = ["empty.jpg", "text.jpg", "cut.jpg", "missing.jpg", "\ud800.jpg", "x" * 3000]
    broken = [Crop(str(tmp_path / name)) for name in names]
    page = Page(report.sheet(crops[:1], [[match(c, i) for i, c in enumerate(broken, 1)]], "title"))
    missing = page.all("div", kind="picture missing")
    shown = [*names[:4], "\\ud800.jpg", names[5]]
    assert [a["aria-label"] for a in missing] == [f"{name}, cannot be read" for name in shown]
    assert "0 bytes" in (missing[0]["title"] or "")
    assert len(page.all("image")) == 1


def test_pictures_are_small_and_embedded_once(tmp_path: Path, crops: list[Crop]) -> None:
    big = Crop(draw(tmp_path / "big.png", (10, 90, 170), 1200, 500))
    wide = Crop(draw(tmp_path / "wide.png", (10, 90, 170), 10, 3000))
    gallery = [*crops, big, wide]
    text = report.sheet(crops * 5, [[match(c, i) for i, c in enumerate(gallery, 1)]] * 20, "title")
    pictures = Page(text).all("image")
    sizes = [(int(a["height"] or 0), int(a["width"] or 0)) for a in pictures]
    assert sizes == [(128, 64)] * 4 + [(256, 107), (2, 512)]
    for crop, picture in zip([*crops, big], pictures, strict=False):
        data = base64.b64decode((picture["href"] or "").partition(",")[2])
        with Image.open(io.BytesIO(data)) as decoded, Image.open(crop.path) as original:
            assert f"{decoded.height}" == picture["height"]
            assert np.abs(np.subtract(decoded.getpixel((5, 5)), original.getpixel((5, 5)))).max() < 8


def test_size_of_a_page_is_bounded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crops = []
    for i in range(30):  # noise is the most that a thumbnail can weigh
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)).save(path)
        crops.append(Crop(str(path), "1", "1", 1.0))
    answers = [[match(c, i, 0.5) for i, c in enumerate(crops[:20], 1)] for _ in crops]
    shown, distinct = 30 * 21, 30
    assert len(report.sheet(crops, answers, "title").encode()) < 16_000 + 1_000 * shown + 12_000 * distinct


def test_metadata_does_not_travel(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (64, 128), "teal").save(tmp_path / "a.jpg", exif=exif)
    page = Page(report.sheet([Crop(str(tmp_path / "a.jpg"))], [[]], "title"))
    data = base64.b64decode((page.all("image")[0]["href"] or "").partition(",")[2])
    assert b"Exif" not in data


def test_same_input_same_page(crops: list[Crop]) -> None:
    pages = [report.sheet(crops, [[match(c)] for c in crops], "title", [("a", "b")]) for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", "\" onload='x", "</style>", "$title ${x} $", "caf\udce9"]
)
def test_names_are_escaped(evil: str) -> None:
    def page(name: str) -> tuple[str, Page]:
        crop = Crop(f"dir/{name}", name, name, 1.0)
        text = report.sheet([crop], [[match(crop, 1)]], name, [(name, name)])
        return text, Page(text)

    text, read = page(evil)
    assert [(t, sorted(a)) for t, a in read.tags] == [(t, sorted(a)) for t, a in page("plain")[1].tags]
    assert evil.replace("\udce9", "\\udce9") in read.text
    text.encode("utf-8")


NAMES = st.text(st.characters(exclude_characters="\0/"), min_size=1, max_size=20)


@given(title=st.text(max_size=20), pid=NAMES, camera=NAMES, time=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=60, deadline=None)
def test_any_text_and_time_make_a_page(title: str, pid: str, camera: str, time: float) -> None:
    crop = Crop(pid, pid, camera, time)
    text = report.sheet([crop, crop], [[match(Crop(camera, None, pid, -time))], []], title, [(title, camera)])
    text.encode("utf-8")
    lines = Crop("a", "a", "a", 1.0)
    plain = report.sheet([lines, lines], [[match(Crop("b", None, "a", 1.0))], []], "", [("", "")])
    assert [t for t, _ in Page(text).tags] == [t for t, _ in Page(plain).tags]
