"""A map of embeddings: one dot a crop, near where crops look alike to the model, with the picture on hover."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from reid import images, pages
from reid.charts import percent
from reid.distance import pairwise
from reid.errors import DataError, ImageError
from reid.pages import Pictures, text
from reid.plot import layout
from reid.plot.colours import distinct
from reid.plot.layout import Points
from reid.plot.sheet import picture, words, wrapped
from reid.types import Crop, Embeddings
from reid.wording import many

MOST, THUMBNAIL = 2000, 128
WIDE, MARGIN, HEAD, LETTERS = 960, 28, 64, 112  # of the SVG; HEAD and 20 a line of LETTERS lie above the map
LOOK = (28, 56)  # width and height of pictures that lie in a map of WIDE, at most so many as do not overlap
CAMERAS_NAMED = 24
GREY, COLOURS = "#8a8a83", ("person", "camera")
_STYLE = """circle { stroke: var(--page); stroke-width: .8; fill-opacity: .9; }
.frame { fill: var(--card); stroke: var(--line); }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Crops on a plane.

    Attributes:
        embeddings: those that are shown.
        points: (N, 2), x from 0 to 1 and y from 0 at the same scale.
        of: how many crops there were to choose from.
        method: a name from METHODS.
        note: how to read it.
    """

    embeddings: Embeddings
    points: Points
    of: int
    method: str
    note: str

    @property
    def high(self) -> float:
        """The height, in widths."""
        return max(layout.FEWEST_HIGH, float(self.points[:, 1].max()))

    @property
    def summary(self) -> str:
        """What is shown, and how often the nearest crop shows the same person, before and after the layout."""
        crops = self.embeddings.crops
        people = {crop.pid for crop in crops if _named(crop)}
        shown = many(len(crops), "crop") + (f" of {self.of:,}" if self.of > len(crops) else "")
        said = f"{shown}, {many(len(people), 'person', 'people')}" if people else shown
        pids = np.array([crop.pid if _named(crop) else "" for crop in crops])
        _, who, counts = np.unique(pids, return_inverse=True, return_counts=True)
        judged = np.flatnonzero((pids != "") & (counts[who] > 1))
        if not len(judged):
            return f"{said}."
        kept = [
            float(np.mean(pids[_nearest(space)[judged]] == pids[judged]))
            for space in (self.embeddings.vectors, self.points.astype(np.float32))
        ]
        return (
            f"{said}. The nearest other crop shows the same person: {percent(kept[0])} in the embedding, "
            f"{percent(kept[1])} on the map."
        )


def make_map(
    embeddings: Embeddings, method: str = "tsne", near: int | None = None, seed: int = 0, most: int = MOST
) -> Map:
    """Lay out crops; of more than `most`, those of people drawn at random, each with all crops.

    Raises:
        DataError, MissingExtra: as in `layout.lay_out`.
    """
    if most < layout.FEWEST:
        raise DataError(f"at most {most} crops were asked for; a map needs at least {layout.FEWEST}")
    if not 0 <= seed < 2**32:
        raise DataError(f"the seed is {seed}; give a whole number from 0 to {2**32 - 1}")
    chosen = embeddings if len(embeddings) <= most else embeddings[_drawn(embeddings.crops, most, seed)]
    points = layout.lay_out(chosen.vectors, method, near, seed)
    how = layout.METHODS[method]
    count = near or layout.neighbours(len(chosen), method)
    note = f"{how.name} ({how.source}), seed {seed}. {how.means.format(count)}"
    return Map(chosen, points, len(embeddings), method, note)


def _drawn(crops: Sequence[Crop], most: int, seed: int) -> list[int]:
    """Rows of people drawn at random until there are enough; crops of nobody who is known count as a person each."""
    rows: dict[str, list[int]] = {}
    for i, crop in enumerate(crops):
        rows.setdefault(f"p{crop.pid}" if _named(crop) else f"c{i}", []).append(i)
    people = list(rows)
    order = np.random.default_rng(seed).permutation(len(people))
    chosen = [i for p in order for i in rows[people[p]]][:most]
    return sorted(chosen)


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) the nearest other row of each."""
    between = np.array(pairwise(vectors, vectors))
    np.fill_diagonal(between, np.inf)
    return np.asarray(between.argmin(axis=1), dtype=np.int64)


