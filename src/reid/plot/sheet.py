"""Figures side by side, as a page or as one SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from reid import charts, pages
from reid.charts import Figure
from reid.pages import Pictures, template, text

COLUMNS, MARGIN, CELL, GAP, HEADING = 3, 28, 400, 44, 30
STYLES = ("chart.css", "evaluation.css", "plot.css")
_PAINTED = re.compile(r'class="([^"]*)"([^>]*) style="--c: var\(--([\w-]+)\)"')
_VARIABLE = re.compile(r"(--[\w-]+): (#\w+)")


class Sheet(NamedTuple):
    """What a plot shows.

    Attributes:
        title, summary: as plain text.
        sections: a heading, a sentence below it and figures, any number of times; plain text where it is not a figure.
        key: names of lines in the order of their colours; none where there is only one.
        facts: (name, value) pairs shown below the summary.
        tables, more: HTML above and below the figures, on the page only.
        note: how to read it, at the foot of the page.
    """

    title: str
    summary: str
    sections: Sequence[tuple[str, str, Sequence[Figure]]]
    key: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: str = ""
    more: str = ""
    note: str = pages.DISTANCES

    def html(self) -> str:
        """A page that needs nothing else, no script and no network."""
        key = "".join(f"<span>{swatch(i)} {text(name)}</span>" for i, name in enumerate(self.key))
        parts = [_part(self.tables)]
        for heading, about, figures in self.sections:
            head = f"<h2>{text(heading)}</h2>" if heading else ""
            said = f'<p class="note">{text(about)}</p>' if about else ""
            drawn = "".join(figure.html() for figure in figures)
            parts.append(_part(f'{head}{said}\n<div class="charts">{drawn}</div>'))
        main = "".join([*parts, _part(self.more)])
        head = f'<p class="key lines">{key}</p>' if key else ""
        return pages.page(self.title, self.summary, self.facts, head, main, Pictures(), STYLES, self.note)

    def svg(self) -> str:
        """One picture for documents, with colours for light and dark, that other programs than browsers show too."""
        figures = [figure for _, _, figures in self.sections for figure in figures]
        columns = max(1, min(COLUMNS, len(figures)))
        width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
        head, top = self._head(width)
        high = HEADING + charts.HEIGHT
        cells = []
        for i, figure in enumerate(figures):
            x, y = MARGIN + (i % columns) * (CELL + GAP), top + (i // columns) * (high + GAP)
            cells.append(words(x, y + 16, figure.heading, "heading"))
            placed = f'<svg x="{x}" y="{y + HEADING}" width="{charts.WIDTH}" height="{charts.HEIGHT}" '
            cells.append(figure.drawn.replace("<svg ", placed, 1))
        rows = -(-len(figures) // columns)
        height = top + rows * (high + GAP) - GAP + MARGIN
        return picture(width, height, self.title, "\n".join([*head, *cells]))

    def _head(self, width: int) -> tuple[list[str], int]:
        """Title, summary and key, and where they end."""
        parts, y = [words(MARGIN, MARGIN + 20, self.title, "title")], MARGIN + 44
        for line in wrapped(self.summary, (width - 2 * MARGIN) // 8):
            parts.append(words(MARGIN, y, line))
            y += 20
        x = float(MARGIN)
        for i, name in enumerate(self.key):
            wide = 34 + 7.6 * len(name)
            if x > MARGIN and x + wide > width - MARGIN:
                x, y = float(MARGIN), y + 22
            parts.append(f'<path class="key {charts.colour(i)[2:]}" d="M{x:.0f} {y + 4}h18"/>')
            parts.append(words(x + 25, y + 8, name, "name"))
            x += wide
        return parts, y + (36 if self.key else 14)


def _part(content: str) -> str:
    return f'<div class="part">\n{content}\n</div>\n' if content else ""


def picture(width: float, height: float, label: str, body: str, more: str = "") -> str:
    """An SVG of its own; parts painted in a variable of the page get a class instead. `more` is further CSS."""
    body = _PAINTED.sub(r'class="\1 \3"\2', body)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    label = f'role="img" aria-label="{text(label)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>\n<style>{_style(more)}</style>\n{body}\n</svg>\n'


def _style(more: str) -> str:
    """The charts' style without variables, once for light and once for dark."""
    first, _, second = template("colours.css").partition("@media")
    light = dict(_VARIABLE.findall(first))
    base = template("chart.css") + template("picture.css") + more
    rules = base + "".join(f".{name[2:]} {{ color: var({name}); }}\n" for name in light)
    dark = _plain(rules, light | dict(_VARIABLE.findall(second)))
    return f"\n{_plain(rules, light)}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _plain(rules: str, colours: dict[str, str]) -> str:
    rules = rules.replace("var(--c, var(--ink))", "currentColor").replace("var(--c)", "currentColor")
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colours[found[1]], rules)


def words(x: float, y: float, value: str, kind: str = "") -> str:
    """A line of text in an SVG."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{text(value)}</text>'


def swatch(number: int) -> str:
    """A short piece of a line."""
    return f'<i class="swatch" style="--c: var({charts.colour(number)})"></i>'


def grid(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table; the first cell of a row is HTML, the others plain text."""
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{text(cell)}</td>" for cell in cells)}</tr>'
        for first, cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="plain runs">\n<thead><tr>{names}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def wrapped(sentence: str, most: int) -> list[str]:
    """Lines of at most so many letters, broken between words.

    >>> wrapped("one two three", 8)
    ['one two', 'three']
    """
    lines: list[str] = []
    for word in sentence.split():
        if lines and len(lines[-1]) + len(word) < most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
