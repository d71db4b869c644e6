"""Small charts as inline SVG, and heat maps as tables, for pages that run no script.

Colours are the page's CSS variables, so that a chart follows light and dark: `--ink`, `--quiet`, `--line`, `--card`,
`--hot`, and those that a series names. Text given to a chart is escaped by it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

COLOURS = 8  # --line-1 to --line-8, for lines side by side
WIDTH, HEIGHT = 400, 266
LEFT, RIGHT, TOP, BOTTOM = 50, 382, 34, 222  # where the axes run
WIDE = 7.5  # of a letter, about


def percent(value: float, digits: int = 1) -> str:
    """A share as people write it.

    >>> percent(0.8416), percent(0.5, 0), percent(1e-5, 3)
    ('84.2 %', '50 %', '0.001 %')
    """
    return f"{100 * value:.{digits}f} %"


def tick(value: float) -> str:
    """A number as short as it can be."""
    return f"{value:,.6g}".replace("-", "−")


def percent_tick(value: float) -> str:
    """A share as short as it can be.

    >>> percent_tick(0.25), percent_tick(1e-4)
    ('25 %', '0.01 %')
    """
    return f"{100 * value:.6g} %" if abs(value) >= 1e-6 or not value else f"{100 * value:.0e} %"


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a chart.

    Attributes:
        label: what is measured, with its unit.
        low, high: the ends.
        ticks: values that are marked.
        say: a value as text.
        log: equal ratios are equally far apart; values below `low` lie at its end.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    say: Callable[[float], str] = percent_tick
    log: bool = False

    def place(self, values: NDArray[np.floating]) -> Values:
        """Where values lie: 0 at the low end, 1 at the high end, never beyond."""
        low, high, at = self.low, self.high, np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), np.log(at)
        return np.asarray((at - low) / (high - low), dtype=np.float64)


def linear(label: str, low: float, high: float, say: Callable[[float], str] = percent_tick, most: int = 6) -> Axis:
    """An axis with at most so many round ticks."""
    step = _step((high - low) / (most - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(label, low, high, [i * step for i in range(first, last + 1)], say)


def decades(label: str, low: float, high: float, say: Callable[[float], str] = percent_tick, most: int = 5) -> Axis:
    """A logarithmic axis with ticks at powers of ten: all, or every second, third … where they are many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = math.ceil((last - first + 1) / most)
    return Axis(label, low, high, [10.0**i for i in range(last, first - 1, -step)][::-1], say, log=True)


def _step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, the smallest that is not below."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))


