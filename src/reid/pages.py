"""What pages to look at have in common: the frame, pictures of crops with what is known of them, and safe text.

A page is templates/page.html, filled in by string.Template, and needs nothing else, no script and no network. Text from
a user goes in through `text`.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Literal

import simplejpeg

from reid import images
from reid.errors import ImageError
from reid.types import Crop, Match

Mark = Literal["right", "wrong", "unknown"]
THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH, QUALITY = 256, 512, 85
DISTANCES = (
    "A distance says how different two pictures look to the model: lower is closer, and only distances from the same "
    "model can be compared."
)

_PRIVATE = (
    "<p>Pictures of people are personal data: keep, print and share this page only where you are allowed to.</p>\n"
)


def page(
    title: str,
    summary: str,
    facts: Sequence[tuple[str, str]],
    contents: str,
    main: str,
    pictures: Pictures,
    styles: Sequence[str] = (),
    note: str = DISTANCES,
) -> str:
    """The page as text that can always be encoded as UTF-8.

    Args:
        title: the heading, as plain text.
        summary: a sentence below it, as plain text; empty for none.
        facts: (name, value) pairs below that, as plain text.
        contents: HTML at the end of the page's head: a key, links to its parts.
        main: HTML of the page itself.
        pictures: all that it shows.
        styles: further style sheets among the templates, after colours.css and page.css.
        note: how to read it, at its foot.
    """
    return Template(template("page.html")).substitute(
        title=text(title),
        style="".join(map(template, ("colours.css", "page.css", *styles))),
        summary=f'<p class="summary">{text(summary)}</p>' if summary else "",
        facts="".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in facts),
        contents=contents,
        main=main,
        note=note,
        private=_PRIVATE if pictures.definitions else "",
        pictures="\n".join(pictures.definitions),
    )


def template(name: str) -> str:
    """The text of a template."""
    return resources.files("reid").joinpath("templates", name).read_text(encoding="utf-8")


def judge(query: Crop, found: Crop) -> Mark:
    """Whether a crop shows the query's person, as far as both people are known."""
    if query.pid is None or query.role != "person" or found.role == "junk":
        return "unknown"
    if found.role == "distractor":
        return "wrong"
    if found.pid is None:
        return "unknown"
    return "right" if found.pid == query.pid else "wrong"


def links(marks: Sequence[Mark], what: str, only: str) -> str:
    """Links to sections with their marks, and a box that hides those that are not wrong."""
    items = "".join(f'<li><a href="#q{i}">{i} {sign(mark)}</a></li>' for i, mark in enumerate(marks, 1))
    box = f'<label><input type="checkbox" id="misses"> {only}</label>'
    return f'<nav aria-label="{what}"><ol>{items}</ol>{box if "wrong" in marks else ""}</nav>'


def card(query: Crop, match: Match, pictures: Pictures) -> str:
    mark = judge(query, match.crop)
    p = match.probability
    chance = "" if p is None else f'<span class="quiet">{spoken("probability ")}{text(_percent(p))}</span>'
    return f"""<li class="{mark}"><figure title="{text(match.crop.path)}">{pictures.show(match.crop)}
<p class="rank">{spoken("rank ")}{match.rank}</p>{sign(mark)}
<figcaption><p class="score">{spoken("distance ")}<b>{match.distance:.3f}</b> {chance}</p>\
{known(match.crop, query)}</figcaption></figure></li>"""


def known(crop: Crop, query: Crop | None = None) -> str:
    """A line each on the person, the camera, the time and the file; for a query those not in its heading."""
    lines = []
    if query and (crop.pid is not None or crop.role != "person"):
        lines.append(f"<p>{text(f'person {crop.pid}' if crop.role == 'person' else crop.role)}</p>")
    if crop.camera is not None:
        lines.append(f"<p>camera {text(crop.camera)}</p>")
    if crop.time is not None:
        seconds = f"{crop.time:.12g} s"
        time = f"at {seconds}" if query is None or query.time is None else _since(crop.time - query.time)
        lines.append(f'<p title="{seconds} on the clock of the cameras">{time}</p>')
    if query or crop.pid is not None:
        lines.append(f'<p class="name" aria-hidden="true">{text(crop.name)}</p>')  # the picture's label says it aloud
    return "".join(lines)