def _named(crop: Crop) -> bool:
    return crop.pid is not None and crop.role == "person"


def _colours(names: Iterable[str | None]) -> dict[str | None, str]:
    """A colour for each name, in sorted order; grey for what is unknown."""
    found = sorted({name for name in names if name is not None}, key=lambda n: [len(n), n])
    return {None: GREY} | {name: distinct(i) for i, name in enumerate(found)}


def _person(crop: Crop) -> str | None:
    return crop.pid if _named(crop) else None


def _apart(points: Points, wide: float, high: float) -> NDArray[np.bool_]:
    """(N,) which points can have a picture of this size around them so that no two overlap, from the first on."""
    kept = np.zeros(len(points), dtype=bool)
    for i, (x, y) in enumerate(points):
        near = (np.abs(points[kept, 0] - x) < wide) & (np.abs(points[kept, 1] - y) < high)
        kept[i] = not near.any()
    return kept


def html(shown: Map, title: str, colour: str = "person") -> str:
    """A page that needs nothing else, no script and no network.

    A dot shows its picture on hover, and those of other people fade. Colours can be switched between people and
    cameras, and pictures put in place of dots, where these are known.
    """
    crops, pictures = shown.embeddings.crops, Pictures(THUMBNAIL)
    _painted(crops, colour)  # refuses what it cannot be
    people, cameras = (_painted(crops, name)[0] for name in COLOURS)
    look = LOOK[0] / WIDE, LOOK[1] / WIDE
    seen = _apart(shown.points, *look)
    groups: dict[str, list[str]] = {}
    for i, (crop, (x, y)) in enumerate(zip(crops, shown.points, strict=True)):
        x, y = 0.02 + 0.96 * x, 0.02 + 0.96 * y / shown.high
        sides = {"seen": seen[i], "under": y < 0.4, "west": x < 0.1, "east": x > 0.9}
        kind = " ".join(side for side, true in sides.items() if true)
        place = f"left:{100 * x:.2f}%;top:{100 * y:.2f}%;--k:{cameras[crop.camera]}"
        said = pictures.show(crop) + "".join(f'<span class="said">{text(line)}</span>' for line in _lines(crop))
        dot = f'<i class="{kind}" style="{place}"><span class="look">{said}</span></i>'
        groups.setdefault(_person(crop) or f"\0{i}", []).append(dot)
    body = "\n".join(
        f'<div class="who" style="--p:{people[None if name[0] == chr(0) else name]}">{"".join(dots)}</div>'
        for name, dots in groups.items()
    )
    label = f"{layout.METHODS[shown.method].name} map of {many(len(crops), 'crop')}"
    shape = f'role="img" aria-label="{text(label)}" style="--shape: {1 / shown.high:.3f}"'
    main = f'<div class="map" {shape}>\n{body}\n</div>'
    controls = _controls(cameras, colour) + _legend(cameras)
    return pages.page(title, shown.summary, (), controls, main, pictures, ["plot.css"], shown.note)


def _controls(cameras: dict[str | None, str], colour: str) -> str:
    """Boxes that switch the page's style."""
    switch = ""
    if len(cameras) > 2:
        both = ("person", "people"), ("camera", "cameras")
        switch = "<span>colours:</span>" + "".join(
            f'<label><input type="radio" name="by" id="by-{name}"{" checked" * (name == colour)}> {said}</label>'
            for name, said in both
        )
    looks = '<label><input type="checkbox" id="looks"> pictures instead of dots</label>'
    return f'<p class="key switches">{switch}{looks}</p>'


def _legend(cameras: dict[str | None, str]) -> str:
    names = [name for name in cameras if name is not None]
    if not 1 < len(names) <= CAMERAS_NAMED:
        return ""
    dots = "".join(f'<span><i style="background:{cameras[name]}"></i> {text(name)}</span>' for name in names)
    return f'<p class="key cameras"><span>camera</span>{dots}</p>'


