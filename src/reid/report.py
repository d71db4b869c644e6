"""Pages to look at: what a search found, as one HTML file that needs nothing else, no script and no network.

The page itself is templates/sheet.html, filled in by string.Template. Text from a user goes in through `_text`.
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
from reid.errors import ImageError, ShapeError
from reid.types import Crop, Match

Mark = Literal["right", "wrong", "unknown"]
THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH, QUALITY = 256, 512, 85
_NOTE = (
    "A distance says how different two pictures look to the model: lower is closer, and only distances from the same "
    "model can be compared."
)
_NOTHING = '<p class="nothing">Nothing in the gallery was allowed by the filters.</p>'


def sheet(
    queries: Sequence[Crop],
    answers: Sequence[Sequence[Match]],
    title: str,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """A page with each query and, beside it, the crops found for it, nearest first.

    An answer is marked right or wrong where both people are known; a distractor is wrong, junk counts neither way.
    Pictures become thumbnails without metadata, each embedded once however often it is shown, and one that cannot be
    read becomes a placeholder. The page can always be encoded as UTF-8.

    Args:
        queries: Q crops.
        answers: for each query its matches, none where the filters allowed none.
        title: the heading.
        facts: (name, value) pairs shown below it, such as the model and the size of the gallery.

    Raises:
        ShapeError: queries and answers differ in number.
    """
    if len(queries) != len(answers):
        raise ShapeError(f"there are {len(queries)} queries and {len(answers)} answers; give each query one answer")
    pictures = _Pictures()
    firsts = [_first(query, matches) for query, matches in zip(queries, answers, strict=True)]
    sections = [_section(i, *row, pictures) for i, row in enumerate(zip(queries, answers, firsts, strict=True), 1)]
    calibrated = any(match.probability is not None for matches in answers for match in matches)
    page = Template(resources.files("reid").joinpath("templates", "sheet.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=_text(title),
        summary=_summary(firsts),
        facts="".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts),
        key=_key(set(firsts) != {"unknown"}, calibrated),
        contents=_contents(firsts) if len(firsts) > 1 else "",
        sections="\n".join(sections),
        pictures="\n".join(pictures.definitions),
        note=_NOTE,
    )


def judge(query: Crop, found: Crop) -> Mark:
    """Whether a crop shows the query's person, as far as both people are known."""
    if query.pid is None or query.role != "person" or found.role == "junk":
        return "unknown"
    if found.role == "distractor":
        return "wrong"
    if found.pid is None:
        return "unknown"
    return "right" if found.pid == query.pid else "wrong"


def _first(query: Crop, matches: Sequence[Match]) -> Mark:
    """The mark of a query's first answer that is not junk."""
    return next((judge(query, match.crop) for match in matches if match.crop.role != "junk"), "unknown")


def _summary(firsts: Sequence[Mark]) -> str:
    unknown = firsts.count("unknown")
    judged = len(firsts) - unknown
    if not judged:
        return ""
    noun = "query" if judged == 1 else "queries"
    rest = f"; {unknown} more cannot be judged" if unknown else ""
    return f'<p class="summary">First answer right for {firsts.count("right")} of {judged} {noun}{rest}.</p>'


def _key(judged: bool, calibrated: bool) -> str:
    notes = [f"{_sign('right')} same person as the query", f"{_sign('wrong')} someone else"] if judged else []
    chance = ", probability of the same person" if calibrated else ""
    notes.append(f"below each picture: distance from the query (lower is closer){chance}")
    return "".join(f"<span>{note}</span>" for note in notes)


def _contents(firsts: Sequence[Mark]) -> str:
    """Links to the queries, and a box that hides those whose first answer is not wrong."""
    return _links(firsts, "Queries", "Only queries whose first answer is wrong")


def _links(marks: Sequence[Mark], what: str, only: str) -> str:
    """Links to sections with their marks, and a box that hides those that are not wrong."""
    links = "".join(f'<li><a href="#q{i}">{i} {_sign(mark)}</a></li>' for i, mark in enumerate(marks, 1))
    box = f'<label><input type="checkbox" id="misses"> {only}</label>'
    return f'<nav aria-label="{what}"><ol>{links}</ol>{box if "wrong" in marks else ""}</nav>'