def _since(seconds: float) -> str:
    """A difference in time as people say it.

    >>> [_since(s) for s in (0, -0.48, 42, 125, -11220, 187200)]
    ['same time', '−0.48 s', '+42 s', '+2 min 05 s', '−3 h 07 min', '+2 d 04 h']
    """
    size = round(abs(seconds), 2)
    if not size:
        return "same time"
    sign = "+" if seconds > 0 else "−"
    if size < 10 or size > 1e10:
        return f"{sign}{size:.2g} s"
    minutes, rest = divmod(round(size), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days} d {hours:02} h"
    if hours:
        return f"{sign}{hours} h {minutes:02} min"
    return f"{sign}{minutes} min {rest:02} s" if minutes else f"{sign}{rest} s"


def _percent(probability: float) -> str:
    """Whole per cent, never rounded to certainty.

    >>> _percent(0.874), _percent(0.9999), _percent(0.0)
    ('87 %', '> 99 %', '< 1 %')
    """
    if 0.01 <= probability <= 0.99:
        return f"{100 * probability:.0f} %"
    return "> 99 %" if probability > 0.5 else "< 1 %"


def text(value: str) -> str:
    """Safe between tags and within quotes; bytes in a file name that are no text are shown as codes."""
    return html.escape(value.encode("utf-8", "backslashreplace").decode())


def spoken(words: str) -> str:
    """Words for a screen reader, where the eye reads a place or a colour."""
    return f'<span class="spoken">{words}</span>'


def sign(mark: Mark) -> str:
    if mark == "unknown":
        return ""
    drawing = f'<svg viewBox="0 0 16 16" aria-hidden="true"><use href="#{mark}"/></svg>'
    return f'<span class="sign {mark}">{drawing}{spoken(mark)}</span>'


class Pictures:
    """Thumbnails by path: each is defined once in the page and shown from there any number of times.

    Args:
        height: they are at most so high, in pixels.
    """

    def __init__(self, height: int = THUMBNAIL_HEIGHT) -> None:
        self.definitions: list[str] = []
        self._height = height
        self._shown: dict[str, str] = {}

    def show(self, crop: Crop) -> str:
        """HTML that shows the crop, or says that it cannot be read."""
        if crop.path not in self._shown:
            self._shown[crop.path] = self._add(crop)
        return self._shown[crop.path]

    def _add(self, crop: Crop) -> str:
        name = text(crop.name)
        try:
            rgb = images.read(crop.path)
        except (ImageError, UnicodeError) as error:  # UnicodeError: a name that no file system can hold
            label, why = f'role="img" aria-label="{name}, cannot be read"', text(str(error))
            drawing = '<svg viewBox="0 0 16 16" aria-hidden="true"><use href="#person"/></svg>'
            return f'<div class="picture missing" {label} title="{why}">{drawing}cannot be read</div>'
        return self.add(rgb, crop.name)

    def add(self, rgb: images.RGB, name: str) -> str:
        """HTML that shows a picture that is no file."""
        height, width = rgb.shape[:2]
        scale = min(1.0, self._height / height, THUMBNAIL_WIDTH / width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        jpeg = simplejpeg.encode_jpeg(images.resize(rgb, height, width), QUALITY, "RGB", "420")
        data, number = base64.b64encode(jpeg).decode(), len(self.definitions) + 1
        self.definitions.append(
            f'<image id="p{number}" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
        )
        label = f'viewBox="0 0 {width} {height}" role="img" aria-label="{text(name)}"'
        return f'<svg class="picture" {label}><use href="#p{number}"/></svg>'