class Mark(NamedTuple):
    """A point of a line, named unless its text is empty; `low` and `high` are an interval around it."""

    x: float
    y: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line through (x, y), its colour a CSS variable.

    Attributes:
        says: for each point what it shows on hover; empty where the points are not to be named.
        marks: points that are named in the chart.
        dashed: drawn in dashes.
    """

    x: NDArray[np.floating]
    y: NDArray[np.floating]
    colour: str = "--accent"
    says: Sequence[str] = ()
    marks: Sequence[Mark] = ()
    dashed: bool = False


def colour(number: int) -> str:
    """The CSS variable of one line among several; there are COLOURS of them."""
    return f"--line-{number % COLOURS + 1}"


class Bars(NamedTuple):
    """Heights (B,) over B + 1 edges; `says` is shown on hover."""

    name: str
    heights: NDArray[np.floating]
    colour: str = "--accent"
    says: Sequence[str] = ()


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, label: str, diagonal: bool = False) -> str:
    """Lines over a common pair of axes, as one `<svg>`.

    Args:
        label: what a screen reader says instead of the picture.
        diagonal: also draw where both axes are equal.
    """
    parts, drawn = [_axes(x, y)], [_along(_points(line.x, line.y, x, y)) for line in lines if len(line.x)]
    if diagonal:
        ends = np.array([max(x.low, y.low), min(x.high, y.high)])
        parts.append(_path(_points(ends, ends, x, y), "--quiet", "dashed"))
        drawn.append(_along(_points(ends, ends, x, y)))
    busy = np.concatenate([np.empty((0, 2)), *drawn])
    for line in lines:
        parts.append(_path(_points(line.x, line.y, x, y), line.colour, "line dashed" if line.dashed else "line"))
        parts += [_mark(mark, line, x, y, busy) for mark in line.marks]
        parts.append(_hovers(line, x, y))
    return _svg(parts, label)


def histogram(
    edges: NDArray[np.floating],
    series: Sequence[Bars],
    x: Axis,
    y: Axis,
    label: str,
    at: tuple[float, str] | None = None,
) -> str:
    """Heights over common edges, as one `<svg>`: bars where there is one series, outlines named at their peaks else.

    Args:
        at: a place on the x axis, drawn as an upright line, and its name.
    """
    parts = [_axes(x, y)]
    left = LEFT + (RIGHT - LEFT) * x.place(edges)
    for bars in series:
        tops = BOTTOM - (BOTTOM - TOP) * y.place(bars.heights)
        if len(series) == 1:
            parts += [_bar(a, b, top, bars.colour) for a, b, top in zip(left, left[1:], tops, strict=False)]
        else:
            outline = [(left[0], BOTTOM), *((e, t) for i, t in enumerate(tops) for e in left[i : i + 2])]
            parts.append(_path([*outline, (left[-1], BOTTOM)], bars.colour, "area"))
    if at:
        across = float(LEFT + (RIGHT - LEFT) * x.place(np.array(at[:1]))[0])
        parts.append(_path([(across, TOP), (across, BOTTOM)], "--ink", "dashed"))
        parts.append(_words(across, TOP - 6, at[1], "middle", "named"))
    if len(series) > 1:
        parts += _peaks(left, series, y)
    says = ["\n".join(text) for text in zip(*(b.says for b in series if b.says), strict=True)]
    for a, b, text in zip(left, left[1:], says, strict=False):
        parts.append(_strip(a, b, text))
    return _svg(parts, label)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Values, notes: Sequence[Sequence[str]], corner: str, title: str
) -> str:
    """A `<table>` of shares whose cells are the darker the higher, between the lowest and the highest of them.

    Args:
        rows, columns: R and C names.
        values: (R, C) in [0, 1], NaN for an empty cell.
        notes: for each cell a few words below the value; shown on hover where the cell is empty.
        corner: what rows and columns are.
        title: the table's caption.
    """
    known = values[~np.isnan(values)]
    low, spread = (known.min(), max(np.ptp(known), 1e-9)) if len(known) else (0.0, 1.0)
    head = "".join(f'<th scope="col">{_name(name)}</th>' for name in columns)
    body = []
    for name, line, words in zip(rows, values, notes, strict=True):
        cells = "".join(_cell(v, (v - low) / spread, word) for v, word in zip(line, words, strict=True))
        body.append(f'<tr><th scope="row">{_name(name)}</th>{cells}</tr>')
    room = f"--columns: {len(columns) + 1}; --name: {min(16, max(map(len, rows), default=0))}ch"
    return (
        f'<table class="heat" style="{room}"><caption>{_text(title)}</caption>\n'
        f'<thead><tr><th scope="col">{_text(corner)}</th>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(body)}</tbody></table>"
    )


def _name(name: str) -> str:
    """A heading that the page may cut short."""
    return f'<span class="cut" title="{_text(name)}">{_text(name)}</span>'


def _cell(value: float, heat: float, note: str) -> str:
    if math.isnan(value):
        dash = f'<span aria-hidden="true">–</span><span class="spoken">{_text(note)}</span>'
        return f'<td class="none" title="{_text(note)}">{dash}</td>'
    figure = f"{100 * value:.1f}".replace("100.0", "100")
    return f'<td style="--heat: {100 * heat:.0f}%"><b>{figure}</b> <span>{_text(note)}</span></td>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], summary: str, of: str = "") -> str:
    """The numbers behind a chart, folded away; `of` is added to the summary for those who hear the page."""
    names = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{_text(row[0])}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<details><summary>{_text(summary)}<span class="spoken"> {_text(of)}</span></summary>'
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr>{names}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div></details>"
    )


class Figure(NamedTuple):
    """A chart with its heading, how to read it, and the numbers it was drawn from: names of columns, and rows."""

    heading: str
    about: str
    drawn: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        """The numbers are folded away below the chart."""
        about = f'<p class="quiet">{_text(self.about)}</p>' if self.about else ""
        return (
            f"<figure><figcaption><h3>{_text(self.heading)}</h3>{about}</figcaption>\n"
            f"{self.drawn}\n{table(self.head, self.rows, 'Numbers', self.heading)}</figure>\n"
        )


def _svg(parts: Sequence[str], label: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(label)}">\n{body}\n</svg>'


def _axes(x: Axis, y: Axis) -> str:
    parts = []
    for value, share in zip(y.ticks, y.place(np.array(y.ticks)), strict=True):
        level = BOTTOM - (BOTTOM - TOP) * float(share)
        parts.append(f'<path class="grid" d="M{LEFT} {_n(level)}H{RIGHT}"/>')
        parts.append(_words(LEFT - 7, level + 4, y.say(value), "end"))
    parts.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    for value, share in zip(x.ticks, x.place(np.array(x.ticks)), strict=True):
        across = LEFT + (RIGHT - LEFT) * float(share)
        parts.append(f'<path class="axis" d="M{_n(across)} {BOTTOM}v4"/>')
        parts.append(_words(across, BOTTOM + 18, x.say(value), "middle"))
    parts.append(_words((LEFT + RIGHT) / 2, BOTTOM + 38, x.label, "middle", "label"))
    parts.append(_words(0, TOP - 21, y.label, "start", "label"))
    return "\n".join(parts)


def _points(xs: NDArray[np.floating], ys: NDArray[np.floating], x: Axis, y: Axis) -> list[tuple[float, float]]:
    across = LEFT + (RIGHT - LEFT) * x.place(xs)
    down = BOTTOM - (BOTTOM - TOP) * y.place(ys)
    return list(zip(across.tolist(), down.tolist(), strict=True))


def _path(points: Sequence[tuple[float, float]], colour: str, kind: str = "line") -> str:
    """A line through points, those left out that lie on a straight upright or level way from one to the next."""
    kept: list[tuple[float, float]] = []
    for a, b in points:
        here = round(a, 1), round(b, 1)
        if len(kept) > 1 and any(
            kept[-2][i] == kept[-1][i] == here[i]
            and (kept[-1][1 - i] - kept[-2][1 - i]) * (here[1 - i] - kept[-1][1 - i]) >= 0
            for i in (0, 1)
        ):
            kept.pop()
        if not kept or here != kept[-1]:
            kept.append(here)
    steps = "L".join(f"{_n(a)} {_n(b)}" for a, b in kept)
    return f'<path class="{kind}" d="M{steps}" style="--c: var({colour})"/>'


def _bar(a: float, b: float, top: float, colour: str) -> str:
    if BOTTOM - top < 0.05:
        return ""
    box = f'x="{_n(a + 0.75)}" y="{_n(top)}" width="{_n(max(b - a - 1.5, 0.5))}" height="{_n(BOTTOM - top)}"'
    return f'<rect class="bar" {box} style="--c: var({colour})"/>'


def _mark(mark: Mark, line: Line, x: Axis, y: Axis, busy: Values) -> str:
    """A dot, its interval, and its name on that side of it where the least of the lines runs."""
    ((across, down),) = _points(np.array([mark.x]), np.array([mark.y]), x, y)
    paint, spread = f'style="--c: var({line.colour})"', ""
    if mark.low is not None and mark.high is not None:
        (_, bottom), (_, top) = _points(np.array([mark.x] * 2), np.array([mark.low, mark.high]), x, y)
        spread = f'<path class="range" d="M{_n(across)} {_n(bottom)}V{_n(top)}" {paint}/>'
    dot = f'<circle class="dot" cx="{_n(across)}" cy="{_n(down)}" r="4" {paint}/>'
    if not mark.text:
        return spread + dot

    def crossed(anchor: str, level: float) -> tuple[bool, int]:
        """Whether the name leaves the chart there, and how much runs through it."""
        near, far = across + 6, across + 8 + WIDE * len(mark.text)
        low, high = (near, far) if anchor == "start" else (2 * across - far, 2 * across - near)
        inside = (busy >= [low, level - 12]) & (busy <= [high, level + 4])
        return low < LEFT or high > RIGHT or level > BOTTOM, int(inside.all(axis=1).sum())

    rises = line.y[-1] >= line.y[0]  # a steady line leaves room below it to the right, or above
    free, other = [("start", down + 17), ("end", down - 9)], [("start", down - 9), ("end", down + 17)]
    places = [*(free + other if rises else other + free), ("start", down + 4), ("end", down + 4)]
    anchor, level = min(places, key=lambda place: crossed(*place))
    return spread + dot + _words(across + (8 if anchor == "start" else -8), level, mark.text, anchor, "named")


def _along(points: Sequence[tuple[float, float]]) -> Values:
    """(N, 2) places on a line, one in each unit of its length."""
    corners = np.array(points)
    way = np.append(0.0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T)))
    at = np.linspace(0, way[-1], int(way[-1]) + 2)
    return np.stack([np.interp(at, way, corners[:, i]) for i in (0, 1)], axis=1)


def _hovers(line: Line, x: Axis, y: Axis) -> str:
    """Upright strips, each named after the point in its middle; at most one for every 3 units."""
    if not line.says:
        return ""
    points = _points(line.x, line.y, x, y)
    kept: list[int] = []
    for i, (across, _) in enumerate(points):
        if not kept or abs(across - points[kept[-1]][0]) >= 3:
            kept.append(i)
    middles = [points[i][0] for i in kept]
    cuts = [LEFT, *((a + b) / 2 for a, b in pairwise(middles)), RIGHT]
    return "\n".join(
        _strip(a, b, line.says[i], points[i]) for i, a, b in zip(kept, cuts, cuts[1:], strict=False) if b > a
    )


def _strip(a: float, b: float, text: str, dot: tuple[float, float] | None = None) -> str:
    """An invisible part of the chart's width that shows its point and its words on hover."""
    seen = "" if dot is None else f'<circle cx="{_n(dot[0])}" cy="{_n(dot[1])}" r="4"/>'
    box = f'x="{_n(a)}" y="{TOP}" width="{_n(b - a)}" height="{BOTTOM - TOP}"'
    return f'<g class="hover"><rect {box}/>{seen}<title>{_text(text)}</title></g>'


