"""The web page in a real browser: searching, marking, naming, merging, erasing; labels, contrast; nobody else asked."""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from reid.embed import Embedder
from reid.gallery.rows import Where, row_id
from reid.serve.tokens import Tokens, grant
from tests.served import Served, jpeg, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("REID_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
WIDTHS = {390: 844, 820: 1180, 1440: 900}
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("REID_BROWSER") == "required":
            pytest.fail("there is no Chromium, and REID_BROWSER says that one is required")
        pytest.skip("no Chromium on this machine; install one, or name it in REID_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path: Path, embedder: Embedder) -> Iterator[Served]:
    with serving(tmp_path, embedder) as served:
        yield served


def until(page: Page, condition: str) -> None:
    """Wait for a condition in JavaScript, which the page's policy lets nobody evaluate by itself."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


class Tab:
    """A page of a service, and what went wrong in it."""

    def __init__(self, browser: Browser, served: Served, theme: Any = "light", width: int = 1440):
        self.context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.url = served.url

    def open(self, place: str = "") -> Page:
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")
        return self.page

    def upload(self, file: Path) -> Page:
        page = self.open()
        page.wait_for_selector(".drop")
        page.set_input_files("#choose", file)
        return page

    def close(self) -> None:
        """Nothing may have gone wrong, and nobody else have been asked."""
        self.context.close()
        assert not self.wrong
        strangers = [url for url in self.asked if not url.startswith((self.url + "/", "blob:" + self.url, "about:"))]
        assert not strangers


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    tab = Tab(browser, served)
    yield tab
    tab.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Person 2 as camera c1 saw them."""
    path = tmp_path / "photo.png"
    path.write_bytes(jpeg(21))
    return path


def test_search_by_upload_marks_and_naming(tab: Tab, served: Served, photo: Path) -> None:
    page = tab.upload(photo)
    page.wait_for_selector(".answers .look")
    names = page.locator(".answers .who").all_inner_texts()
    assert names[0] == "person 2"
    assert len(names) == 4 + 4 * 3  # each person once, and each tracklet that is nobody's
    assert page.locator(".answers .chance b").first.inner_text() == "> 99 %" or "%" in names[0] + page.inner_text(
        ".chance"
    )
    page.click(".answers li:nth-child(1) .say-right")
    page.wait_for_selector(".answers li.right")
    page.locator(".answers li:nth-child(2) .look").focus()
    page.keyboard.press("w")
    page.wait_for_selector(".answers li.wrong")
    assert sorted(word.same for word in served.gallery.feedbacks()) == [False, True]
    assert served.gallery.count() == 25  # the photo is a row now, so that the words have two sides
    page.click("#enrol")
    page.wait_for_selector("dialog[open]")
    assert page.input_value("dialog input[name=name]") == "person 2"
    page.fill("dialog input[name=name]", "Ada")
    page.click("dialog .main")
    page.wait_for_selector(".person-head")
    assert page.inner_text("h1") == "Ada"
    assert served.gallery.count(Where(people=frozenset({"Ada"}))) == 2


def test_answers_are_narrowed_by_camera_and_time(tab: Tab, photo: Path) -> None:
    page = tab.upload(photo)
    page.wait_for_selector(".answers .look")
    page.check("input[name=per][value=crop]", force=True)
    until(page, "document.querySelectorAll('.answers > li').length === 24")
    page.check(".chip:nth-child(2) input")
    until(page, "document.querySelectorAll('.answers > li').length === 8")
    page.locator(".times input").first.fill("104")
    page.locator(".times input").first.press("Enter")
    until(page, "document.querySelectorAll('.answers > li').length === 4")
    assert all(text.startswith("c1 · 0:01:4") for text in page.locator(".answers .where").all_inner_texts())
    page.locator(".times input").first.fill("900")
    page.locator(".times input").first.press("Enter")
    page.wait_for_selector("#found .nothing")


def test_a_box_is_drawn_by_mouse_and_moved_by_keys(
    tab: Tab, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.zeros((200, 400, 3), np.uint8) + 90
    wide[20:180, 100:180] = np.asarray(Image.open(photo_file(tmp_path)).resize((80, 160), Image.Resampling.NEAREST))
    Image.fromarray(wide).save(tmp_path / "frame.png")
    page = tab.upload(tmp_path / "frame.png")
    page.wait_for_selector(".stage .frame")
    edges = page.locator(".frame").bounding_box()
    assert edges

    def at(x: float, y: float) -> tuple[float, float]:
        return edges["x"] + edges["width"] * x, edges["y"] + edges["height"] * y

    page.mouse.move(*at(0.21, 0.1))
    page.mouse.down()
    page.mouse.move(*at(0.3, 0.5), steps=3)
    page.mouse.move(*at(0.41, 0.9), steps=3)
    page.mouse.up()
    box = page.locator(".box")
    before = box.get_attribute("aria-label")
    assert before
    assert before.startswith("Box around the person: 80 by 160 pixels, 21 % from the left, 10 % from the top.")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert "80 by 164 pixels, 23 % from the left" in str(box.get_attribute("aria-label"))
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    sent: list[np.ndarray] = []
    plain = served.service.look

    async def noted(uploads: Any, keep: bool = False) -> Any:
        sent.extend([np.asarray(Image.open(io.BytesIO(await upload.read())).convert("RGB")) for upload in uploads])
        for upload in uploads:
            await upload.seek(0)
        return await plain(uploads, keep)

    monkeypatch.setattr(served.service, "look", noted)
    page.click(".stage .main")
    page.wait_for_selector(".answers .look")
    np.testing.assert_array_equal(sent[0], wide[20:180, 76:156])
    assert served.gallery.count() == 24


def photo_file(folder: Path) -> Path:
    path = folder / "inner.png"
    path.write_bytes(jpeg(21))
    return path


def test_people_are_merged_split_and_erased(tab: Tab, served: Served) -> None:
    page = tab.open("#person=person 1")
    page.wait_for_selector(".person-head")
    assert page.locator(".timeline .seen").count() == 3
    page.click("text=Merge …")
    page.fill("dialog input[name=other]", "person 3")
    page.fill("dialog input[name=into]", "Cleo")
    page.click("dialog .main")
    until(page, "document.querySelector('h1').textContent === 'Cleo'")
    assert served.gallery.count(Where(people=frozenset({"Cleo"}))) == 6
    page.locator(".thumb").nth(1).click()
    page.click("text=Somebody else …")
    page.fill("dialog input[name=name]", "Dora")
    page.click("dialog .main")
    until(page, "document.querySelectorAll('.thumb').length === 5")
    assert served.gallery.count(Where(people=frozenset({"Dora"}))) == 1
    page.click(".person-head .danger")
    page.wait_for_selector("dialog[open]")
    page.fill("dialog input[name=typed]", "cleo")
    page.click("dialog .danger")
    assert page.inner_text("dialog .wrong-answer") == "Type Cleo, letter by letter."
    page.keyboard.press("Escape")
    assert served.gallery.count() == 24
    page.click(".person-head .danger")
    page.fill("dialog input[name=typed]", "Cleo")
    page.click("dialog .danger")
    page.wait_for_selector("dialog .receipt")
    told = page.inner_text("dialog .receipt").split()
    assert told[:2] == ["Crops", "5"]
    assert served.gallery.count() == 19
    assert list(served.gallery.audit())[-1].digest in told


def test_it_can_be_used_by_keys_alone(tab: Tab, photo: Path) -> None:
    page = tab.upload(photo)
    page.wait_for_selector(".answers .look")
    page.locator(".answers li:nth-child(1) .look").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert (
        page.evaluate("[...document.querySelectorAll('.answers > li')].indexOf(document.activeElement.closest('li'))")
        == 1
    )
    page.keyboard.press("r")
    page.wait_for_selector(".answers li:nth-child(2).right")
    assert page.evaluate("document.activeElement.closest('li') === document.querySelectorAll('.answers > li')[1]")
    page.locator("body").press("Tab")


def test_a_photo_is_pasted_and_a_crop_is_started_from(tab: Tab, served: Served, photo: Path) -> None:
    page = tab.open()
    page.wait_for_selector(".drop")
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
          dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
        }""",
        list(photo.read_bytes()),
    )
    page.wait_for_selector(".answers .look")
    page.goto(f"{served.url}/#crop={row_id(served.crops[0])}")
    page.wait_for_selector(".known-of")
    page.wait_for_selector(".answers .look")
    assert "person 0" in page.inner_text(".known-of")


def test_a_token_is_asked_for_and_roles_show(browser: Browser, tmp_path: Path, embedder: Embedder, photo: Path) -> None:
    token = grant(tmp_path / "tokens", "anna", ["read"])
    with serving(tmp_path, embedder, tokens=Tokens(tmp_path / "tokens")) as served:
        tab = Tab(browser, served)
        page = tab.open()
        page.fill(".door input", "wrong")
        page.click(".door .main")
        until(page, "document.querySelector('.door .wrong-answer').textContent.includes('not known')")
        page.fill(".door input", token)
        page.click(".door .main")
        page.wait_for_selector(".drop")
        page.set_input_files("#choose", photo)
        page.wait_for_selector(".answers .look")
        until(page, "document.querySelector('.answers img').src.startsWith('blob:')")
        assert page.locator(".say-right, #enrol").count() == 0
        page.goto(f"{served.url}/#person=person 1")
        page.wait_for_selector(".person-head")
        assert page.locator(".person-head button").count() == 0
        assert page.evaluate("document.cookie") == ""
        tab.wrong = [text for text in tab.wrong if "401" not in text]  # which the browser notes by itself
        tab.close()


def test_a_gallery_is_begun_from_nothing(tab: Tab, served: Served, photo: Path) -> None:
    served.gallery.erase(Where(cameras=frozenset({"c0", "c1", "c2"})))
    served.service.known.forget()
    page = tab.open()
    until(page, "document.querySelector('h1')?.textContent === 'This gallery is empty'")
    page.set_input_files("#choose", photo)
    page.click("#found .nothing #enrol")
    page.fill("dialog input[name=name]", "Ada")
    page.click("dialog .main")
    page.wait_for_selector(".person-head")
    assert [(person.name, person.crops) for person in served.gallery.people()] == [("Ada", 1)]


def test_mistakes_are_told(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    page = tab.upload(tmp_path / "broken.png")
    page.wait_for_selector("#toast [role=alert]")
    assert "no picture that the browser can show" in page.inner_text("#toast")


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390), ("light", 820)])
def test_labels_contrast_and_size(browser: Browser, served: Served, photo: Path, theme: str, width: int) -> None:
    axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    tab = Tab(browser, served, theme, width)
    page = tab.upload(photo)
    page.wait_for_selector(".answers .look")
    page.click(".answers li:nth-child(1) .say-right")
    page.wait_for_selector(".answers li.right")
    check(page, axe, "found")
    page.click("#enrol")
    page.wait_for_selector("dialog[open]")
    check(page, axe, "dialog")
    page.keyboard.press("Escape")
    for place, sign in (("", ".drop"), ("#people", ".people a"), ("#person=person 0", ".person-head")):
        tab.open(place)
        page.wait_for_selector(sign)
        check(page, axe, place)
    page.locator(".thumb").first.click()
    check(page, axe, "chosen")
    tab.close()


def check(page: Page, axe: str, where: str) -> None:
    """Nothing that axe-core finds, and nothing wider than the window."""
    page.wait_for_timeout(250)  # colours that fade in have arrived
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    told = [(v["id"], [n["html"][:120] + str(n["any"][:1])[:160] for n in v["nodes"][:3]]) for v in found["violations"]]
    assert not told, where
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), where
