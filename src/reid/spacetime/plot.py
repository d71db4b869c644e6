"""What a prior has learnt, as one SVG: a grid of curves, camera by camera."""

from __future__ import annotations

import html
import math

import numpy as np

from reid.spacetime.sightings import Floats
from reid.spacetime.transitions import TransitionPrior

CELL, HIGH, GAP, LEFT, TOP = 132, 84, 10, 92, 118
TICKS = {60: "1 min", 600: "10 min", 3600: "1 h", 36000: "10 h", 86400: "1 day", 864000: "10 days"}
RATIOS = {0.01: "1/100", 0.1: "1/10", 1.0: "1", 10.0: "10", 100.0: "100"}
STYLE = """svg { background: #fff; color: #1d2530; font: 11px system-ui, sans-serif }
text { fill: currentColor } .title { font-size: 17px }
.quiet { opacity: .65 } .name { font-weight: 600; font-size: 12px }
.frame { fill: none; stroke: currentColor; opacity: .18 } .one { stroke: currentColor; opacity: .5 }
.for { fill: #1c7a4b } .against { fill: #b4532a }
@media (prefers-color-scheme: dark) { svg { background: #14181d; color: #e4e8ed }
.for { fill: #53c08a } .against { fill: #e08a5e } }"""


def svg(prior: TransitionPrior) -> str:
    """Likelihood ratios by the time from a row's camera to a column's, both axes logarithmic.

    Each cell is about people whom its row's camera saw first. A curve above 1 speaks for one person, below 1 for two.
    """
    count = len(prior.cameras)
    width, height = LEFT + count * (CELL + GAP) + 6, TOP + count * (HIGH + GAP) + 34
    reach, top = _reach(prior), max(float(np.abs(prior.log_ratios).max(initial=0)), math.log(10))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Transitions between {count} cameras">\n<style>{STYLE}</style>',
        _words(12, 28, "One person or two, by the time between two sightings", "title"),
        _words(
            12, 50, f"Learnt from {len(prior.learnt_from):,} people. Row: the camera that saw first; column: the next."
        ),
        _words(12, 67, "Green: so much likelier for one person than for two. Red: less likely. In the corner: people."),
    ]
    ratios = {label: math.log(ratio) / top for ratio, label in RATIOS.items() if abs(math.log(ratio)) <= top}
    ticks = {label: _place(np.array([s]), prior, reach)[0] for s, label in TICKS.items() if s <= reach}
    for i, name in enumerate(prior.cameras):
        x, y = _corner(i, i)
        parts.append(_words(x + CELL / 2, TOP - 12, _short(name), "name", "middle"))
        parts.append(_words(LEFT - 42, y + HIGH / 2 + 4, _short(name), "name", "end"))
        parts += [_words(LEFT - 6, y + HIGH / 2 * (1 - at) + 4, label, "quiet", "end") for label, at in ratios.items()]
        parts += [_words(x + CELL * at, height - 22, label, "quiet", "middle") for label, at in ticks.items()]
    lines = "".join(f"M{CELL * at:.1f} 0v{HIGH}" for at in ticks.values())
    parts.append(f'<defs><path id="t" class="frame" d="M0 0H{CELL}V{HIGH}H0Z{lines}"/></defs>')
    parts += [_cell(prior, i, j, reach, top) for i in range(count) for j in range(count)]
    return "\n".join([*parts, "</svg>"])


def _cell(prior: TransitionPrior, i: int, j: int, reach: float, top: float) -> str:
    """One pair of cameras."""
    x, y = _corner(i, j)
    frame, people = f'<use href="#t" x="{x}" y="{y}"/>', int(prior.people[i, j])
    if i == j:
        return ""
    if not people:
        nobody = _words(x + CELL / 2, y + HIGH / 2 + 4, "nobody", "quiet", "middle")
        return f"<g><title>nobody was seen by both</title>{frame}{nobody}</g>"
    middle = prior.axis.half
    seconds = prior.axis.seconds(np.arange(middle, len(prior.axis)))
    ratios = prior.log_ratios[i, j, middle:].astype(np.float64)
    seconds, ratios = seconds[seconds <= reach], ratios[seconds <= reach]
    across, level = x + CELL * _place(seconds, prior, reach), y + HIGH / 2
    best = int(ratios.argmax())
    says = (
        f"{prior.cameras[i]} → {prior.cameras[j]}: {people:,} people; after {_duration(seconds[best])} "
        f"one person is {math.exp(ratios[best]):.3g} times as likely as two"
    )
    shown = np.flatnonzero(np.diff(np.floor(across), prepend=-1))  # a point for each unit of width
    across, heights = across[shown], HIGH / 2 * ratios[shown] / top
    shapes = []
    for kind, height in (("for", heights.clip(min=0)), ("against", heights.clip(max=0))):
        points = "L".join(f"{a:.0f} {b:.1f}" for a, b in zip(across, level - height, strict=True))
        shapes.append(f'<path class="{kind}" d="M{across[0]:.0f} {level:.1f}L{points}V{level:.1f}Z"/>')
    line = f'<path class="one" d="M{x} {level}H{x + CELL}"/>'
    number = _words(x + CELL - 4, y + 13, f"{people:,}", "quiet", "end")
    return f"<g><title>{_text(says)}</title>{frame}{''.join(shapes)}{line}{number}</g>"


def _corner(i: int, j: int) -> tuple[int, int]:
    return LEFT + j * (CELL + GAP), TOP + i * (HIGH + GAP)


def _reach(prior: TransitionPrior) -> float:
    """The longest time at which anything was learnt, and a little more."""
    taught = np.flatnonzero((np.abs(prior.log_ratios) > 0.05).any(axis=(0, 1)))
    away = np.abs(taught - prior.axis.half).max(initial=1)
    return float(prior.axis.seconds(np.array([min(prior.axis.half + away + 1, len(prior.axis) - 1)]))[0])


def _place(seconds: Floats, prior: TransitionPrior, reach: float) -> Floats:
    """Where times lie between 0 and the end of a cell's axis."""
    place: Floats = np.log1p(seconds / prior.axis.scale) / math.log1p(reach / prior.axis.scale)
    return place


def _duration(seconds: float) -> str:
    """A time as people say it.

    >>> _duration(45), _duration(80), _duration(3 * 3600)
    ('45 s', '1.3 min', '3.0 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def _words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{_text(text)}</text>'


def _text(value: str) -> str:
    return html.escape(value.encode("utf-8", "backslashreplace").decode())