def _section(number: int, query: Crop, matches: Sequence[Match], first: Mark, pictures: _Pictures) -> str:
    heading = query.name if query.pid is None else f"Person {query.pid}"
    cards = "\n".join(_card(query, match, pictures) for match in matches)
    answers = f'<ol class="answers" tabindex="0">\n{cards}\n</ol>' if matches else _NOTHING  # on a phone it scrolls
    return f"""<section id="q{number}" class="first-{first}">
<figure class="query" title="{_text(query.path)}">{pictures.show(query)}
<figcaption><p class="quiet">Query {number}</p><h2>{_text(heading)}</h2>{_known(query)}</figcaption></figure>
{answers}
</section>"""


def _card(query: Crop, match: Match, pictures: _Pictures) -> str:
    mark = judge(query, match.crop)
    p = match.probability
    chance = "" if p is None else f'<span class="quiet">{_spoken("probability ")}{_text(_percent(p))}</span>'
    return f"""<li class="{mark}"><figure title="{_text(match.crop.path)}">{pictures.show(match.crop)}
<p class="rank">{_spoken("rank ")}{match.rank}</p>{_sign(mark)}
<figcaption><p class="score">{_spoken("distance ")}<b>{match.distance:.3f}</b> {chance}</p>\
{_known(match.crop, query)}</figcaption></figure></li>"""


def _known(crop: Crop, query: Crop | None = None) -> str:
    """A line each on the person, the camera, the time and the file; for a query those not in its heading."""
    lines = []
    if query and (crop.pid is not None or crop.role != "person"):
        lines.append(f"<p>{_text(f'person {crop.pid}' if crop.role == 'person' else crop.role)}</p>")
    if crop.camera is not None:
        lines.append(f"<p>camera {_text(crop.camera)}</p>")
    if crop.time is not None:
        seconds = f"{crop.time:.12g} s"
        time = f"at {seconds}" if query is None or query.time is None else _since(crop.time - query.time)
        lines.append(f'<p title="{seconds} on the clock of the cameras">{time}</p>')
    if query or crop.pid is not None:
        lines.append(f'<p class="name" aria-hidden="true">{_text(crop.name)}</p>')  # the picture's label says it aloud
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


def _text(value: str) -> str:
    """Safe between tags and within quotes; bytes in a file name that are no text are shown as codes."""
    return html.escape(value.encode("utf-8", "backslashreplace").decode())


def _spoken(words: str) -> str:
    """Words for a screen reader, where the eye reads a place or a colour."""
    return f'<span class="spoken">{words}</span>'


def _sign(mark: Mark) -> str:
    if mark == "unknown":
        return ""
    drawing = f'<svg viewBox="0 0 16 16" aria-hidden="true"><use href="#{mark}"/></svg>'
    return f'<span class="sign {mark}">{drawing}{_spoken(mark)}</span>'


class _Pictures:
    """Thumbnails by path: each is defined once in the page and shown from there any number of times."""

    def __init__(self) -> None:
        self.definitions: list[str] = []
        self._shown: dict[str, str] = {}

    def show(self, crop: Crop) -> str:
        """HTML that shows the crop, or says that it cannot be read."""
        if crop.path not in self._shown:
            self._shown[crop.path] = self._add(crop)
        return self._shown[crop.path]

    def _add(self, crop: Crop) -> str:
        name = _text(crop.name)
        try:
            rgb = images.read(crop.path)
        except (ImageError, UnicodeError) as error:  # UnicodeError: a name that no file system can hold
            label, why = f'role="img" aria-label="{name}, cannot be read"', _text(str(error))
            drawing = '<svg viewBox="0 0 16 16" aria-hidden="true"><use href="#person"/></svg>'
            return f'<div class="picture missing" {label} title="{why}">{drawing}cannot be read</div>'
        height, width = rgb.shape[:2]
        scale = min(1.0, THUMBNAIL_HEIGHT / height, THUMBNAIL_WIDTH / width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        jpeg = simplejpeg.encode_jpeg(images.resize(rgb, height, width), QUALITY, "RGB", "420")
        data, number = base64.b64encode(jpeg).decode(), len(self.definitions) + 1
        self.definitions.append(
            f'<image id="p{number}" width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
        )
        label = f'viewBox="0 0 {width} {height}" role="img" aria-label="{name}"'
        return f'<svg class="picture" {label}><use href="#p{number}"/></svg>'