def _peaks(left: Values, series: Sequence[Bars], y: Axis) -> list[str]:
    """The series' names beside their peaks, each on its outer side or, without room there, on the other."""
    peaks, named = [], [bars for bars in series if np.any(bars.heights)]
    for bars in named:
        high = np.flatnonzero(bars.heights >= 0.85 * np.max(bars.heights))
        level = BOTTOM - (BOTTOM - TOP) * float(y.place(np.max(bars.heights, keepdims=True))[0])
        peaks.append((float(left[high[0]]), float(left[high[-1] + 1]), max(level + 4, TOP + 8)))
    middle = sum(a + b for a, b, _ in peaks) / 2 / max(1, len(peaks))
    words = []
    for (a, b, level), bars in zip(peaks, named, strict=True):
        wide = 7 * len(bars.name) + 8
        before = a - LEFT > wide if (a + b) / 2 <= middle else WIDTH - b < wide
        at, anchor = (a - 6, "end") if before else (b + 6, "start")
        words.append(_words(at, level, bars.name, anchor, "named", bars.colour))
    return words


def _words(x: float, y: float, text: str, anchor: str, kind: str = "tick", colour: str = "") -> str:
    paint = f' style="--c: var({colour})"' if colour else ""
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{paint}>{_text(text)}</text>'


def _n(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{round(float(value), 1) + 0.0:.6g}"


def _text(value: str) -> str:
    return html.escape(value.encode("utf-8", "backslashreplace").decode())