def svg(shown: Map, title: str, colour: str = "person") -> str:
    """The dots as one picture for documents; each says on hover whose crop it is."""
    crops = shown.embeddings.crops
    colours, of = _painted(crops, colour)
    inner = WIDE - 2 * MARGIN
    high = shown.high * (inner - 24) + 24
    lines = wrapped(shown.summary, LETTERS)
    head = HEAD + 20 * len(lines)
    parts = [words(MARGIN, MARGIN + 18, title, "title")]
    parts += [words(MARGIN, MARGIN + 42 + 20 * i, line) for i, line in enumerate(lines)]
    parts.append(f'<rect class="frame" x="{MARGIN}" y="{head}" width="{inner}" height="{high:.1f}" rx="8"/>')
    for crop, name, (x, y) in zip(crops, of, shown.points, strict=True):
        at = f'cx="{MARGIN + 12 + x * (inner - 24):.1f}" cy="{head + 12 + y * (inner - 24):.1f}"'
        parts.append(
            f'<circle {at} r="4" fill="{colours[name]}"><title>{text(", ".join(_lines(crop)))}</title></circle>'
        )
    bottom = head + high + 26
    names = [name for name in colours if name is not None]
    starts = np.cumsum([MARGIN + 6, *(34 + 7.6 * len(name) for name in names)])
    if starts[-1] < WIDE:  # a key where it fits on one line
        for name, across in zip(names, starts, strict=False):
            parts.append(f'<circle cx="{across:.0f}" cy="{bottom - 5:.0f}" r="5" fill="{colours[name]}"/>')
            parts.append(words(round(across + 11), round(bottom), name, "name"))
        bottom += 22
    return picture(WIDE, round(bottom), title, "\n".join(parts), _STYLE)


def _painted(crops: Sequence[Crop], colour: str) -> tuple[dict[str | None, str], list[str | None]]:
    """Colours by name, and the name of each crop."""
    if colour not in COLOURS:
        raise DataError(f"colour is {colour!r}; it can be {' or '.join(COLOURS)}")
    of = [_person(crop) if colour == "person" else crop.camera for crop in crops]
    return _colours(of), of


def _lines(crop: Crop) -> list[str]:
    """What is known of a crop."""
    person, camera = _person(crop), crop.camera
    return [f"person {person}"] * bool(person) + [f"camera {camera}"] * bool(camera) + [crop.name]


def png(shown: Map, title: str, colour: str = "person", wide: int = 2400) -> bytes:
    """The map with pictures wherever they fit without lying on each other, framed in their colour; dots elsewhere."""
    colours, of = _painted(shown.embeddings.crops, colour)
    scale = wide / WIDE
    lines = wrapped(shown.summary, LETTERS * 4 // 3)  # they are smaller here
    margin, head = round(MARGIN * scale), round((HEAD + 20 * len(lines)) * scale)
    look = round(LOOK[0] * scale), round(LOOK[1] * scale)
    inner = wide - 2 * margin - look[0]
    sheet = Image.new("RGB", (wide, head + round(shown.high * inner) + look[1] + margin), "#f7f7f5")
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, margin * 0.8), title, "#1b1b19", ImageFont.load_default(round(22 * scale)))
    small = ImageFont.load_default(round(13 * scale))
    pen.multiline_text((margin, margin * 0.8 + 32 * scale), "\n".join(lines), "#63635d", small, spacing=6 * scale)
    places = shown.points * inner + [margin + look[0] / 2, head + look[1] / 2]
    seen = _apart(shown.points, (look[0] + 2 * scale) / inner, (look[1] + 2 * scale) / inner)
    for (x, y), name in zip(places, of, strict=True):
        r = 4 * scale
        pen.ellipse((x - r, y - r, x + r, y + r), colours[name], "#f7f7f5", round(scale))
    for i in np.flatnonzero(seen):
        thumbnail = _thumbnail(shown.embeddings.crops[i], look)
        if thumbnail is not None:
            left, top = round(places[i, 0] - look[0] / 2), round(places[i, 1] - look[1] / 2)
            edge = round(1.6 * scale)
            box = (left - edge, top - edge, left + look[0] + edge - 1, top + look[1] + edge - 1)
            pen.rounded_rectangle(box, 3 * scale, colours[of[i]])
            sheet.paste(thumbnail, (left, top))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _thumbnail(crop: Crop, size: tuple[int, int]) -> Image.Image | None:
    try:
        return Image.fromarray(images.resize(images.read(crop.path), size[1], size[0]))
    except (ImageError, UnicodeError):
        return None
